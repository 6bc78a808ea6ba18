"""The flusher: at the end of a turn of the event loop, stores the changes of all rooms in one step, then tells them."""

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

log = structlog.get_logger()

Fail = Callable[[Room, Exception], None]
Tell = Callable[[Room, Flush], None]


class Flushed(NamedTuple):
    """A room in a batch.

    Attributes:
        room: the room.
        flush: the messages to its clients.
        waiting: futures that are done when it is stored.
    """

    room: Room
    flush: Flush
    waiting: list[asyncio.Future[None]]


class Flusher:
    """Ends turns.

    Args:
        store: writes the batches.
        slicer: knows the rooms that are busy.
        tell: is called with the messages to a room's clients, when its changes are stored.
        fail: is called for a room that could not be stored.
        go_on: is called when a batch that was written in a thread is done, so that clients are read again.

    Attributes:
        seconds: that batches took.
        errors: batches that could not be written.
    """

    def __init__(
        self, store: BatchWriter, slicer: TimeSlicer, tell: Tell, fail: Fail, go_on: Callable[[], None]
    ) -> None:
        self.seconds = Histogram(SECONDS)
        self.errors = 0
        self._store = store
        self._slicer = slicer
        self._tell = tell
        self._fail = fail
        self._go_on = go_on
        self._rooms: dict[Room, None] = {}
        self._waiting: dict[Room, list[asyncio.Future[None]]] = {}  # those who want to know when it is stored
        self._scheduled = False
        self._began: float | None = None  # when the batch under way was given to the store, by `perf_counter`
        store.when_idle(self._idle)

    @property
    def waits(self) -> float:
        """Seconds for which the batch under way has been with the store; 0 while there is none."""
        return 0.0 if self._began is None else perf_counter() - self._began

    def schedule(self, room: Room) -> None:
        """Flush a room at the end of this turn, with all others that changed in it; not one that is busy then."""
        if room not in self._rooms and room.dirty:
            self._rooms[room] = None
            self._schedule()

    def flush(self, room: Room) -> None:
        """Flush a room at once, unless a batch is under way."""
        self._rooms[room] = None
        if not self._store.busy:
            self._flush()

    async def stored(self, room: Room) -> None:
        """Return when all that a room has taken in is stored, also if that is nothing.

        Raises:
            StoreError: it could not be stored.
        """
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(room, []).append(waiting)
        self._rooms[room] = None
        self._schedule()
        await waiting

    def _flush_late(self, room: Room) -> None:
        """Flush a room that was busy when its turn ended."""
        if room.dirty or room in self._waiting:
            self.flush(room)

    def discard(self, room: Room) -> None:
        """Forget a room that is not to be stored any more."""
        self._rooms.pop(room, None)
        _answer(self._waiting.pop(room, []), StoreError("the document could not be stored"))

    def _idle(self) -> None:
        self._go_on()
        if self._rooms:
            self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._end_turn)

    def _end_turn(self) -> None:
        self._scheduled = False
        if not self._store.busy:  # else `_idle` schedules the next end
            self._flush()

    def _flush(self) -> None:
        rooms, self._rooms = self._rooms, {}
        batch = self._store.batch()
        flushes: list[Flushed] = []
        size = 0
        for room in rooms:
            if room.records.lost:
                self.discard(room)
                continue
            if size >= MAX_BATCH_SIZE:
                self._rooms[room] = None
                continue
            size += room.document.turn_size
            if room.busy:
                self._slicer.when_free(room, partial(self._flush_late, room))
                continue
            try:
                with batch.whole():
                    flush = room.flush(batch)
            except Exception as error:  # a mistake of ours must not cost the other rooms what they were sent
                log.exception("a document could not be flushed")
                self._fail(room, error)
            else:
                flushes.append(Flushed(room, flush, self._waiting.pop(room, [])))
        if batch:
            self._began = started = perf_counter()

            def written(error: StoreError | None) -> None:
                self._began = None
                self.seconds.observe(perf_counter() - started)
                self.errors += error is not None
                self._written(flushes, error)

            self._store.write(batch, written)
        else:
            self._written(flushes, None)
        if self._rooms:
            self._schedule()

    def _written(self, flushes: list[Flushed], error: StoreError | None) -> None:
        for flushed in flushes:
            if flushed.room.busy:  # before anything that may flush the room again
                self._slicer.when_free(flushed.room, partial(self._end, flushed, error), first=True)
            else:
                self._end(flushed, error)

    def _end(self, flushed: Flushed, error: StoreError | None) -> None:
        room, flush, waiting = flushed
        if room.records.lost:
            _answer(waiting, StoreError("another server has taken the document"))
        elif error is not None and room.records.storing:
            _answer(waiting, error)
            self._fail(room, error)
        else:
            room.records.written()
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
