"""Encodes Yjs updates without the code under test."""

from __future__ import annotations

from pycrdt import write_var_uint as number

Id = tuple[int, int]

BEGINNING = number(1) + b"\x01t"
"""The encoded parent of an item: the root "t"."""


def string(text: str | bytes) -> bytes:
    """Return a text after its length in bytes."""
    raw = text.encode() if isinstance(text, str) else text
    return number(len(raw)) + raw


def item(
    content: bytes,
    *,
    origin: Id | None = None,
    right: Id | None = None,
    parent: str | Id = "t",
    key: str | None = None,
) -> bytes:
    """Return an encoded item.

    Args:
        content: its content, which begins with the number of its kind.
        origin: the id of its origin, or None.
        right: the id of its right origin, or None.
        parent: the name of a root, or an id; not encoded if there is an origin or a right origin.
        key: the key of a map's entry, or None.
    """
    info = content[0] | 0x80 * (origin is not None) | 0x40 * (right is not None) | 0x20 * (key is not None)
    parts = [bytes([info]), *(number(client) + number(clock) for client, clock in filter(None, (origin, right)))]
    if origin is None and right is None:
        if isinstance(parent, str):
            parts.append(number(1) + string(parent))
        else:
            parts += [number(0), number(parent[0]), number(parent[1])]
        parts += [string(key)] if key is not None else []
    return b"".join(parts) + content[1:]


def text(words: str | bytes) -> bytes:
    """Return the content of a text."""
    return b"\x04" + string(words)


def values(*encoded: bytes) -> bytes:
    """Return the content of plain values."""
    return b"\x08" + number(len(encoded)) + b"".join(encoded)


def gc(length: int) -> bytes:
    """Return a `GC` struct."""
    return b"\x00" + number(length)


def skip(length: int) -> bytes:
    """Return a `Skip` struct."""
    return b"\x0a" + number(length)


def section(client: int, clock: int, *structs: bytes) -> bytes:
    """Return the section of one client."""
    return number(len(structs)) + number(client) + number(clock) + b"".join(structs)


def update(*sections: bytes, deletes: dict[int, list[tuple[int, int]]] | None = None) -> bytes:
    """Return an update.

    Args:
        sections: its sections.
        deletes: its delete set: by client, clocks and lengths.
    """
    parts = [number(len(sections)), *sections, number(len(deletes or {}))]
    for client, ranges in (deletes or {}).items():
        parts += [number(client), number(len(ranges)), *(number(clock) + number(length) for clock, length in ranges)]
    return b"".join(parts)
