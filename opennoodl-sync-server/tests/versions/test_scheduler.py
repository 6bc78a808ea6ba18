"""Versions that a server makes and drops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from opennoodl_sync.storage.interface import StoreError, Version
from opennoodl_sync.storage.leveldb.store import LevelDBStore
from opennoodl_sync.versions import making
from opennoodl_sync.versions import scheduler as scheduler_module
from opennoodl_sync.versions.content import unpack
from opennoodl_sync.versions.schedule import parse
from opennoodl_sync.versions.scheduler import VersionScheduler
from pycrdt import Doc, Text
from structlog.testing import capture_logs

from ..editor import Editor

HOUR = 3600
YEARS = 5 * 365 * 24 * HOUR


class Clock:
    """The clocks that the scheduler reads.

    Attributes:
        now: the time of day in seconds; the monotonic clock has the same.
        ahead: seconds by which the time of day is wrong.
    """

    def __init__(self) -> None:
        self.now = 1_800_000_000.0
        self.ahead = 0.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return the clocks of the scheduler."""
    clock = Clock()
    monkeypatch.setattr(scheduler_module, "monotonic", lambda: clock.now)
    for module in (scheduler_module, making):
        monkeypatch.setattr(module, "time", lambda: clock.now + clock.ahead)
    return clock


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[LevelDBStore]:
    """Return an empty store."""
    store = LevelDBStore(str(tmp_path / "data"), fsync="false")
    yield store
    await store.close()


class Case:
    """A scheduler, and a document that somebody edits."""

    def __init__(self, store: LevelDBStore, *, most: int = 0, largest: int = 0, of_one: int = 0) -> None:
        schedule = parse("24x1h,30x1d", of_one)
        assert schedule is not None
        self.store = store
        self.in_memory = {"room"}
        self.scheduler = VersionScheduler(
            store, schedule, most, largest, self.in_memory.__contains__, making=asyncio.Lock()
        )
        self.editor = Editor(1)

    async def write(self, text: str, name: str = "room") -> int:
        """Write into a document as a room does; return the number of the update."""
        records, _ = await self.store.open(name)
        batch = self.store.writer.batch()
        records.append([self.editor.write(text)], lambda: b"\0", batch)
        await self.store.store(batch)
        self.scheduler.changed(name)
        return records.last()

    async def load(self, name: str = "room") -> None:
        """Load a document, and look at it."""
        records, _ = await self.store.open(name)
        self.scheduler.loaded(name, records.last())
        await self.scheduler.check_loaded()

    async def texts(self, name: str = "room") -> list[str]:
        """Return the text of each version."""
        texts = []
        for version in (await self.store.history(name)).versions:
            content = await self.store.read_version(name, version.time)
            assert content is not None
            assert len(content) == version.size
            doc: Doc[Text] = Doc()
            doc.apply_update(unpack(content))
            texts.append(str(doc.get("t", type=Text)))
        return texts


async def test_a_loaded_document_is_kept_as_it_was(store: LevelDBStore, clock: Clock) -> None:
    """It is kept as it was before the first change, though that came before the scheduler looked."""
    case = Case(store)
    last = await case.write("before")
    case.scheduler.loaded("room", last)
    await case.write(" and after")
    await case.scheduler.check_loaded()
    assert await case.texts() == ["before"]


async def test_a_new_document_has_its_first_version_after_an_hour(store: LevelDBStore, clock: Clock) -> None:
    """A document that somebody begins has its first version after an hour, and not after a letter."""
    case = Case(store)
    await case.load()
    await case.write("a")
    await case.scheduler.check_changed()
    clock.now += HOUR - 1
    await case.write("b")
    await case.scheduler.check_changed()
    assert await case.texts() == []
    clock.now += 1
    await case.scheduler.check_changed()
    assert await case.texts() == ["ab"]


async def test_a_busy_document_has_a_version_an_hour(store: LevelDBStore, clock: Clock) -> None:
    """A document that changes all the time has a version an hour, and none after it has come to rest."""
    case = Case(store)
    await case.load()
    for minute in range(180):
        await case.write("x")
        clock.now += 60
        if minute % 10 == 9:
            await case.scheduler.check_changed()
    for _ in range(5):
        clock.now += HOUR
        await case.scheduler.check_changed()
    assert [len(text) for text in await case.texts()] == [60, 120, 180]


async def test_an_unchanged_document_has_one_version(store: LevelDBStore, clock: Clock) -> None:
    """A document that is loaded again and again without a change has one version, which stays for as long."""
    case = Case(store)
    await case.write("x")
    for _ in range(3):
        await case.load()
        clock.now += 40 * 24 * HOUR
        await case.scheduler.sweep()
    assert await case.texts() == ["x"]


async def test_a_version_is_made_after_a_crash(store: LevelDBStore, clock: Clock) -> None:
    """A change of which no version was made is in one when the document is loaded again, before it is changed."""
    case = Case(store)
    await case.load()
    await case.write("one")
    again = Case(store)
    again.editor = case.editor
    clock.now += 2 * HOUR
    await again.load()
    await again.write(" two")
    assert await again.texts() == ["one"]


async def test_old_versions_are_dropped(store: LevelDBStore, clock: Clock) -> None:
    """A version that the schedule does not keep is dropped, also of a document that nobody opens."""
    case = Case(store)
    await case.scheduler.sweep()
    await case.write("x")
    await case.load()
    await case.write("y")
    assert case.scheduler.size > 0
    clock.now += 31 * 24 * HOUR
    await case.scheduler.sweep()
    assert await case.texts() == []
    assert case.scheduler.size == 0


async def test_an_unloaded_document_is_forgotten(store: LevelDBStore, clock: Clock) -> None:
    """A document that has left memory is looked at when it is loaded again, and not before."""
    case = Case(store)
    await case.load()
    await case.write("x")
    case.in_memory.clear()
    clock.now += 2 * HOUR
    await case.scheduler.check_changed()
    assert await case.texts() == []
    assert (case.scheduler._changed, case.scheduler._again) == (set(), {})


async def test_bytes_of_all_versions_are_bounded(store: LevelDBStore, clock: Clock) -> None:
    """Beyond the bytes that all versions may take, the oldest go first, of whichever document they are."""
    case = Case(store, most=200)
    for number in range(10):
        await case.write("x", f"room{number}")
        await case.load(f"room{number}")
        clock.now += HOUR
    left = [name async for name, _ in store.histories()]
    size = sum([version.size async for _, history in store.histories() for version in history.versions])
    assert 100 < size <= 200
    assert case.scheduler.size == size
    assert sorted(left) == sorted(f"room{number}" for number in range(10 - len(left), 10))


async def test_a_version_that_is_too_large_is_not_made(store: LevelDBStore, clock: Clock) -> None:
    """It is not made, and nothing is dropped for it; the log says so, and nothing about the document."""
    case = Case(store, of_one=400)
    await case.write("x")
    await case.load()
    clock.now += HOUR
    await case.write(" ".join(map(str, range(1000))))
    with capture_logs() as lines:
        await case.scheduler.check_changed()
    assert [line["event"] for line in lines] == ["a document is too large for a version"]
    assert "room" not in str(lines)
    assert await case.texts() == ["x"]
    assert case.scheduler.outcomes == {"made": 1, "too-large": 1, "failed": 0}


async def test_a_document_that_is_too_large_has_no_version(store: LevelDBStore, clock: Clock) -> None:
    """No version is made of a document that would take too much memory for it."""
    case = Case(store, largest=10)
    await case.write("x" * 20)
    await case.load()
    assert await case.texts() == []
    assert case.scheduler.outcomes["too-large"] == 1


async def test_a_failure_is_tried_again(store: LevelDBStore, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version that could not be made is made a while later."""
    case = Case(store)
    await case.write("x")

    async def fail(*_: object) -> None:
        raise StoreError("the disk failed")

    with monkeypatch.context() as patch:
        patch.setattr(store, "change_versions", fail)
        await case.load()
    assert case.scheduler.outcomes["failed"] == 1
    clock.now += scheduler_module.RETRY_AFTER
    await case.scheduler.check_changed()
    assert await case.texts() == ["x"]


async def test_waiting_is_bounded(store: LevelDBStore, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of documents that are loaded faster than versions are made, only so many wait."""
    monkeypatch.setattr(scheduler_module, "MAX_LOADED", 2)
    case = Case(store)
    for name in ("a", "b", "c"):
        await case.write("x", name)
        case.scheduler.loaded(name, 0)
    await case.scheduler.check_loaded()
    assert [name async for name, _ in store.histories()] == ["a", "b"]


async def test_a_clock_may_go_back(store: LevelDBStore, clock: Clock) -> None:
    """Two versions never have one time, whatever the clock says."""
    case = Case(store)
    await store.change_versions("room", [(Version(int(clock.now) + 5, 0, -1), b"")], [])
    await case.write("x")
    history = await store.history("room")
    version, _ = await making.make_version(store, "room", history, making.Limits())
    assert version.time == int(clock.now) + 6


async def test_a_clock_that_is_ahead_drops_no_version(store: LevelDBStore, clock: Clock) -> None:
    """A server that starts with a clock that is years ahead, for less than an hour, keeps all versions."""
    case = Case(store)
    await case.write("one")
    await case.load()
    await case.write(" two")
    clock.ahead = YEARS
    case.scheduler = Case(store).scheduler
    await case.scheduler.sweep()
    await case.load()
    assert await case.texts() == ["one", "one two"]
    clock.now += HOUR
    clock.ahead = 0.0
    await case.scheduler.sweep()
    assert await case.texts() == ["one", "one two"]


async def test_versions_of_a_clock_that_was_ahead_get_earlier_times(store: LevelDBStore, clock: Clock) -> None:
    """Versions with times in the future are moved to today an hour after the start, and later ones are made."""
    case = Case(store)
    await case.write("1")
    await case.load()
    clock.ahead = YEARS
    for text in "23":
        clock.now += HOUR
        await case.write(text)
        await case.load()
    clock.ahead = 0.0
    case.scheduler = Case(store).scheduler
    await case.scheduler.sweep()
    clock.now += HOUR
    await case.scheduler.sweep()
    times = [version.time for version in (await store.history("room")).versions]
    assert times == [clock.now - 3 * HOUR, clock.now - HOUR, clock.now]
    clock.now += HOUR
    await case.write("4")
    await case.load()
    assert await case.texts() == ["1", "12", "123", "1234"]


async def test_a_version_is_made_after_the_clock_was_ahead(store: LevelDBStore, clock: Clock) -> None:
    """A document in memory that was looked at with a wrong clock is looked at again an hour later."""
    case = Case(store)
    await case.write("a")
    clock.ahead = YEARS
    await case.load()
    clock.ahead = 0.0
    await case.write("b")
    await case.scheduler.sweep()
    clock.now += HOUR
    await case.scheduler.sweep()
    clock.now += HOUR
    await case.scheduler.check_changed()
    assert await case.texts() == ["a", "ab"]
