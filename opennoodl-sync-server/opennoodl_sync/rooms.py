"""Rooms: the documents in memory. Loads each once, however many ask, and lets idle ones go."""

import asyncio

import structlog

from .room import Room
from .store import MemoryYStore, StoreError
from .store_level import Database, LevelYStore
from .yjs import DamagedError

log = structlog.get_logger()


class LoadError(Exception):
    """A document could not be read. It is neither served nor written: what is on disk stays as it is."""


class Rooms:
    """All documents in memory.

    Args:
        database: where documents are kept, or None to keep them in memory only.
    """

    def __init__(self, database: Database | None) -> None:
        self.rooms: dict[str, Room] = {}
        self._database = database
        self._loading: dict[str, asyncio.Task[None]] = {}

    async def open(self, name: str) -> Room:
        """Return the room; load its document first if it is not in memory.

        Raises:
            LoadError: the document could not be read.
        """
        while name not in self.rooms:
            if name not in self._loading:
                self._loading[name] = asyncio.create_task(self._load(name))
            # One who gives up waiting must not take the document from the others.
            await asyncio.shield(self._loading[name])
        return self.rooms[name]

    def holds(self, room: Room) -> bool:
        """Return whether the room is in memory still, and not one that was let go."""
        return self.rooms.get(room.name) is room

    def discard(self, room: Room) -> None:
        """Let a room go without storing anything more, because that failed."""
        if self.holds(room):
            del self.rooms[room.name]

    def unload(self, room: Room) -> None:
        """Let an idle room leave memory.

        Raises:
            StoreError: its last changes could not be stored.
            DamagedError: they are not sound.
        """
        if self.holds(room) and not room.clients:
            del self.rooms[room.name]
            room.close()

    def close(self) -> None:
        """Store what is not stored yet, and close the database."""
        for room in list(self.rooms.values()):
            try:
                room.close()
            except (StoreError, DamagedError) as error:  # the others' changes are still to be stored
                log.error("a document's last changes could not be stored", error=str(error))
        self.rooms.clear()
        if self._database is not None:
            self._database.close()

    async def _load(self, name: str) -> None:
        try:
            store = LevelYStore(name, database=self._database) if self._database is not None else MemoryYStore()
            self.rooms[name] = await asyncio.to_thread(Room, name, store)
        except (StoreError, DamagedError) as error:
            log.error("a document could not be loaded", error=str(error))
            raise LoadError(str(error)) from error
        finally:
            del self._loading[name]
