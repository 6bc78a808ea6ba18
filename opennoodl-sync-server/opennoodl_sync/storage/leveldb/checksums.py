"""Checksums of our own for stored values. LevelDB's end where a file is not a table or a log, or was repaired.

A checksum stands behind the end of the value, where y-leveldb does not read: a Yjs update and a state vector say
themselves where they end. It covers the key too, so a value that stands under another's key is noticed. With it
stands the number of the first update that the document had when the value was written. So the state vector, which
every compaction writes anew, says where the updates must begin. Values that y-leveldb wrote have neither and are
taken as they are.
"""

from zlib import crc32

from ..interface import CorruptError

_MARK = b"\x00crc"
_SIZE = len(_MARK) + 4 + 4


def seal(key: bytes, value: bytes, first: int) -> bytes:
    """Return what to store under `key`.

    Args:
        key: the key.
        value: the value.
        first: the number of the document's first update.
    """
    beginning = first.to_bytes(4, "big")
    return b"".join((value, _MARK, beginning, _sum(key, value, beginning)))


def unseal(key: bytes, stored: bytes) -> tuple[bytes, int | None]:
    """Return the value that is stored under `key`, and the number of the first update, if it has one.

    Raises:
        CorruptError: it is not what was written.
    """
    if stored[-_SIZE : -_SIZE + len(_MARK)] != _MARK:
        return stored, None
    value, beginning = stored[:-_SIZE], stored[-8:-4]
    if stored[-4:] != _sum(key, value, beginning):
        raise CorruptError("checksum mismatch")
    return value, int.from_bytes(beginning, "big")


def _sum(key: bytes, value: bytes, beginning: bytes) -> bytes:
    return crc32(beginning, crc32(key, crc32(value))).to_bytes(4, "big")
