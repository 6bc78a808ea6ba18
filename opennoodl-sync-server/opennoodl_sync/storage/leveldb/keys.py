"""Keys of y-leveldb's records.

Keys are concatenated elements: a string is ``00``, its byte length as a varuint, its UTF-8 bytes; a number is
``01`` and four bytes, big-endian.
"""

from ...yjs.lib0 import MalformedError, read_bytes, write_bytes
from ..interface import CorruptError


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
        raise CorruptError(f"the key {key.hex()} is none of y-leveldb's") from None


def number_element(number: int) -> bytes:
    """Return a number as an element of a key."""
    return b"\x01" + number.to_bytes(4, "big")
