"""The store in LevelDB: what is in a batch, when it is on disk, and what finds documents among the records."""

from __future__ import annotations

import platform
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opennoodl_sync.storage.interface import StoreError
from opennoodl_sync.storage.leveldb.bindings import plyvel
from opennoodl_sync.storage.leveldb.database import WRITE_BUFFER, Database, RecordBatch
from opennoodl_sync.storage.leveldb.documents import LevelDBDocument
from opennoodl_sync.storage.leveldb.files import logs
from opennoodl_sync.yjs.lib0 import read_bytes, read_varuint

from ...conftest import Disk
from ...editor import Editor, content
from ...turns import built, commit, compacted, keep, kept

STATE_VECTOR_KEY = bytes.fromhex("000576315f73760004726f6f6d")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """Return an empty database."""
    database = Database(str(tmp_path / "data"))
    yield database
    database.close()


@pytest.fixture
def store(database: Database) -> LevelDBDocument:
    """Return the store of one document, which has nothing."""
    store = LevelDBDocument("room", database=database)
    store.records()
    return store


def again(database: Database) -> LevelDBDocument:
    """Return a store of the same document, as who opens it later has it."""
    return LevelDBDocument("room", database=database)


def test_nothing_is_on_disk_before_the_batch_is_written(database: Database, store: LevelDBDocument) -> None:
    """Appending and replacing only prepare."""
    keep(store, b"there")
    batch = RecordBatch()
    store.append([b"more"], lambda: b"\x00", batch)
    store.replace(store.last(), [b"instead"], b"\x00", None, batch)
    assert again(database).updates() == [b"there"]
    commit(store, batch)
    assert again(database).updates() == [b"instead"]


def test_a_batch_has_the_updates_themselves(store: LevelDBDocument) -> None:
    """The writer makes the copy with the checksum, which for a large update takes long, in its own thread."""
    batch, update = RecordBatch(), bytes(300_000)
    store.append([update], lambda: b"\x00", batch)
    assert [value is update for _, value, _ in batch.sealed] == [False, True]
    assert batch.size > 300_000


def test_numbers_of_a_batch_under_way_are_not_used_again(database: Database, store: LevelDBDocument) -> None:
    """A read while a batch is under way does not make the next batch overwrite it."""
    first, second = RecordBatch(), RecordBatch()
    store.append([b"first", b"second"], lambda: b"\x00", first)
    assert store.records() == []
    store.append([b"third"], lambda: b"\x00", second)
    commit(store, first)
    commit(store, second)
    assert again(database).updates() == [b"first", b"second", b"third"]


def test_one_batch_takes_many_documents(database: Database) -> None:
    """Documents share a batch, and each has its own when it is written."""
    batch = RecordBatch()
    for name in ("a", "b"):
        LevelDBDocument(name, database=database).append([name.encode()], lambda: b"\x00", batch)
    database.write(batch)
    assert [LevelDBDocument(name, database=database).updates() for name in ("a", "b")] == [[b"a"], [b"b"]]
    assert database.survey().listed == {"a", "b"}


def test_compaction_leaves_what_it_does_not_know(database: Database, store: LevelDBDocument) -> None:
    """A compaction replaces what was read and appended, and no record that came from elsewhere meanwhile."""
    ann = Editor(1)
    keep(store, ann.write("one "))
    other = again(database)
    other.records()
    keep(other, ann.write("two "))
    batch = RecordBatch()
    store.replace(store.last(), ann.updates[:1], b"\x00", None, batch)
    database.write(batch)
    assert again(database).updates() == ann.updates


def test_the_state_vector_of_what_waits_is_right(database: Database, store: LevelDBDocument) -> None:
    """A compaction with what waits leaves a state vector that readers trust, and that has no more than is there."""
    ann = Editor(1)
    first = ann.write("one ")
    ann.write("lost ")
    keep(store, first, ann.write("waits"))
    compacted(store)
    clock, at = read_varuint(database.get(STATE_VECTOR_KEY) or b"", 0)
    assert clock == store.records()[-1].number
    assert read_bytes(database.get(STATE_VECTOR_KEY) or b"", at)[0] == Editor(2, first).doc.get_state()


def test_a_document_that_lost_its_first_records_goes_on_behind_the_last(
    database: Database, store: LevelDBDocument
) -> None:
    """Numbers rise for ever: after compactions a new record never comes before what is there."""
    ann = Editor(1)
    for number in range(3):
        keep(store, ann.write(f"{number} "))
        compacted(store)
        fresh = again(database)
        keep(fresh, ann.write(f"{number}b "))
        store = again(database)
        store.records()
    assert kept(again(database)) == content(ann.doc)


def test_stored_names_are_those_with_updates(database: Database) -> None:
    """Documents are found by their updates too, listed or not; others' metadata alone is none."""
    names = ["", "a", "ab", "room", "x" * 200, "\x01a", "a/b"]
    for name in names:
        keep(LevelDBDocument(name, database=database), b"one", b"two")
    batch = RecordBatch()
    batch.deletes.append(STATE_VECTOR_KEY)
    batch.puts.append((bytes.fromhex("0002763100046d657461" + "00046d65746100016d"), b"theirs"))
    database.write(batch)
    assert sorted(database.stored_names()) == sorted(names)
    assert database.survey() == (set(names) - {"room"}, set(names), None)


def test_crowded_names_are_those_with_many_updates(database: Database) -> None:
    """Documents with more than so many updates are found, wherever their numbers begin."""
    for name, count in {"few": 3, "many": 4, "compacted": 50}.items():
        ann, store = Editor(1), LevelDBDocument(name, database=database)
        keep(store, *(ann.write("x") for _ in range(count)))
        if name == "compacted":
            compacted(store)
            keep(store, ann.write("x"), ann.write("x"))
    assert list(database.crowded_names(3)) == ["many"]
    assert sorted(database.crowded_names(2)) == ["compacted", "few", "many"]


@pytest.mark.parametrize("sync", [False, True])
def test_sync_is_leveldbs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sync: bool) -> None:
    """A batch that is to survive a power cut is written with LevelDB's own sync, any other without."""
    asked: list[bool] = []
    real = plyvel.DB

    class WatchedDB:
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self._real = real(*args, **kwargs)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._real, name)

        def write_batch(self, **kwargs: Any) -> Any:
            asked.append(kwargs["sync"])
            return self._real.write_batch(**kwargs)

    monkeypatch.setattr(plyvel, "DB", WatchedDB)
    database = Database(str(tmp_path))
    database.write(RecordBatch(), sync=sync)
    database.close()
    assert asked == [sync]


def test_a_disk_that_failed_is_not_opened_anew_while_somebody_reads(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write after a failure waits for no reader: it fails, and the one after that succeeds."""
    database = Database(str(tmp_path))
    store = LevelDBDocument("room", database=database)
    disk.full = True
    with pytest.raises(StoreError):
        keep(store, b"lost")
    disk.full = False
    names = database.stored_names()
    reading, done = threading.Event(), threading.Event()
    iterator = database._db.raw_iterator

    def slow(*args: Any, **kwargs: Any) -> Any:
        reading.set()
        assert done.wait(30)
        return iterator(*args, **kwargs)

    monkeypatch.setattr(database._db, "raw_iterator", slow, raising=False)
    thread = threading.Thread(target=lambda: next(names, None))
    thread.start()
    assert reading.wait(30)
    with pytest.raises(StoreError, match="still being read"):
        database.write(RecordBatch())
    assert database.failure
    done.set()
    thread.join()
    database.write(RecordBatch())
    assert database.failure is None
    database.close()


def test_records_of_a_crash_between_batches_make_the_document(store: LevelDBDocument) -> None:
    """Whatever prefix of the batches is on disk, it is the document as it was then."""
    ann = Editor(1)
    for number in range(6):
        keep(store, ann.write(f"{number} "))
        if number % 2:
            compacted(store)
        assert built(store.updates()) == content(ann.doc)


@pytest.mark.parametrize(("size", "moved"), [(WRITE_BUFFER + 1, True), (1000, False)])
def test_a_large_batch_does_not_stay_in_the_log(database: Database, tmp_path: Path, size: int, moved: bool) -> None:
    """LevelDB begins another log at once. Else it would keep the batch in memory, and read it anew at a restart."""
    batch = RecordBatch()
    batch.puts.append((b"key", bytes(size)))
    database.write(batch)
    newest = max(logs(tmp_path / "data"))
    assert (newest.stat().st_size < 100) == moved
    assert database.get(b"key") == bytes(size)


PROGRAM = """
import re, sys, time
from pathlib import Path
from opennoodl_sync.memory.allocator import keep_large_blocks_apart
from opennoodl_sync.storage.leveldb.database import Database, RecordBatch


def used():
    return int(re.findall(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[0])

keep_large_blocks_apart()
database = Database(sys.argv[1])
before = used()
batch = RecordBatch()
batch.puts.append((b"key", bytes(30_000_000)))
database.write(batch)
del batch
deadline = time.monotonic() + 60
while used() - before > 10_000 and time.monotonic() < deadline:
    time.sleep(0.01)  # LevelDB writes the table in a thread
print(used() - before)
for _ in range(2):
    assert database.read(b"key", lambda _, value: len(value.getvalue())) == [30_000_000]
    assert len(database.get(b"key")) == 30_000_000
print(used() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other libraries do as they like")
def test_leveldb_keeps_nothing_large_in_memory(tmp_path: Path) -> None:
    """Neither what was written nor what was read: a document in memory is there once."""
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    kept = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout.split()
    assert all(int(size) < 10_000 for size in kept), kept
