"""The format of records: y-leveldb's keys, and checksums of our own behind the values.

Keys are concatenated elements: a string is ``00``, its byte length as a varuint, its UTF-8 bytes; a number is
``01`` and four bytes, big-endian.

LevelDB's own checksums end where a file is not a table or a log, or was repaired. Ours stand behind the end of the
value, where y-leveldb does not read: a Yjs update and a state vector say themselves where they end. A checksum covers
the key too, so a value that stands under another's key is noticed. With it stands the number of the first update that
the document had when the value was written. So the state vector, which every compaction writes anew, says where the
updates must begin. Values that y-leveldb wrote have neither and are taken as they are.
"""

from io import BytesIO
from zlib import crc32

from ...yjs.lib0 import PIECE, MalformedError, read_bytes, write_bytes
from ..interface import CorruptError

_MARK = b"\x00crc"
_SIZE = len(_MARK) + 4 + 4


def key_of(*elements: str) -> bytes:
    """Return the key of these elements, which are strings."""
    return b"".join(b"\x00" + write_bytes(element.encode()) for element in elements)


def parse_key(key: bytes) -> tuple[str, str]:
    """Return the kind of a key ("v1_sv", or what stands behind "v1" and the name) and the document's name.

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
    """Return what to store under `key`.

    A thread does this for large values. Copying one at once would keep Python's lock, and the event loop, for as long.

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
    """Return the value that is stored under `key`, and the number of the first update, if it has one.

    Args:
        key: the key.
        stored: what is stored; its end is cut off, so a large value need not be copied.

    Raises:
        CorruptError: it is not what was written.
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
