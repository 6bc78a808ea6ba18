"""Numbers and byte strings in lib0's encoding, as y-protocols and Yjs use it.

Source of the format: lib0, ``encoding.js`` and ``decoding.js``.
"""

from collections.abc import Generator
from io import BytesIO
from typing import TypeAlias, TypeVar

MAX_SAFE_INTEGER = 2**53 - 1
"""The largest number that lib0 reads."""
PIECE = 262_144
"""Bytes that are copied at once: new memory costs the operating system a page fault for every 4 KiB."""

T = TypeVar("T")

Steps: TypeAlias = Generator[None, None, T]
"""Work that may take long: it yields after every millisecond or so, and returns its result."""


class MalformedError(Exception):
    """Bytes that are not what the format says; the text names what was wrong."""


def finish(steps: Steps[T]) -> T:
    """Do all of some work at once, and return its result."""
    try:
        while True:
            next(steps)
    except StopIteration as end:
        result: T = end.value
        return result


def copied(data: bytes | memoryview, begin: int, end: int) -> Steps[bytes]:
    """Return a copy of the bytes from offset `begin` to before `end`, however many there are."""
    view, copy = memoryview(data), BytesIO()
    for at in range(begin, end, PIECE):
        if at > begin:
            yield
        copy.write(view[at : min(at + PIECE, end)])
    return copy.getvalue()


def read_varuint(data: bytes, at: int) -> tuple[int, int]:
    """Return the number at offset `at` and the offset behind it.

    Raises:
        MalformedError: the data ends within it, or it is larger than lib0 reads.
    """
    try:
        number = data[at]
        at += 1
        if number < 0x80:
            return number, at
        byte = data[at]
        at += 1
        number += (byte << 7) - 0x80
        if byte < 0x80:
            return number, at
        number -= 0x80 << 7
        shift = 14
        while True:
            byte = data[at]
            at += 1
            number += (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
            if shift > 56:
                raise MalformedError("a number is too large")
    except IndexError:
        raise MalformedError("the message ends within a number") from None
    if number > MAX_SAFE_INTEGER:
        raise MalformedError("a number is too large")
    return number, at


def read_bytes(data: bytes, at: int) -> tuple[bytes, int]:
    """Return the length-prefixed bytes at offset `at` and the offset behind them.

    Raises:
        MalformedError: the data ends within them.
    """
    if at < len(data) and data[at] < 0x80:  # as for most
        length, at = data[at], at + 1
    else:
        length, at = read_varuint(data, at)
    end = at + length
    if end > len(data):
        raise MalformedError("the message ends before its content does")
    return data[at:end], end


def write_varuint(number: int) -> bytes:
    """Return `number` in lib0's encoding: seven bits a byte, the lowest first."""
    if number < 0x80:
        return bytes((number,))
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def write_bytes(content: bytes) -> bytes:
    """Return `content` behind its length."""
    return write_varuint(len(content)) + content
