"""The encoded index of a segment: with it, a stored update becomes a segment without reading each struct.

An index fits only one update, whose length and checksum it has. All numbers are little-endian:

    "OSI2", CRC-32 of the rest,
    length and CRC-32 of the update, the offsets of the beginning and the end of its sections,
    the length of each array of `Segment.arrays`, then the arrays
"""

import struct
import sys
from array import array
from collections.abc import Sequence
from zlib import crc32

from .lib0 import MalformedError, Steps, copied, read_varuint, write_varuint
from .segment import SHARED, Segment

MAGIC = b"OSI2"
"""The first bytes of an index; the digit is the version of the format."""
AT_ONCE = 1_048_576
"""Bytes of one step of a checksum."""

_PREFIX = struct.Struct("<4sI")
_HEAD = struct.Struct("<QIQQ9I")


def write_index(segment: Segment, update: Sequence[bytes | memoryview]) -> Steps[bytes]:
    """Return the encoded index of a segment.

    Args:
        segment: the segment.
        update: the result of its `pieces`.
    """
    begin = len(write_varuint(len(segment)))
    arrays = segment.arrays()
    checksum = 0
    for piece in update:
        checksum = yield from _checksum(piece, checksum)
    counts = map(len, arrays)
    head = _HEAD.pack(sum(map(len, update)), checksum, begin, begin + segment.size, *counts)
    content = b"".join((head, *map(_little_endian, arrays)))
    return _PREFIX.pack(MAGIC, (yield from _checksum(content))) + content


def read_segment(update: bytes, index: bytes) -> Steps[Segment]:
    """Return the segment of an update and its index.

    Raises:
        MalformedError: the index is damaged or belongs to another update. The update may be valid.
    """
    if len(index) < _PREFIX.size + _HEAD.size or not index.startswith(MAGIC):
        raise MalformedError("not an index")
    content = memoryview(index)[_PREFIX.size :]
    if (yield from _checksum(content)) != _PREFIX.unpack_from(index)[1]:
        raise MalformedError("an index is damaged")
    size, checksum, begin, stop, *counts = _HEAD.unpack_from(content)
    if size != len(update) or checksum != (yield from _checksum(update)):
        raise MalformedError("an index is of another update")
    number, first = read_varuint(update, 0)
    if first != begin:
        raise MalformedError("an index is of another update")
    if stop - begin < SHARED * size:
        segment = Segment((yield from copied(update, begin, stop)), 0, stop - begin, number)
    else:
        segment = Segment(update, begin, stop, number, is_update=True)
    at = _HEAD.size
    for values, count in zip(segment.arrays(), counts, strict=True):
        end = at + count * values.itemsize
        del values[:]  # `places` of an empty set has one entry
        values.frombytes(content[at:end])
        if sys.byteorder == "big":
            values.byteswap()
        at = end
        yield
    return segment


def _checksum(data: bytes | memoryview, checksum: int = 0) -> Steps[int]:
    view = memoryview(data)
    for at in range(0, len(view), AT_ONCE):
        checksum = crc32(view[at : at + AT_ONCE], checksum)
        yield
    return checksum


def _little_endian(values: "array[int]") -> bytes:
    if sys.byteorder == "big":
        values = values[:]
        values.byteswap()
    return values.tobytes()
