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
    try:
        return zlib.decompress(content)
    except zlib.error as error:
        raise DamagedError(f"the content of a version is damaged: {error}") from None
