"""Rooms: how many may be in memory, and who makes place for whom."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from opennoodl_sync.rooms.registry import Rooms
from opennoodl_sync.rooms.room import FullError, Room

from ..disks import Writes
from ..loads import Loads
from .test_registry import opened, text_of, write


async def used(rooms: Rooms, name: str) -> Room:
    """Open a room with a client of the same name."""
    room = await rooms.open(name)
    room.join(name)
    return room


def left(rooms: Rooms, room: Room) -> None:
    """Let the client of a room go."""
    room.leave(room.name)
    rooms.mark_idle(room)


async def test_one_more_than_may_be_is_refused(tmp_path: Path) -> None:
    """Rooms in use make no place; those that are open stay open to everybody."""
    async with opened(tmp_path, max_rooms=2) as rooms:
        a, _ = await used(rooms, "a"), await used(rooms, "b")
        with pytest.raises(FullError, match="limit of documents in use, is reached: 2"):
            await rooms.open("c")
        assert await rooms.open("a") is a
        assert set(rooms.rooms) == {"a", "b"}


async def test_without_a_bound_all_are_welcome(tmp_path: Path) -> None:
    """Zero means no limit."""
    async with opened(tmp_path, max_rooms=0) as rooms:
        for number in range(50):
            await used(rooms, str(number))
        assert len(rooms.rooms) == 50


async def test_the_one_that_was_left_first_makes_place(tmp_path: Path) -> None:
    """Idle rooms leave in the order in which they were left, each for one that is opened, with all that they have."""
    async with opened(tmp_path, max_rooms=3) as rooms:
        opened_rooms = {name: await used(rooms, name) for name in "abc"}
        write(opened_rooms["b"], "kept")
        for name in "bac":
            left(rooms, opened_rooms[name])
        await used(rooms, "d")
        assert set(rooms.rooms) == {"a", "c", "d"}
        await used(rooms, "e")
        assert set(rooms.rooms) == {"c", "d", "e"}
        assert text_of(await used(rooms, "b")) == "kept"


async def test_a_room_that_is_used_again_makes_no_place(tmp_path: Path) -> None:
    """A room that is used again is not unloaded, and becomes the last one to leave."""
    async with opened(tmp_path, max_rooms=2) as rooms:
        a, b = await used(rooms, "a"), await used(rooms, "b")
        left(rooms, a)
        left(rooms, b)
        await used(rooms, "a")
        await used(rooms, "c")
        assert set(rooms.rooms) == {"a", "c"}
        with pytest.raises(FullError):
            await rooms.open("d")


async def test_rooms_that_are_being_loaded_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many that come at once are no more than may be, and those who ask for the same one need one place."""
    loads = Loads(monkeypatch)
    async with opened(tmp_path, max_rooms=2) as rooms:
        tasks = [asyncio.create_task(rooms.open(name)) for name in ("a", "b", "c", "a", "b")]
        await asyncio.sleep(0)
        loads.may_go_on.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(result) for result in results] == [Room, Room, FullError, Room, Room]
        assert set(rooms.rooms) == {"a", "b"}


async def test_a_document_that_cannot_be_loaded_takes_no_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A load that fails leaves its place to others."""
    async with opened(tmp_path, max_rooms=1) as rooms:
        with monkeypatch.context() as patch:
            loads = Loads(patch)
            loads.may_go_on.set()
            patch.setattr("opennoodl_sync.rooms.registry.Room", lambda *_, **__: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                await rooms.open("a")
        assert (await rooms.open("b")).name == "b"


async def test_a_room_that_was_discarded_takes_no_place(tmp_path: Path) -> None:
    """A room that failed is none of those that are in memory."""
    async with opened(tmp_path, max_rooms=1) as rooms:
        rooms.discard(await used(rooms, "a"))
        await used(rooms, "b")


async def test_a_room_may_be_unloaded_before_its_place_is_needed(tmp_path: Path) -> None:
    """Rooms that left after their idle time are not asked to leave again."""
    async with opened(tmp_path, max_rooms=2) as rooms:
        a, b = await used(rooms, "a"), await used(rooms, "b")
        left(rooms, a)
        left(rooms, b)
        rooms.unload(a)
        await used(rooms, "c")
        await used(rooms, "d")
        assert set(rooms.rooms) == {"c", "d"}


async def test_place_is_made_without_waiting_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that makes place is written while the other is loaded; who wants it back waits, and has it."""
    writes = Writes(monkeypatch)
    async with opened(tmp_path, sync=True, max_rooms=1) as rooms:
        a = await used(rooms, "a")
        write(a, "kept")
        left(rooms, a)
        writes.hold()
        b = await used(rooms, "b")
        left(rooms, b)
        back = asyncio.create_task(rooms.open("a"))
        await writes.begun()
        writes.release()
        assert text_of(await back) == "kept"


async def test_documents_have_the_bound_that_they_are_given(tmp_path: Path) -> None:
    """Every room is opened with the size that documents may have."""
    async with opened(tmp_path, max_size=100) as rooms:
        room = await rooms.open("a")
        with pytest.raises(FullError, match="100 bytes"):
            write(room, "x" * 200)
