"""Compacts documents in a process of its own, one after the other in the order in which they were asked for."""

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO

from ..yjs.lib0 import Steps
from ..yjs.segment import Segment
from ..yjs.segment_index import read_segment
from .messages import HEAD, LENGTH, Part, encode

MODULE = "opennoodl_sync.workers.compaction_process"
IDLE = 10.0
"""Seconds after its last job after which the process ends."""
SECONDS = 30.0
"""Seconds that a job may take at least."""
RATE = 20_000
"""Bytes of a job for which it may take one second more; the process does about 4 MB a second where it is alone."""
READ_AHEAD = 1_048_576
"""Bytes of an answer that are read at once."""


class CompactionError(Exception):
    """A document could not be compacted; it is as it was."""


@dataclass(frozen=True)
class Compacted:
    """A document after compaction.

    Attributes:
        update: all of it but what waits for its predecessors.
        segment: the same, to be put into a document.
        index: with it, `update` becomes `segment` again: see ``yjs.segment_index``.
        pending: an update with what waits; None if nothing does.
    """

    update: bytes
    segment: Segment
    index: bytes
    pending: bytes | None


class Compactor:
    """Owns the compaction process, which is started when it is needed and ended when it has been idle for a while."""

    def __init__(self, *, idle: float = IDLE, seconds: float = SECONDS) -> None:
        self._idle = idle
        self._seconds = seconds
        self._turn = asyncio.Lock()  # is given to those that wait in their order
        self._process: Process | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._closed = False

    async def compact(self, updates: Sequence[Part]) -> Compacted:
        """Compact a document.

        Args:
            updates: in pieces; they make the document, and may come in any order and more than once.

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
                await self._kill()  # it would answer the next one with this answer
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
        """End the process; what it is at, and what waits, fails."""
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
        """Send a message to the process, and return its answer."""
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
    steps = _segment(update, index)
    try:
        while True:
            next(steps)
            await asyncio.sleep(0)
    except StopIteration as end:
        segment: Segment = end.value
        return segment


def _segment(update: bytes, index: bytes) -> Steps[Segment]:
    segment = yield from read_segment(update, index)
    yield from segment.state_entries()  # or they would be made at once when the first client comes
    return segment


async def _ended(process: Process) -> None:
    """Let a process end, if it has not, and wait for that."""
    assert process.stdin is not None
    process.stdin.close()
    await process.wait()
