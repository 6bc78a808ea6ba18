"""The writer: writes batches to the disk one after the other, large ones in a thread."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from ..interface import Batch, BatchWriter, Done, StoreError
from .database import Database, RecordBatch

LARGE = 262_144
"""Bytes from which a batch is written in the writer's thread."""


class Writer(BatchWriter):
    """Writes to a database.

    Args:
        database: the database.
        sync: whether a batch survives a power cut when it is done, not only the end of this process.
        failed: is called after each batch while the database has a failure.
    """

    def __init__(self, database: Database, *, sync: bool, failed: Callable[[], None]) -> None:
        self._database = database
        self._sync = sync
        self._failed = failed
        self._thread = ThreadPoolExecutor(1, "writer")
        self._when_idle: list[Callable[[], None]] = []
        self._under_way: set[asyncio.Future[None]] = set()
        self.busy = False

    def when_idle(self, act: Callable[[], None]) -> None:
        """Call `act` each time the last waiting batch has been written."""
        self._when_idle.append(act)

    def batch(self) -> RecordBatch:
        """Return an empty batch."""
        return RecordBatch()

    def write(self, batch: Batch, done: Done) -> None:
        """Write a batch, then call `done` with the error or None; a small batch is done before this returns.

        After a failure, the next batch is written in the thread, since the database is opened again before it.
        """
        assert isinstance(batch, RecordBatch)
        if not self._sync and not self.busy and self._database.failure is None and batch.size < LARGE:
            try:
                self._database.write(batch)
            except Exception as error:
                self._end(done, error)
            else:
                done(None)
            return

        def finished(future: asyncio.Future[None]) -> None:
            self._under_way.discard(future)
            self.busy = bool(self._under_way)
            try:
                self._end(done, future.exception())
            finally:
                if not self.busy:
                    for act in self._when_idle:
                        act()

        loop = asyncio.get_running_loop()
        write = loop.run_in_executor(self._thread, self._write, batch)
        self._under_way.add(write)
        self.busy = True
        write.add_done_callback(finished)

    async def drain(self) -> None:
        """Wait until all batches are written."""
        while self._under_way:
            await asyncio.wait(self._under_way)
            await asyncio.sleep(0)  # for the callbacks of the last batch

    def close(self) -> None:
        """End the thread; call `drain` before it."""
        self._thread.shutdown()

    def _write(self, batch: RecordBatch) -> None:
        self._database.write(batch, sync=self._sync)

    def _end(self, done: Done, error: BaseException | None) -> None:
        """Report the end of a write; an unexpected error is raised as well, so that it is logged."""
        if self._database.failure is not None:
            self._failed()
        done(None if error is None else StoreError(str(error)))
        if error is not None and not isinstance(error, StoreError):
            raise error
