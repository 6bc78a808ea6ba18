"""Lost clients: their awareness states stay until they have had the time to reconnect."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from opennoodl_sync.rooms import lost_clients as module
from opennoodl_sync.rooms.flusher import Flusher
from opennoodl_sync.rooms.lost_clients import LostClients
from opennoodl_sync.rooms.registry import Rooms
from opennoodl_sync.rooms.room import Flush, Room
from opennoodl_sync.storage.memory import MemoryStore
from opennoodl_sync.yjs.lib0 import Steps

from ..disks import until
from ..turns import here


class Scene:
    """A room with clients, each with a state, whose flushes are noted.

    Attributes:
        room: the room.
        lost: the lost clients.
    """

    def __init__(self, rooms: Rooms, room: Room, store: MemoryStore) -> None:
        self.room = room
        self._flushes: list[Flush] = []
        flusher = Flusher(store.writer, rooms.slicer, lambda _, flush: self._flushes.append(flush), _fail, _go_on)
        self.lost = LostClients(rooms, flusher)

    def enter(self, name: str, number: int) -> None:
        """Let a client enter with a state."""
        self.room.join(name)
        here(self.room, name, (number, 1, {}))

    @property
    def told(self) -> bool:
        """Whether the others were told something."""
        return any(flush.awareness is not None for flush in self._flushes)


def _fail(_room: Room, error: Exception) -> None:
    raise AssertionError from error


def _go_on() -> None:
    """Do nothing: nobody waits."""


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    """Return a room in memory."""
    store = MemoryStore()
    rooms = Rooms(store, idle_timeout=1000, compacted=_ignore, stored=_store_nothing)
    yield Scene(rooms, await rooms.open("room"), store)
    await rooms.close()


async def _store_nothing(room: Room) -> None:
    """Store nothing."""


def _ignore(_room: Room) -> None:
    """Do nothing."""


async def test_state_of_a_lost_client_ends_later(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The state of a lost client stays at first; later it ends, and the others are told."""
    monkeypatch.setattr(module, "LOST_GRACE", 0.01)
    scene.enter("ann", 1)
    scene.lost.leave(scene.room, "ann")
    assert len(scene.room.awareness) == 1
    await until(lambda: scene.told)
    assert len(scene.room.awareness) == 0


async def test_states_beyond_the_bound_end_at_once(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond `MAX_LOST`, the state of a lost client ends at once."""
    monkeypatch.setattr(module, "MAX_LOST", 1)
    for number, name in enumerate(("ann", "bob")):
        scene.enter(name, number)
        scene.lost.leave(scene.room, name)
    assert len(scene.room.awareness) == 1
    scene.lost.stop()


async def test_state_in_a_busy_room_ends_when_that_is_free(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The state of a lost client does not end while its room is busy."""
    monkeypatch.setattr(module, "LOST_GRACE", 0.0)
    works = True

    def work() -> Steps[None]:
        while works:
            yield

    scene.enter("ann", 1)
    scene.lost.leave(scene.room, "ann")
    scene.lost._rooms.slicer.do(scene.room, work(), lambda _: None)
    await until(lambda: not scene.lost._timers)
    assert len(scene.room.awareness) == 1
    works = False
    await until(lambda: scene.told)
    assert len(scene.room.awareness) == 0


async def test_state_of_a_room_that_was_dropped_stays_unchanged(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is done to a room that has left memory meanwhile."""
    monkeypatch.setattr(module, "LOST_GRACE", 0.0)
    scene.enter("ann", 1)
    scene.lost.leave(scene.room, "ann")
    scene.lost._rooms.discard(scene.room)
    await until(lambda: not scene.lost._timers)
    assert len(scene.room.awareness) == 1


async def test_stop_cancels_the_timers(scene: Scene) -> None:
    """After `stop`, no state ends any more."""
    scene.enter("ann", 1)
    scene.lost.leave(scene.room, "ann")
    (timer,) = scene.lost._timers.values()
    scene.lost.stop()
    assert timer.cancelled()
