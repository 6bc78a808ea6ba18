"""Attacks on the JSON decoder: deep nesting, long values, duplicate keys, and input that decoders treat differently."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable

from .attack import JSON, attack
from .raw_connection import IGNORED, Target, frame

MOST = 65_000
"""Bytes that fit into a message."""


async def _answers(target: Target, messages: Iterable[bytes]) -> Collection[str]:
    """Send messages one after the other; return their answers."""
    answers = set()
    async with target.websocket() as raw:
        for message in messages:
            await raw.send(frame(message))
            answers.add(await raw.verdict())
    return answers


@attack("invalid-json", servers=JSON)
async def invalid_json(target: Target) -> Collection[str]:
    """Truncated objects, other values, NaN, Infinity, comments, control characters, a byte order mark."""
    texts = [
        *('{"type":"ping"', "[]", "1", '"ping"', "null", "", "{'type': 'ping'}", '{"type":"ping",}', "{}{}"),
        *('{"type":"ping","a":NaN}', '{"type":"ping","a":Infinity}', '{"type":"ping","a":-Infinity}'),
        *('{"type":"ping"}//', '{"type":"ping","a":01}', '{"type":"ping","a":0x1}', '{"type":"ping","a":"\x01"}'),
        *(
            '\ufeff{"type":"ping"}',
            '{"type":"ping","a":"\\x"}',
            '{"type":"ping","a":"\\u12"}',
            '{"type":"ping","a":1.}',
        ),
    ]
    return await _answers(target, (each.encode() for each in texts))


@attack("invalid-json", servers=JSON)
async def deep_json(target: Target) -> Collection[str]:
    """Nested lists and nested objects, as deep as a message can hold."""
    deep = ["[" * 30_000 + "]" * 30_000, '{"a":' * 10_000 + "1" + "}" * 10_000, "[" * MOST]
    return await _answers(target, (f'{{"type":"ping","a":{each}}}'.encode() for each in deep))


@attack(signaling=[IGNORED], notification=["invalid-field"], servers=JSON)
async def long_numbers(target: Target) -> Collection[str]:
    """Numbers of 60,000 digits, with huge exponents, and just beyond what fits into 64 bits."""
    numbers = ["9" * 60_000, "-" + "9" * 60_000, "1e999999999", "0." + "1" * 60_000, str(2**64), "1E-999999999", "-0"]
    if target.kind == "signaling":  # in an unknown field
        return await _answers(target, (f'{{"type":"ping","a":{number}}}'.encode() for number in numbers))
    return await _answers(target, (f'{{"type":"get-notifications","limit":{each}}}'.encode() for each in numbers))


@attack("unknown-type", "missing-field", "invalid-field", servers=JSON)
async def duplicate_keys(target: Target) -> Collection[str]:
    """Objects with duplicate keys: the server does not mix two messages."""
    known, fields = {
        "signaling": ("ping", '"type":"join","room":"a","peerId":"b","userId":"c","userId":5'),
        "notification": ("delete-all", '"type":"authenticate","userId":"a","userId":5'),
    }[target.kind]
    texts = [f'{{"type":"{known}","type":"nonsense"}}', '{"type":"' + fields.split('"')[3] + '"}', f"{{{fields}}}"]
    return await _answers(target, (each.encode() for each in texts))


@attack(signaling=["pong"], notification=["unauthorized"], servers=JSON)
async def lone_surrogates(target: Target) -> Collection[str]:
    """Halves of surrogate pairs, and text of escapes only: the server accepts both as text."""
    texts = ["\\ud800", "\\udc00\\ud800", "\\\\ud800", "\\u0000" * 10_000, "\\ud83d\\ude00" * 5_000, '\\"' * 30_000]
    kind = '{"type":"ping","a":"%s"}' if target.kind == "signaling" else '{"type":"get-notifications","a":"%s"}'
    answers = set()
    async with target.websocket() as raw:
        for each in texts:
            await raw.send(frame((kind % each).encode()))
            answers.add(await raw.answer())
    return answers


@attack("unknown-type", servers=JSON)
async def unknown_types(target: Target) -> Collection[str]:
    """Unknown types, types that are other JSON values, and names of internals such as `__proto__`."""
    types = [
        "",
        "__proto__",
        "constructor",
        "error",
        "joined",
        "authenticated",
        1,
        None,
        [],
        {},
        ["ping"],
        "PING",
        "a" * MOST,
    ]
    return await _answers(target, (json.dumps({"type": each}).encode() for each in [*types, "a" * MOST]))


@attack("invalid-field", servers=JSON)
async def invalid_fields(target: Target) -> Collection[str]:
    """Ids that are empty, too long, or not text."""
    kind, field = ("register", "userId") if target.kind == "signaling" else ("authenticate", "userId")
    values = ["", "a" * 257, 5, None, {}, [], True, 1.5]
    return await _answers(target, (json.dumps({"type": kind, field: each}).encode() for each in values))
