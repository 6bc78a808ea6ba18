"""The flusher: ends a turn. It stores the changes of all rooms in one step, then tells their clients.

A turn is what comes between two flushes. It ends with the iteration of the event loop in which the first change came,
but not sooner than `INTERVAL` after the flush before.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import NamedTuple

import structlog

from ..edge.metrics import SECONDS, Histogram
from ..storage.interface import BatchWriter, StoreError
from .room import Flush, Room
from .timeslicer import TimeSlicer

MAX_BATCH_SIZE = 8_388_608
"""Bytes of updates after which the other rooms wait for the next batch: LevelDB takes several times as much memory."""

INTERVAL = 0.002
"""Seconds after a flush in which changes are gathered for the next one.

Each flush costs a write to the store and one to each client, for one change or for many. Only a change that comes soon
after another one waits.
"""

log = structlog.get_logger()

Fail = Callable[[Room, Exception], None]
Tell = Callable[[Room, Flush], None]


class Flushed(NamedTuple):
    """What follows when the changes of a room are stored.

    Attributes:
        flush: the messages to its clients.
        waiting: futures that are done then.
    """

    flush: Flush
    waiting: list[asyncio.Future[None]]


class Flusher:
    """Ends turns.

    Args:
        writer: writes the batches.
        slicer: knows the rooms that are busy.
        tell: is called with the messages to a room's clients, when its changes are stored.
        fail: is called for a room that could not be stored.
        go_on: is called when a batch that was written in a thread is done, so that clients are read again.

    Attributes:
        seconds: that batches took.
        errors: batches that could not be written.
    """

    def __init__(
        self, writer: BatchWriter, slicer: TimeSlicer, tell: Tell, fail: Fail, go_on: Callable[[], None]
    ) -> None:
        self.seconds = Histogram(SECONDS)
        self.errors = 0
        self._writer = writer
        self._slicer = slicer
        self._tell = tell
        self._fail = fail
        self._go_on = go_on
        self._rooms: dict[Room, None] = {}
        self._flushed: dict[Room, Flushed] = {}  # rooms that were flushed, until their clients are told
        self._late: set[Room] = set()  # rooms that were busy when their turn ended
        self._waiting: dict[Room, list[asyncio.Future[None]]] = {}  # futures that are done when a room is stored
        self._scheduled = False
        self._next = 0.0  # when the next turn may end, by the clock of the event loop
        self._began: float | None = None  # when the batch under way was given to the store, by `perf_counter`
        writer.when_idle(self._idle)

    @property
    def waits(self) -> float:
        """Seconds for which the batch under way has been with the store; 0 while there is none."""
        return 0.0 if self._began is None else perf_counter() - self._began

    def schedule(self, room: Room) -> None:
        """Flush a room at the end of this turn, with all others that changed in it; not one that is busy then."""
        self._rooms[room] = None
        self._schedule()

    def flush(self, room: Room) -> None:
        """Flush a room at once, unless a batch is under way."""
        self._rooms[room] = None
        if not self._writer.busy:
            self._flush()

    async def stored(self, room: Room) -> None:
        """Return when all that a room has taken in is stored, also if that is nothing.

        Raises:
            StoreError: it could not be stored.
        """
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(room, []).append(waiting)
        self.schedule(room)
        await waiting

    def discard(self, room: Room) -> None:
        """Forget a room: it is not stored any more, and its clients are not told what is being stored."""
        self._rooms.pop(room, None)
        self._late.discard(room)
        waiting = self._waiting.pop(room, [])
        if room in self._flushed:
            waiting += self._flushed.pop(room).waiting
        _answer(waiting, StoreError("the document could not be stored"))

    def _idle(self) -> None:
        self._go_on()
        if self._rooms:
            self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            loop = asyncio.get_running_loop()
            if loop.time() < self._next:
                loop.call_at(self._next, self._end_turn)
            else:
                loop.call_soon(self._end_turn)

    def _end_turn(self) -> None:
        self._scheduled = False
        if not self._writer.busy:  # else `_idle` schedules the next end
            self._flush()

    def _flush(self) -> None:
        rooms, self._rooms = self._rooms, {}
        batch = self._writer.batch()
        flushed: list[Room] = []
        size = 0
        for room in rooms:
            if size >= MAX_BATCH_SIZE:
                self._rooms[room] = None
                continue
            size += room.document.turn_size
            if room.busy:
                self._late.add(room)
                self._slicer.when_free(room, partial(self._flush_late, room))
                continue
            mark = batch.mark()
            if not room.dirty and room not in self._waiting:
                continue
            try:
                flush = room.flush(batch)
            except Exception as error:  # a mistake of ours must not cost the other rooms what they were sent
                batch.take_back(mark)
                log.exception("a document could not be flushed")
                self._fail(room, error)
            else:
                self._flushed[room] = Flushed(flush, self._waiting.pop(room, []))
                flushed.append(room)
        if batch:
            self._began = started = perf_counter()

            def written(error: StoreError | None) -> None:
                self._began, took = None, perf_counter() - started
                self.errors += error is not None
                self._end(flushed, error)
                self.seconds.observe(took)  # clients do not wait for this

            self._writer.write(batch, written)
        else:
            self._end(flushed, None)
        self._next = asyncio.get_running_loop().time() + INTERVAL
        if self._rooms:
            self._schedule()

    def _flush_late(self, room: Room) -> None:
        if room in self._late:  # it was not discarded
            self._late.discard(room)
            self.flush(room)

    def _end(self, rooms: list[Room], error: StoreError | None) -> None:
        """End the flushes of rooms, whose batch was written or has failed."""
        for room in rooms:
            if room.busy:  # before anything that may flush the room again
                self._slicer.when_free(room, partial(self._end_one, room, error), first=True)
            else:
                self._end_one(room, error)

    def _end_one(self, room: Room, error: StoreError | None) -> None:
        if room not in self._flushed:  # it was discarded
            return
        flush, waiting = self._flushed.pop(room)
        if error is not None and flush.stores:
            _answer(waiting, error)
            self._fail(room, error)
        else:
            _answer(waiting, None)
            self._tell(room, flush)


def _answer(waiting: list[asyncio.Future[None]], error: StoreError | None) -> None:
    """Tell those who wait for a room that it is stored, or why it is not."""
    for future in waiting:
        if future.done():  # nobody waits any more
            continue
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)
