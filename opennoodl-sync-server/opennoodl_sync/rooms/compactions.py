"""Compactions: replace the content of documents by its shortest form, computed in another process."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

import structlog

from ..storage.interface import StoreError
from ..workers.compactor import CompactionError, Compactor
from .fair_turns import FairTurns
from .room import Room
from .timeslicer import Outcome, TimeSlicer

COMPACTION_FACTOR = 8
"""Bytes of memory, roughly, for a compaction in this process and its own, for each byte of the document."""

log = structlog.get_logger()


class Compactions:
    """The compactions of all documents, one at a time, since each one needs memory for a copy.

    Args:
        slicer: runs the long work of rooms.
        limit: bytes of memory for documents; 0 means no limit.
        store: stores a compacted part of a room; raises `StoreError` if the room has left memory.
        end: is called with a room that is not busy, whose compaction has ended.
    """

    def __init__(
        self, slicer: TimeSlicer, limit: int, store: Callable[[Room], Awaitable[None]], end: Callable[[Room], None]
    ) -> None:
        self._slicer = slicer
        self._limit = limit
        self._store = store
        self._end = end
        self._compactor = Compactor()
        self._turns = FairTurns()
        self._tasks: set[asyncio.Task[None]] = set()

    def is_due(self, room: Room, *, idle: bool = False) -> bool:
        """Return whether a document needs a compaction and there is memory for it.

        Args:
            room: the room of the document.
            idle: whether the room has no clients.
        """
        return room.records.is_compaction_due(idle=idle) and (
            not self._limit or COMPACTION_FACTOR * room.document.size <= self._limit
        )

    def start(self, room: Room) -> None:
        """Compact the document of a room; call this directly after a flush."""
        self._slicer.do(room, room.begin_compaction(), partial(self._begun, room))

    async def compact(self, room: Room, store: Callable[[Room], Awaitable[None]]) -> None:
        """Compact a document in parts; the next flush stores the last one.

        All parts are compacted before the first one is stored. So a compaction that fails again and again adds nothing
        to the store, and the time in which a crash leaves some parts there is short.

        Args:
            room: the room, after its `begin_compaction`. The addresses that opened rooms take turns.
            store: stores a part of it.

        Raises:
            CompactionError: a part could not be compacted; nothing is stored.
            StoreError: `store` failed.
        """
        async with self._turns.turn(room.opened_by):
            while True:
                part = await self._slicer.done(room.next_part())
                pieces = [await self._slicer.done(segment.pieces()) for segment in part.segments]
                compacted = await self._compactor.compact(pieces)
                while room.busy:
                    await self._slicer.free(room)
                room.end_part(part, compacted.update, compacted.segment, compacted.index)
                if not part.rest:
                    break
            while room.records.parts_left > 1:
                await store(room)

    async def close(self) -> None:
        """Cancel all compactions, and end the process."""
        for task in self._tasks:
            task.cancel()
        await self._compactor.close()

    def _begun(self, room: Room, outcome: Outcome[None]) -> None:
        outcome()
        task = asyncio.get_running_loop().create_task(self._run(room))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, room: Room) -> None:
        try:
            await self.compact(room, self._store)
        except StoreError:
            return  # the room was dropped, or has left memory
        except CompactionError as error:
            log.warning("a document could not be compacted", error=str(error))
            while room.busy:
                await self._slicer.free(room)
            room.abandon_compaction()
        self._end(room)
