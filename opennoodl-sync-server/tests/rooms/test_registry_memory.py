"""Rooms where memory is short: idle ones leave first, then others are refused, and none may grow."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from opennoodl_sync.memory.budget import ROOM_SIZE, MemoryBudget
from opennoodl_sync.rooms.room import NoMemoryError
from opennoodl_sync.storage.leveldb.database import RecordBatch

from ..raw import gc, section, update
from ..turns import receive
from ..wire import update_message
from .test_registry import opened, text_of, write
from .test_registry_bounds import left, used

SIZE = 100_000
"""Bytes of the text of a document here; it takes little more in memory."""


def bound(documents: int) -> MemoryBudget:
    """Return a budget that is enough for so many documents, and not for one more."""
    return MemoryBudget(documents * SIZE * 5 // 4 * 4 // 3)


async def test_idle_rooms_leave_for_one_that_is_opened(tmp_path: Path) -> None:
    """The one that was left first goes, and no more than it takes; nothing of it is lost."""
    budget = bound(3)
    async with opened(tmp_path, budget=budget) as rooms:
        for name in "abcd":
            room = await used(rooms, name)
            write(room, name * SIZE)
            rooms.compact_if_due(room)
            left(rooms, room)
        assert "d" in rooms.rooms
        assert "a" not in rooms.rooms
        assert len(rooms.rooms) == 3
        assert budget.documents <= budget.limit
        assert text_of(await used(rooms, "a")) == "a" * SIZE


async def test_idle_rooms_leave_for_one_that_grows(tmp_path: Path) -> None:
    """A document that is used takes the place of one that is not."""
    async with opened(tmp_path, budget=bound(2)) as rooms:
        a, b = await used(rooms, "a"), await used(rooms, "b")
        write(a, "a" * SIZE)
        left(rooms, a)
        write(b, "b" * SIZE)
        assert set(rooms.rooms) == {"a", "b"}
        write(b, "c" * SIZE)
        assert set(rooms.rooms) == {"b"}


async def test_a_document_may_not_grow_where_there_is_no_memory(tmp_path: Path) -> None:
    """Of the update that is refused, nothing is taken; smaller ones are, and so are deletions."""
    async with opened(tmp_path, budget=bound(1)) as rooms:
        room = await used(rooms, "a")
        write(room, "a" * SIZE)
        with pytest.raises(NoMemoryError, match="the change was not stored"):
            write(room, "b" * SIZE, 2)
        assert text_of(room) == "a" * SIZE
        write(room, "small", 3)
        assert "small" in text_of(room)


async def test_deletions_take_of_what_is_kept_for_output(tmp_path: Path) -> None:
    """They may make room, so they are taken where nothing else is; but not without end."""
    async with opened(tmp_path, budget=bound(1)) as rooms:
        room = await used(rooms, "a")
        receive(room, "ann", update_message(update(section(1, 0, gc(2**31)))))
        write(room, "a" * SIZE, 2)
        with pytest.raises(NoMemoryError):
            write(room, "b" * (SIZE // 3), 3)
        pieces = [[(2 * (1000 * first + number) + 1, 1) for number in range(1000)] for first in range(100)]
        taken = []
        with suppress(NoMemoryError):
            for piece in pieces:
                receive(room, "ann", update_message(update(deletes={1: piece})))
                taken.append(piece)
        assert 1 < len(taken) < 99


async def test_another_document_is_refused_where_there_is_no_memory(tmp_path: Path) -> None:
    """It is read, does not fit, and takes no place; the documents that are there are open to everybody."""
    async with opened(tmp_path) as rooms:
        write(await used(rooms, "large"), "x" * SIZE)
    budget = bound(1)
    async with opened(tmp_path, budget=budget) as rooms:
        room = await used(rooms, "a")
        write(room, "a" * (SIZE // 2))
        budget.recount()
        before = budget.documents
        with pytest.raises(NoMemoryError, match="no further document can be loaded"):
            await rooms.open("large")
        assert set(rooms.rooms) == {"a"}
        assert budget.documents == before
        assert await rooms.open("a") is room
        left(rooms, room)
        assert text_of(await used(rooms, "large")) == "x" * SIZE


async def test_an_empty_document_needs_memory_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many rooms without anything in them are bounded as well, and one more is not even looked for."""
    async with opened(tmp_path, budget=MemoryBudget(ROOM_SIZE * 10)) as rooms:
        for number in range(7):
            await used(rooms, str(number))
        monkeypatch.setattr("opennoodl_sync.storage.leveldb.store.LevelDBStore.open", lambda *_: 1 / 0)
        with pytest.raises(NoMemoryError):
            await used(rooms, "7")


async def test_a_document_that_cannot_be_loaded_takes_no_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed load takes back the memory that it had counted."""
    async with opened(tmp_path) as rooms:
        write(await used(rooms, "a"), "x" * SIZE)
    budget = bound(2)
    async with opened(tmp_path, budget=budget) as rooms:
        monkeypatch.setattr("opennoodl_sync.rooms.room.Room.load", lambda *_: iter([1 / 0]))
        with pytest.raises(ZeroDivisionError):
            await rooms.open("a")
    assert budget.documents == 0


@pytest.mark.parametrize(("limit", "due"), [(0, True), (SIZE * 10, True), (SIZE * 6, False)])
async def test_a_compaction_needs_memory(tmp_path: Path, limit: int, due: bool) -> None:
    """A document that is large for the memory that there is stays as it is."""
    async with opened(tmp_path, budget=MemoryBudget(limit)) as rooms:
        room = await used(rooms, "a")
        for number in range(30):
            write(room, "a" * (SIZE // 30), number + 1)
            room.flush(RecordBatch())
        left(rooms, room)
        rooms._compact_and_unload(room)
        assert room.records.compacting == due
