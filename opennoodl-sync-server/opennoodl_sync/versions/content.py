"""The content of a version: all of the document as one update, compressed."""

import zlib

from ..yjs.document import DamagedError


def pack(update: bytes) -> bytes:
    """Return the content of a version: the update of its document, compressed."""
    return zlib.compress(update)


def unpack(content: bytes) -> bytes:
    """Return the update of a version's content.

    Raises:
        DamagedError: the content is not valid.
    """
    update = unpack_at_most(content, 0)
    assert update is not None
    return update


def unpack_at_most(content: bytes, most: int) -> bytes | None:
    """Return the update of a version's content, or None if it has more than `most` bytes; 0 means no limit.

    Raises:
        DamagedError: the content is not valid.
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
