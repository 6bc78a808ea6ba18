"""The flusher: ends a turn. It stores the changes of all rooms in one batch, then sends them to the clients.

A turn is the time between two flushes. It ends with the event loop's iteration in which its first change came, but not
sooner than `INTERVAL` after the previous flush.
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
"""Bytes of updates in one batch; further rooms wait for the next. LevelDB takes several times as much memory."""

INTERVAL = 0.002
"""Seconds after a flush in which changes are collected for the next one.

A flush costs one write to the store and one to each client, for any number of changes. A change without another one
shortly before it is flushed at once.
"""

log = structlog.get_logger()

Fail = Callable[[Room, Exception], None]
Tell = Callable[[Room, Flush], None]


class Flushed(NamedTuple):
    """The messages and futures of a room whose changes are being stored.

    Attributes:
        flush: the messages to the room's clients.
        waiting: futures that get their result when the changes are stored.
    """

    flush: Flush
    waiting: list[asyncio.Future[None]]


class Flusher:
    """Stores and sends the changes of rooms.

    Args:
        writer: writes the batches.
        slicer: runs the long work of rooms that are busy.
        tell: is called with a room and the messages to its clients when its changes are stored.
        fail: is called with a room that could not be stored, and the error.
        go_on: is called when the writer is idle, so that the server reads from clients again.

    Attributes:
        seconds: histogram of the durations of batches.
        errors: the number of batches that could not be written.
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
        self._flushed: dict[Room, Flushed] = {}  # rooms whose changes are being stored
        self._late: set[Room] = set()  # rooms that were busy when their turn ended
        self._waiting: dict[Room, list[asyncio.Future[None]]] = {}  # by room: futures of `stored` calls
        self._scheduled = False
        self._next = 0.0  # earliest end of the next turn, by the clock of the event loop
        self._began: float | None = None  # start of the current write, by `perf_counter`
        writer.when_idle(self._idle)

    @property
    def waits(self) -> float:
        """Seconds since the current write began; 0 without one."""
        return 0.0 if self._began is None else perf_counter() - self._began

    def schedule(self, room: Room) -> None:
        """Flush a room at the end of this turn, or when it is no longer busy."""
        self._rooms[room] = None
        self._schedule()

    def flush(self, room: Room) -> None:
        """Flush a room at once, unless a batch is under way."""
        self._rooms[room] = None
        if not self._writer.busy:
            self._flush()

    async def stored(self, room: Room) -> None:
        """Wait until all changes that the room has received are stored; also valid without changes.

        Raises:
            StoreError: the changes could not be stored.
        """
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(room, []).append(waiting)
        self.schedule(room)
        await waiting

    def discard(self, room: Room) -> None:
        """Remove a room: its later changes are not stored, and those being stored are not sent."""
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
        if not self._writer.busy:  # otherwise `_idle` schedules the next end
            self._flush()

    def _flush(self) -> None:
        rooms, self._rooms = self._rooms, {}
        batch = self._writer.batch()
        flushed: list[Room] = []
        size, stores = 0, False
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
            except Exception as error:  # an error in one room must not stop the others
                batch.take_back(mark)
                log.exception("a document could not be flushed")
                self._fail(room, error)
            else:
                self._flushed[room] = Flushed(flush, self._waiting.pop(room, []))
                flushed.append(room)
                stores = stores or flush.stores
        if stores:
            self._began = started = perf_counter()

            def written(error: StoreError | None) -> None:
                self._began, took = None, perf_counter() - started
                self.errors += error is not None
                self._end(flushed, error)
                self.seconds.observe(took)  # after the messages, so that they do not wait for it

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
        """End the flushes of rooms after the write of their batch; `error` is None if it succeeded."""
        for room in rooms:
            if room.busy:  # `first`, so that nothing flushes the room again before this
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
    """Set the result of the futures: None if the room is stored, otherwise the error."""
    for future in waiting:
        if future.done():  # its caller was cancelled
            continue
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)
