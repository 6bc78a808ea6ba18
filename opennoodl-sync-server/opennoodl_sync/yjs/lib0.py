"""Numbers and byte strings in lib0's encoding, as y-protocols and Yjs use it.

Source of the format: lib0, ``encoding.js`` and ``decoding.js``.
"""

from collections.abc import Generator
from io import BytesIO
from typing import TypeAlias, TypeVar

MAX_SAFE_INTEGER = 2**53 - 1
"""The largest number that lib0 reads."""
PIECE = 262_144
"""Bytes of one copy step: new memory costs the operating system a page fault for every 4 KiB."""

T = TypeVar("T")

Steps: TypeAlias = Generator[None, None, T]
"""A generator for long work: it yields about every millisecond, and returns the result."""


class MalformedError(Exception):
    """The bytes do not have the expected format; the text names the fault."""


def finish(steps: Steps[T]) -> T:
    """Run all steps at once; return the result."""
    try:
        while True:
            next(steps)
    except StopIteration as end:
        result: T = end.value
        return result


def copied(data: bytes | memoryview, begin: int, end: int) -> Steps[bytes]:
    """Return a copy of the bytes from offset `begin` to before `end`, made in steps."""
    view, copy = memoryview(data), BytesIO()
    for at in range(begin, end, PIECE):
        if at > begin:
            yield
        copy.write(view[at : min(at + PIECE, end)])
    return copy.getvalue()


def read_varuint(data: bytes, at: int) -> tuple[int, int]:
    """Return the number at offset `at`, and the offset after it.

    Raises:
        MalformedError: the data ends too early, or the number is larger than lib0 reads.
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
    """Return the length-prefixed bytes at offset `at`, and the offset after them.

    Raises:
        MalformedError: the data ends too early.
    """
    if at < len(data) and data[at] < 0x80:  # the usual case
        length, at = data[at], at + 1
    else:
        length, at = read_varuint(data, at)
    end = at + length
    if end > len(data):
        raise MalformedError("the message ends before its content does")
    return data[at:end], end


def write_varuint(number: int) -> bytes:
    """Return `number` in lib0's encoding: seven bits per byte, lowest bits first."""
    if number < 0x80:
        return bytes((number,))
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def write_bytes(content: bytes) -> bytes:
    """Return `content` with its length before it."""
    return write_varuint(len(content)) + content
