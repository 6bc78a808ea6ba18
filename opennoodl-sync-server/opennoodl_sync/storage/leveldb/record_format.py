"""The format of records: y-leveldb's keys, and our own checksums after the values.

Keys are concatenated elements: a string is ``00``, its byte length as a varuint, its UTF-8 bytes; a number is
``01`` and four bytes, big-endian.

LevelDB's own checksums protect only tables and logs, and do not survive a repair. Ours follow the end of the value, at
a place that y-leveldb does not read, since a Yjs update and a state vector contain their lengths. A checksum includes
the key, so a value under a wrong key is detected. It is stored with the number of the document's first update at the
time of writing. Every compaction writes a new state vector, so that shows with which number the updates must begin.
Values that y-leveldb has written have neither, and are accepted unchanged.
"""

from io import BytesIO
from zlib import crc32

from ...yjs.lib0 import PIECE, MalformedError, read_bytes, write_bytes
from ..interface import CorruptError

_MARK = b"\x00crc"
_SIZE = len(_MARK) + 4 + 4


def key_of(*elements: str) -> bytes:
    """Return the key of these strings."""
    return b"".join(b"\x00" + write_bytes(element.encode()) for element in elements)


def parse_key(key: bytes) -> tuple[str, str]:
    """Return the kind of a key ("v1_sv", or the element after "v1" and the name) and the document's name.

    Raises:
        CorruptError: y-leveldb has no such key.
    """
    try:
        version, at = read_bytes(key, 1)
        name, at = read_bytes(key, at + 1)
        kind = version if version == b"v1_sv" else read_bytes(key, at + 1)[0]
        return kind.decode(), name.decode()
    except (MalformedError, UnicodeDecodeError):
        raise CorruptError(f"the key {key.hex()} is not one of y-leveldb's") from None


def number_element(number: int) -> bytes:
    """Return a number as an element of a key."""
    return b"\x01" + number.to_bytes(4, "big")


def seal(key: bytes, value: bytes, first: int) -> bytes:
    """Return the bytes to store under `key`.

    A thread does this for large values. Otherwise copying them would hold Python's lock, and so block the event loop.

    Args:
        key: the key.
        value: the value.
        first: the number of the document's first update.
    """
    beginning = first.to_bytes(4, "big")
    end = b"".join((_MARK, beginning, _sum(key, value, beginning)))
    if len(value) <= PIECE:
        return value + end
    sealed, view = BytesIO(), memoryview(value)
    for at in range(0, len(value), PIECE):
        sealed.write(view[at : at + PIECE])
    sealed.write(end)
    return sealed.getvalue()


def unseal(key: bytes, stored: BytesIO) -> tuple[bytes, int | None]:
    """Return the value that is stored under `key`, and the number of the document's first update, or None.

    Args:
        key: the key.
        stored: the stored bytes; it is truncated to the value, so that a large value is not copied.

    Raises:
        CorruptError: the stored bytes are not those that were written.
    """
    with stored.getbuffer() as view:
        size = len(view) - _SIZE
        if size < 0 or view[size : size + len(_MARK)] != _MARK:
            return stored.getvalue(), None
        beginning = bytes(view[-8:-4])
        if view[-4:] != _sum(key, view[:size], beginning):
            raise CorruptError("checksum mismatch")
    stored.truncate(size)
    return stored.getvalue(), int.from_bytes(beginning, "big")


def _sum(key: bytes, value: bytes | memoryview, beginning: bytes) -> bytes:
    return crc32(beginning, crc32(key, crc32(value))).to_bytes(4, "big")
