"""Attacks with many names: one client that opens rooms, topics, inboxes or documents without a limit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from contextlib import AsyncExitStack
from itertools import count

from .attack import attack
from .floods import closed
from .raw_connection import CUT, IGNORED, PING, PONG, Raw, Target, frame, text
from .update_encoding import awareness_frame, struct, sync_frame, written

MANY = 10_000
CLAIMS = 900
"""Claims of one connection: as many as it may make at a time."""
AN_HOUR = 320
"""More notifications than a user may send in an hour."""
NUMBERS = count()
DOCUMENTS = 75
"""More open documents than the server of the tests allows."""


async def _answers(target: Target, make: Callable[[int], object], first: object = None) -> Collection[str]:
    """Send messages until the server closes or all are sent; return all answers."""
    answers: set[str] = set()
    async with target.websocket() as raw:
        if first is not None:
            await raw.send(text(first))
        raw.write(b"".join(text(make(number)) for number in range(MANY)))
        while not answers & {"1008", CUT}:
            answers.add(await raw.answer())
        return answers


@attack("joined", "rate-limited", "1008", bound=["rate-limited", "1008"], servers=["signaling"])
async def many_rooms(target: Target) -> Collection[str]:
    """One client that joins 10,000 rooms in a row. It is in one room at a time."""
    return await _answers(
        target, lambda number: {"type": "join", "room": f"room-{number}", "peerId": "a", "userId": "greedy"}
    )


@attack("registered", "rate-limited", "1008", bound=["rate-limited", "1008"], servers=["signaling"])
async def many_users(target: Target) -> Collection[str]:
    """One client that registers as 10,000 users in a row. It is one user at a time."""
    return await _answers(target, lambda number: {"type": "register", "userId": f"greedy-{number}"})


@attack("too-many-topics", "rate-limited", "1008", bound=["too-many-topics", "1008"], servers=["signaling"])
async def many_topics(target: Target) -> Collection[str]:
    """One client that subscribes to 10,000 topics."""
    return await _answers(target, lambda number: {"type": "subscribe", "topics": [f"topic-{number}"]})


@attack("registered", "invite-sent", "rate-limited", "1008", bound=["rate-limited", "1008"], servers=["signaling"])
async def many_invites(target: Target) -> Collection[str]:
    """One user that invites 10,000 others."""
    return await _answers(
        target,
        lambda number: {"type": "invite", "targetUserId": f"user-{number}", "roomId": "a"},
        {"type": "register", "userId": f"greedy-{next(NUMBERS)}"},
    )


@attack("joined", servers=["signaling"])
async def vanishing_peers(target: Target) -> Collection[str]:
    """Peers with the largest metadata that enable resuming and then disconnect."""

    async def come(number: int) -> str:
        async with target.websocket() as raw:
            join = {"type": "join", "room": f"empty-{number}", "peerId": "a", "userId": "a", "resume": True}
            await raw.send(text({**join, "metadata": {"a": "a" * 16_000}}))
            return await raw.answer()

    return set(await asyncio.gather(*map(come, range(80))))


@attack("peer-id-taken", servers=["signaling"])
async def peer_id_claims(target: Target) -> Collection[str]:
    """Thousands of joins with the id of a connected peer. For each, the server has to ping that peer."""
    claim = text({"type": "join", "room": "claimed", "peerId": "a", "userId": "a"})
    asked = 0

    async def live(holder: Raw) -> None:
        nonlocal asked
        while (came := await holder.next()) is not None:
            if came.opcode == PING:
                asked += 1
                await holder.send(frame(came.payload, PONG))

    async def claims(raw: Raw) -> set[str]:
        await raw.send(claim * CLAIMS)
        return {await raw.answer()}  # a claim replaces the previous one

    async with AsyncExitStack() as stack:
        holder, *others = [await stack.enter_async_context(target.websocket()) for _ in range(5)]
        await holder.send(claim)
        assert await holder.answer() == "joined"
        living = asyncio.create_task(live(holder))
        answers = set[str]().union(*await asyncio.gather(*map(claims, others)))
        assert not living.done(), "the peer has lost its place"
        living.cancel()
        assert 0 < asked < CLAIMS
        return answers


@attack("authenticated", "notifications", "rate-limited", "1008", bound=["1008"], servers=["notification"])
async def many_inboxes(target: Target) -> Collection[str]:
    """One client that authenticates as 10,000 users in a row."""
    return await _answers(target, lambda number: {"type": "authenticate", "userId": f"greedy-{number}"})


@attack("notification-sent", "rate-limited", "1008", bound=["rate-limited", "1008"], servers=["notification"])
async def many_notifications(target: Target) -> Collection[str]:
    """One user that sends 10,000 notifications."""
    answers = set()
    user = f"greedy-{next(NUMBERS)}"
    send = text({"type": "mention", "targetUserId": "victim", "data": {"text": "a" * 100}})
    async with target.websocket() as raw:
        await raw.send(text({"type": "authenticate", "userId": user}))
        raw.write(send * AN_HOUR)
        for _ in range(AN_HOUR):
            answer = await raw.message("notification-sent", "error")
            answers.add(answer.get("code", "notification-sent"))
        raw.write(send * (MANY - AN_HOUR))
        answers.add(await raw.end())
    return answers


@attack("authenticated", "too-many-connections", bound=["too-many-connections"], servers=["notification"])
async def many_devices(target: Target) -> Collection[str]:
    """One user with more devices than allowed."""
    answers = set()
    async with AsyncExitStack() as stack:
        for _ in range(25):
            raw = await stack.enter_async_context(target.websocket())
            await raw.send(text({"type": "authenticate", "userId": "greedy"}))
            answers.add(await raw.answer())
    return answers


@attack("1013", IGNORED, bound=["1013"], servers=["sync"])
async def many_documents(target: Target) -> Collection[str]:
    """More open documents than allowed, each with stored content."""
    answers = set()
    async with AsyncExitStack() as stack:
        for number in range(DOCUMENTS):
            raw = await stack.enter_async_context(target.websocket(f"/greedy-{number}".encode()))
            await raw.send(sync_frame(2, written(number, "a" * 1000)) + sync_frame(0, b"\x00"))
            answers.add(await raw.until(b"\x00\x01"))
    return answers


async def _sent_until_closed(target: Target, path: bytes, frames: Iterable[bytes], code: str) -> Collection[str]:
    """Send frames until the server has closed one more connection with a code, as its metric says.

    The close frame itself may be lost to a client that continues to send.
    """
    closes = f'opennoodl_closes_total{{code="{code}"}}'
    before = await target.metric(closes)
    async with target.websocket(path) as raw:
        for each in frames:
            await raw.send(each)
        return {await closed(target, closes, before)}


@attack("1009", servers=["sync"])
async def growing_document(target: Target) -> Collection[str]:
    """A document that the client extends until it is too large."""
    updates = (written(1000 + number, "a" * 1_000_000, f"key-{number}") for number in range(100))
    return await _sent_until_closed(target, b"/endless", (sync_frame(2, update) for update in updates), "1009")


@attack("1003", servers=["sync"])
async def pending_updates(target: Target) -> Collection[str]:
    """Updates with missing dependencies, until too many are pending."""
    updates = (struct(1 + number, 10, 4, b"\xc0\x84\x3d" + b"a" * 1_000_000) for number in range(100))
    return await _sent_until_closed(target, b"/waiting", (sync_frame(2, update) for update in updates), "1003")


@attack("1003", servers=["sync"])
async def many_awareness_states(target: Target) -> Collection[str]:
    """One connection with the awareness states of 10,000 clients."""
    states = (awareness_frame((number, 1, b"{}")) for number in range(MANY))
    return await _sent_until_closed(target, b"", states, "1003")
