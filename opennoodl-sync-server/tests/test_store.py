"""What every store does, shown of both."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opennoodl_sync.store import DocumentStore, MemoryYStore
from opennoodl_sync.store_level import Database, LevelYStore
from opennoodl_sync.yjs import build
from pycrdt import Doc

from .editor import Editor, content, merged


@pytest.fixture(params=["memory", "level"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DocumentStore]:
    """Return an empty store of either kind."""
    if request.param == "memory":
        yield MemoryYStore()
        return
    database = Database(str(tmp_path / "data"))
    store = LevelYStore("room", database=database)
    store.records()
    yield store
    database.close()


def keep(store: DocumentStore, *updates: bytes) -> None:
    """Append `updates` one by one."""
    for update in updates:
        store.append([update], lambda: b"\x00")


def updates_of(store: DocumentStore) -> list[bytes]:
    """Return what the store keeps."""
    return [update for _, update in store.records()]


def test_is_empty_at_first(store: DocumentStore) -> None:
    """A document that nobody has written has no records."""
    assert store.records() == []


def test_keeps_updates_in_order(store: DocumentStore) -> None:
    """Updates come back in the order of their coming, byte for byte, the empty and the repeated ones too."""
    updates = [b"first", b"", b"\x00\xff" * 50_000, b"first"]
    keep(store, *updates)
    assert updates_of(store) == updates


def test_numbers_rise(store: DocumentStore) -> None:
    """Every record has a number of its own, in the order of their coming."""
    keep(store, b"a", b"b", b"c")
    numbers = [number for number, _ in store.records()]
    assert numbers == sorted(set(numbers))


def test_more_than_256_records_stay_in_order(store: DocumentStore) -> None:
    """Records are ordered as numbers are, not as their digits."""
    updates = [str(number).encode() for number in range(300)]
    keep(store, *updates)
    assert updates_of(store) == updates


def test_keeps_several_at_once(store: DocumentStore) -> None:
    """Several updates are appended in one step, behind what is there."""
    keep(store, b"first")
    store.append([b"second", b"third"], lambda: b"\x00")
    keep(store, b"fourth")
    assert updates_of(store) == [b"first", b"second", b"third", b"fourth"]


async def test_is_a_store_of_pycrdt_store(store: DocumentStore) -> None:
    """The interface of pycrdt-store works: what is written is read, and applied to a document."""
    ann = Editor(1)
    await store.write(ann.write("one "))
    await store.write(ann.write("two"))
    assert [update async for update, _, _ in store.read()] == ann.updates
    doc: Doc[Any] = Doc()
    await store.apply_updates(doc)
    assert content(doc)[0] == "one two"


def test_replaces_records(store: DocumentStore) -> None:
    """Some records are replaced, the others stay, and what is appended later comes behind."""
    keep(store, b"a", b"b", b"c")
    (first, _), (second, _), _ = store.records()
    store.replace([first, second], [b"ab"], b"\x00")
    keep(store, b"d")
    assert sorted(updates_of(store)) == [b"ab", b"c", b"d"]
    assert updates_of(store)[-1] == b"d"


def test_replaces_records_with_nothing(store: DocumentStore) -> None:
    """Replacing all records with none empties the store, which then goes on."""
    keep(store, b"a", b"b")
    store.replace([number for number, _ in store.records()], [], b"\x00")
    assert store.records() == []
    keep(store, b"c")
    assert updates_of(store) == [b"c"]


def test_compaction_keeps_the_document(store: DocumentStore) -> None:
    """A hundred records become one with the same document."""
    ann = Editor(1)
    for number in range(50):
        keep(store, ann.write(f"{number} "), ann.put(str(number % 3), number))
    assert store.compact(merged(ann.updates), store.records()) == 1
    assert content(build(updates_of(store))) == content(ann.doc)
    assert len(store.records()) == 1


def test_compaction_lets_go_of_what_was_deleted(store: DocumentStore) -> None:
    """What was deleted is not on disk any more when a document has been compacted."""
    ann = Editor(1)
    keep(store, ann.write("keep SECRET this"), ann.delete(5, 12))
    store.compact(merged(ann.updates), store.records())
    assert b"SECRET" not in b"".join(updates_of(store))
    assert content(build(updates_of(store)))[0] == "keep this"


def test_compaction_keeps_what_waits(store: DocumentStore) -> None:
    """Updates of which a part waits for others survive, and are whole when those come."""
    ann = Editor(1)
    first, second = ann.write("one "), ann.write("two")
    bob = Editor(2, first, second)
    deletion, other = bob.delete(0, 2), Editor(3).put("k", 1)
    keep(store, second, deletion, other)
    assert store.compact(merged([second, deletion, other]), store.records()) == 3
    keep(store, first)
    assert content(build(updates_of(store))) == ("e two", {"k": 1.0}, [])


def test_compacting_again_changes_nothing(store: DocumentStore) -> None:
    """However often a document is compacted while something waits, it does not grow."""
    ann = Editor(1)
    ann.write("lost")
    keep(store, ann.write("waits"), Editor(2).put("k", 1))
    counts = set()
    for _ in range(4):
        records = store.records()
        counts.add(store.compact(merged(update for _, update in records), records))
    assert counts == {2}
    assert len(store.records()) == 2


def test_what_compaction_was_not_given_stays(store: DocumentStore) -> None:
    """A record that came after those that are compacted is left alone."""
    ann = Editor(1)
    keep(store, ann.write("one "))
    records = store.records()
    later = ann.write("two")
    keep(store, later)
    store.compact(merged(ann.updates[:1]), records)
    assert later in updates_of(store)
    assert content(build(updates_of(store)))[0] == "one two"
