"""Encodes y-protocols messages and Yjs updates (format 1) without a library."""

from __future__ import annotations

from collections.abc import Sequence

from pycrdt import write_var_uint

from .raw_connection import BINARY, frame


def sized(content: bytes) -> bytes:
    """Return content after its length."""
    return write_var_uint(len(content)) + content


def sync_frame(step: int, content: bytes) -> bytes:
    """Return the frame of a sync message: step 1 (0), step 2 (1), or an update (2)."""
    return frame(bytes((0, step)) + sized(content), BINARY)


def awareness_frame(*entries: tuple[int, int, bytes]) -> bytes:
    """Return the frame of an awareness update; entries are client, clock, and JSON."""
    states = b"".join(write_var_uint(client) + write_var_uint(clock) + sized(state) for client, clock, state in entries)
    return frame(b"\x01" + sized(write_var_uint(len(entries)) + states), BINARY)


def struct(client: int, clock: int, reference: int, content: bytes, key: str = "key") -> bytes:
    """Return an update with one item of the map `m`; `reference` is the kind of its content."""
    item = bytes((0x20 | reference,)) + b"\x01" + sized(b"m") + sized(key.encode()) + content
    return b"\x01\x01" + write_var_uint(client) + write_var_uint(clock) + item + b"\x00"


def written(client: int, text: str, key: str = "key") -> bytes:
    """Return the first update of a client: a text in the map `m`."""
    return struct(client, 0, 4, sized(text.encode()), key)


def text(content: str) -> bytes:
    """Return a struct: the first item of the text `t`."""
    return b"\x04\x01" + sized(b"t") + sized(content.encode())


def structs(*sections: tuple[int, Sequence[bytes]]) -> bytes:
    """Return an update with the first structs of each client."""
    update = [write_var_uint(len(sections))]
    for client, parts in sections:
        update += [write_var_uint(len(parts)), write_var_uint(client), b"\x00", *parts]
    return b"".join([*update, b"\x00"])


def deletions(client: int, clocks: Sequence[int]) -> bytes:
    """Return an update that deletes single elements of a client."""
    ranges = [write_var_uint(clock) + b"\x01" for clock in clocks]
    return b"\x00\x01" + write_var_uint(client) + write_var_uint(len(ranges)) + b"".join(ranges)
