"""Attacks on the decoder of Yjs messages: endless counts, deep nesting, and states that are not JSON."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from functools import cache
from itertools import count

from pycrdt import write_var_uint

from .attack import attack
from .raw_connection import BINARY, IGNORED, Target, frame
from .update_encoding import awareness_frame, deletions, sized, struct, structs, sync_frame, text, written

ONLY = ("sync",)
MANY = 1_000_000
PIECES = 200_000
"""Structs of an update: each takes time, and few bytes."""
SMILES = 100_000
CUTS = 5
ROOMS = count()
HUGE = write_var_uint(2**53 - 1)


async def _verdicts(target: Target, frames: Iterable[bytes]) -> Collection[str]:
    """Send each frame on its own connection; return the verdicts."""
    verdicts = set()
    for data in frames:
        async with target.websocket() as raw:
            raw.write(data)
            verdicts.add(await raw.verdict())
    return verdicts


@attack("1003", servers=ONLY)
async def malformed_messages(target: Target) -> Collection[str]:
    """Unknown message types, truncated messages, and varints that never end."""
    texts = [b"", b"\x00", b"\x00\x03", b"\x04", b"\x64\x01", b"\x00\x02\x05\x01", b"\xff" * 1000, b"\x00\x02" + HUGE]
    return await _verdicts(target, (frame(each, BINARY) for each in texts))


@attack("1003", servers=ONLY)
async def overflowing_counts(target: Target) -> Collection[str]:
    """Updates, state vectors and awareness messages that claim 2^53 entries, and sizes that overflow."""
    updates = [HUGE, b"\x01" + HUGE + b"\x01\x00", b"\x00" + HUGE, b"\x00\x01\x01" + HUGE, b"\x01\x01" + HUGE + HUGE]
    vectors = [HUGE, HUGE + b"\x01\x01", b"\xff" * 9]
    return await _verdicts(
        target,
        [
            *(sync_frame(step, update) for update in updates for step in (1, 2)),
            *(sync_frame(0, vector) for vector in vectors),
            frame(b"\x01" + sized(HUGE), BINARY),
            frame(b"\x01" + sized(b"\x01\x01\x01" + HUGE), BINARY),
            sync_frame(2, struct(1, 0, 4, HUGE)),
            sync_frame(2, struct(1, 0, 8, HUGE)),
        ],
    )


@attack("1003", servers=ONLY)
async def deep_values(target: Target) -> Collection[str]:
    """Nested lists, as deep as a message can hold, in Yjs's encoding and as JSON."""
    depth = 100_000
    packed = b"\x01" + b"\x75\x01" * depth + b"\x7e"
    return await _verdicts(
        target,
        [
            sync_frame(2, struct(1, 0, 8, packed)),
            sync_frame(2, struct(1, 0, 5, sized(b"[" * depth + b"]" * depth))),
            awareness_frame((1, 1, b"[" * 10_000 + b"]" * 10_000)),
        ],
    )


@attack("1003", servers=ONLY)
async def invalid_awareness_json(target: Target) -> Collection[str]:
    """Awareness states that clients cannot parse: NaN, a truncated object, invalid UTF-8, control characters."""
    states = [b"NaN", b"Infinity", b"{", b"", b"\xff", b'"\x01"', b"{}{}", b"undefined", b"'a'"]
    return await _verdicts(target, (awareness_frame((1, 1, state)) for state in states))


@attack(IGNORED, servers=ONLY)
async def unusual_awareness_json(target: Target) -> Collection[str]:
    """Awareness states in unusual JSON: duplicate keys, lone surrogates, very large numbers."""
    states = [b'{"a":1,"a":2}', b'{"a":"\\ud800"}', b"1e999", b"1" * 10_000, b'{"__proto__":{"a":1}}']
    return await _verdicts(target, (awareness_frame((1, 1, state)) for state in states))


# Large messages are made once, in a thread, since they take seconds and the honest clients must go on.


@cache
def _million_states() -> list[bytes]:
    """Return awareness messages with a million entries: of different clients, and of one client."""
    nobody = b"".join(write_var_uint(client) + b"\x01\x04null" for client in range(MANY))
    one = b"".join(b"\x07" + write_var_uint(clock) + b"\x02{}" for clock in range(MANY))
    return [frame(b"\x01" + sized(write_var_uint(MANY) + entries), BINARY) for entries in (nobody, one)]


@cache
def _million_clients() -> list[bytes]:
    """Return state vectors with a million entries: of different clients, and of one client."""
    every = b"".join(write_var_uint(client) + b"\x01" for client in range(MANY))
    return [sync_frame(0, write_var_uint(MANY) + entries) for entries in (every, b"\x07\x01" * MANY)]


@cache
def _ladder() -> bytes:
    """Return an update of two clients whose structs depend on each other in turn."""
    rungs = [
        [
            bytes((0x44,)) + write_var_uint(other) + write_var_uint(clock - behind) + b"\x01a"
            for clock in range(1, PIECES // 5)
        ]
        for other, behind in ((2, 1), (1, 0))
    ]
    return structs((1, [text("a"), *rungs[0]]), (2, [b"\x44\x01\x00\x01a", *rungs[1]]))


@attack("1003", servers=ONLY)
async def many_awareness_entries(target: Target) -> Collection[str]:
    """A million entries in one awareness message, about unknown clients or always about the same one."""
    return await _verdicts(target, await asyncio.to_thread(_million_states))


@attack(IGNORED, servers=ONLY)
async def large_state_vectors(target: Target) -> Collection[str]:
    """State vectors with a million entries, about as many clients or always about the same one."""
    return await _verdicts(target, await asyncio.to_thread(_million_clients))


@attack(IGNORED, servers=ONLY)
async def highest_awareness_clocks(target: Target) -> Collection[str]:
    """Awareness states of other clients with the highest possible clock, which those clients could not exceed."""
    room = b"/clocks-%d" % next(ROOMS)
    async with target.websocket(room) as victim, target.websocket(room) as raw:
        await victim.send(awareness_frame((7, 1, b'{"user":"victim"}')))
        await victim.verdict()
        for state in (b"null", b'{"user":"eve"}'):
            await raw.send(awareness_frame((7, 2**53 - 1, state)))
        verdict = await raw.verdict()
        await victim.send(awareness_frame((7, 2, b'{"user":"still here"}')) + frame(b"\x03", BINARY))
        present = b""
        while b"still here" not in present:
            came = await victim.next()
            assert came is not None
            assert b"eve" not in came.payload, "somebody was made to be somebody else"
            present = came.payload
    return {verdict}


async def _outcome(target: Target, *updates: bytes) -> str:
    """Send updates to a new room; return the verdict on the last one."""
    async with target.websocket(b"/bomb-%d" % next(ROOMS)) as raw:
        for update in updates:
            await raw.send(sync_frame(2, update))
        return await raw.verdict()


@attack(IGNORED, servers=ONLY)
async def many_structs(target: Target) -> Collection[str]:
    """Updates of 200,000 structs: empty ones, deletions, and structs of two clients that depend on each other."""
    deleted = await asyncio.to_thread(deletions, 1, range(0, 2 * PIECES, 2))
    return {
        await _outcome(target, structs((1, [b"\x00\x01"] * PIECES))),
        await _outcome(target, structs((1, [text("a" * 2 * PIECES)])), deleted),
        await _outcome(target, await asyncio.to_thread(_ladder)),
    }


@attack(IGNORED, servers=ONLY)
async def split_surrogate_pairs(target: Target) -> Collection[str]:
    """A text of 100,000 emojis. Deletions remove half of each surrogate pair, one after the other."""
    cuts = (deletions(1, [2 * number]) for number in range(CUTS))
    return {await _outcome(target, structs((1, [text("\U0001f600" * SMILES)])), *cuts)}


@attack(IGNORED, servers=ONLY)
async def inconsistent_updates(target: Target) -> Collection[str]:
    """Well-formed but inconsistent updates in a large document, which make other Yjs implementations fail."""
    room = b"/damaged-%d" % next(ROOMS)
    verdicts = set()
    async with target.websocket(room) as writer:
        await writer.send(sync_frame(2, structs((1, [text("abc")]))) + sync_frame(2, written(3, "a" * 1_000_000)))
        await writer.verdict()
        for number in range(10):
            async with target.websocket(room) as raw:
                # The parent is the id of a text's element, which is not a type.
                await raw.send(sync_frame(2, structs((10 + number, [b"\x04\x00\x01\x00\x01x"]))))
                verdicts.add(await raw.verdict())
    return verdicts
