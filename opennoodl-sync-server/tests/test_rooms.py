"""Rooms: each is loaded once, and left in memory or on disk as it should be."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import plyvel
import pytest
from opennoodl_sync.room import Room
from opennoodl_sync.rooms import LoadError, Rooms
from opennoodl_sync.store import StoreError
from opennoodl_sync.store_level import Database, LevelYStore
from opennoodl_sync.yjs import DamagedError

from .conftest import Disk
from .editor import Editor, content
from .loads import Loads
from .wire import update_message

UPDATE_KEY = bytes.fromhex("000276310004726f6f6d00067570646174650100000000")
"""The key of the first update of "room"."""


@pytest.fixture
def rooms(tmp_path: Path) -> Iterator[Rooms]:
    """Return the rooms of an empty database, to be closed by the test or after it."""
    rooms = Rooms(Database(str(tmp_path)))
    yield rooms
    rooms.close()


def write(room: Room, text: str, number: int = 1) -> None:
    """Write into a room as a client that has seen nothing of it."""
    room.receive("somebody", update_message(Editor(number).write(text)))


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


async def test_who_gives_up_waiting_takes_the_room_from_nobody(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
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
    rooms = Rooms(Database(str(tmp_path)))
    answers = await asyncio.gather(*(rooms.open("room") for _ in range(3)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [LoadError] * 3
    assert rooms.rooms == {}
    rooms.close()
    with plyvel.DB(str(tmp_path)) as db:
        assert dict(db) == {UPDATE_KEY: b"junk"}
        db.put(UPDATE_KEY, Editor(1).write("repaired"))
    rooms = Rooms(Database(str(tmp_path)))
    assert content((await rooms.open("room")).doc)[0] == "repaired"
    rooms.close()


async def test_a_disk_that_cannot_be_read_is_asked_again(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    """A load that failed is not remembered: the next who asks may have more luck."""

    def fail(_: object) -> None:
        raise StoreError("cannot read")

    with monkeypatch.context() as patch:
        patch.setattr(LevelYStore, "records", fail)
        with pytest.raises(LoadError):
            await rooms.open("room")
    assert (await rooms.open("room")).name == "room"


async def test_an_idle_room_is_unloaded_and_opened_again(rooms: Rooms) -> None:
    """A room that nobody is in leaves memory; what was not stored yet is stored then, and is there later."""
    room = await rooms.open("room")
    write(room, "kept")
    rooms.unload(room)
    assert rooms.rooms == {}
    again = await rooms.open("room")
    assert again is not room
    assert content(again.doc)[0] == "kept"


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


async def test_a_discarded_room_stores_nothing(rooms: Rooms) -> None:
    """What could not be stored is not tried again behind the back of the room's successor."""
    room = await rooms.open("room")
    write(room, "lost")
    rooms.discard(room)
    assert content((await rooms.open("room")).doc)[0] == ""


async def test_closing_stores_everything(tmp_path: Path) -> None:
    """When the server ends, what is not stored yet of any room is stored."""
    rooms = Rooms(Database(str(tmp_path)))
    for number, name in enumerate("abc"):
        write(await rooms.open(name), name, number + 1)
    rooms.close()
    rooms = Rooms(Database(str(tmp_path)))
    assert [content((await rooms.open(name)).doc)[0] for name in "abc"] == ["a", "b", "c"]
    rooms.close()


async def test_closing_goes_on_when_the_disk_fails(tmp_path: Path, disk: Disk) -> None:
    """A disk that fails at the end does not keep the server from ending, and from letting the directory go."""
    rooms = Rooms(Database(str(tmp_path)))
    for name in "ab":
        write(await rooms.open(name), name)
    disk.full = True
    rooms.close()
    disk.full = False
    rooms = Rooms(Database(str(tmp_path)))
    assert content((await rooms.open("a")).doc)[0] == ""
    rooms.close()


async def test_closing_goes_on_when_a_document_is_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A document that cannot be repaired at the end costs the others nothing."""

    def fail() -> None:
        raise DamagedError("cannot be built")

    rooms = Rooms(Database(str(tmp_path)))
    for name in "ab":
        write(await rooms.open(name), name)
    monkeypatch.setattr(rooms.rooms["a"], "close", fail)
    rooms.close()
    rooms = Rooms(Database(str(tmp_path)))
    assert content((await rooms.open("b")).doc)[0] == "b"
    rooms.close()


async def test_unloading_tells_when_the_disk_fails(tmp_path: Path, disk: Disk) -> None:
    """A room whose last changes cannot be stored is not unloaded silently."""
    rooms = Rooms(Database(str(tmp_path)))
    room = await rooms.open("room")
    write(room, "last words")
    disk.full = True
    with pytest.raises(StoreError):
        rooms.unload(room)
    disk.full = False
    rooms.close()


async def test_rooms_in_memory(tmp_path: Path) -> None:
    """Without a database rooms work in memory, and are empty when they are opened again."""
    rooms = Rooms(None)
    room = await rooms.open("room")
    write(room, "hello")
    assert (await rooms.open("room")).doc is room.doc
    rooms.unload(room)
    assert content((await rooms.open("room")).doc)[0] == ""
    rooms.close()
    assert not os.listdir(tmp_path)
