"""Attacks on the reader of Yjs's messages: counts without an end, depth, and states that are no JSON."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from pycrdt import write_var_uint

from .attack import attack
from .documents import awareness_frame, sized, struct, sync_frame
from .raw import BINARY, IGNORED, Target, frame

ONLY = ("sync",)
HUGE = write_var_uint(2**53 - 1)


async def _verdicts(target: Target, frames: Iterable[bytes]) -> Collection[str]:
    """Send each on a connection of its own; return the verdicts."""
    verdicts = set()
    for data in frames:
        async with target.websocket() as raw:
            await raw.send(data)
            verdicts.add(await raw.verdict())
    return verdicts


@attack("1003", servers=ONLY)
async def no_messages(target: Target) -> Collection[str]:
    """Messages of no kind, halves of messages, numbers without an end."""
    texts = [b"", b"\x00", b"\x00\x03", b"\x04", b"\x64\x01", b"\x00\x02\x05\x01", b"\xff" * 1000, b"\x00\x02" + HUGE]
    return await _verdicts(target, (frame(each, BINARY) for each in texts))


@attack("1003", servers=ONLY)
async def endless_counts(target: Target) -> Collection[str]:
    """Updates, state vectors and awareness that claim 2^53 entries, and sizes that overflow."""
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
    """Lists in lists as deep as a message is large, in Yjs's own encoding and as JSON."""
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
async def states_that_are_no_json(target: Target) -> Collection[str]:
    """Awareness states that clients could not read: NaN, half an object, no text, a control character, many digits."""
    states = [b"NaN", b"Infinity", b"{", b"", b"\xff", b'"\x01"', b"{}{}", b"undefined", b"'a'", b"1" * 10_000]
    return await _verdicts(target, (awareness_frame((1, 1, state)) for state in states))


@attack(IGNORED, servers=ONLY)
async def strange_states(target: Target) -> Collection[str]:
    """Awareness states that are JSON all the same: a key twice, lone surrogates, a number beyond all."""
    states = [b'{"a":1,"a":2}', b'{"a":"\\ud800"}', b"1e999", b'{"__proto__":{"a":1}}']
    return await _verdicts(target, (awareness_frame((1, 1, state)) for state in states))
