"""LevelDB's log format, which its write-ahead log (``*.log``) and its ``MANIFEST`` have in common.

A log consists of blocks of 32 KiB. A block has records: checksum, length, type, payload. A logical record that does not
fit into a block is split into several records, whose types say which part they are.

LevelDB reads a log up to a record that looks unfinished, as after a kill, and drops the rest without an error. A
damaged length looks the same to it. Therefore this module checks the structure first.

Source of the format: LevelDB's ``doc/log_format.md`` and ``db/log_reader.cc``.
"""

import struct
from collections.abc import Iterable, Iterator

from ..interface import CorruptError

BLOCK = 32_768
SECTOR = 512
"""Bytes that a disk writes atomically."""
FEW_ZEROS = 8
"""Zeros at the end of the last record below which it counts as finished: a valid record may end with some zeros."""

_HEADER = struct.Struct("<IHB")
_KINDS = _FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


def sound_size(log: bytes) -> int:
    """Return the number of bytes of a log that are complete records; an unfinished record may follow.

    LevelDB itself compares the checksums of complete records, with paranoid checks.

    Raises:
        CorruptError: the log is damaged in a way that LevelDB would not detect.
    """
    written = len(log.rstrip(b"\x00"))  # after a power cut, unwritten sectors read as zeros
    at = 0
    while at < len(log):
        left = BLOCK - at % BLOCK
        if left < _HEADER.size:
            at += left
            continue
        if written < at + _HEADER.size:
            return at
        expected, length, kind = _HEADER.unpack_from(log, at)
        end = at + _HEADER.size + length
        if not (kind or length):
            raise CorruptError(f"zeros from byte {at} on, and records behind them")
        if kind not in _KINDS or length > left - _HEADER.size:
            raise CorruptError(f"there is no record at byte {at}")
        if end > len(log):
            if expected in _checksums(log[at + _HEADER.size - 1 :]):
                raise CorruptError(f"the record at byte {at} has a wrong length")
            return at
        lost_from = -(-written // SECTOR) * SECTOR
        if end - lost_from >= FEW_ZEROS and expected != checksum(log[at + _HEADER.size - 1 : end]):
            return at
        at = end
    return at


def salvage(log: bytes) -> tuple[list[bytes], list[bytes]]:
    """Return the logical records whose checksums match, and the damaged pieces of the log.

    An unfinished record at the end is in neither.
    """
    sound: list[bytes] = []
    damaged: list[bytes] = []
    parts: list[bytes] | None = None  # of an incomplete logical record
    at = 0
    while len(log) - at >= _HEADER.size:
        block_end = min(at + BLOCK - at % BLOCK, len(log))
        if block_end - at < _HEADER.size:
            at = block_end
            continue
        expected, length, kind = _HEADER.unpack_from(log, at)
        end = at + _HEADER.size + length
        if end > block_end or expected != checksum(log[at + _HEADER.size - 1 : end]):
            end = min(end, block_end) if kind or length else block_end
            if log[at:end].strip(b"\x00"):
                damaged.append(log[at:end])
            if parts:
                damaged.append(b"".join(parts))
            parts = None
        else:
            payload = log[at + _HEADER.size : end]
            if kind in (_FULL, _FIRST):
                if parts:
                    damaged.append(b"".join(parts))
                parts = [payload]
            elif parts is None:
                damaged.append(payload)
            else:
                parts.append(payload)
            if kind in (_FULL, _LAST) and parts is not None:
                sound.append(b"".join(parts))
                parts = None
        at = end
    return sound, damaged


def write(records: Iterable[bytes]) -> bytes:
    """Return a log of these records."""
    log = bytearray()
    for record in records:
        for kind, payload in _fragments(record, log):
            checked = bytes((kind,)) + payload
            log += _HEADER.pack(checksum(checked), len(payload), kind) + payload
    return bytes(log)


def _fragments(record: bytes, log: bytearray) -> Iterator[tuple[int, bytes]]:
    """Yield type and payload of each part of a record that is appended to a log."""
    at, first = 0, True
    while first or at < len(record):
        left = BLOCK - len(log) % BLOCK
        if left < _HEADER.size:
            log += bytes(left)
            left = BLOCK
        payload = record[at : at + left - _HEADER.size]
        at += len(payload)
        last = at == len(record)
        yield (_FULL if last else _FIRST) if first else (_LAST if last else _MIDDLE), payload
        first = False


def checksum(data: bytes) -> int:
    """Return LevelDB's checksum; in a log, that of a record's type and payload."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC32C[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return _masked(crc)


def _checksums(data: bytes) -> Iterator[int]:
    """Yield the checksum of a record for each possible length; `data` begins with the type."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC32C[(crc ^ byte) & 0xFF] ^ (crc >> 8)
        yield _masked(crc)


def _masked(crc: int) -> int:
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _table() -> list[int]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return table


_CRC32C = _table()
"""CRC-32C (Castagnoli), which Python's library does not have, byte by byte."""
