"""Rooms: each is loaded once, and left in memory or on disk as it should be."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from opennoodl_sync.rooms import registry as module
from opennoodl_sync.rooms.registry import LoadError, Rooms
from opennoodl_sync.rooms.room import Room
from opennoodl_sync.storage.interface import StoreError
from opennoodl_sync.storage.leveldb.bindings import plyvel
from opennoodl_sync.storage.leveldb.database import RecordBatch
from opennoodl_sync.storage.leveldb.documents import LevelDBDocument
from opennoodl_sync.storage.leveldb.store import LevelDBStore
from opennoodl_sync.storage.memory import MemoryStore

from ..conftest import Disk
from ..disks import Writes, until
from ..editor import Editor
from ..loads import Loads
from ..turns import receive, shown
from ..wire import update_message

UPDATE_KEY = bytes.fromhex("000276310004726f6f6d00067570646174650100000000")
STATE_VECTOR_KEY = bytes.fromhex("000576315f73760004726f6f6d")
"""The key of the first update of "room"."""


async def ignore_stored(room: Room) -> None:
    """Store nothing."""


def ignore(room: Room) -> None:
    """Do nothing: here no server ends turns."""


@asynccontextmanager
async def opened(path: Path, *, sync: bool = False, idle_timeout: float = 1000, **bounds: Any) -> AsyncIterator[Rooms]:
    """Open the rooms of a directory; close them as the server does."""
    store = LevelDBStore(str(path), fsync="true" if sync else "false")
    rooms = Rooms(store, idle_timeout=idle_timeout, **bounds, compacted=ignore, stored=ignore_stored)
    try:
        yield rooms
    finally:
        await rooms.close()
        await store.close()


@pytest.fixture
async def rooms(tmp_path: Path) -> AsyncIterator[Rooms]:
    """Return the rooms of an empty database."""
    async with opened(tmp_path) as rooms:
        yield rooms


def write(room: Room, text: str, number: int = 1) -> None:
    """Write into a room as a client that has seen nothing of it."""
    receive(room, "somebody", update_message(Editor(number).write(text)))


def text_of(room: Room) -> str:
    """Return the text of a room."""
    return shown(room.document)[0]


async def test_a_room_is_loaded_once(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many ask at once or later, the document is read once and everybody is in the same room."""
    loads = Loads(monkeypatch)
    tasks = [asyncio.create_task(rooms.open("room")) for _ in range(20)]
    other = asyncio.create_task(rooms.open("other"))
    loads.may_go_on.set()
    opened = [await task for task in tasks]
    assert {id(room) for room in opened} == {id(await rooms.open("room"))}
    assert await other is not opened[0]
    assert loads.count == 2


async def test_a_client_that_leaves_while_loading_does_not_stop_the_others(
    rooms: Rooms, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that leaves while a document is loaded does not keep the others from it."""
    loads = Loads(monkeypatch)
    first, second = asyncio.create_task(rooms.open("room")), asyncio.create_task(rooms.open("room"))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    loads.may_go_on.set()
    assert (await second).name == "room"
    assert loads.count == 1


async def test_a_room_that_cannot_be_loaded_is_refused_to_all(tmp_path: Path) -> None:
    """A damaged document is refused to everybody who asks, is not changed, and is loaded once it is sound."""
    with plyvel.DB(str(tmp_path), create_if_missing=True) as db:
        db.put(UPDATE_KEY, b"junk")
        db.put(STATE_VECTOR_KEY, b"\x00\x01\x00")
    async with opened(tmp_path) as rooms:
        answers = await asyncio.gather(*(rooms.open("room") for _ in range(3)), return_exceptions=True)
        assert [type(answer) for answer in answers] == [LoadError] * 3
        assert rooms.rooms == {}
    with plyvel.DB(str(tmp_path)) as db:
        assert dict(db) == {UPDATE_KEY: b"junk", STATE_VECTOR_KEY: b"\x00\x01\x00"}
        db.put(UPDATE_KEY, Editor(1).write("repaired"))
    async with opened(tmp_path) as rooms:
        assert text_of(await rooms.open("room")) == "repaired"


async def test_a_disk_that_cannot_be_read_is_asked_again(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    """A load that failed is not remembered: the next who asks may have more luck."""

    def fail(_: object) -> None:
        raise StoreError("cannot read")

    with monkeypatch.context() as patch:
        patch.setattr(LevelDBDocument, "records", fail)
        with pytest.raises(LoadError):
            await rooms.open("room")
    assert (await rooms.open("room")).name == "room"


async def test_a_document_that_cannot_be_loaded_is_logged_once(
    rooms: Rooms, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """However often somebody asks for a document that cannot be loaded, the log says so once, until it can."""
    broken = True
    records = LevelDBDocument.records

    def fail(store: LevelDBDocument) -> object:
        if broken:
            raise StoreError("cannot read")
        return records(store)

    async def try_often(name: str) -> int:
        for _ in range(3):
            with pytest.raises(LoadError):
                await rooms.open(name)
        return capsys.readouterr().out.count("could not be loaded")

    monkeypatch.setattr(LevelDBDocument, "records", fail)
    monkeypatch.setattr(module, "MAX_FAILING", 1)
    assert await try_often("a") == 1
    assert await try_often("b") == 1
    assert await try_often("a") == 1  # forgotten meanwhile: what is remembered is bounded
    broken = False
    rooms.discard(await rooms.open("a"))
    broken = True
    assert await try_often("a") == 1


async def test_an_idle_room_is_unloaded_and_opened_again(rooms: Rooms) -> None:
    """A room that nobody is in leaves memory; what was not stored yet is stored then, and is there later."""
    room = await rooms.open("room")
    write(room, "kept")
    rooms.unload(room)
    assert rooms.rooms == {}
    assert not rooms.holds(room)
    again = await rooms.open("room")
    assert again is not room
    assert text_of(again) == "kept"


@pytest.mark.parametrize("end", ["unload", "discard"])
async def test_a_room_that_goes_takes_its_document_along(rooms: Rooms, end: str) -> None:
    """A document that is unloaded is freed at once, without a garbage collection."""
    room = await rooms.open("room")
    write(room, "large")
    document = weakref.ref(room.document)
    gc.disable()
    try:
        getattr(rooms, end)(room)
        del room
        await rooms.open("other")  # what was under way is done
        assert document() is None
    finally:
        gc.enable()


async def test_a_room_that_is_left_goes_after_a_while(tmp_path: Path) -> None:
    """A room stays for the idle time after it was left, and is then gone with all that it had."""
    async with opened(tmp_path, idle_timeout=0.001) as rooms:
        room = await rooms.open("room")
        write(room, "kept")
        room.join("ann")
        room.leave("ann")
        rooms.mark_idle(room)
        assert rooms.holds(room)
        await until(lambda: not rooms.holds(room))
        assert text_of(await rooms.open("room")) == "kept"


async def test_a_room_that_is_opened_in_time_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that returns stops the timer, which begins anew when the room is left again."""
    loop = asyncio.get_running_loop()
    timers: list[asyncio.TimerHandle] = []
    real = loop.call_later

    def call_later(*args: Any) -> asyncio.TimerHandle:
        timers.append(real(*args))
        return timers[-1]

    async with opened(tmp_path) as rooms:
        room = await rooms.open("room")
        with monkeypatch.context() as patch:
            patch.setattr("opennoodl_sync.rooms.registry.asyncio.get_running_loop", lambda: Loop(call_later))
            rooms.mark_idle(room)
        await rooms.open("room")
        rooms.mark_idle(room)
        assert [timer.cancelled() for timer in timers] == [True]


class Loop:
    """As much of an event loop as is needed to leave a room."""

    def __init__(self, call_later: Any) -> None:
        self.call_later = call_later


async def test_a_room_with_clients_stays(rooms: Rooms) -> None:
    """Somebody who came back before the idle time was over keeps the room in memory."""
    room = await rooms.open("room")
    room.join("ann")
    rooms.unload(room)
    assert rooms.rooms == {"room": room}
    room.leave("ann")
    rooms.unload(room)
    assert rooms.rooms == {}


async def test_a_room_that_was_let_go_does_not_take_its_successor_with_it(rooms: Rooms) -> None:
    """Discarding or unloading a room that is not in memory any more leaves the one that is alone."""
    old = await rooms.open("room")
    rooms.discard(old)
    new = await rooms.open("room")
    rooms.discard(old)
    rooms.unload(old)
    assert rooms.rooms == {"room": new}
    assert rooms.holds(new)
    assert not rooms.holds(old)


async def test_a_discarded_room_stores_nothing(rooms: Rooms) -> None:
    """A discarded room does not try to store again behind its successor's back."""
    room = await rooms.open("room")
    write(room, "lost")
    rooms.discard(room)
    assert text_of(await rooms.open("room")) == ""


async def test_closing_stores_everything(tmp_path: Path) -> None:
    """When the server ends, what is not stored yet of any room is stored."""
    async with opened(tmp_path) as rooms:
        for number, name in enumerate("abc"):
            room = await rooms.open(name)
            room.join("ann")
            write(room, name, number + 1)
    async with opened(tmp_path) as rooms:
        assert [text_of(await rooms.open(name)) for name in "abc"] == ["a", "b", "c"]


async def test_closing_stores_everything_in_one_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is little time when a server ends: the disk is asked once."""
    writes = Writes(monkeypatch)
    async with opened(tmp_path, sync=True) as rooms:
        for number, name in enumerate("abc"):
            write(await rooms.open(name), name, number + 1)
    assert len(writes.done) == 1


async def test_closing_waits_for_what_is_being_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that ends while a document is loaded does not take the disk from under it."""
    loads = Loads(monkeypatch)
    async with opened(tmp_path) as rooms:
        opening = asyncio.create_task(rooms.open("room"))
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_soon(loads.may_go_on.set)
    assert (await opening).name == "room"


@pytest.mark.parametrize("name", ["load", "tidy"])
async def test_closing_gives_up_long_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A server that ends while a large document is loaded does not wait for it for ever."""
    monkeypatch.setattr("opennoodl_sync.rooms.timeslicer.SLICE", 0.0)
    monkeypatch.setattr(module, "TIDY_AFTER", 0.0)
    async with opened(tmp_path) as rooms:
        for number in range(30):  # as many records as steps
            write(await rooms.open("room"), "x", number + 1)
            rooms.unload(rooms.rooms["room"])
    store = LevelDBStore(str(tmp_path), fsync="false")
    rooms = Rooms(store, idle_timeout=1000, compacted=ignore, stored=ignore_stored)
    opening = asyncio.create_task(rooms.tidy() if name == "tidy" else cast("Any", rooms.open("room")))
    await until(lambda: rooms.slicer._queues)
    opening.cancel()
    async with asyncio.timeout(30):
        await rooms.close()
    await store.close()


async def test_closing_goes_on_when_the_disk_fails(tmp_path: Path, disk: Disk) -> None:
    """A disk that fails at the end does not keep the server from ending, and from letting the directory go."""
    async with opened(tmp_path) as rooms:
        for name in "ab":
            write(await rooms.open(name), name)
        disk.full = True
    disk.full = False
    async with opened(tmp_path) as rooms:
        assert text_of(await rooms.open("a")) == ""


async def test_closing_stores_the_others_when_one_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A document that cannot be stored at the end costs the others nothing."""

    def fail(_: RecordBatch) -> None:
        raise StoreError("cannot be kept")

    async with opened(tmp_path) as rooms:
        for name in "ab":
            write(await rooms.open(name), name)
        monkeypatch.setattr(rooms.rooms["a"], "flush", fail)
    async with opened(tmp_path) as rooms:
        assert text_of(await rooms.open("b")) == "b"


@pytest.mark.parametrize("sync", [False, True])
async def test_unloading_tells_when_the_disk_fails(
    tmp_path: Path, disk: Disk, capsys: pytest.CaptureFixture[str], sync: bool
) -> None:
    """A room whose last changes cannot be stored is not unloaded silently; who opens it again may go on."""
    async with opened(tmp_path, sync=sync) as rooms:
        room = await rooms.open("room")
        write(room, "last words")
        disk.full = True
        rooms.unload(room)
        again = await rooms.open("room")
        assert text_of(again) == ""
        assert "a document's last changes could not be stored" in capsys.readouterr().out
        disk.full = False


async def test_a_reopened_room_waits_for_its_last_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A document is not read while the last of it is on its way to the disk."""
    writes = Writes(monkeypatch)
    async with opened(tmp_path, sync=True) as rooms:
        room = await rooms.open("room")
        write(room, "last words")
        writes.hold()
        rooms.unload(room)
        opening = [asyncio.create_task(rooms.open("room")) for _ in range(2)]
        await writes.begun()
        assert rooms.rooms == {}
        writes.release()
        first, second = [await task for task in opening]
        assert first is second
        assert text_of(first) == "last words"


async def test_rooms_in_memory(tmp_path: Path) -> None:
    """Without a database rooms work in memory, and are empty when they are opened again."""
    rooms = Rooms(MemoryStore(), idle_timeout=1000, compacted=ignore, stored=ignore_stored)
    room = await rooms.open("room")
    write(room, "hello")
    assert (await rooms.open("room")).document is room.document
    rooms.unload(room)
    assert text_of(await rooms.open("room")) == ""
    await rooms.close()
    assert not os.listdir(tmp_path)


async def test_documents_in_memory_are_not_tidied(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing is on disk there is nothing to compact."""
    monkeypatch.setattr("opennoodl_sync.rooms.registry.TIDY_AFTER", 0)
    rooms: Any = Rooms(MemoryStore(), idle_timeout=1000, compacted=ignore, stored=ignore_stored)
    await asyncio.wait_for(rooms.tidy(), 5)
    await rooms.close()


@pytest.mark.parametrize(("size", "given_back"), [(module.LARGE, True), (1000, False)], ids=["large", "small"])
async def test_memory_of_large_documents_is_given_back(
    rooms: Rooms, monkeypatch: pytest.MonkeyPatch, size: int, given_back: bool
) -> None:
    """When large documents have left, once for all of them; what small ones leave is used for others."""
    calls = threading.Semaphore(0)
    monkeypatch.setattr(module, "GIVE_BACK_AFTER", 0.01)
    monkeypatch.setattr(module, "give_back", calls.release)
    large = [await rooms.open(name) for name in ("a", "b")]
    for room in large:
        write(room, "x" * size)
    for room in large:
        rooms.unload(room)
    if given_back:
        assert await asyncio.to_thread(calls.acquire, timeout=30)
    assert rooms._giving_back is None
    await asyncio.to_thread(int)  # in a thread like that which gives back
    assert not calls.acquire(blocking=False)
