"""The content of a version: all of the document as one update, compressed."""

import zlib

from ..yjs.document import DamagedError


def pack(update: bytes) -> bytes:
    """Return the content of the version that an update makes."""
    return zlib.compress(update)


def unpack(content: bytes) -> bytes:
    """Return the update that a version is.

    Raises:
        DamagedError: it is none.
    """
    update = unpack_at_most(content, 0)
    assert update is not None
    return update


def unpack_at_most(content: bytes, most: int) -> bytes | None:
    """Return the update that a version is, or None if it has more than `most` bytes; 0 is any number.

    Raises:
        DamagedError: it is none.
    """
    unpacking = zlib.decompressobj()
    try:
        update = unpacking.decompress(content, most + 1 if most else 0)
    except zlib.error as error:
        raise DamagedError(f"the content of a version is damaged: {error}") from None
    if 0 < most < len(update):
        return None
    if not unpacking.eof:
        raise DamagedError("the content of a version is damaged: it is incomplete")
    return update
