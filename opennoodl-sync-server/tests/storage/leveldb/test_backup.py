"""A copy of a data directory is the state of one moment, also while the directory changes."""

from __future__ import annotations

import os
import threading
from contextlib import closing
from pathlib import Path

import pytest
from opennoodl_sync.storage.interface import StoreError
from opennoodl_sync.storage.leveldb import backup, files
from opennoodl_sync.storage.leveldb.backup import back_up
from opennoodl_sync.storage.leveldb.database import Database, RecordBatch

pytestmark = pytest.mark.slow

SIZE = 100_000
"""Bytes of a value: LevelDB writes a table after some forty of them, and merges tables after some more."""
ENOUGH = 400
"""Values after which it has merged tables."""


def key(number: int) -> bytes:
    """Return the key of a number; numbers that follow each other are far from each other."""
    return b"%02d-%08d" % (number % 7, number)


def put(database: Database, number: int) -> None:
    """Write a value that LevelDB cannot compress, and delete an older one."""
    batch = RecordBatch()
    batch.puts.append((key(number), number.to_bytes(4, "big") + os.urandom(SIZE)))
    if number >= 100:
        batch.deletes.append(key(number - 100))
    database.write(batch)


def numbers(directory: Path) -> list[int]:
    """Return the numbers of the values in a directory."""
    with closing(Database(str(directory))) as database:
        return sorted(database.read(b"", lambda _, value: int.from_bytes(value.read(4), "big")))


def test_copy_while_written(tmp_path: Path) -> None:
    """A copy has everything that was written before it began, and a beginning of what was written meanwhile."""
    enough = threading.Event()
    written = 0

    def write() -> None:
        nonlocal written
        while not enough.is_set():
            put(database, written)
            written += 1

    with closing(Database(str(tmp_path / "data"))) as database:
        writer = threading.Thread(target=write)
        writer.start()
        try:
            copies: list[tuple[int, int, Path]] = []
            while len(copies) < 10 or written < ENOUGH:
                before, copy = written, tmp_path / f"copy {len(copies)}"
                back_up(tmp_path / "data", copy)
                copies.append((before, written, copy))
        finally:
            enough.set()
            writer.join()
    for before, after, copy in copies:
        found = numbers(copy)
        last = max(found, default=-1)
        assert before <= last + 1 <= after + 1
        assert found == list(range(max(0, last - 99), last + 1))


def test_copy_of_closed_directory(tmp_path: Path) -> None:
    """A directory that no server has open is copied too, and is not changed."""
    with closing(Database(str(tmp_path / "data"))) as database:
        put(database, 0)
    before = {path.name: path.read_bytes() for path in (tmp_path / "data").iterdir()}
    back_up(tmp_path / "data", tmp_path / "copy")
    assert {path.name: path.read_bytes() for path in (tmp_path / "data").iterdir()} == before
    assert numbers(tmp_path / "copy") == [0]


def test_copy_is_private(tmp_path: Path) -> None:
    """Nobody but the user can read the copy."""
    with closing(Database(str(tmp_path / "data"))) as database:
        put(database, 0)
        umask = os.umask(0o000)
        try:
            back_up(tmp_path / "data", tmp_path / "copy")
        finally:
            os.umask(umask)
    modes = {path.stat().st_mode & 0o077 for path in [tmp_path / "copy", *(tmp_path / "copy").iterdir()]}
    assert modes == {0}


def test_change_while_files_are_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the set of files changes while they are opened, they are opened again."""
    listed, real = [], files.data_files
    with closing(Database(str(tmp_path / "data"))) as database:
        put(database, 0)

        def change(directory: Path) -> list[Path]:
            found = real(directory)
            listed.append(found)
            if len(listed) == 1:
                put(database, 1)
                database.shrink()  # deletes the log that was listed
            return found

        monkeypatch.setattr(files, "data_files", change)
        back_up(tmp_path / "data", tmp_path / "copy")
        monkeypatch.undo()
    assert listed[0] != listed[-1]
    assert numbers(tmp_path / "copy") == [0, 1]


def test_change_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that always changes is given up, and nothing is left that a server could take for a database."""
    with closing(Database(str(tmp_path / "data"))) as database:
        put(database, 0)
        lists = iter(range(1_000_000))
        monkeypatch.setattr(files, "data_files", lambda _: [tmp_path / "data" / "CURRENT"] * (next(lists) % 2 + 1))
        monkeypatch.setattr(backup, "PATIENCE", 0.1)
        with pytest.raises(StoreError, match="changed all the time"):
            back_up(tmp_path / "data", tmp_path / "copy")
    assert list((tmp_path / "copy").iterdir()) == []


def test_a_directory_without_current_is_not_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory without CURRENT is not copied; the error names the file."""
    with closing(Database(str(tmp_path / "data"))) as database:
        put(database, 0)
    (tmp_path / "data" / "CURRENT").unlink()
    monkeypatch.setattr(backup, "PATIENCE", 0.1)
    with pytest.raises(StoreError, match="CURRENT is missing"):
        back_up(tmp_path / "data", tmp_path / "copy")


def test_target_with_files(tmp_path: Path) -> None:
    """A directory that is not empty is not written to."""
    with closing(Database(str(tmp_path / "data"))) as database:
        put(database, 0)
        (tmp_path / "copy").mkdir()
        (tmp_path / "copy" / "other").touch()
        with pytest.raises(StoreError, match="is not empty"):
            back_up(tmp_path / "data", tmp_path / "copy")
    assert [path.name for path in (tmp_path / "copy").iterdir()] == ["other"]


def test_target_is_a_new_volume(tmp_path: Path) -> None:
    """The directory `lost+found`, which a new volume has, does not make it one with files."""
    (tmp_path / "volume" / "lost+found").mkdir(parents=True)
    with closing(Database(str(tmp_path / "data"))) as database:
        put(database, 0)
        back_up(tmp_path / "data", tmp_path / "volume")
    assert (tmp_path / "volume" / "CURRENT").exists()
