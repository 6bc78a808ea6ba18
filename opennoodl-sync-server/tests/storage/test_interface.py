"""What every store does, shown of both."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from opennoodl_sync.storage.interface import DocumentRecords
from opennoodl_sync.storage.leveldb.database import Database, RecordBatch
from opennoodl_sync.storage.leveldb.documents import LevelDBDocument

from ..editor import Editor, content
from ..memory_records import MemoryRecords
from ..turns import commit, compacted, keep, keep_together, kept


@pytest.fixture(params=["memory", "level"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DocumentRecords]:
    """Return an empty store of either kind."""
    if request.param == "memory":
        yield MemoryRecords()
        return
    database = Database(str(tmp_path / "data"))
    store = LevelDBDocument("room", database=database)
    store.records()
    yield store
    database.close()


def test_a_batch_is_true_if_there_is_something_to_write() -> None:
    """A batch is true if it has a put or a delete."""
    batch, puts, deletes = RecordBatch(), RecordBatch(), RecordBatch()
    puts.puts.append((b"key", b""))
    deletes.deletes.append(b"key")
    assert (bool(batch), bool(puts), bool(deletes)) == (False, True, True)


def test_is_empty_at_first(store: DocumentRecords) -> None:
    """A document that nobody has written has no records."""
    assert store.records() == []
    assert store.updates() == []


def test_keeps_updates_in_order(store: DocumentRecords) -> None:
    """Updates come back in the order of their coming, byte for byte, the empty and the repeated ones too."""
    updates = [b"first", b"", b"\x00\xff" * 50_000, b"first"]
    keep(store, *updates)
    assert store.updates() == updates
    assert store.updates() == updates


def test_each_record_has_a_higher_number(store: DocumentRecords) -> None:
    """Every record has a number of its own, in the order of their coming."""
    keep(store, b"a", b"b", b"c")
    numbers = [number for number, _ in store.records()]
    assert numbers == sorted(set(numbers))


def test_more_than_256_records_stay_in_order(store: DocumentRecords) -> None:
    """Records are ordered as numbers are, not as their digits."""
    updates = [str(number).encode() for number in range(300)]
    keep(store, *updates)
    assert store.updates() == updates


def test_keeps_several_at_once(store: DocumentRecords) -> None:
    """Several updates are appended in one step, behind what is there."""
    keep(store, b"first")
    keep_together(store, b"second", b"third")
    keep(store, b"fourth")
    assert store.updates() == [b"first", b"second", b"third", b"fourth"]


def test_a_batch_takes_several_steps(store: DocumentRecords) -> None:
    """Updates appended to an unwritten batch come behind those in it."""
    batch = RecordBatch()
    for updates in ([b"first", b"second"], [b"third"]):
        store.append(updates, lambda: b"\x00", batch)
    commit(store, batch)
    assert store.updates() == [b"first", b"second", b"third"]


def replace(store: DocumentRecords, *updates: bytes) -> None:
    """Keep `updates` in place of everything."""
    batch = RecordBatch()
    store.replace(store.last(), updates, b"\x00", None, batch)
    commit(store, batch)


def test_replacement_removes_all_records(store: DocumentRecords) -> None:
    """All records are replaced, and what is appended later comes behind."""
    keep(store, b"a", b"b", b"c")
    replace(store, b"ab", b"c")
    keep(store, b"d")
    assert store.updates() == [b"ab", b"c", b"d"]


def test_replaces_what_came_with_the_same_batch(store: DocumentRecords) -> None:
    """Updates of a batch may be replaced within it: none of them is left when it is written."""
    keep(store, b"a")
    batch = RecordBatch()
    store.append([b"b"], lambda: b"\x00", batch)
    store.replace(store.last(), [b"ab"], b"\x00", None, batch)
    commit(store, batch)
    assert store.updates() == [b"ab"]


def test_replaces_again_and_again(store: DocumentRecords) -> None:
    """Nothing is left of what was replaced before."""
    for number in range(5):
        keep(store, b"more")
        replace(store, b"%d" % number)
        assert store.updates() == [b"%d" % number]


def test_compaction_keeps_the_document(store: DocumentRecords) -> None:
    """A hundred records become one with the same document."""
    ann = Editor(1)
    for number in range(50):
        keep(store, ann.write(f"{number} "), ann.put(str(number % 3), number))
    assert compacted(store) == 1
    assert kept(store) == content(ann.doc)


def test_compaction_lets_go_of_what_was_deleted(store: DocumentRecords) -> None:
    """Deleted contents are not on disk any more after a compaction."""
    ann = Editor(1)
    keep(store, ann.write("keep SECRET this"), ann.delete(5, 12))
    compacted(store)
    assert b"SECRET" not in b"".join(store.updates())
    assert kept(store)[0] == "keep this"


def test_compaction_keeps_what_waits(store: DocumentRecords) -> None:
    """Updates of which a part waits for others survive, and are whole when those come."""
    ann = Editor(1)
    first, second = ann.write("one "), ann.write("two")
    bob = Editor(2, first, second)
    deletion, other = bob.delete(0, 2), Editor(3).put("k", 1)
    keep(store, second, deletion, other)
    assert compacted(store) == 2
    keep(store, first)
    assert kept(store) == ("e two", {"k": 1.0}, [])


def test_compacting_again_changes_nothing(store: DocumentRecords) -> None:
    """However often a document is compacted while something waits, it does not grow."""
    ann = Editor(1)
    ann.write("lost")
    keep(store, ann.write("waits"), Editor(2).put("k", 1))
    compacted(store)
    before = store.updates()
    for _ in range(3):
        assert compacted(store) == 2
    assert store.updates() == before
