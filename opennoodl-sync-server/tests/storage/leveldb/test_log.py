"""LevelDB's log format: where a log ends, and what can be read of a damaged one."""

from __future__ import annotations

from pathlib import Path

import pytest
from opennoodl_sync.storage.interface import CorruptError
from opennoodl_sync.storage.leveldb.bindings import plyvel
from opennoodl_sync.storage.leveldb.log import BLOCK, salvage, sound_size, write

RECORDS = [b"first", b"second " * 20, b"third"]


def test_reads_what_leveldb_wrote(tmp_path: Path) -> None:
    """A log of LevelDB is sound to its end, and its records are the batches, in parts or not."""
    values = [b"a", b"b" * 100_000, b"c" * BLOCK, b"d"]
    with plyvel.DB(str(tmp_path), create_if_missing=True) as db:
        for value in values:
            db.put(b"key", value)
    (path,) = tmp_path.glob("*.log")
    log = path.read_bytes()
    assert sound_size(log) == len(log)
    sound, damaged = salvage(log)
    assert [record[-len(value) :] for record, value in zip(sound, values, strict=True)] == values
    assert not damaged
    assert write(sound) == log


def test_an_unfinished_record_ends_a_log() -> None:
    """Wherever the last record is cut, the log is sound up to it."""
    log, begins = write(RECORDS), len(write(RECORDS[:-1]))
    for end in range(begins, len(log)):
        assert sound_size(log[:end]) == begins
        assert salvage(log[:end])[0] == RECORDS[:-1]


@pytest.mark.parametrize("at", [4, 5, 6])
@pytest.mark.parametrize("record", range(3))
def test_a_damaged_header_is_no_unfinished_record(record: int, at: int) -> None:
    """A length or type that was changed so that LevelDB would drop the rest in silence is damage."""
    log = bytearray(write(RECORDS))
    log[len(write(RECORDS[:record])) + at] ^= 0x40
    with pytest.raises(CorruptError):
        sound_size(bytes(log))


def test_records_behind_a_damaged_record_are_salvaged() -> None:
    """A record whose checksum is wrong is left out, and those before and after it are read."""
    log = bytearray(write(RECORDS))
    log[len(write(RECORDS[:1])) + 20] ^= 1
    sound, damaged = salvage(bytes(log))
    assert sound == [RECORDS[0], RECORDS[2]]
    assert len(damaged) == 1


def test_records_behind_a_damaged_block_are_salvaged() -> None:
    """Where even the length is wrong, reading goes on with the next block; no part of a record passes for a whole."""
    records = [bytes((number,)) * 10_000 for number in range(20)]
    log = bytearray(write(records))
    log[BLOCK + 5 : BLOCK + 7] = b"\xff\xff"
    sound, damaged = salvage(bytes(log))
    assert damaged
    assert set(sound) < set(records)
    assert sound[-1] == records[-1]
