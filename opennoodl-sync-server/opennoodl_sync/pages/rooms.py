"""The pages about rooms: an operator disconnects clients, closes rooms, and sees which rooms are large or busy."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import structlog

from ..rooms.registry import LoadError
from ..rooms.room import ROOM_CLOSED, FullError, NoMemoryError
from ..storage.interface import History, PersistentStore
from .page import Page

if TYPE_CHECKING:
    from ..edge.auth.identity import Identity
    from ..rooms.registry import Rooms
    from ..rooms.room import Room
    from ..sessions import Sessions

KICKED = "An operator has disconnected the clients of this room. Connect again."
SHOWN = 10
"""Rooms in each list of `stats`."""
MAX_CLOSED = 1000
"""Closed rooms that it shows."""

log = structlog.get_logger()


class RoomPages:
    """Answers requests about rooms.

    Args:
        store: knows which rooms are closed.
        rooms: those in memory.
        sessions: their clients.
    """

    def __init__(self, store: PersistentStore, rooms: Rooms, sessions: Sessions) -> None:
        self._store = store
        self._rooms = rooms
        self._sessions = sessions

    async def kick(self, name: str) -> Page:
        """Disconnect the clients of a room.

        Raises:
            ElsewhereError: another instance has it.
            UnavailableError: the store cannot be reached.
        """
        if name not in self._rooms.rooms:
            await self._store.find(name)
        room = self._rooms.rooms.get(name)
        disconnected = 0 if room is None else self._sessions.disconnect(room, KICKED, "kicked")
        return self._answer("clients were disconnected", disconnected)

    async def close(self, name: str, address: str) -> Page:
        """Let nobody into a room until it is opened, and disconnect its clients.

        Raises:
            ElsewhereError: another instance has it.
            StoreError: it is not known whether the room is closed.
        """
        await self._store.set_closed(name, True)
        room = await self._find(name, address)
        disconnected = 0
        if room is not None:
            room.closed = True
            disconnected = self._sessions.disconnect(room, ROOM_CLOSED, "room-closed")
        return self._answer("a room was closed", disconnected)

    async def open(self, name: str, address: str) -> Page:
        """Let clients into a closed room again.

        Raises:
            ElsewhereError: another instance has it.
            StoreError: it is not known whether the room is closed.
        """
        await self._store.set_closed(name, False)
        room = await self._find(name, address)
        if room is not None:
            room.closed = False
        return self._answer("a room was opened", 0)

    async def _find(self, name: str, address: str) -> Room | None:
        """Return a room, after a load that is under way; None if its document cannot be loaded, so nobody is in it.

        Raises:
            ElsewhereError, UnavailableError: another instance has it, or may have it.
        """
        room = self._rooms.rooms.get(name)
        if room is None:
            try:
                room = await self._rooms.open(name, address)
            except (LoadError, FullError, NoMemoryError):
                return None
            if not room.clients:
                self._rooms.mark_idle(room)
        return room

    async def stats(self, identity: Identity) -> Page:
        """Show the rooms in memory with most bytes and changes, those with most versions, and those that are closed.

        Raises:
            StoreError: they could not be read.
        """
        rooms = [room for room in self._rooms.rooms.values() if identity.allows(room.name)]
        histories = [one async for one in self._store.histories() if identity.allows(one[0])]
        closed = [name for name in await self._store.closed_names() if identity.allows(name)]
        return HTTPStatus.OK, {
            "documents": len(rooms),
            "largest": _most(rooms, lambda room: room.document.size),
            "busiest": _most(rooms, lambda room: room.records.added),
            "mostVersions": [
                {"room": name, "versions": len(history.versions), "bytes": _size(history)}
                for name, history in sorted(histories, key=lambda one: -len(one[1].versions))[:SHOWN]
            ],
            "closed": closed[:MAX_CLOSED],
        }

    def _answer(self, event: str, number: int) -> Page:
        log.info(event, clients=number)
        return HTTPStatus.OK, {"disconnected": number}


def _most(rooms: Iterable[Room], key: Callable[[Room], int]) -> list[dict[str, Any]]:
    return [
        {
            "room": room.name,
            "bytes": room.document.size,
            "clients": len(room.clients),
            "changes": room.records.added,
        }
        for room in sorted(rooms, key=key, reverse=True)[:SHOWN]
    ]


def _size(history: History) -> int:
    return sum(version.size for version in history.versions)
