"""Yjs updates (format 1), read far enough to know what is sound and what it needs.

A server integrates what strangers send. What reaches the document has passed this reader: it is complete,
every string is UTF-8, and no number is out of range.

Source of the format: yjs 13, ``src/utils/encoding.js``, ``src/structs/*.js`` and ``DeleteSet.js``; lib0,
``decoding.js``.
"""

import sys
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from .protocol import MalformedError, read_bytes, read_varuint

NOTHING = b"\x00\x00"
"""The update that changes nothing."""

MAX_CLOCK = 2**32 - 1
REMEMBERED_CLIENTS = 4096
"""Clients that are remembered as they are written."""
MAX_PARTS = 2**20
"""Structs, clients and deletions of an update from outside: each takes time and memory, however few its bytes are."""
MAX_DEPTH = 500
"""Levels of plain values within each other."""

GC, DELETED, JSON, BINARY, STRING, EMBED, FORMAT, TYPE, ANY, DOC, SKIP = range(11)
NO_ITEM = frozenset((GC, SKIP))
ORIGIN, RIGHT_ORIGIN, PARENT_KEY, CONTENT = 0x80, 0x40, 0x20, 0x1F
XML_ELEMENT, XML_HOOK, LAST_TYPE = 3, 5, 6

Id = tuple[int, int]
"""A client, and the clock of one of its elements."""


class Section(NamedTuple):
    """What an update has of one client: structs without a hole between them.

    Attributes:
        client: whose elements they are.
        clock: of the first element.
        structs: how many there are.
        at: the offset of the first one.
        end: the offset behind the last one.
    """

    client: int
    clock: int
    structs: int
    at: int
    end: int


def read(data: bytes, most: int = sys.maxsize) -> tuple[list[Section], int]:
    """Read an update; what follows its end is ignored, as Yjs does.

    Args:
        data: the update.
        most: structs, clients and deletions that it may have.

    Returns:
        what it adds, and the offset of what it deletes, for `read_deletions`.

    Raises:
        MalformedError, UnicodeDecodeError, IndexError: this is not one.
    """
    sections: dict[int, Section] = {}
    total = 0
    left, at = read_varuint(data, 0)
    while left:
        count, at = read_varuint(data, at)
        client, at = read_client(data, at)
        clock, at = read_varuint(data, at)
        if client in sections:
            raise MalformedError(f"client {client} comes twice")
        total += count + 1
        check_size(total, most)
        first, start = clock, at
        for _ in range(count):
            length, _, at = read_part(data, at)
            clock += length
        if clock > MAX_CLOCK:
            raise MalformedError("a clock is too large")
        sections[client] = Section(client, first, count, start, at)
        left -= 1
    for _ in read_deletions(data, at):
        total += 1
        check_size(total, most)
    return list(sections.values()), at


def check_size(count: int, most: int) -> None:
    """Refuse an update that has more structs and deletions than it may have.

    Raises:
        MalformedError: it has.
    """
    if count > most:
        raise MalformedError(f"it has more than {most} pieces")


_clients: dict[bytes, int] = {}
"""What was read lately by `read_client`."""


def read_client(data: bytes, at: int) -> tuple[int, int]:
    """Return the client at offset `at` and the offset behind it.

    Yjs draws clients from 32 bits, of which nearly all take five bytes, and they come again in every update.
    """
    found = _clients.get(data[at : at + 5])
    if found is not None:
        return found, at + 5
    client, end = read_varuint(data, at)
    if end - at == 5:
        if len(_clients) >= REMEMBERED_CLIENTS:
            _clients.clear()
        _clients[data[at:end]] = client
    return client, end


def read_part(data: bytes, at: int) -> tuple[int, tuple[Id, ...] | None, int]:
    """Return the length of the struct at offset `at`, what it needs (None for a gap), and the offset behind it."""
    info = data[at]
    at += 1
    content = info & CONTENT
    if content in NO_ITEM:
        length, at = _read_length(data, at)
        return length, None if content == SKIP else (), at
    needs: tuple[Id, ...] = ()
    if info & ORIGIN:
        client, at = read_client(data, at)
        clock, at = read_varuint(data, at)
        needs = ((client, clock),)
    if info & RIGHT_ORIGIN:
        client, at = read_client(data, at)
        clock, at = read_varuint(data, at)
        needs = (*needs, (client, clock))
    if not info & (ORIGIN | RIGHT_ORIGIN):
        named, at = read_varuint(data, at)
        if named == 1:
            at = _skip_string(data, at)
        else:
            client, at = read_client(data, at)
            clock, at = read_varuint(data, at)
            needs = ((client, clock),)
        if info & PARENT_KEY:
            at = _skip_string(data, at)
    if content == STRING:
        length, at = read_varuint(data, at)
        text = data[at : at + length]
        at += length
        if at > len(data):
            raise MalformedError("it ends before its content does")
        # JavaScript counts UTF-16. An empty text is what yrs makes of the second half of a character.
        return length if text.isascii() else len(text.decode().encode("utf-16-le")) // 2, needs, at
    length, at = _read_content(content, data, at)
    return length, needs, at


def check_cut(data: bytes, at: int, end: int, new: int) -> None:
    """Refuse a struct of which only a part is new, if that part begins in the middle of a character: yrs fails on it.

    Args:
        data: the update.
        at: the offset of the struct.
        end: the offset behind it.
        new: how many elements of it are new.

    Raises:
        MalformedError: it is such a struct.
    """
    if data[at] & CONTENT != STRING:
        return
    while new > 0:
        end -= 1
        if data[end] & 0xC0 != 0x80:  # where a character begins
            new -= 2 if data[end] >= 0xF0 else 1
    if new:
        raise MalformedError("half a character is new")


def _read_length(data: bytes, at: int) -> tuple[int, int]:
    length, at = read_varuint(data, at)
    if not length:
        raise MalformedError("a struct is empty")
    return length, at


def _read_content(kind: int, data: bytes, at: int) -> tuple[int, int]:
    """Return how many elements a content other than text is, and the offset behind it."""
    if kind == DELETED:
        return _read_length(data, at)
    if kind == ANY:
        length, at = _read_length(data, at)
        return length, _skip_values(data, at, length)
    if kind == BINARY:
        return 1, read_bytes(data, at)[1]
    if kind == EMBED:
        return 1, _skip_json(data, at)
    if kind == FORMAT:
        return 1, _skip_json(data, _skip_string(data, at))
    if kind == TYPE:
        reference, at = read_varuint(data, at)
        if reference > LAST_TYPE or reference == XML_HOOK:  # yrs reads a hook without its name
            raise MalformedError(f"type {reference} is not supported")
        return 1, _skip_string(data, at) if reference == XML_ELEMENT else at
    if kind == DOC:
        return 1, _skip_values(data, _skip_string(data, at), 1)
    # JSON, which nothing writes any more, is among these: yrs reads one text more of it than there are.
    raise MalformedError(f"content {kind} is not supported")


def read_deletions(data: bytes, at: int) -> Iterator[tuple[int, int, int]]:
    """Yield what the delete set at offset `at` deletes: client, clock and end."""
    clients, at = read_varuint(data, at)
    for _ in range(clients):
        client, at = read_client(data, at)
        ranges, at = read_varuint(data, at)
        for _ in range(ranges):
            clock, at = read_varuint(data, at)
            length, at = read_varuint(data, at)
            if clock + length > MAX_CLOCK:
                raise MalformedError("a clock is too large")
            yield client, clock, clock + length


def _skip_string(data: bytes, at: int) -> int:
    text, at = read_bytes(data, at)
    if not text.isascii():
        text.decode()
    return at


def _skip_json(data: bytes, at: int) -> int:
    text, at = read_bytes(data, at)
    if text != b"undefined":
        try:
            msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError):
            raise MalformedError("this is not JSON") from None
    return at


def _skip_values(data: bytes, at: int, count: int) -> int:
    """Return the offset behind `count` plain values, as lib0's ``writeAny`` writes them."""
    open_values = [(count, False)]  # of everything around: how many are left, and whether they have keys
    while open_values:
        left, keyed = open_values.pop()
        if not left:
            continue
        open_values.append((left - 1, keyed))
        if keyed:
            at = _skip_string(data, at)
        kind = data[at]
        at += 1
        if kind in (117, 118):  # array, object
            inner, at = read_varuint(data, at)
            open_values.append((inner, kind == 118))
            if len(open_values) > MAX_DEPTH:
                raise MalformedError(f"values stand more than {MAX_DEPTH} levels within each other")
        elif kind == 119:
            at = _skip_string(data, at)
        elif kind == 116:  # bytes
            at = read_bytes(data, at)[1]
        elif kind == 125:
            while data[at] >= 0x80:
                at += 1
            at += 1
        elif kind in (122, 123, 124):  # big integer, double, float
            at += 4 if kind == 124 else 8
        elif kind not in (120, 121, 126, 127):  # true, false, null, undefined
            raise MalformedError(f"there is no value {kind}")
    return at
