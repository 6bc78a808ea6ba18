"""Rooms: the documents in memory. Loads each once, however many ask, and lets idle ones go."""

import asyncio
from collections.abc import Callable
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
from ..workers.compactor import Compacted, CompactionError, Compactor
from ..yjs.document import DamagedError
from ..yjs.segment import Segment
from .fair_turns import FairTurns
from .records import REST_AFTER
from .room import FullError, NoMemoryError, Room
from .timeslicer import Outcome, StoppedError, TimeSlicer

TIDY_AFTER = 60.0
"""Seconds after the start until documents that nobody opens are compacted."""
TIDY_INTERVAL = 86_400.0
"""Seconds until that is done again."""
TIDY_PAUSE = 0.01
"""Seconds between two documents, for those that are open."""

COMPACTION_FACTOR = 8
"""Bytes that a compaction takes for a moment for each byte of the document, here and in its process, about."""

LARGE = 1_048_576
"""Bytes of a document after which memory is given back."""
GIVE_BACK_AFTER = 0.5
"""Seconds until that is done, for all that leave meanwhile."""

MAX_FAILING = 1000
"""Documents of which is known that the log says already that they could not be loaded."""

log = structlog.get_logger()


class LoadError(Exception):
    """A document could not be read. It is neither served nor written: what is on disk stays as it is."""


class Rooms:
    """All documents in memory.

    Args:
        store: where documents are kept.
        idle_timeout: seconds that a room stays in memory after its last client has left.
        max_rooms: documents in memory at once; 0 means no limit.
        max_size: bytes that one document may have; 0 means no limit.
        budget: counts the memory of documents; None for no limit.
        compacted: is called with a room whose compaction has ended; there may be something to store.
        loaded: is called with a room that was loaded, and the number of its last update.

    Attributes:
        rooms: those in memory, by name.
        slicer: does what takes long with them.
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
        self._when_loaded = loaded
        self._compactor = Compactor()
        self._compacting = FairTurns()
        self._compactions: set[asyncio.Task[None]] = set()
        self._loading = 0
        self._idle: dict[
            Room, asyncio.TimerHandle
        ] = {}  # rooms without clients, the one that was left first at the front
        self._failing: dict[str, None] = {}  # documents that could not be loaded, which the log says already
        self._busy: dict[str, asyncio.Future[None]] = {}  # documents that are being read or written, not to be opened
        self._giving_back: asyncio.TimerHandle | None = None

    async def open(self, name: str, address: str = "") -> Room:
        """Return the room, when it is not busy; load its document first if it is not in memory.

        Args:
            name: of the room.
            address: who asks.

        Raises:
            LoadError: the document could not be read.
            ElsewhereError: another instance has it.
            UnavailableError: the store cannot be reached.
            FullError: as many documents are in memory as may be, and all of them are in use.
            NoMemoryError: they take as much memory as they may, and there is no place for this one.
        """
        while (room := self.rooms.get(name)) is None or room.busy:
            if room is not None:
                await self.slicer.free(room)
                continue
            if name not in self._busy:
                try:
                    self._make_space()
                except (FullError, NoMemoryError):
                    await self._store.find(name)  # at another instance it takes no space here
                    raise
                self._loading += 1
                loading = self._busy[name] = asyncio.create_task(self._load(name, address))
                loading.add_done_callback(_heard)
            # One who gives up waiting must not take the document from the others.
            await asyncio.shield(self._busy[name])
        self._stay(room)
        return room

    def holds(self, room: Room) -> bool:
        """Return whether the room is in memory still, and not one that was let go."""
        return self.rooms.get(room.name) is room

    def leave(self, room: Room) -> None:
        """Note that a room has no clients any more: it goes after a while, or when another one needs its place."""
        self._idle[room] = asyncio.get_running_loop().call_later(self._idle_timeout, self._rest, room)

    def settle(self, room: Room) -> None:
        """Compact a room's document if that is due; call it after a flush."""
        self._budget.change(room)
        if self._is_compaction_due(room) and not room.busy:
            self._compact(room)

    def discard(self, room: Room) -> None:
        """Let a room go without storing anything more, because that failed."""
        if self.holds(room):
            self._remove(room)
            self._let_go(room)
            batch = self._store.batch()
            room.records.release(batch)
            self._write(room.name, batch)

    def unload(self, room: Room) -> None:
        """Let an idle room leave memory; one who opens it again waits until all of it is stored."""
        if not self.holds(room) or room.clients or room.busy:
            return
        self._remove(room)
        batch = self._store.batch()
        room.take(batch)
        room.records.release(batch)
        self._let_go(room)
        self._write(room.name, batch)

    def _rest(self, room: Room) -> None:
        """Let an idle room leave memory, and few records of it on disk."""
        if room.busy:
            self.slicer.when_free(room, partial(self._rest, room))
        elif self.holds(room) and not room.clients:
            if self._is_compaction_due(room, resting=True):
                self._compact(room)  # and after that, it goes
            else:
                self.unload(room)

    def _is_compaction_due(self, room: Room, *, resting: bool = False) -> bool:
        limit = self._budget.limit
        return room.records.is_compaction_due(resting=resting) and (
            not limit or COMPACTION_FACTOR * room.document.size <= limit
        )

    def _compact(self, room: Room) -> None:
        self.slicer.do(room, room.begin_compaction(), partial(self._begun, room))

    def _begun(self, room: Room, outcome: Outcome[list[Segment]]) -> None:
        task = asyncio.get_running_loop().create_task(self._do_compact(room, outcome()))
        self._compactions.add(task)
        task.add_done_callback(self._compactions.discard)

    async def _do_compact(self, room: Room, segments: list[Segment]) -> None:
        try:
            compacted = await self._compact_segments(segments, room.opened_by)
        except CompactionError as error:
            log.warning("a document could not be compacted", error=str(error))
            end = room.abandon_compaction
        else:
            end = partial(room.end_compaction, compacted.update, compacted.segment, compacted.index)
        self.slicer.when_free(room, partial(self._end_compaction, room, end))

    async def _compact_segments(self, segments: list[Segment], address: str = "") -> Compacted:
        """Compact a document. It is copied for that, so others wait until their turn comes, and are not."""
        async with self._compacting.turn(address):
            return await self._compactor.compact([await self.slicer.done(segment.write()) for segment in segments])

    def _end_compaction(self, room: Room, end: Callable[[], None]) -> None:
        if self.holds(room):
            end()
            self._compacted(room)
            if not room.clients and room in self._idle:
                self.unload(room)

    async def tidy(self) -> None:
        """Compact documents that nobody opens, now and then, for ever."""
        await asyncio.sleep(TIDY_AFTER)
        while self._store.durable:
            try:
                async for name in self._store.names(REST_AFTER):
                    if name not in self.rooms and name not in self._busy:
                        self._busy[name] = asyncio.create_task(self._tidy(name))
                        await asyncio.wait([self._busy[name]])
                    await asyncio.sleep(TIDY_PAUSE)
            except StoreError as error:
                log.warning("idle documents could not be listed", error=str(error))
            await asyncio.sleep(TIDY_INTERVAL)

    async def close(self) -> None:
        """Store what is not stored yet, in one batch: there is little time when a server stops."""
        self.slicer.close()
        for task in self._compactions:
            task.cancel()
        await self._compactor.close()
        if self._giving_back is not None:
            self._giving_back.cancel()
        batch = self._store.batch()
        for room in list(self.rooms.values()):
            self._remove(room)
            try:
                with batch.whole():
                    room.take(batch)
                    room.records.release(batch)
            except Exception:  # the others' changes are still to be stored
                log.exception("a document's last changes could not be stored")
        self._write("", batch)  # no document has an empty name
        while self._busy:
            await asyncio.wait(self._busy.values())
            await asyncio.sleep(0)

    def _let_go(self, room: Room) -> None:
        if room.document.size >= LARGE and self._giving_back is None:
            self._giving_back = asyncio.get_running_loop().call_later(GIVE_BACK_AFTER, self._give_back)

    def _give_back(self) -> None:
        self._giving_back = None
        asyncio.get_running_loop().run_in_executor(None, give_back)

    def _remove(self, room: Room) -> None:
        del self.rooms[room.name]
        self._budget.remove(room)
        self._stay(room)

    def _stay(self, room: Room) -> None:
        timer = self._idle.pop(room, None)
        if timer is not None:
            timer.cancel()

    def _make_space(self) -> None:
        if self._max_rooms and len(self.rooms) + self._loading >= self._max_rooms:
            if not self._idle:
                raise FullError(f"MAX_ROOMS is reached: {self._max_rooms} documents are in use.")
            self.unload(next(iter(self._idle)))
        self._make_memory(ROOM_SIZE)

    def _make_memory(self, size: int) -> None:
        """Have memory for a document of so many bytes.

        Raises:
            NoMemoryError: there is none.
        """
        if not self._has_memory(size):
            raise NoMemoryError("MAX_MEMORY is reached, so no further document can be loaded. Connect again later.")

    def _has_memory(self, size: int, *, deletes: bool = False) -> bool:
        """Return whether documents may take so many bytes more; idle rooms leave where they may not."""
        if self._budget.allows(size, deletes=deletes):
            return True
        self._budget.recount()
        for room in list(self._idle):
            if self._budget.allows(size, deletes=deletes):
                break
            self.unload(room)
        return self._budget.allows(size, deletes=deletes)

    def _may_grow(self, room: Room, size: int, deletes: bool) -> bool:
        if self._budget.grow(room, size, deletes=deletes):
            return True
        return self._has_memory(size, deletes=deletes) and self._budget.grow(room, size, deletes=deletes)

    async def _load(self, name: str, address: str) -> None:
        records = None
        try:
            records, stored = await self._store.open(name)
            room = Room(name, records, self._max_size, self._may_grow, opened_by=address)
            await self._fill(room, stored, address)
            # After the document is this instance's: `set_closed` asks its owner then, and waits for this load.
            room.closed = await self._store.is_closed(name)
            if room.records.lost:
                self._budget.remove(room)
                raise UnavailableError("This document moves to another server. Connect again.")
            self.rooms[name] = room
            self._when_loaded(room, records.last())
        except (ElsewhereError, UnavailableError):
            self._loaded(name)
            raise
        except BaseException as error:
            self._loaded(name, records)
            if not isinstance(error, StoreError | DamagedError):
                raise
            if name not in self._failing:  # a line for each one who comes would be many
                log.error("a document could not be loaded", error=str(error))
            self._failing[name] = None
            if len(self._failing) > MAX_FAILING:
                del self._failing[next(iter(self._failing))]
            raise LoadError(str(error)) from error
        else:
            self._loaded(name)
            self._failing.pop(name, None)

    def _loaded(self, name: str, abandoned: DocumentRecords | None = None) -> None:
        """Note that a load has ended; give the document back if that failed."""
        self._loading -= 1
        del self._busy[name]
        if abandoned is not None:
            self._give_back_document(name, abandoned)

    def _give_back_document(self, name: str, records: DocumentRecords) -> None:
        batch = self._store.batch()
        records.release(batch)
        self._write(name, batch)

    async def _fill(self, room: Room, stored: Stored, address: str = "") -> None:
        """Load a document, and count it."""
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
        batch = self._store.batch()
        room = None
        try:
            records, stored = await self._store.open(name)
            room = Room(name, records)
            await self._fill(room, stored)
            if self._is_compaction_due(room, resting=True):
                compacted = await self._compact_segments(await self.slicer.done(room.begin_compaction()))
                room.end_compaction(compacted.update, compacted.segment, compacted.index)
                room.take(batch)
        except (ElsewhereError, NoMemoryError, StoppedError):  # those that are open need the memory: another day
            pass
        except (StoreError, DamagedError, CompactionError) as error:
            log.warning("a document could not be compacted", error=str(error))
        finally:
            if room is not None:
                self._budget.remove(room)
            del self._busy[name]
        if room is not None:
            room.records.release(batch)
            self._write(name, batch)

    def _write(self, name: str, batch: Batch) -> None:
        """Write the last of a document that left memory; until that and what came before is done, it is busy."""
        if not (batch or self._store.busy):
            return
        written = self._busy[name] = asyncio.get_running_loop().create_future()

        def done(error: StoreError | None) -> None:
            if error is not None:
                log.error("a document's last changes could not be stored", error=str(error))
            del self._busy[name]
            written.set_result(None)

        self._store.write(batch, done)


def _heard(loading: asyncio.Task[None]) -> None:
    """Take note of what a load failed with: whoever asked for it may have left."""
    if not loading.cancelled():
        loading.exception()
