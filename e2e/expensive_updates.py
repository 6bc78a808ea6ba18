"""Valid updates that are expensive to integrate: many small structs, and structures with long searches.

They are encoded byte by byte, in format 1 of Yjs, so that making them is always fast.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

GC, DELETED, STRING, FORMAT, TYPE, ANY = 0, 1, 4, 6, 7, 8
ORIGIN, RIGHT_ORIGIN, KEY = 0x80, 0x40, 0x20
ARRAY, UNDEFINED = b"\x00", b"\x7f"
FIRST_CLIENT = 2**31
"""Client ids as large as most of Yjs, which take five bytes."""
CLIENTS_OF_A_PART = 2**24

Make = Callable[[int, int], bytes]


def number(value: int) -> bytes:
    """Return a number in lib0's encoding."""
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def sized(content: bytes) -> bytes:
    """Return content after its length."""
    return number(len(content)) + content


TEXT = b"\x01" + sized(b"t")
LIST = b"\x01" + sized(b"a")
MAP = b"\x01" + sized(b"m") + sized(b"k")
LETTER = sized(b"x")


def _first(part: int) -> int:
    return FIRST_CLIENT + part * CLIENTS_OF_A_PART


def _sections(sections: list[bytes], deletions: bytes = b"\x00") -> bytes:
    """Return the update of sections and a delete set."""
    return b"".join((number(len(sections)), *sections, deletions))


def _section(client: int, structs: list[bytes]) -> bytes:
    return b"".join((number(len(structs)), number(client), b"\x00", *structs))


def _one(client: int, struct: bytes) -> bytes:
    """Return the section of a client with one struct."""
    return b"\x01" + number(client) + b"\x00" + struct


def _until(size: int, structs: Iterator[bytes]) -> list[bytes]:
    """Return as many structs or sections as fit into `size` bytes."""
    taken: list[bytes] = []
    for struct in structs:
        size -= len(struct)
        if size < 0:
            break
        taken.append(struct)
    return taken


def _one_place(order: Callable[[list[int]], object]) -> Make:
    struct = bytes((STRING,)) + TEXT + LETTER

    def make(size: int, part: int) -> bytes:
        clients = [_first(part) + index for index in range(size // len(_one(FIRST_CLIENT, struct)))]
        order(clients)
        return _sections([_one(client, struct) for client in clients])

    return make


def _chain(size: int, part: int) -> bytes:
    def sections() -> Iterator[bytes]:
        client = _first(part)
        yield _one(client, bytes((STRING,)) + TEXT + LETTER)
        while True:
            origin = number(client) + b"\x00"
            client += 1
            yield _one(client, bytes((STRING | ORIGIN,)) + origin + LETTER)

    # The last one first: each depends on the one after it.
    return _sections(_until(size, sections())[::-1])


def _in_front(size: int, part: int) -> bytes:
    client = _first(part)
    head = bytes((STRING | RIGHT_ORIGIN,)) + number(client)

    def structs() -> Iterator[bytes]:
        yield bytes((STRING,)) + TEXT + LETTER
        clock = 0
        while True:
            yield head + number(clock) + LETTER
            clock += 1

    return _sections([_section(client, _until(size, structs()))])


def _by_turns(size: int, part: int) -> bytes:
    first, second = _first(part), _first(part) + 1
    heads = [bytes((STRING | ORIGIN,)) + number(client) for client in (first, second)]
    length = size // 2 // (len(heads[0]) + 5)
    ends = [number(clock) + LETTER for clock in range(length)]
    written = [bytes((STRING,)) + TEXT + LETTER, *(heads[1] + end for end in ends[:-1])]
    return _sections([_section(first, written), _section(second, [heads[0] + end for end in ends])])


def _nested(size: int, part: int) -> bytes:
    client = _first(part)
    head = bytes((TYPE, 0)) + number(client)

    def structs() -> Iterator[bytes]:
        yield bytes((TYPE,)) + LIST + ARRAY
        clock = 0
        while True:
            yield head + number(clock) + ARRAY
            clock += 1

    return _sections([_section(client, _until(size, structs()))])


def _holes(size: int, part: int) -> bytes:
    length = size // 3
    client = _first(part)
    ranges = _until(size - length, (number(clock) + b"\x01" for clock in range(0, length, 2)))
    deletions = b"\x01" + number(client) + number(len(ranges)) + b"".join(ranges)
    return _sections([_one(client, bytes((STRING,)) + TEXT + sized(b"x" * length))], deletions)


def _overwritten(size: int, part: int) -> bytes:
    struct = bytes((ANY | KEY,)) + MAP + b"\x01" + UNDEFINED
    clients = (_first(part) + index for index in range(CLIENTS_OF_A_PART))
    return _sections(_until(size, (_one(client, struct) for client in clients)))


def _formats(size: int, part: int) -> bytes:
    client = _first(part)
    marks = [sized(b"bold") + sized(value) for value in (b"true", b"null")]

    def structs() -> Iterator[bytes]:
        yield bytes((FORMAT,)) + TEXT + marks[0]
        clock = 0
        while True:
            yield bytes((FORMAT | ORIGIN,)) + number(client) + number(clock) + marks[clock % 2]
            clock += 1

    return _sections([_section(client, _until(size, structs()))])


def _collected(size: int, part: int) -> bytes:
    return _sections([_section(_first(part), [bytes((GC, 1))] * (size // 2))])


def _undefined(size: int, part: int) -> bytes:
    return _sections([_one(_first(part), bytes((ANY,)) + LIST + number(size) + UNDEFINED * size)])


@dataclass(frozen=True)
class Shape:
    """A kind of update.

    Attributes:
        about: its description.
        make: returns an update of about this number of bytes; updates of different parts have different clients.
    """

    about: str
    make: Make


SHAPES = {
    "one-place": Shape("clients with one character each at one place, in ascending order", _one_place(lambda _: None)),
    "one-place-down": Shape("the same in descending order", _one_place(lambda clients: clients.reverse())),
    "one-place-mixed": Shape("the same in an order of chance", _one_place(random.Random(1).shuffle)),  # noqa: S311
    "chain": Shape("clients with one character each, behind that of the next client of the update", _chain),
    "in-front": Shape("one client's characters, each put in front of the one before", _in_front),
    "by-turns": Shape("two clients who type one character each by turns", _by_turns),
    "nested": Shape("lists within each other, as deep as there are bytes", _nested),
    "holes": Shape("one text of which every other character is deleted", _holes),
    "overwritten": Shape("clients who all set the same key of a map", _overwritten),
    "formats": Shape("marks that begin and end a format at one place", _formats),
    "collected": Shape("garbage in pieces of one element", _collected),
    "undefined": Shape("one list of undefined values, a byte each", _undefined),
}
