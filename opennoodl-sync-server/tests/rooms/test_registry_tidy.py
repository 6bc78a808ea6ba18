"""Tidying: documents that nobody opens are compacted, off everybody's way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from opennoodl_sync.rooms import registry as module
from opennoodl_sync.rooms.registry import Rooms
from opennoodl_sync.storage.interface import StoreError
from opennoodl_sync.storage.leveldb.bindings import plyvel
from opennoodl_sync.storage.leveldb.database import Database, RecordBatch
from opennoodl_sync.storage.leveldb.documents import LevelDBDocument
from opennoodl_sync.storage.leveldb.store import LevelDBStore
from opennoodl_sync.workers.compactor import Compacted, CompactionError, Compactor

from ..disks import TIMEOUT, Writes
from ..editor import Editor, content
from ..turns import keep, kept
from .test_registry import opened, text_of


@pytest.fixture(autouse=True)
def times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let it begin at once, and once."""
    monkeypatch.setattr(module, "TIDY_AFTER", 0)
    monkeypatch.setattr(module, "TIDY_PAUSE", 0)
    monkeypatch.setattr(module, "TIDY_INTERVAL", 1000)


def fill(path: Path, **counts: int) -> None:
    """Store documents of so many updates."""
    database = Database(str(path))
    for name, count in counts.items():
        ann = Editor(1)
        keep(LevelDBDocument(name, database=database), *(ann.write(f"{number} ") for number in range(count)))
    database.close()


def counts(path: Path, *names: str) -> list[int]:
    """Return how many records documents have; nobody holds the database."""
    database = Database(str(path))
    stores = [LevelDBDocument(name, database=database) for name in names]
    found = [len(store.records()) for store in stores]
    database.close()
    return found


class Tidied:
    """Waits for what is tidied."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._rounds = asyncio.Semaphore(0)
        real = asyncio.sleep

        async def sleep(seconds: float) -> None:
            if seconds == module.TIDY_INTERVAL:
                self._rounds.release()
            await real(seconds)

        monkeypatch.setattr("opennoodl_sync.rooms.registry.asyncio.sleep", sleep)

    async def round(self) -> None:
        """Wait until all documents have been looked at."""
        await self._rounds.acquire()


@asynccontextmanager
async def tidying(rooms: Rooms) -> AsyncIterator[None]:
    """Run what tidies, which must not end by itself."""
    async with asyncio.timeout(TIMEOUT), asyncio.TaskGroup() as group:
        task = group.create_task(rooms.tidy())
        yield
        task.cancel()


async def test_documents_that_nobody_opens_are_compacted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those with more than twenty records get one, the others are left alone, and all say what they said."""
    fill(tmp_path, few=20, many=21, more=300)
    tidied = Tidied(monkeypatch)
    async with opened(tmp_path) as rooms, tidying(rooms):
        await tidied.round()
        assert rooms.rooms == {}
    assert counts(tmp_path, "few", "many", "more") == [20, 1, 1]
    async with opened(tmp_path) as rooms:
        assert len(text_of(await rooms.open("more")).split()) == 300


async def test_a_document_that_is_open_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A room compacts itself, and would not know what was done behind its back."""
    fill(tmp_path, room=30)
    tidied = Tidied(monkeypatch)
    async with opened(tmp_path) as rooms:
        room = await rooms.open("room")
        room.join("ann")
        async with tidying(rooms):
            await tidied.round()
        room.leave("ann")
        rooms.discard(room)
    assert counts(tmp_path, "room") == [30]


async def test_opening_a_document_waits_for_its_tidying(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read when it has been written, and what is written into it then comes behind."""
    fill(tmp_path, room=30)
    writes = Writes(monkeypatch)
    writes.hold()
    async with opened(tmp_path, sync=True) as rooms, tidying(rooms):
        await writes.begun()
        opening = asyncio.create_task(rooms.open("room"))
        await asyncio.sleep(0)
        assert not opening.done()
        writes.release()
        room = await opening
        assert len(text_of(room).split()) == 30
        batch = RecordBatch()
        room.flush(batch)
        assert not batch


async def test_a_damaged_document_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A document that cannot be compacted stays as it is and is logged, and the others are compacted."""
    fill(tmp_path, a=30, b=30)
    with plyvel.DB(str(tmp_path)) as db:
        before = dict(db)
        key = next(key for key in before if b"\x01a\x00\x06update" in key)
        db.put(key, b"junk")
        before[key] = b"junk"
    tidied = Tidied(monkeypatch)
    async with opened(tmp_path) as rooms, tidying(rooms):
        await tidied.round()
    assert "a document could not be compacted" in capsys.readouterr().out
    assert counts(tmp_path, "a", "b") == [30, 1]
    with plyvel.DB(str(tmp_path)) as db:
        assert {key: value for key, value in db if b"\x01a\x00\x06update" in key}.items() <= before.items()


async def test_a_disk_that_fails_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A compaction that cannot be written leaves the document as it was; the next one is tried."""
    fill(tmp_path, a=30, b=30)
    tidied, writes = Tidied(monkeypatch), Writes(monkeypatch)
    writes.failure = StoreError("the disk is full")
    async with opened(tmp_path) as rooms, tidying(rooms):
        await tidied.round()
        assert len(text_of(await rooms.open("a")).split()) == 30
        assert "could not be" in capsys.readouterr().out
    assert counts(tmp_path, "a", "b") == [30, 1]


async def test_a_disk_that_cannot_be_searched_is_searched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failure while documents are looked for does not end the tidying for ever."""
    fill(tmp_path, room=30)
    failures = iter([StoreError("cannot read")])
    real = Database.holds

    def holds(database: Database, prefix: bytes) -> bool:
        for failure in failures:
            raise failure
        return real(database, prefix)

    monkeypatch.setattr(Database, "holds", holds)
    monkeypatch.setattr(module, "TIDY_INTERVAL", 0.001)
    tidied = Tidied(monkeypatch)
    async with opened(tmp_path) as rooms, tidying(rooms):
        for _ in range(3):
            await tidied.round()
    assert counts(tmp_path, "room") == [1]


async def test_it_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Documents that have grown since are found the next time."""
    monkeypatch.setattr(module, "TIDY_INTERVAL", 0.001)
    fill(tmp_path, room=5)
    tidied = Tidied(monkeypatch)
    async with opened(tmp_path) as rooms, tidying(rooms):
        await tidied.round()
        ann = Editor(2)
        assert isinstance(rooms._store, LevelDBStore)
        database = rooms._store._database
        keep(LevelDBDocument("room", database=database), *(ann.write("x ") for _ in range(30)))
        for _ in range(2):
            await tidied.round()
        assert len(LevelDBDocument("room", database=database).records()) == 1
        assert kept(LevelDBDocument("room", database=database))[0].count("x") == len(content(ann.doc)[0].split())


def fill_of_many(path: Path) -> None:
    """Store a document with texts of 30 clients."""
    database = Database(str(path))
    keep(LevelDBDocument("room", database=database), *(Editor(client).write("x" * 100) for client in range(1, 31)))
    database.close()


async def test_a_large_document_is_compacted_in_parts_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its parts are more than twenty records, and are no reason to compact it again."""
    monkeypatch.setattr(LevelDBDocument, "part_size", 1)
    fill_of_many(tmp_path)
    numbers = []
    for _ in range(2):
        tidied = Tidied(monkeypatch)
        async with opened(tmp_path) as rooms, tidying(rooms):
            await tidied.round()
        database = Database(str(tmp_path))
        numbers.append([record.number for record in LevelDBDocument("room", database=database).records()])
        database.close()
    assert numbers == [[*range(29, 59)]] * 2
    async with opened(tmp_path) as rooms:
        assert text_of(await rooms.open("room")) == "x" * 3000


async def test_a_part_that_cannot_be_compacted_adds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The parts before it are not stored, since each attempt would add them again."""
    monkeypatch.setattr(LevelDBDocument, "part_size", 1)
    fill_of_many(tmp_path)
    compact, parts = Compactor.compact, 0

    async def fail_later(self: Compactor, pieces: Any) -> Compacted:
        nonlocal parts
        parts += 1
        if parts == 3:
            raise CompactionError("it takes too long")
        return await compact(self, pieces)

    monkeypatch.setattr(Compactor, "compact", fail_later)
    tidied = Tidied(monkeypatch)
    async with opened(tmp_path) as rooms, tidying(rooms):
        await tidied.round()
    assert parts == 3
    assert counts(tmp_path, "room") == [30]
