"""What every persistent store does, shown of both: as rooms and commands use them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from opennoodl_sync.settings import Settings
from opennoodl_sync.storage.choose import open_store
from opennoodl_sync.storage.interface import (
    Contents,
    CorruptError,
    DocumentRecords,
    History,
    PersistentStore,
    StoreError,
    Version,
)

from ..databases import execute
from ..disks import until

KINDS = ("leveldb", "postgresql")
pytestmark = pytest.mark.xdist_group("postgresql")


@pytest.fixture(params=KINDS)
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Return settings that name an empty store of each kind."""
    if request.param == "leveldb":
        return Settings(persist_dir=str(tmp_path / "data"))
    return Settings(database_url=request.getfixturevalue("url"))


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[PersistentStore]:
    """Return an empty store of each kind."""
    store = await open_store(settings)
    yield store
    await store.close()


async def keep(store: PersistentStore, records: DocumentRecords, *updates: bytes) -> None:
    """Append updates in one batch."""
    batch = store.writer.batch()
    records.append(updates, lambda: b"\x00", batch)
    await store.store(batch)


async def replace(
    store: PersistentStore, records: DocumentRecords, *updates: bytes, index: bytes | None = None
) -> None:
    """Keep `updates` in place of everything."""
    batch = store.writer.batch()
    records.replace(records.last(), updates, b"\x00", index, batch)
    await store.store(batch)


async def kept(store: PersistentStore, name: str = "room") -> list[bytes]:
    """Return the updates of a document."""
    return (await store.read(name)).updates


async def test_a_closed_room_stays_closed(store: PersistentStore) -> None:
    """A room is closed with and without a document, also when that is deleted, until it is opened."""
    records, _ = await store.open("room")
    await keep(store, records, b"\x00\x00")
    batch = store.writer.batch()
    records.release(batch)
    await store.store(batch)
    for name in ("room", "nobody's", "room"):
        await store.set_closed(name, True)
    await store.delete("room")
    assert await store.closed_names() == ["nobody's", "room"]
    assert [await store.is_closed(name) for name in ("room", "nobody's", "roo")] == [True, True, False]
    assert (await store.survey(), await store.exists("room")) == (Contents([], None), False)
    for _ in range(2):
        await store.set_closed("room", False)
    assert await store.closed_names() == ["nobody's"]


async def test_an_unknown_document_has_no_updates(store: PersistentStore) -> None:
    """A document that nobody has written has no updates, and reading it leaves no trace."""
    records, stored = await store.open("room")
    assert (stored.updates, stored.indexes, records.last()) == ([], {}, -1)
    batch = store.writer.batch()
    records.release(batch)
    await store.store(batch)
    assert not await store.exists("room")
    assert (await store.survey()).names == []


async def test_updates_keep_their_order_and_bytes(store: PersistentStore) -> None:
    """Updates come back in the order of their coming, byte for byte, the empty and the repeated ones too."""
    updates = [b"first", b"", b"\x00\xff" * 50_000, b"first"]
    records, _ = await store.open("room")
    await keep(store, records, *updates)
    await keep(store, records, b"last")
    assert await kept(store) == [*updates, b"last"]
    assert records.last() == 4


async def test_documents_are_apart(store: PersistentStore) -> None:
    """One batch has the changes of several documents, each of which has its own."""
    batch = store.writer.batch()
    for name in ("b", "ä", "a"):
        records, _ = await store.open(name)
        records.append([name.encode()], lambda: b"\x00", batch)
    await store.store(batch)
    assert [await kept(store, name) for name in ("a", "b", "ä")] == [[b"a"], [b"b"], "ä".encode().split()]
    assert await store.survey() == (["a", "b", "ä"], None)


async def test_a_restart_keeps_all_updates(settings: Settings) -> None:
    """Another process reads what was written, and goes on behind it."""
    first = await open_store(settings)
    records, _ = await first.open("room")
    await keep(first, records, b"a", b"b")
    await replace(first, records, b"ab", index=b"index")
    await keep(first, records, b"c")
    batch = first.writer.batch()
    records.release(batch)
    await first.store(batch)
    await first.close()
    second = await open_store(settings)
    records, stored = await second.open("room")
    assert (stored.updates, stored.indexes) == ([b"ab", b"c"], {0: b"index"})
    await keep(second, records, b"d")
    assert await kept(second) == [b"ab", b"c", b"d"]
    await second.close()


async def test_a_compaction_leaves_nothing_of_its_sources(store: PersistentStore) -> None:
    """A compaction leaves nothing of what it replaces, also of what came with the same batch or came before it."""
    records, _ = await store.open("room")
    await keep(store, records, b"a", b"b", b"c")
    batch = store.writer.batch()
    last = records.last()
    records.append([b"d"], lambda: b"\x00", batch)
    records.replace(last, [b"ab", b"c"], b"\x00", None, batch)
    await store.store(batch)
    assert await kept(store) == [b"ab", b"c", b"d"]
    batch = store.writer.batch()
    records.append([b"e"], lambda: b"\x00", batch)
    records.replace(records.last(), [b"abcde"], b"\x00", None, batch)
    await store.store(batch)
    assert await kept(store) == [b"abcde"]
    await keep(store, records, b"f")
    assert await kept(store) == [b"abcde", b"f"]


async def test_a_failed_addition_leaves_the_rest_of_its_batch(store: PersistentStore) -> None:
    """A failed addition is taken back; the rest of the batch stays."""
    batch = store.writer.batch()
    records, _ = await store.open("room")
    records.append([b"kept"], lambda: b"\x00", batch)
    failing, _ = await store.open("other")
    mark = batch.mark()
    failing.append([b"lost"], lambda: b"\x00", batch)
    batch.take_back(mark)
    await store.store(batch)
    assert (await store.survey()).names == ["room"]


async def test_batches_in_order(store: PersistentStore) -> None:
    """Batches that are given before the first one is done are written in their order, and the store is idle then."""
    records, _ = await store.open("room")
    done: list[StoreError | None] = []
    for number in range(20):
        batch = store.writer.batch()
        records.append([b"%d" % number], lambda: b"\x00", batch)
        store.writer.write(batch, done.append)
    await until(lambda: len(done) == 20 and not store.writer.busy)
    assert done == [None] * 20
    assert await kept(store) == [b"%d" % number for number in range(20)]


async def test_a_deleted_document_begins_anew(store: PersistentStore) -> None:
    """A document that is deleted is gone, and one of the same name begins anew."""
    records, _ = await store.open("room")
    await keep(store, records, b"a", b"b")
    batch = store.writer.batch()
    records.release(batch)
    await store.store(batch)
    await store.delete("room")
    assert not await store.exists("room")
    records, stored = await store.open("room")
    assert stored.updates == []
    await keep(store, records, b"c")
    assert await kept(store) == [b"c"]


async def test_delete_leaves_the_others(store: PersistentStore) -> None:
    """Deleting a document leaves those whose names begin alike."""
    for name in ("a", "ab", "b"):
        records, _ = await store.open(name)
        await keep(store, records, b"x")
        batch = store.writer.batch()
        records.release(batch)
        await store.store(batch)
    await store.delete("a")
    assert await store.survey() == (["ab", "b"], None)


async def test_only_documents_with_many_updates_are_named(store: PersistentStore) -> None:
    """Only documents with more than so many updates are named."""
    for name, count in (("few", 2), ("many", 3)):
        records, _ = await store.open(name)
        await keep(store, records, *[b"update"] * count)
        batch = store.writer.batch()
        records.release(batch)
        await store.store(batch)
    assert [name async for name in store.names(2)] == ["many"]


DAMAGE: dict[str, tuple[str, str]] = {
    "changed": ("UPDATE opennoodl_sync.updates SET data = 'x' WHERE seq = 1", "update 1: checksum mismatch"),
    "swapped": (
        "UPDATE opennoodl_sync.updates u SET data = o.data, checksum = o.checksum "
        "FROM opennoodl_sync.updates o WHERE u.seq = 1 AND o.seq = 2",
        "update 1: checksum mismatch",
    ),
    "first": ("DELETE FROM opennoodl_sync.updates WHERE seq = 0", "updates 0 to 0 are missing"),
    "middle": ("DELETE FROM opennoodl_sync.updates WHERE seq = 2", "updates 2 to 2 are missing"),
    "all": ("DELETE FROM opennoodl_sync.updates", "updates 0 to 0 are missing"),
    "compacted": ("UPDATE opennoodl_sync.rooms SET last = 9", "updates 4 to 9 are missing"),
}


@pytest.mark.parametrize("damage", DAMAGE)
async def test_damage_in_postgresql(damage: str, url: str) -> None:
    """An update that is changed, in another's place or missing is noticed, and the document stays free."""
    store = await open_store(Settings(database_url=url))
    records, _ = await store.open("room")
    await keep(store, records, b"a", b"b", b"c", b"d")
    batch = store.writer.batch()
    records.release(batch)
    await store.store(batch)
    statement, message = DAMAGE[damage]
    await execute(url, statement)
    with pytest.raises(CorruptError, match=message):
        await store.open("room")
    with pytest.raises(CorruptError, match=message):
        await store.read("room")
    assert await store.exists("room")
    async with asyncio.timeout(30):
        while (await execute(url, "SELECT owner FROM opennoodl_sync.rooms"))[0]["owner"] is not None:
            pass
    await store.close()


# Versions


def version(time: int, content: bytes, last: int = 0) -> tuple[Version, bytes]:
    """Return a version and its content."""
    return Version(time, len(content), last), content


async def written(store: PersistentStore, name: str, *updates: bytes) -> None:
    """Write a document, and give it back."""
    records, _ = await store.open(name)
    await keep(store, records, *updates)
    batch = store.writer.batch()
    records.release(batch)
    await store.store(batch)


async def test_versions_come_in_order(store: PersistentStore) -> None:
    """Versions come in the order of their times, with their contents, and beside the number of the last update."""
    await written(store, "room", b"a", b"b")
    one, two = version(7, b"one\x00" * 100_000), version(2**31, b"", last=-1)
    await store.change_versions("room", [two], [])
    await store.change_versions("room", [one], [])
    assert await store.history("room") == History([one[0], two[0]], 1)
    assert [await store.read_version("room", time) for time in (7, 2**31, 8)] == [one[1], b"", None]
    assert await store.history("other") == History([], -1)


async def test_versions_are_dropped(store: PersistentStore) -> None:
    """One change adds some versions and drops others."""
    await written(store, "room", b"a")
    await store.change_versions("room", [version(1, b"1"), version(2, b"2")], [])
    await store.change_versions("room", [version(3, b"3")], [1, 2, 9])
    assert [one.time for one in (await store.history("room")).versions] == [3]
    assert await store.read_version("room", 1) is None


async def test_versions_survive_compaction_and_restart(settings: Settings) -> None:
    """A compaction and a restart change nothing about versions, and the updates are read as if there were none."""
    first = await open_store(settings)
    records, _ = await first.open("room")
    await keep(first, records, b"a", b"b")
    await first.change_versions("room", [version(1, b"one", last=1)], [])
    await replace(first, records, b"ab")
    batch = first.writer.batch()
    records.release(batch)
    await first.store(batch)
    await first.shrink()
    await first.close()
    second = await open_store(settings)
    assert await second.history("room") == History([Version(1, 3, 1)], 1)
    assert await second.read_version("room", 1) == b"one"
    assert await kept(second) == [b"ab"]
    assert await second.survey() == (["room"], None)
    assert [name async for name in second.names(0)] == ["room"]
    await second.close()


async def test_delete_takes_the_versions(store: PersistentStore) -> None:
    """A document that is deleted leaves no version, and those of others stay."""
    for name in ("a", "ab"):
        await written(store, name, b"x")
        await store.change_versions(name, [version(1, b"content")], [])
    await store.delete("a")
    assert await store.history("a") == History([], -1)
    assert await store.read_version("a", 1) is None
    assert [name async for name, _ in store.histories()] == ["ab"]


async def test_every_document_with_versions_is_named(store: PersistentStore) -> None:
    """Every document that has versions is named, with them."""
    for name in ("b", "none", "ä"):
        await written(store, name, b"x")
    for name in ("b", "ä"):
        await store.change_versions(name, [version(1, b"content")], [])
    found = {name: history async for name, history in store.histories()}
    assert found == dict.fromkeys(("b", "ä"), History([Version(1, 7, 0)], 0))


async def test_a_document_is_read_as_it_was_at_an_update(store: PersistentStore) -> None:
    """A document is read as it was at an update, or as it was merged with later ones."""
    records, _ = await store.open("room")
    assert await store.read_until("room", 5) == ([], -1)
    await keep(store, records, b"a", b"b", b"c", b"d")
    assert await store.read_until("room", 1) == ([b"a", b"b"], 1)
    assert await store.read_until("room", 9) == ([b"a", b"b", b"c", b"d"], 3)
    await replace(store, records, b"abcd")
    await keep(store, records, b"e")
    assert await store.read_until("room", 3) == ([b"abcd"], 3)
    assert await store.read_until("room", 1) == ([b"abcd", b"e"], 4)


async def test_a_damaged_version_in_postgresql(url: str) -> None:
    """A version that is not what was written is noticed."""
    store = await open_store(Settings(database_url=url))
    await written(store, "room", b"a")
    await store.change_versions("room", [version(1, b"content")], [])
    await execute(url, "UPDATE opennoodl_sync.versions SET data = 'x'")
    with pytest.raises(CorruptError, match="version 1: checksum mismatch"):
        await store.read_version("room", 1)
    await store.close()


async def test_a_document_that_is_gone_gets_no_version_in_postgresql(url: str) -> None:
    """A version that comes when its document has been deleted is not kept."""
    store = await open_store(Settings(database_url=url))
    await store.change_versions("room", [version(1, b"content")], [])
    assert await execute(url, "SELECT 1 FROM opennoodl_sync.versions") == []
    await store.close()
