"""Attacks with large numbers: of messages, of connections, of answers that the client does not read."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from contextlib import AsyncExitStack
from itertools import count

from .attack import BOTH, JSON, attack
from .raw_connection import CUT, IGNORED, PATIENCE, PING, PONG, TEXT, Raw, Target, frame, text
from .update_encoding import sync_frame, written

MILLION = 1_000_000
TWENTY_THOUSAND = 20_000
"""Messages of one connection: far more than a server handles before it closes, at any speed."""
BURST = 5000
"""Messages that the sync server handles from one connection before it read-pauses it."""
MEMORY = "process_resident_memory_bytes"
MORE = 1000
"""Messages that are sent at a time after those, until it is read-paused."""
TOO_MANY = 'opennoodl_closes_total{code="1008"}'
TOO_LARGE = 'opennoodl_closes_total{code="1009"}'
TOO_SLOW = 'opennoodl_closes_total{code="1013"}'
OVER = 'opennoodl_rate_limited_total{limit="messages"}'
FEW = 100
"""Connections at a time: more than the servers of the tests allow, and no more than the handshakes that they allow."""
CLOSED = 90.0
"""Time limit for a server's close, in seconds: it waits 10 s for frames over the rate, and its timers may be late."""
TOPICS = count()
KEPT = 48 * 2**20
"""Bytes by which a server's memory may grow while a client does not read."""


@attack("1008", servers=JSON)
async def small_messages(target: Target) -> Collection[str]:
    """Small messages at full speed, from connections that reconnect (4 times 20,000; 50 times with `--whole`)."""
    return {await _endless(target, target.message * TWENTY_THOUSAND) for _ in range(50 if target.whole else 4)}


@attack("slowed", servers=["sync"])
async def small_messages_to_sync(target: Target) -> Collection[str]:
    """The same to sync, which drops no message and reads more slowly (1 connection; 100 with `--whole`)."""
    for _ in range(100 if target.whole else 1):
        before = await target.metric(OVER)
        async with target.websocket() as raw, asyncio.timeout(PATIENCE):
            raw.write(target.message * BURST)
            while await target.metric(OVER) == before:
                raw.write(target.message * MORE)
                for _ in range(MORE):
                    assert await raw.next() is not None
    return {"slowed"}


@attack("101", "429", bound=["101", "429"])
async def many_connections(target: Target) -> Collection[str]:
    """Connections from one address, kept open (100; 10,000 with `--whole`)."""
    count = 10_000 if target.whole else FEW
    statuses = set()
    async with AsyncExitStack() as stack:
        for _ in range(count // FEW):
            several = [await stack.enter_async_context(target.tcp()) for _ in range(FEW)]
            statuses |= set(await asyncio.gather(*(raw.upgrade(target.path) for raw in several)))
    return statuses


@attack("101", "429", bound=["429"])
async def handshake_flood(target: Target) -> Collection[str]:
    """Handshakes from one address at full speed, until the server refuses them."""

    async def come() -> set[str]:
        statuses = set()
        while "429" not in statuses:
            async with target.tcp() as raw:
                statuses.add(await raw.upgrade(target.path))
        return statuses

    return set().union(*await asyncio.gather(*(come() for _ in range(20))))


@attack(CUT, setups=BOTH)
async def reset_connections(target: Target) -> Collection[str]:
    """Connections that the client resets during the handshake, or after it with half of a message sent."""
    for _ in range(40):
        async with target.tcp() as raw:
            await raw.send(target.handshake)
        async with target.websocket() as raw:
            await raw.send(target.message[:-1])
    return {CUT}


async def _endless(target: Target, data: bytes, closes: str = TOO_MANY) -> str:
    """Send data repeatedly until the server has closed the connection with the code `closes`."""
    before = await target.metric(closes)
    async with target.websocket() as raw:
        raw.write(data)
        return await closed(target, closes, before)


def _many(target: Target, frame: bytes) -> bytes:
    return frame * (MILLION if target.whole else TWENTY_THOUSAND)


@attack("1008", slow=True)
async def pings(target: Target) -> Collection[str]:
    """Pings at full speed; the client does not read the pongs (20,000; a million with `--whole`)."""
    return {await _endless(target, _many(target, frame(b"", PING)))}


@attack("1008", slow=True)
async def pongs(target: Target) -> Collection[str]:
    """Unsolicited pongs (20,000; a million with `--whole`)."""
    return {await _endless(target, _many(target, frame(b"", PONG)))}


@attack("1008", sync=["1009"], slow=True)
async def empty_fragments(target: Target) -> Collection[str]:
    """A message of empty fragments (20,000; a million with `--whole`)."""
    closes = TOO_LARGE if target.kind == "sync" else TOO_MANY
    return {await _endless(target, frame(b"", first=TEXT) + _many(target, frame(b"", first=0)), closes)}


async def _unread(target: Target, raw: Raw, requests: Iterable[bytes]) -> None:
    """Send many requests and read nothing; check the server's memory."""
    began = await target.metric(MEMORY)
    for number, data in enumerate(requests):
        await raw.send(data)
        if number % 20 == 0:
            assert await target.metric(MEMORY) < began + KEPT


async def closed(target: Target, closes: str, before: float) -> str:
    """Wait until one more connection than before has been closed with a code; return the code."""
    code = closes.split('"')[1]
    try:
        async with asyncio.timeout(CLOSED):
            while True:
                if await target.metric(closes) > before:
                    return code
                await asyncio.sleep(0.2)  # a response takes the server some milliseconds
    except TimeoutError:
        raise AssertionError(f"no connection was closed with {code} within {CLOSED} s") from None


@attack("1013", servers=["signaling"], setups=BOTH)
async def unread_messages(target: Target) -> Collection[str]:
    """A topic with a subscriber that does not read, and large messages that others publish to it."""
    before = await target.metric(TOO_SLOW)
    topic = f"unread-{next(TOPICS)}"
    async with AsyncExitStack() as stack:
        raw = await stack.enter_async_context(target.websocket())
        await raw.send(text({"type": "subscribe", "topics": [topic]}))
        large = text({"type": "publish", "topic": topic, "data": "a" * 60_000})
        for _ in range(10):
            other = await stack.enter_async_context(target.websocket())
            await _unread(target, other, [large] * 30)
        return {await closed(target, TOO_SLOW, before)}


@attack("1013", servers=["notification"], setups=BOTH)
async def unread_inboxes(target: Target) -> Collection[str]:
    """A client that requests its inbox of large notifications again and again, and does not read."""
    before = await target.metric(TOO_SLOW)
    async with target.websocket() as raw:
        await raw.send(text({"type": "authenticate", "userId": "unread"}))
        large = {"type": "send-notification", "targetUserId": "unread", "notificationType": "mention"}
        for number in range(50):
            await raw.send(text({**large, "data": {"text": "a" * 16_000}, "idempotencyKey": str(number)}))
            await raw.message("notification-sent")
        await _unread(target, raw, [text({"type": "get-notifications", "limit": 200})] * 500)
        return {await closed(target, TOO_SLOW, before)}


@attack(IGNORED, servers=["sync"], setups=BOTH)
async def unread_documents(target: Target) -> Collection[str]:
    """A client that requests a large document again and again, and does not read."""
    async with target.websocket(b"/unread") as raw:
        await raw.send(sync_frame(2, written(1, "a" * 1_000_000)))
        await _unread(target, raw, [sync_frame(0, b"\x00")] * 300)
        return {await raw.until(b"\x00\x01")}
