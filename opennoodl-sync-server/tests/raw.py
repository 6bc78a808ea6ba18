"""Yjs updates put together by hand, by the same description as the code under test but without it."""

from __future__ import annotations

from pycrdt import write_var_uint as number

Id = tuple[int, int]

BEGINNING = number(1) + b"\x01t"
"""The parent "t" of an item, by name."""


def string(text: str | bytes) -> bytes:
    """Return a text behind its length in bytes."""
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
    """Return an item; `content` begins with the number of its kind.

    Args:
        content: what it holds.
        origin: what it was inserted behind.
        right: what it was inserted before.
        parent: what it is in; is not written where one of the others tells it.
        key: of the entry of a map.
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
    """Return the content text."""
    return b"\x04" + string(words)


def values(*encoded: bytes) -> bytes:
    """Return the content of plain values."""
    return b"\x08" + number(len(encoded)) + b"".join(encoded)


def gc(length: int) -> bytes:
    """Return the trace of what is gone."""
    return b"\x00" + number(length)


def skip(length: int) -> bytes:
    """Return a gap."""
    return b"\x0a" + number(length)


def section(client: int, clock: int, *structs: bytes) -> bytes:
    """Return what an update has of one client."""
    return number(len(structs)) + number(client) + number(clock) + b"".join(structs)


def update(*sections: bytes, deletes: dict[int, list[tuple[int, int]]] | None = None) -> bytes:
    """Return an update.

    Args:
        sections: what it adds.
        deletes: what it deletes: by client, clocks and lengths.
    """
    parts = [number(len(sections)), *sections, number(len(deletes or {}))]
    for client, ranges in (deletes or {}).items():
        parts += [number(client), number(len(ranges)), *(number(clock) + number(length) for clock, length in ranges)]
    return b"".join(parts)
