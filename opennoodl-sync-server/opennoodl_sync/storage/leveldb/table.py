"""LevelDB's table format, only its footer: it has the location of the index, and no checksum.

A table ends with the metaindex block, the index block, and a footer of 48 bytes: the locations of both, and a magic
number. A block ends with its type and checksum. The metaindex block of a table without filters is always the same.

Source of the format: LevelDB's ``doc/table_format.md``.
"""

from ...yjs.lib0 import write_varuint
from .log import checksum

_FOOTER = 48
_MAGIC = bytes.fromhex("57fb808b247547db")
_TRAILER = 5
_NO_FILTERS = bytes.fromhex("0000000001000000") + b"\x00"
_METAINDEX = _NO_FILTERS + checksum(_NO_FILTERS).to_bytes(4, "little")


def with_footer(table: bytes) -> bytes:
    """Return a table with a correct footer, or unchanged if that cannot be determined."""
    metaindex = table.rfind(_METAINDEX, 0, len(table) - _FOOTER)
    index, end = metaindex + len(_METAINDEX), len(table) - _FOOTER
    block = table[index:end]
    if metaindex < 0 or len(block) < _TRAILER:
        return table
    if checksum(block[:-4]) != int.from_bytes(block[-4:], "little"):
        return table
    places = (metaindex, len(_METAINDEX) - _TRAILER, index, len(block) - _TRAILER)
    handles = b"".join(map(write_varuint, places))
    return table[:end] + handles.ljust(_FOOTER - len(_MAGIC), b"\x00") + _MAGIC
