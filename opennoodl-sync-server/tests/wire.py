"""Encodes and decodes messages with pycrdt's codec instead of the code under test."""

from __future__ import annotations

import json

from pycrdt import Decoder, write_var_uint

Entry = tuple[int, int, object]
"""A client, its clock, and its state."""

QUERY = b"\x03"
"""The message that requests all awareness states."""


def step_1(state_vector: bytes) -> bytes:
    """Return a step 1 with a state vector."""
    return b"\x00\x00" + write_var_uint(len(state_vector)) + state_vector


def step_2(update: bytes) -> bytes:
    """Return a step 2 with an update."""
    return b"\x00\x01" + write_var_uint(len(update)) + update


def update_message(update: bytes) -> bytes:
    """Return an update message."""
    return b"\x00\x02" + write_var_uint(len(update)) + update


def token_message(token: str) -> bytes:
    """Return the message with a token."""
    raw = token.encode(errors="surrogatepass")
    return write_var_uint(101) + write_var_uint(len(raw)) + raw


def awareness_message(*entries: Entry) -> bytes:
    """Return the message with an awareness update of `entries`."""
    update = encode_awareness(*entries)
    return b"\x01" + write_var_uint(len(update)) + update


def encode_awareness(*entries: Entry) -> bytes:
    """Return the awareness update of `entries`; a state in bytes is encoded unchanged."""
    parts = [write_var_uint(len(entries))]
    for client, clock, state in entries:
        raw = state if isinstance(state, bytes) else json.dumps(state).encode()
        parts += [write_var_uint(client), write_var_uint(clock), write_var_uint(len(raw)), raw]
    return b"".join(parts)


def decode_awareness(update: bytes) -> list[Entry]:
    """Decode an awareness update; return its entries in the order of clients."""
    decoder = Decoder(update)
    entries: list[Entry] = []
    for _ in range(decoder.read_var_uint()):
        client, clock = decoder.read_var_uint(), decoder.read_var_uint()
        entries.append((client, clock, json.loads(decoder.read_var_string())))
    assert decoder.length == 0
    return sorted(entries, key=lambda entry: entry[0])


def awareness_of(message: bytes | None) -> list[Entry]:
    """Decode an awareness message; return its entries."""
    assert message is not None
    assert message[0] == 1
    update = Decoder(message[1:]).read_message()
    assert update is not None
    return decode_awareness(update)


def sync_content(message: bytes, kind: int) -> bytes:
    """Return the content of a sync message of `kind`: 0 is step 1, 1 is step 2, 2 is an update."""
    assert message[:2] == bytes((0, kind))
    content = Decoder(message[2:]).read_message()
    assert content is not None
    return content
