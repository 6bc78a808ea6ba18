"""Compacts documents in a separate process, one at a time, in the order of the calls."""

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO

from ..yjs.segment import Segment
from ..yjs.segment_index import read_segment
from .messages import HEAD, LENGTH, Part, encode

MODULE = "opennoodl_sync.workers.compaction_process"
IDLE = 10.0
"""Seconds without a job until the process is ended."""
SECONDS = 30.0
"""Shortest time limit of a job, in seconds."""
RATE = 20_000
"""Bytes of a job for each further second of its limit. On an idle core, the process does about 4 MB a second."""
READ_AHEAD = 1_048_576
"""Bytes of an answer that are read at a time."""


class CompactionError(Exception):
    """A document could not be compacted; it is unchanged."""


@dataclass(frozen=True)
class Compacted:
    """A document after compaction.

    Attributes:
        update: the document as one update, without pending structs.
        segment: the same as a segment, without its entries in the state vector.
        index: builds `segment` from `update`, see ``yjs.segment_index``.
        pending: an update with the pending structs, or None.
    """

    update: bytes
    segment: Segment
    index: bytes
    pending: bytes | None


class Compactor:
    """Owns the compaction process: starts it for a job, and ends it when it is idle."""

    def __init__(self, *, idle: float = IDLE, seconds: float = SECONDS) -> None:
        self._idle = idle
        self._seconds = seconds
        self._turn = asyncio.Lock()  # gives jobs their turn in the order of the calls
        self._process: Process | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._closed = False

    async def compact(self, updates: Sequence[Part]) -> Compacted:
        """Compact a document.

        Args:
            updates: the updates of the document, each in pieces; in any order, repetitions allowed.

        Raises:
            CompactionError: it failed or took too long, the updates are damaged, or the compactor was closed.
        """
        async with self._turn:
            if self._closed:
                raise CompactionError("the server is stopping")
            if self._timer is not None:
                self._timer.cancel()
            limit = self._seconds + sum(len(piece) for update in updates for piece in update) / RATE
            try:
                async with asyncio.timeout(limit):
                    error, *answer = await self._ask(await self._running(), updates)
            except TimeoutError:
                await self._kill()
                raise CompactionError(f"it took longer than {limit:.0f} seconds") from None
            except (OSError, EOFError):
                await self._kill()
                raise CompactionError("the server is stopping" if self._closed else "its process ended") from None
            except asyncio.CancelledError:
                await self._kill()  # otherwise the next job would get this job's answer
                raise
            if error:
                await self._kill()
                raise CompactionError(error.decode())
            update, index, *pending = answer
            try:
                return Compacted(update, await _read(update, index), index, pending[0] if pending else None)
            finally:
                self._timer = asyncio.get_running_loop().call_later(self._idle, self._end_idle)

    async def close(self) -> None:
        """End the process; the running job and the waiting jobs raise `CompactionError`."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        await self._kill()
        for task in list(self._ending):
            await task

    async def _running(self) -> Process:
        if self._process is None or self._process.returncode is not None:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", MODULE, stdin=PIPE, stdout=PIPE, limit=READ_AHEAD
            )
        return self._process

    async def _ask(self, process: Process, parts: Sequence[Part]) -> list[bytes]:
        """Send a message to the process; return the parts of its answer."""
        assert process.stdin is not None
        assert process.stdout is not None
        for chunk in encode(parts):
            process.stdin.write(chunk)
            await process.stdin.drain()
        number, _ = HEAD.unpack(await process.stdout.readexactly(HEAD.size))
        answer = []
        for _ in range(number):
            (left,) = LENGTH.unpack(await process.stdout.readexactly(LENGTH.size))
            part = BytesIO()
            while left:
                chunk = await process.stdout.read(min(left, READ_AHEAD))
                if not chunk:
                    raise EOFError
                part.write(chunk)
                left -= len(chunk)
            answer.append(part.getvalue())
        return answer

    async def _kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):
                process.kill()
            await _ended(process)

    def _end_idle(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            task = asyncio.create_task(_ended(process))
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)


async def _read(update: bytes, index: bytes) -> Segment:
    steps = read_segment(update, index)
    try:
        while True:
            next(steps)
            await asyncio.sleep(0)
    except StopIteration as end:
        segment: Segment = end.value
        return segment


async def _ended(process: Process) -> None:
    """Kill a process if it still runs, and wait for its end."""
    assert process.stdin is not None
    process.stdin.close()
    await process.wait()
