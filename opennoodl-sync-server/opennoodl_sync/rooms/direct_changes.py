"""Direct changes: the server changes a document while clients edit it. Imports no socket."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ..storage.interface import StoreError
from ..y_protocol import Kind

if TYPE_CHECKING:
    from .flusher import Flusher
    from .registry import Rooms
    from .timeslicer import Outcome


class DirectChanges:
    """Changes documents without a connection, in the same way as a client.

    Args:
        rooms: loads the documents.
        flusher: stores the changes.
    """

    def __init__(self, rooms: Rooms, flusher: Flusher) -> None:
        self._rooms = rooms
        self._flusher = flusher
        self._tasks: set[asyncio.Task[None]] = set()

    async def change(self, name: str, address: str, update: bytes) -> None:
        """Add an update to a document; return when it is stored.

        If the caller is cancelled, a change that has begun continues.

        Args:
            name: the name of the room.
            address: the address of the client that requests the change.
            update: a Yjs update.

        Raises:
            LoadError, ElsewhereError, UnavailableError: the document cannot be opened.
            FullError, NoMemoryError: the document may not grow.
            MalformedError: the bytes are not an update.
            StoreError: the change could not be stored.
        """
        task = asyncio.create_task(self._change(name, address, update))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.shield(task)

    async def close(self) -> None:
        """Cancel the changes that are not in a document yet; `Rooms.close` stores the others."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _change(self, name: str, address: str, update: bytes) -> None:
        room = await self._rooms.open(name, address)
        handled: asyncio.Future[Outcome[bytes | None]] = asyncio.get_running_loop().create_future()
        self._rooms.slicer.do(room, room.receive(self, Kind.UPDATE, update), handled.set_result, address)
        try:
            outcome = await handled
            outcome()
            if self._rooms.holds(room):
                await self._flusher.stored(room)
            if not self._rooms.holds(room):
                raise StoreError("the document left memory during the change; check whether it has changed")
        finally:
            if self._rooms.holds(room) and not room.clients:
                self._rooms.mark_idle(room)
