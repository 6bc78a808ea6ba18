"""The registry of rooms: loads each document once, and keeps it in memory while clients use it."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

import structlog

from ..memory.allocator import give_back
from ..memory.budget import ROOM_SIZE, MemoryBudget
from ..storage.interface import (
    Batch,
    DocumentRecords,
    ElsewhereError,
    Store,
    Stored,
    StoreError,
    UnavailableError,
)
from ..workers.compactor import CompactionError
from ..yjs.document import DamagedError
from .compactions import Compactions
from .records import COMPACT_IDLE_AFTER
from .room import FullError, NoMemoryError, Room
from .timeslicer import StoppedError, TimeSlicer

TIDY_AFTER = 60.0
"""Seconds after the start until the first compaction of documents that are not in memory."""
TIDY_INTERVAL = 86_400.0
"""Seconds between the starts of two such runs."""
TIDY_PAUSE = 0.01
"""Seconds between two documents of a run, so that the server can handle its clients."""

LARGE = 1_048_576
"""Bytes of a document; when a larger one leaves memory, free memory is returned to the operating system."""
GIVE_BACK_AFTER = 0.5
"""Seconds until memory is returned, once for all documents that leave memory in that time."""

MAX_FAILING = 1000
"""Names of documents that failed to load; each is logged once while it is among them."""

log = structlog.get_logger()


class LoadError(Exception):
    """A document could not be read. The server neither serves nor writes it, so the stored data is unchanged."""


class Rooms:
    """All documents in memory.

    Args:
        store: stores the documents.
        idle_timeout: seconds until a room without clients leaves memory.
        max_rooms: limit of documents in memory; 0 means no limit.
        max_size: limit of one document's size in bytes; 0 means no limit.
        budget: counts the memory of documents; None means no limit.
        compacted: is called with a room whose compaction has ended, since there may be changes to store.
        stored: stores the changes of a room, and returns when that is done.
        loaded: is called with a loaded room and the number of its last update.

    Attributes:
        rooms: the rooms in memory, by name.
        slicer: runs their long work.
    """

    def __init__(
        self,
        store: Store,
        *,
        idle_timeout: float,
        max_rooms: int = 0,
        max_size: int = 0,
        budget: MemoryBudget | None = None,
        compacted: Callable[[Room], None],
        stored: Callable[[Room], Awaitable[None]],
        loaded: Callable[[Room, int], None] = lambda *_: None,
    ) -> None:
        self.rooms: dict[str, Room] = {}
        self.slicer = TimeSlicer()
        self._store = store
        self._idle_timeout = idle_timeout
        self._max_rooms = max_rooms
        self._max_size = max_size
        self._budget = budget or MemoryBudget(0)
        self._compacted = compacted
        self._stored = stored
        self._loaded = loaded
        self._compactions = Compactions(self.slicer, self._budget.limit, self._store_part, self._end_compaction)
        self._loading = 0
        self._idle: dict[Room, asyncio.TimerHandle] = {}  # rooms without clients; the longest idle first
        self._failing: dict[str, None] = {}  # names of documents whose failed load is in the log
        self._locked: dict[str, asyncio.Future[None]] = {}  # documents that are being read or written
        self._giving_back: asyncio.TimerHandle | None = None
        self._budget.when_full(self._has_memory)

    async def open(self, name: str, address: str = "") -> Room:
        """Return a room that is not busy; load its document first if it is not in memory.

        Args:
            name: the name of the room.
            address: the address of the requesting client.

        Raises:
            LoadError: the document could not be read.
            ElsewhereError: another instance owns the document.
            UnavailableError: the store cannot be reached.
            FullError: MAX_ROOMS documents are in use.
            NoMemoryError: the documents in use need all of MAX_MEMORY.
        """
        while (room := self.rooms.get(name)) is None or room.busy:
            if room is not None:
                await self.slicer.free(room)
                continue
            if name not in self._locked:
                try:
                    self._make_space()
                except (FullError, NoMemoryError):
                    await self._store.find(name)  # fails before another room is unloaded for it
                    raise
                self._loading += 1
                loading = self._locked[name] = asyncio.create_task(self._load(name, address))
                loading.add_done_callback(_retrieve_error)
            # If one caller is cancelled, the load continues for the others.
            await asyncio.shield(self._locked[name])
        self._cancel_idle_timer(room)
        return room

    def holds(self, room: Room) -> bool:
        """Return whether a room is still in memory."""
        return self.rooms.get(room.name) is room

    def mark_idle(self, room: Room) -> None:
        """Record that a room has no clients. It is unloaded after `idle_timeout`, or when another room needs space."""
        self._idle[room] = asyncio.get_running_loop().call_later(self._idle_timeout, self._compact_and_unload, room)

    def compact_if_due(self, room: Room) -> None:
        """Compact a document if a compaction is due and there is memory for it; call it after a flush."""
        if self._compactions.is_due(room) and not room.busy:
            self._compactions.start(room)

    def discard(self, room: Room) -> None:
        """Remove a room without storing its last changes, because storing failed."""
        if self.holds(room):
            self._remove(room)
            self._give_back_memory_soon(room)
            batch = self._store.writer.batch()
            room.records.release(batch)
            self._write(room.name, batch)

    def unload(self, room: Room) -> None:
        """Unload an idle room and store its changes; `open` waits until they are stored."""
        if not self.holds(room) or room.clients or room.busy:
            return
        self._remove(room)
        batch = self._store.writer.batch()
        room.flush(batch)
        room.records.release(batch)
        self._give_back_memory_soon(room)
        self._write(room.name, batch)

    def _compact_and_unload(self, room: Room) -> None:
        """Compact the records of an idle room, then remove it from memory."""
        if room.busy:
            self.slicer.when_free(room, partial(self._compact_and_unload, room))
        elif self.holds(room) and not room.clients:
            if self._compactions.is_due(room, idle=True):
                self._compactions.start(room)
            elif not room.records.compacting and room.records.parts_left <= 1:
                # Otherwise the end of the compaction unloads the room.
                self.unload(room)

    async def _store_part(self, room: Room) -> None:
        """Store a compacted part.

        Raises:
            StoreError: the room was dropped, or it has left memory.
        """
        if not self.holds(room):
            raise StoreError("the document has left memory")
        self._budget.change(room)
        await self._stored(room)

    def _end_compaction(self, room: Room) -> None:
        if self.holds(room):
            self._budget.change(room)
            self._compacted(room)
            if not room.clients and room in self._idle:
                self.unload(room)

    async def tidy(self) -> None:
        """Compact documents that are not in memory, once a day, until cancelled."""
        await asyncio.sleep(TIDY_AFTER)
        while self._store.durable:
            try:
                async for name in self._store.names(COMPACT_IDLE_AFTER):
                    if name not in self.rooms and name not in self._locked:
                        self._locked[name] = asyncio.create_task(self._tidy(name))
                        await asyncio.wait([self._locked[name]])
                    await asyncio.sleep(TIDY_PAUSE)
            except StoreError as error:
                log.warning("idle documents could not be listed", error=str(error))
            await asyncio.sleep(TIDY_INTERVAL)

    async def close(self) -> None:
        """Store all changes in one batch, since the time to stop is short."""
        self.slicer.close()
        await self._compactions.close()
        if self._giving_back is not None:
            self._giving_back.cancel()
        batch = self._store.writer.batch()
        for room in list(self.rooms.values()):
            self._remove(room)
            mark = batch.mark()
            try:
                room.flush(batch)
                room.records.release(batch)
            except Exception:  # the other documents must still be stored
                batch.take_back(mark)
                log.exception("a document's last changes could not be stored")
        self._write("", batch)  # no document has an empty name
        while self._locked:
            await asyncio.wait(self._locked.values())
            await asyncio.sleep(0)

    def _give_back_memory_soon(self, room: Room) -> None:
        if room.document.size >= LARGE and self._giving_back is None:
            self._giving_back = asyncio.get_running_loop().call_later(GIVE_BACK_AFTER, self._give_back_memory)

    def _give_back_memory(self) -> None:
        self._giving_back = None
        asyncio.get_running_loop().run_in_executor(None, give_back)

    def _remove(self, room: Room) -> None:
        del self.rooms[room.name]
        self._budget.remove(room)
        self._cancel_idle_timer(room)

    def _cancel_idle_timer(self, room: Room) -> None:
        timer = self._idle.pop(room, None)
        if timer is not None:
            timer.cancel()

    def _make_space(self) -> None:
        if self._max_rooms and len(self.rooms) + self._loading >= self._max_rooms:
            if not self._idle:
                raise FullError(f"MAX_ROOMS, the limit of documents in use, is reached: {self._max_rooms}.")
            self.unload(next(iter(self._idle)))
        self._make_memory(ROOM_SIZE)

    def _make_memory(self, size: int) -> None:
        """Make memory available for a document of `size` bytes, by unloading idle rooms.

        Raises:
            NoMemoryError: there is not enough memory.
        """
        if not self._has_memory(size):
            raise NoMemoryError("MAX_MEMORY is reached, so no further document can be loaded. Connect again later.")

    def _has_memory(self, size: int, deletes: bool = False) -> bool:
        """Return whether documents may use `size` more bytes; unload idle rooms if necessary."""
        if self._budget.allows(size, deletes=deletes):
            return True
        self._budget.recount()
        for room in list(self._idle):
            if self._budget.allows(size, deletes=deletes):
                break
            self.unload(room)
        return self._budget.allows(size, deletes=deletes)

    async def _load(self, name: str, address: str) -> None:
        records = None
        try:
            records, stored = await self._store.open(name)
            room = Room(name, records, self._max_size, self._budget.grow, opened_by=address)
            await self._fill(room, stored, address)
            # Only now is this instance the owner, so a concurrent `set_closed` asks it and waits for this load.
            room.closed = await self._store.is_closed(name)
            if room.records.lost:
                self._budget.remove(room)
                raise UnavailableError("This document moves to another server. Connect again.")
            self.rooms[name] = room
            self._loaded(room, records.last())
        except (ElsewhereError, UnavailableError):
            self._end_load(name)
            raise
        except BaseException as error:
            self._end_load(name, records)
            if not isinstance(error, StoreError | DamagedError):
                raise
            if name not in self._failing:  # one line for all clients
                log.error("a document could not be loaded", error=str(error))
            self._failing[name] = None
            if len(self._failing) > MAX_FAILING:
                del self._failing[next(iter(self._failing))]
            raise LoadError(str(error)) from error
        else:
            self._end_load(name)
            self._failing.pop(name, None)

    def _end_load(self, name: str, abandoned: DocumentRecords | None = None) -> None:
        """Record the end of a load; after a failure, release the `abandoned` records."""
        self._loading -= 1
        del self._locked[name]
        if abandoned is not None:
            self._release(name, abandoned)

    def _release(self, name: str, records: DocumentRecords) -> None:
        batch = self._store.writer.batch()
        records.release(batch)
        self._write(name, batch)

    async def _fill(self, room: Room, stored: Stored, address: str = "") -> None:
        """Load a document into a room and count its memory."""
        size = sum(map(len, stored.updates))
        self._make_memory(size + ROOM_SIZE)
        self._budget.count(room, size)
        try:
            await self.slicer.done(room.load(stored), address)
        except BaseException:
            self._budget.remove(room)
            raise
        self._budget.count(room)

    async def _tidy(self, name: str) -> None:
        batch = self._store.writer.batch()
        room = None
        try:
            records, stored = await self._store.open(name)
            room = Room(name, records)
            await self._fill(room, stored)
            if self._compactions.is_due(room, idle=True):
                await self.slicer.done(room.begin_compaction())

                async def write(room: Room) -> None:
                    nonlocal batch
                    room.flush(batch)
                    part, batch = batch, self._store.writer.batch()
                    await self._written(part)

                await self._compactions.compact(room, write)
                room.flush(batch)
        except (
            ElsewhereError,
            NoMemoryError,
            StoppedError,
        ):  # in use, or no memory: the next run tries again
            pass
        except (StoreError, DamagedError, CompactionError) as error:
            log.warning("a document could not be compacted", error=str(error))
        finally:
            if room is not None:
                self._budget.remove(room)
            del self._locked[name]
        if room is not None:
            room.records.release(batch)
            self._write(name, batch)

    async def _written(self, batch: Batch) -> None:
        """Write a batch.

        Raises:
            StoreError: nothing of it was written.
        """
        done = asyncio.get_running_loop().create_future()
        self._store.writer.write(batch, done.set_result)
        error: StoreError | None = await done
        if error is not None:
            raise error

    def _write(self, name: str, batch: Batch) -> None:
        """Write the last changes of an unloaded document; lock its name until this and earlier batches are written."""
        if not (batch or self._store.writer.busy):
            return
        written = self._locked[name] = asyncio.get_running_loop().create_future()

        def done(error: StoreError | None) -> None:
            if error is not None:
                log.error("a document's last changes could not be stored", error=str(error))
            del self._locked[name]
            written.set_result(None)

        self._store.writer.write(batch, done)


def _retrieve_error(loading: asyncio.Task[None]) -> None:
    """Retrieve the exception of a load, in case its caller was cancelled."""
    if not loading.cancelled():
        loading.exception()
