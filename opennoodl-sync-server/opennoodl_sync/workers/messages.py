"""Messages between the server and a worker. A message is a list of byte strings, its parts.

It is encoded as the number of its parts and their total length, then each part after its own length. All numbers are
unsigned, with eight bytes, little-endian.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO, TypeAlias

HEAD = struct.Struct("<QQ")
LENGTH = struct.Struct("<Q")
CHUNK = 65_536
"""Bytes of a chunk."""

Part: TypeAlias = Sequence[bytes | memoryview]
"""A byte string in pieces."""


def encode(parts: Sequence[Part]) -> Iterator[bytes | memoryview]:
    """Yield an encoded message in chunks; small pieces are joined to one chunk."""
    lengths = [sum(map(len, part)) for part in parts]
    gathered = bytearray(HEAD.pack(len(parts), sum(lengths)))
    for part, length in zip(parts, lengths, strict=True):
        gathered += LENGTH.pack(length)
        for piece in part:
            if len(piece) < CHUNK:
                gathered += piece
            else:
                yield bytes(gathered)
                gathered.clear()
                view = memoryview(piece)
                for at in range(0, len(piece), CHUNK):
                    yield view[at : at + CHUNK]
            if len(gathered) >= CHUNK:
                yield bytes(gathered)
                gathered.clear()
    yield bytes(gathered)


def read(stream: BinaryIO, announce: Callable[[int], None]) -> list[bytes]:
    """Return the parts of the next message of a stream.

    Args:
        stream: is read until the message is complete.
        announce: is called with the message's length in bytes before its parts are read.

    Raises:
        EOFError: the stream has ended.
    """
    number, size = HEAD.unpack(_read(stream, HEAD.size))
    announce(size)
    return [_read(stream, *LENGTH.unpack(_read(stream, LENGTH.size))) for _ in range(number)]


def _read(stream: BinaryIO, length: int) -> bytes:
    data = stream.read(length)
    if len(data) < length:
        raise EOFError
    return data
