"""Heartbeats: who is silent is gone, and a pong says how far a client has read."""

from __future__ import annotations

import asyncio
from typing import Any

from ..conftest import Connect, OpenRaw, Serve
from ..harness import CLOSE, PING, PONG, TEXT, TIMEOUT, Echo, Frame, liveness

GOODBYE = b"\x03\xe8"


async def test_silent_client_is_cut_after_two_intervals(serve: Serve, raw: OpenRaw) -> None:
    """A silent client is pinged once, and gone when the next ping would be due: after two intervals at most.

    A ping that falls into the opening, when the client is not read from, does not count.
    """
    running = await serve(heartbeat_interval=50)
    client = await raw(running)
    pings = 0
    while (frame := await client.frame()) is not None:
        assert frame == Frame(PING, b"")
        pings += 1
    assert 1 <= pings <= 2
    await running.app.closed(0)
    await running.stop()
    assert running.app.history(0) == ["open", "close"]


async def test_pong_keeps_a_client_connected(serve: Serve, raw: OpenRaw) -> None:
    """A client that answers the pings stays."""
    client = await raw(await serve(heartbeat_interval=200))
    for _ in range(3):
        assert await client.frame() == Frame(PING, b"")
        await client.send_frame(PONG)
    await client.send_frame(TEXT, b"still here")
    assert (await client.frame_of(TEXT)) == Frame(TEXT, b"still here")


async def test_only_the_silent_client_is_cut(serve: Serve, raw: OpenRaw, client: Connect) -> None:
    """A client that answers pings stays while a silent one is cut."""
    running = await serve(heartbeat_interval=200)
    await raw(running)
    polite = await client(running)
    await running.app.closed(0)
    await polite.send("still here")
    assert await polite.recv() == "still here"


class Marking(Echo):
    """An application that marks its heartbeats."""

    def ping_payload(self, connection: Any) -> bytes:
        """Mark it."""
        return b"mark"

    def pong(self, connection: Any, payload: bytes) -> None:
        """Note what comes back, for the connection."""
        self._note(payload.decode(), self.numbers[connection])


async def test_pong_returns_the_mark_of_its_heartbeat(serve: Serve, raw: OpenRaw) -> None:
    """The payload of a heartbeat returns to the application with the pong, and so does any other pong."""
    running = await serve(Marking, heartbeat_interval=200)
    client = await raw(running)
    await client.send_frame(PONG, b"before")
    ping = await client.frame()
    assert ping == Frame(PING, b"mark")
    await client.send_frame(PONG, ping.payload)
    await client.send_frame(CLOSE, GOODBYE)
    await running.app.closed(0)
    assert running.app.history(0) == ["open", "before", "mark", "close"]


# A check, without a connection


async def test_check_needs_one_ping() -> None:
    """Of several that ask at once, the first sends a ping, and its pong answers all."""
    check = liveness.LivenessCheck()
    assert check.begin()
    assert not check.begin()
    asked = [asyncio.create_task(check.wait(TIMEOUT)) for _ in range(3)]
    await asyncio.sleep(0)
    assert check.expects(liveness.PAYLOAD)
    check.pong(liveness.PAYLOAD)
    assert await asyncio.gather(*asked) == [True] * 3
    assert check.begin()


async def test_check_ignores_other_pongs() -> None:
    """A pong with another payload, or one that nobody waits for, answers nothing."""
    check = liveness.LivenessCheck()
    check.pong(liveness.PAYLOAD)
    assert not check.expects(liveness.PAYLOAD)
    check.begin()
    check.pong(b"mark")
    assert not await check.wait(0.001)
    assert check.expects(liveness.PAYLOAD)


async def test_check_ends_with_the_connection() -> None:
    """A liveness check ends at once when its client disconnects, and a later one too."""
    check = liveness.LivenessCheck()
    check.begin()
    asked = asyncio.create_task(check.wait(TIMEOUT))
    await asyncio.sleep(0)
    check.end()
    assert not await asked
    assert not await check.wait(TIMEOUT)
