"""Compactions: replace the content of documents by its shortest form, computed in another process."""

import asyncio
from collections.abc import Callable
from functools import partial

import structlog

from ..workers.compactor import Compacted, CompactionError, Compactor
from ..yjs.segment import Segment
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
        end: is called with a room that is not busy, and what ends its compaction.
    """

    def __init__(self, slicer: TimeSlicer, limit: int, end: Callable[[Room, Callable[[], None]], None]) -> None:
        self._slicer = slicer
        self._limit = limit
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

    async def compact(self, segments: list[Segment], address: str = "") -> Compacted:
        """Return the compacted form of a document.

        Args:
            segments: the document.
            address: of the client that caused its load; addresses take turns.

        Raises:
            CompactionError: the document could not be compacted.
        """
        async with self._turns.turn(address):
            return await self._compactor.compact([await self._slicer.done(segment.pieces()) for segment in segments])

    async def close(self) -> None:
        """Cancel all compactions, and end the process."""
        for task in self._tasks:
            task.cancel()
        await self._compactor.close()

    def _begun(self, room: Room, outcome: Outcome[list[Segment]]) -> None:
        task = asyncio.get_running_loop().create_task(self._run(room, outcome()))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, room: Room, segments: list[Segment]) -> None:
        try:
            compacted = await self.compact(segments, room.opened_by)
        except CompactionError as error:
            log.warning("a document could not be compacted", error=str(error))
            end = room.abandon_compaction
        else:
            end = partial(room.end_compaction, compacted.update, compacted.segment, compacted.index)
        self._slicer.when_free(room, partial(self._end, room, end))
