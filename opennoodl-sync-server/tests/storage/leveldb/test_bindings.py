"""Which bindings of LevelDB are loaded, and that their directories are the same."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from opennoodl_sync.storage.leveldb.bindings import plyvel


def test_the_python_version_chooses_the_bindings() -> None:
    """Python 3.12 and later get plyvel-next, also where plyvel is installed beside it."""
    assert plyvel.__name__ == ("plyvel_next" if sys.version_info >= (3, 12) else "plyvel")


@pytest.mark.parametrize(("writes", "reads"), [("plyvel", "plyvel_next"), ("plyvel_next", "plyvel")])
def test_both_bindings_read_one_format(tmp_path: Path, writes: str, reads: str) -> None:
    """A directory that one of them wrote, with a compressed table and a log, is read by the other."""
    both = "only Python 3.12 on Linux on x86-64 has wheels of both; .ci/run tries it across versions"
    writer, reader = pytest.importorskip(writes, reason=both), pytest.importorskip(reads, reason=both)
    expected = {f"{number}".encode(): b"text " * 100 for number in range(1000)}
    with writer.DB(str(tmp_path), create_if_missing=True) as db, db.write_batch() as batch:
        for key, value in expected.items():
            batch.put(key, value)
    with writer.DB(str(tmp_path)) as db:
        db.compact_range()
        db.put(b"last", b"in the log")
    assert list(tmp_path.glob("*.ldb"))
    with reader.DB(str(tmp_path), paranoid_checks=True) as db:
        assert dict(db.iterator(verify_checksums=True)) == expected | {b"last": b"in the log"}
