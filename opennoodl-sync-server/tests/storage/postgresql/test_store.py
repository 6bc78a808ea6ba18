"""The store in PostgreSQL: a document has one owner, and one that has lost it stores nothing and is told."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest
from opennoodl_sync.edge.errors import StartError
from opennoodl_sync.storage.interface import ElsewhereError, StoreError, UnavailableError
from opennoodl_sync.storage.postgresql import lease as lease_module
from opennoodl_sync.storage.postgresql.store import PostgreSQLStore

from ...databases import Database, execute
from ...disks import until
from .conftest import Start, keep, release

pytestmark = pytest.mark.xdist_group("postgresql")
TIMEOUT = 30


async def stored(url: str, room: str = "room") -> list[tuple[int, bytes]]:
    """Return the numbers and data of the updates of a room."""
    rows = await execute(url, "SELECT seq, data FROM opennoodl_sync.updates WHERE room = $1 ORDER BY seq", room)
    return [(row["seq"], row["data"]) for row in rows]


async def expire(url: str, store: PostgreSQLStore) -> None:
    """Let the lease of an instance be over for the database, before the instance knows it."""
    await execute(url, "UPDATE opennoodl_sync.instances SET expires = now() WHERE name = $1", store.instance)


@pytest.fixture
def no_renewals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no instance renew its lease by itself."""
    monkeypatch.setattr(lease_module, "RENEW_INTERVAL", 1000.0)


async def test_a_document_has_one_owner(start: Start) -> None:
    """Another instance is told who has a document and where, until that one gives it back."""
    one, two = await start(), await start()
    one.announce("ws://one:1")
    records, _ = await one.open("room")
    await keep(one, records, b"a")
    await until(lambda: one._lease.age < 1)
    with pytest.raises(ElsewhereError) as found:
        await two.open("room")
    assert found.value.instance == one.instance
    with pytest.raises(ElsewhereError):
        await two.find("room")
    await two.find("other")
    await release(one, records)
    assert (await two.open("room"))[1].updates == [b"a"]
    with pytest.raises(ElsewhereError):
        await one.open("room")


async def test_the_address_of_the_owner(start: Start) -> None:
    """The URL that an instance announces is what others find."""
    one, two = await start(), await start()
    await one.open("room")
    one.announce("ws://one:1")
    async with asyncio.timeout(TIMEOUT):
        while True:
            with pytest.raises(ElsewhereError) as found:
                await two.find("room")
            if found.value.url == "ws://one:1":
                break


async def test_each_lease_has_a_higher_epoch(start: Start, url: str) -> None:
    """Each time a document is taken it has a higher epoch, also at the same instance, and each update has it."""
    one, two = await start(), await start()
    for store in (one, one, two, one):
        records, _ = await store.open("room")
        await keep(store, records, b"x")
        await release(store, records)
    rows = await execute(url, "SELECT epoch FROM opennoodl_sync.updates ORDER BY seq")
    epochs = [row["epoch"] for row in rows]
    assert epochs == sorted(set(epochs))
    assert len(epochs) == 4


@pytest.mark.usefixtures("no_renewals")
async def test_a_former_owner_stores_nothing(start: Start, url: str) -> None:
    """Writes of a former owner are not stored, and it is told so; other documents are stored."""
    one, two = await start(), await start()
    lost: list[str] = []
    one.when_lost(lost.append)
    room, _ = await one.open("room")
    other, _ = await one.open("other")
    await keep(one, room, b"a")
    await expire(url, one)
    taken, found = await two.open("room")
    assert found.updates == [b"a"]
    batch = one.writer.batch()
    room.append([b"late"], lambda: b"\x00", batch)
    other.append([b"fine"], lambda: b"\x00", batch)
    await one.store(batch)
    assert (lost, room.lost, other.lost) == (["room"], True, False)
    await keep(two, taken, b"b")
    assert await stored(url) == [(0, b"a"), (1, b"b")]
    assert await stored(url, "other") == [(0, b"fine")]


@pytest.mark.usefixtures("no_renewals")
async def test_a_former_owner_compacts_and_deletes_nothing(start: Start, url: str) -> None:
    """A compaction and a deletion are fenced too."""
    one, two = await start(), await start()
    room, _ = await one.open("room")
    await keep(one, room, b"a", b"b")
    await expire(url, one)
    await two.open("room")
    batch = one.writer.batch()
    room.replace(room.last(), [b"ab"], b"\x00", None, batch)
    await one.store(batch)
    with pytest.raises(ElsewhereError):
        await one.delete("room")
    assert await stored(url) == [(0, b"a"), (1, b"b")]


async def test_a_write_and_a_takeover_at_once(start: Start, url: str) -> None:
    """A write that has begun comes before the takeover, which then reads it; one that has not changes nothing."""
    one, two = await start(), await start()
    room, _ = await one.open("room")
    await keep(one, room, b"a")
    blocker = await asyncpg.connect(url)
    transaction = blocker.transaction()
    await transaction.start()
    # As a takeover that is not committed yet.
    await blocker.execute("UPDATE opennoodl_sync.rooms SET owner = $1, epoch = epoch + 1", two.instance)
    batch = one.writer.batch()
    room.append([b"late"], lambda: b"\x00", batch)
    writing = asyncio.create_task(one.store(batch))
    async with asyncio.timeout(TIMEOUT):
        while not await execute(url, "SELECT FROM pg_locks WHERE NOT granted"):
            pass
    await transaction.commit()
    await blocker.close()
    await writing
    assert room.lost
    assert await stored(url) == [(0, b"a")]


async def test_an_instance_that_cannot_renew_loses_its_documents(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes all of them to be lost before its lease is over for the database, and can open none until it is back."""
    monkeypatch.setattr(lease_module, "LAPSE_AFTER", 1.0)
    monkeypatch.setattr(lease_module, "RENEW_INTERVAL", 0.05)
    one = await start()
    lost: list[str] = []
    one.when_lost(lost.append)
    room, _ = await one.open("room")
    fetch = one._leasing.fetch

    async def fail(*_: object, **__: object) -> list[Any]:
        raise UnavailableError("away")

    monkeypatch.setattr(one._leasing, "fetch", fail)
    await until(lambda: lost)
    assert room.lost
    assert one.failure == "away"
    with pytest.raises(UnavailableError):
        await one.open("other")
    monkeypatch.setattr(one._leasing, "fetch", fetch)
    await until(lambda: one.failure is None)
    await one.open("room")


async def test_a_gap_is_never_stored(start: Start, url: str) -> None:
    """Where the database has lost its last updates, as after a failover, the next one is not stored behind a gap."""
    one = await start()
    room, _ = await one.open("room")
    await keep(one, room, b"a", b"b")
    await execute(url, "DELETE FROM opennoodl_sync.updates WHERE seq = 1")
    await keep(one, room, b"c")
    assert room.lost
    assert (await one.open("room"))[1].updates == [b"a"]


async def test_nothing_is_stored_behind_what_failed(start: Start, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """A batch that was given before another one failed stores nothing of the same document."""
    one = await start()
    room, _ = await one.open("room")
    await keep(one, room, b"a")
    fetch = one._writing.fetch

    async def fail_once(*_: object, **__: object) -> list[Any]:
        monkeypatch.setattr(one._writing, "fetch", fetch)
        raise UnavailableError("away")

    monkeypatch.setattr(one._writing, "fetch", fail_once)
    done: list[StoreError | None] = []
    for update in (b"b", b"c"):
        batch = one.writer.batch()
        room.append([update], lambda: b"\x00", batch)
        one.write(batch, done.append)
    await until(lambda: len(done) == 2)
    assert isinstance(done[0], UnavailableError)
    assert room.lost
    assert await stored(url) == [(0, b"a")]


async def test_a_database_that_lost_updates_is_noticed(start: Start, url: str) -> None:
    """After a lost connection the documents are compared with the database; those that differ are lost."""
    one = await start()
    room, _ = await one.open("room")
    other, _ = await one.open("other")
    await keep(one, room, b"a", b"b")
    await keep(one, other, b"a")
    await execute(url, "DELETE FROM opennoodl_sync.updates WHERE room = 'room' AND seq = 1")
    one._leasing.cut()
    one._lease.renew_soon()
    await until(lambda: room.lost)
    assert not other.lost


async def test_a_refused_change_costs_its_document_only(start: Start, url: str) -> None:
    """Where the database refuses the change of one document, the others of the batch are stored."""
    one = await start()
    good, _ = await one.open("good")
    bad, _ = await one.open("bad")
    await keep(one, bad, b"a")
    await execute(url, "INSERT INTO opennoodl_sync.updates VALUES ('bad', 1, 0, 'x', 0)")
    batch = one.writer.batch()
    for records in (bad, good):
        records.append([b"new"], lambda: b"\x00", batch)
    await one.store(batch)
    assert (bad.lost, good.lost) == (True, False)
    assert await stored(url, "good") == [(0, b"new")]
    assert await stored(url, "bad") == [(0, b"a"), (1, b"x")]


async def test_first_starts_at_once(start: Start) -> None:
    """Several instances that start at the same time on an empty database all start."""
    await asyncio.gather(*(start() for _ in range(6)))


async def test_rows_of_a_crashed_instance_are_deleted(start: Start, url: str) -> None:
    """The rows of an instance that ended without a word, and of rooms that it never wrote, are deleted in the end."""
    one = await start()
    await one.open("empty")
    await execute(url, "INSERT INTO opennoodl_sync.instances VALUES ('crashed', '', now() - interval '2 hours')")
    await execute(url, "INSERT INTO opennoodl_sync.rooms VALUES ('left', 'crashed', 1)")
    await start()
    assert [row["name"] for row in await execute(url, "SELECT name FROM opennoodl_sync.rooms")] == ["empty"]
    assert len(await execute(url, "SELECT FROM opennoodl_sync.instances")) == 2


async def test_close_gives_the_lease_back(start: Start, url: str) -> None:
    """An instance that ends leaves no row, and its rooms are free at once."""
    one = await start()
    records, _ = await one.open("room")
    await keep(one, records, b"a")
    await one.close()
    assert await execute(url, "SELECT FROM opennoodl_sync.instances") == []
    two = await start()
    await two.open("room")


async def test_another_schema_version_stops_the_start(start: Start, url: str) -> None:
    """Tables of another version stop the start with one line that names both versions."""
    await start()
    await execute(url, "UPDATE opennoodl_sync.schema SET version = 2")
    with pytest.raises(StartError, match="it has schema 2; this version knows 1"):
        await start()


@pytest.mark.parametrize(
    "url", ["postgresql://nobody:secret@127.0.0.1:1/none", "postgresql://127.0.0.1:1/none?sslmode=strange"]
)
async def test_an_unusable_database_stops_the_start(url: str) -> None:
    """A database that cannot be used stops the start with one line, without the password."""
    with pytest.raises(StartError) as error:
        await PostgreSQLStore(url, fsync=True).start()
    assert str(error.value).startswith("the database postgresql://")
    assert "\n" not in str(error.value)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(("fsync", "expected"), [(True, "on"), (False, "off")])
async def test_fsync_true_waits_for_the_disk(start: Start, fsync: bool, expected: str) -> None:
    """A commit waits for the disk with FSYNC=true only; leases and rooms are always taken so."""
    one = await start(fsync=fsync)
    await one.open("room")
    links = (one._writing, one._leasing, one._reading)
    assert [(await link.fetch("SHOW synchronous_commit"))[0][0] for link in links] == [expected, "on", "on"]


async def test_away_and_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the database is away a write fails and that is said; when it is back, all goes on."""
    database = await asyncio.to_thread(Database)
    one = PostgreSQLStore(database.url, fsync=True)
    await one.start()
    try:
        room, _ = await one.open("room")
        await keep(one, room, b"a")
        await asyncio.to_thread(database.stop)
        with pytest.raises(UnavailableError):
            await keep(one, room, b"b")
        assert one.failure == "Documents cannot be written to the database."
        with pytest.raises(UnavailableError):
            await one.open("other")
        await asyncio.to_thread(database.start)
        await until(lambda: one.failure is None)
        assert (await one.open("room"))[1].updates == [b"a"]
        assert one.counts.reconnects > 0
    finally:
        await one.close()
        await asyncio.to_thread(database.stop)
