"""Attacks with slow clients, which occupy connections."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from contextlib import AbstractAsyncContextManager, AsyncExitStack

from .attack import attack
from .raw_connection import BINARY, CUT, TEXT, Raw, Target, frame

CROWD = 10
"""Clients of a slow attack. All slow attacks run at the same time, also on a slow machine."""
DRIP = 0.5
"""Seconds between two bytes."""
DRIPS = 22
"""Bytes of an endless client; sent with `DRIP`, they take longer than a server waits for a handshake."""


async def _drip(raw: Raw, data: bytes) -> None:
    """Send single bytes until the server does not read any more."""
    for byte in data:
        await raw.send(bytes((byte,)))
        await asyncio.sleep(DRIP)


async def crowd(
    connect: Callable[[], AbstractAsyncContextManager[Raw]], begin: bytes, drip: bytes = b""
) -> Collection[str]:
    """Open many connections that send a beginning, then single bytes or nothing until the end."""
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        raws = [await stack.enter_async_context(connect()) for _ in range(CROWD)]
        for raw in raws:
            await raw.send(begin)
        drips = [group.create_task(_drip(raw, drip)) for raw in raws]
        ends = set(await asyncio.gather(*(raw.status() for raw in raws)))
        for task in drips:
            task.cancel()
        return ends


@attack(CUT, slow=True)
async def silent_connections(target: Target) -> Collection[str]:
    """Connections on which the client sends nothing."""
    return await crowd(target.tcp, b"")


@attack(CUT, slow=True)
async def headers_byte_by_byte(target: Target) -> Collection[str]:
    """Requests sent byte by byte (slowloris)."""
    return await crowd(target.tcp, b"GET / HTTP/1.1\r\n", b"X-Slow: " + b"a" * 1000)


@attack(CUT, slow=True)
async def unfinished_handshake(target: Target) -> Collection[str]:
    """Handshakes that lack the empty line at their end."""
    return await crowd(target.tcp, target.handshake[:-2])


async def _frames(target: Target, data: bytes, drips: int) -> Collection[str]:
    """Send data on many WebSockets, the last `drips` bytes singly; return their ends."""
    async with AsyncExitStack() as stack:
        raws = [await stack.enter_async_context(target.websocket()) for _ in range(CROWD)]
        for raw in raws:
            await raw.send(data[: len(data) - drips])
        await asyncio.gather(*(_drip(raw, data[len(data) - drips :]) for raw in raws))
        return set(await asyncio.gather(*(raw.verdict() if drips else raw.end() for raw in raws)))


@attack(CUT, notification=[CUT, "1008"], slow=True)
async def truncated_frame(target: Target) -> Collection[str]:
    """Half of a frame after the handshake, then silence."""
    return await _frames(target, frame(b"a" * 100, BINARY)[:50], 0)


@attack("1003", CUT, notification=["1008", CUT], bound=["1003"], slow=True)
async def frame_byte_by_byte(target: Target) -> Collection[str]:
    """A frame sent byte by byte, for longer than any deadline of the server."""
    return await _frames(target, frame(b"a" * 100, TEXT if target.kind == "sync" else BINARY), DRIPS)
