"""The pages about rooms: an operator disconnects clients, closes rooms, and sees which rooms are large or busy."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import structlog

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

    async def kick(self, room: str) -> Page:
        """Disconnect the clients of a room.

        Raises:
            ElsewhereError: another instance has it.
            UnavailableError: the store cannot be reached.
        """
        if room not in self._rooms.rooms:
            await self._store.find(room)
        return self._answer("clients were disconnected", self._sessions.kick(room, KICKED, "kicked"))

    async def set_closed(self, room: str, address: str, closed: bool) -> Page:
        """Disconnect the clients of a room and let nobody in until it is opened, or open it.

        Raises:
            ElsewhereError: another instance has it.
            StoreError: it is not known whether the room is closed.
        """
        await self._store.set_closed(room, closed)
        number = await self._sessions.set_closed(room, address, closed)
        return self._answer("a room was closed" if closed else "a room was opened", number)

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
