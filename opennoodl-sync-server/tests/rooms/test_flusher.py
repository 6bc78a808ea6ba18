"""The flusher: one batch a turn for all rooms, told when it is written, and a failure costs only who it concerns."""

from __future__ import annotations

import asyncio
from time import perf_counter

import pytest
from opennoodl_sync.rooms import flusher as module
from opennoodl_sync.rooms.flusher import Flusher
from opennoodl_sync.rooms.room import Flush, Room
from opennoodl_sync.rooms.timeslicer import TimeSlicer
from opennoodl_sync.storage.interface import StoreError
from opennoodl_sync.storage.leveldb.database import RecordBatch
from opennoodl_sync.storage.leveldb.documents import LevelDBDocument
from opennoodl_sync.storage.memory import MemoryStore
from opennoodl_sync.yjs.document import DamagedError
from opennoodl_sync.yjs.lib0 import Steps

from ..disks import ByHand, Records
from ..editor import Editor
from ..memory_records import MemoryRecords
from ..turns import ask, here, kept, open_room, send


class Turns:
    """A flusher whose writer is in the test's hand.

    Attributes:
        told: what was told, in order.
        failed: what could not go on, and why.
        went_on: how often those that were kept waiting were let go on.
    """

    def __init__(self) -> None:
        self.told: list[tuple[str, Flush]] = []
        self.failed: list[tuple[str, Exception]] = []
        self.went_on = 0
        self.records = Records()
        self.writer = ByHand(self.records)
        self.slicer = TimeSlicer()
        self.flusher = Flusher(self.writer, self.slicer, self._tell, self._fail, self._go_on)

    def room(self, name: str) -> Room:
        """Return a room with a client of the same name."""
        room = open_room(self.store(name), name=name)
        room.join(name)
        return room

    def store(self, name: str) -> LevelDBDocument:
        """Return where a room is kept."""
        return LevelDBDocument(name, database=self.records)

    def writes(self, *rooms: Room, text: str = "x", number: int = 1) -> None:
        """Let somebody write into rooms, and end their turn."""
        for room in rooms:
            send(room, room.name, Editor(number).write(text))
            self.flusher.schedule(room)

    def points(self, *rooms: Room) -> None:
        """Let somebody move in rooms, which nothing has to be stored for."""
        for room in rooms:
            here(room, room.name, (1, len(self.told) + 1, {}))
            self.flusher.schedule(room)

    @property
    def names(self) -> list[str]:
        """Who was told, in order."""
        return [name for name, _ in self.told]

    def _tell(self, room: Room, flush: Flush) -> None:
        self.told.append((room.name, flush))

    def _fail(self, room: Room, error: Exception) -> None:
        self.failed.append((room.name, error))

    def _go_on(self) -> None:
        self.went_on += 1


@pytest.fixture(autouse=True)
def _one_iteration(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each turn be one iteration of the event loop, where a test does not say otherwise."""
    monkeypatch.setattr(module, "INTERVAL", 0)


@pytest.fixture
async def turns() -> Turns:
    """Return a flusher on a disk that takes its time."""
    return Turns()


async def turn() -> None:
    """Let the turn end."""
    for _ in range(3):
        await asyncio.sleep(0)


async def test_all_rooms_of_a_turn_share_a_batch(turns: Turns) -> None:
    """However many rooms changed, and however often, the disk is given one batch."""
    rooms = [turns.room(name) for name in "abc"]
    turns.writes(*rooms, *rooms)
    assert not turns.writer.batches
    await turn()
    assert len(turns.writer.batches) == 1
    turns.writer.finish()
    assert sorted(turns.names) == ["a", "b", "c"]
    await turn()
    assert not turns.writer.batches
    assert [kept(turns.store(name))[0] for name in "abc"] == ["x"] * 3


async def test_changes_soon_after_a_flush_are_gathered(turns: Turns, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first change does not wait; those of many iterations after its flush become one batch."""
    monkeypatch.setattr(module, "INTERVAL", 3600)
    a, b = turns.room("a"), turns.room("b")
    turns.writes(a)
    await turn()
    turns.writer.finish()
    assert turns.names == ["a"]
    for room in (b, a):
        turns.writes(room, text="y", number=2)
        await turn()
    assert not turns.writer.batches
    turns.flusher.flush(a)  # as for a room with many changes
    turns.writer.finish()
    assert turns.names == ["a", "b", "a"]


async def test_gathered_changes_are_flushed_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Changes soon after a flush are flushed when the interval is over, without another change."""
    monkeypatch.setattr(module, "INTERVAL", 0.001)
    told: list[Flush] = []
    store = MemoryStore()
    flusher = Flusher(store.writer, TimeSlicer(), lambda _, flush: told.append(flush), lambda *_: None, lambda: None)
    room = open_room(MemoryRecords())
    ann = Editor(1)
    for word in ("one ", "two"):
        send(room, "ann", ann.write(word))
        await flusher.stored(room)
    assert len(told) == 2


async def test_nothing_is_told_before_it_is_written(turns: Turns) -> None:
    """While the disk is at work nobody hears of the turn, not even those for whom nothing is stored."""
    ann, bob = turns.room("ann"), turns.room("bob")
    turns.writes(ann)
    turns.points(bob)
    await turn()
    assert turns.told == []
    turns.writer.finish()
    assert sorted(turns.names) == ["ann", "bob"]


async def test_a_turn_without_anything_to_store_is_told_at_once(turns: Turns) -> None:
    """Awareness and answers need no disk."""
    turns.points(turns.room("a"))
    await turn()
    assert turns.names == ["a"]
    assert not turns.writer.batches


async def test_without_a_store_turns_are_told_when_they_end() -> None:
    """Documents in memory are told like those on disk, once a turn."""
    told: list[Flush] = []
    store = MemoryStore()
    flusher = Flusher(store.writer, TimeSlicer(), lambda _, flush: told.append(flush), lambda *_: None, lambda: None)
    room = open_room(MemoryRecords())
    ann = Editor(1)
    for word in ("one ", "two"):
        send(room, "ann", ann.write(word))
        flusher.schedule(room)
    assert told == []
    await turn()
    (flush,) = told
    assert Editor(2, flush.updates[0]).text == "one two"
    assert not store.writer.busy


async def test_a_room_without_news_is_not_flushed(turns: Turns) -> None:
    """A room that is not dirty is not flushed."""
    turns.flusher.schedule(turns.room("a"))
    await turn()
    assert turns.told == []


async def test_time_with_the_store_is_known(turns: Turns) -> None:
    """While a batch is under way it is known for how long; when it is written, the time is counted."""
    assert turns.flusher.waits == 0
    before = perf_counter()
    turns.writes(turns.room("a"))
    await turn()
    assert 0 < turns.flusher.waits <= perf_counter() - before
    turns.writer.finish()
    assert turns.flusher.waits == 0
    assert sum(turns.flusher.seconds.counts) == 1


async def test_turns_wait_for_the_disk_and_become_one(turns: Turns) -> None:
    """While a batch is under way everything gathers; when it is written, that is the next batch."""
    a, b = turns.room("a"), turns.room("b")
    ann = Editor(1)
    send(a, "a", ann.write("one "))
    turns.flusher.schedule(a)
    await turn()
    assert turns.writer.busy
    for word in ("two ", "three "):
        send(a, "a", ann.write(word))
        turns.flusher.schedule(a)
        await turn()
    turns.writes(b)
    await turn()
    assert len(turns.writer.batches) == 1
    turns.writer.finish()
    assert turns.names == ["a"]
    await turn()
    assert len(turns.writer.batches) == 1
    turns.writer.finish()
    assert turns.names == ["a", "a", "b"]
    texts = [Editor(2, *ups).text for _, (ups, *_) in turns.told[:1]]
    assert texts == ["one "]
    assert len(turns.told[1][1].updates) == 1
    assert kept(turns.store("a"))[0] == "one two three "


async def test_a_batch_is_bounded(turns: Turns, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rooms that would make a batch too large are in the next one."""
    monkeypatch.setattr(module, "MAX_BATCH_SIZE", 20_000)
    rooms = [turns.room(name) for name in "abc"]
    turns.writes(*rooms, text="x" * 15_000)
    for expected in ("ab", "abc"):
        await turn()
        turns.writer.finish()
        assert "".join(turns.names) == expected
    await turn()
    assert not turns.writer.batches
    assert not turns.flusher._rooms


async def test_without_a_store_no_room_is_left_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rooms that are over the size of a batch follow in the next turn."""
    monkeypatch.setattr(module, "MAX_BATCH_SIZE", 1)
    told: list[str] = []
    tell = lambda room, _: told.append(room.name)  # noqa: E731
    flusher = Flusher(MemoryStore().writer, TimeSlicer(), tell, lambda *_: None, lambda: None)
    for name in "ab":
        room = open_room(MemoryRecords(), name=name)
        room.join(name)
        send(room, name, Editor(1).write("x"))
        flusher.schedule(room)
    await turn()
    assert told == ["a", "b"]


async def test_paused_clients_are_read_when_the_disk_is_idle(turns: Turns) -> None:
    """Those that are not read from are read from again after the batch, and before the next one."""
    a = turns.room("a")
    turns.writes(a)
    await turn()
    turns.writes(a, number=2)
    assert turns.went_on == 0
    turns.writer.finish()
    assert turns.went_on == 1
    await turn()
    assert len(turns.writer.batches) == 1


async def test_a_room_may_be_flushed_at_once(turns: Turns) -> None:
    """A room may be flushed before the end of the turn, together with all scheduled ones."""
    turns.writer.slow = False
    a, b = turns.room("a"), turns.room("b")
    turns.writes(a, b)
    turns.flusher.flush(b)
    assert sorted(turns.names) == ["a", "b"]
    assert len(turns.writer.written) == 1
    await turn()
    assert len(turns.told) == 2


async def test_a_room_is_not_flushed_at_once_while_the_disk_is_at_work(turns: Turns) -> None:
    """Then it waits for the batch, like all others."""
    a, b = turns.room("a"), turns.room("b")
    turns.writes(a)
    await turn()
    send(b, "b", Editor(1).write("x"))
    turns.flusher.flush(b)
    assert len(turns.writer.batches) == 1
    turns.writer.finish()
    await turn()
    turns.writer.finish()
    assert turns.names == ["a", "b"]


async def test_a_failed_write_fails_those_that_had_something_to_store(turns: Turns) -> None:
    """The others of the batch lose nothing by it, and are told."""
    ann, bob, eve = turns.room("ann"), turns.room("bob"), turns.room("eve")
    turns.writes(ann, eve)
    turns.points(bob)
    await turn()
    error = StoreError("the disk is full")
    turns.writer.finish(error)
    assert sorted(turns.failed, key=lambda failed: failed[0]) == [("ann", error), ("eve", error)]
    assert turns.names == ["bob"]


async def test_after_a_failed_write_the_next_batch_is_written(turns: Turns) -> None:
    """Changes that came while a batch failed are written with the next one."""
    ann, bob = turns.room("ann"), turns.room("bob")
    turns.writes(ann)
    await turn()
    turns.writes(bob)
    turns.writer.finish(StoreError("the disk is full"))
    await turn()
    turns.writer.finish()
    assert [name for name, _ in turns.failed] == ["ann"]
    assert turns.names == ["bob"]
    assert kept(turns.store("bob"))[0] == "x"


@pytest.mark.parametrize("error", [StoreError("no disk"), DamagedError("unsound"), LookupError("a mistake")], ids=repr)
async def test_a_room_that_fails_does_not_stop_the_others(
    turns: Turns, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """A room that cannot be flushed fails alone: the others are stored and told."""
    rooms = [turns.room(name) for name in "abc"]

    def fail(batch: RecordBatch) -> Flush:
        raise error

    monkeypatch.setattr(rooms[1], "flush", fail)
    turns.writes(*rooms)
    await turn()
    assert turns.failed == [("b", error)]
    turns.writer.finish()
    assert sorted(turns.names) == ["a", "c"]
    assert [kept(turns.store(name))[0] for name in "abc"] == ["x", "", "x"]


async def test_a_room_that_fails_leaves_nothing_in_the_batch(turns: Turns, monkeypatch: pytest.MonkeyPatch) -> None:
    """A room that fails half way leaves nothing in the batch, since its next opener would write over it."""
    a, b = turns.room("a"), turns.room("b")
    ask(a, "a")
    turns.writes(a, b)

    def fail(_: bytes) -> bytes:
        raise DamagedError("unsound")

    monkeypatch.setattr(a.document, "difference", fail)
    await turn()
    assert [name for name, _ in turns.failed] == ["a"]
    turns.writer.finish()
    assert turns.names == ["b"]
    assert [kept(turns.store(name))[0] for name in "ab"] == ["", "x"]


async def test_a_room_that_is_discarded_is_not_stored(turns: Turns) -> None:
    """A room discarded before its turn ends is neither stored nor told."""
    a, b = turns.room("a"), turns.room("b")
    turns.writes(a, b)
    turns.flusher.discard(a)
    await turn()
    turns.writer.finish()
    assert turns.names == ["b"]
    assert kept(turns.store("a"))[0] == ""
    turns.flusher.discard(a)


def long_work(may_end: list[None]) -> Steps[None]:
    """Go on until the test says that it is enough."""
    while not may_end:
        yield


async def test_a_busy_room_is_left_out(turns: Turns) -> None:
    """The other rooms of its turn are stored without it; it follows when it is free."""
    ann, bob = turns.room("ann"), turns.room("bob")
    ends, may_end = asyncio.Event(), list[None]()
    turns.writes(ann, bob)
    turns.slicer.do(ann, long_work(may_end), lambda _: ends.set())
    await turn()
    turns.writer.finish()
    assert turns.names == ["bob"]
    may_end.append(None)
    await asyncio.wait_for(ends.wait(), 30)
    turns.writer.finish()
    assert turns.names == ["bob", "ann"]


async def test_a_room_that_is_busy_when_it_was_written_is_told_when_it_is_free(turns: Turns) -> None:
    """Until then it holds on to what was written; and that is over before anything else happens to it."""
    ann = turns.room("ann")
    turns.writes(ann)
    await turn()
    ends, seen, may_end = asyncio.Event(), [], list[None]()
    turns.slicer.do(ann, long_work(may_end), lambda _: ends.set())
    turns.slicer.when_free(ann, lambda: seen.extend(turns.names))
    turns.writer.finish()
    assert turns.names == []
    may_end.append(None)
    await asyncio.wait_for(ends.wait(), 30)
    assert seen == ["ann"]


async def stored(turns: Turns, room: Room) -> asyncio.Task[None]:
    """Ask when a room is stored, and let the turn end."""
    waiting = asyncio.create_task(turns.flusher.stored(room))
    await turn()
    return waiting


async def test_one_who_asks_hears_when_a_room_is_stored(turns: Turns) -> None:
    """The answer comes when the batch is written, and with its error if it was not; without a change at once."""
    room = turns.room("room")
    assert (await stored(turns, room)).done()
    turns.writes(room)
    waiting = await stored(turns, room)
    assert not waiting.done()
    turns.writer.finish()
    await turn()
    assert (waiting.done(), waiting.exception()) == (True, None)
    waiting = asyncio.create_task(turns.flusher.stored(room))
    await asyncio.sleep(0)
    turns.writes(room, text="y", number=2)
    await turn()
    turns.writer.finish(StoreError("the disk is full"))
    await turn()
    assert str(waiting.exception()) == "the disk is full"


async def test_one_who_asks_hears_of_the_batch_that_follows(turns: Turns) -> None:
    """A change that came while a batch is under way is stored with the next one."""
    room = turns.room("room")
    turns.writes(room)
    await turn()
    turns.writes(room, text="y", number=2)
    waiting = await stored(turns, room)
    turns.writer.finish()
    await turn()
    assert not waiting.done()
    turns.writer.finish()
    await turn()
    assert waiting.done()


@pytest.mark.parametrize("begun", [False, True])
async def test_one_who_asks_hears_that_a_room_is_discarded(turns: Turns, begun: bool) -> None:
    """A room that is discarded is not stored, so the answer is an error, also while its batch is under way."""
    room = turns.room("room")
    turns.writes(room)
    if not begun:
        await turn()
    waiting = await stored(turns, room)
    turns.flusher.discard(room)
    turns.writer.finish()
    await turn()
    assert isinstance(waiting.exception(), StoreError)
    assert turns.told == []


async def test_a_busy_room_that_is_discarded_is_not_stored_later(turns: Turns) -> None:
    """A room that is discarded during long work is not stored when the work has ended."""
    room, ends, may_end = turns.room("room"), asyncio.Event(), list[None]()
    turns.writes(room)
    turns.slicer.do(room, long_work(may_end), lambda _: ends.set())
    await turn()
    turns.flusher.discard(room)
    may_end.append(None)
    await asyncio.wait_for(ends.wait(), 30)
    await turn()
    assert not turns.writer.batches


async def test_one_who_asks_waits_for_a_busy_room(turns: Turns) -> None:
    """The answer comes when the long work has ended, also if there is nothing to store."""
    room, may_end = turns.room("room"), list[None]()
    turns.slicer.do(room, long_work(may_end), lambda _: None)
    waiting = await stored(turns, room)
    assert not waiting.done()
    may_end.append(None)
    async with asyncio.timeout(30):
        await waiting
