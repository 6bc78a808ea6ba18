"""The writer: writes batches to the disk one after the other, large ones in a thread."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from ..interface import Batch, BatchWriter, Done, StoreError
from .database import Database, RecordBatch

LARGE = 262_144
"""Bytes of a batch that is written in the writer's own thread."""


class Writer(BatchWriter):
    """Writes to a database.

    Args:
        database: the database.
        sync: whether a batch survives a power cut when it is done, and not only the end of this process.
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
        """Call `act` whenever the last batch under way has ended."""
        self._when_idle.append(act)

    def batch(self) -> RecordBatch:
        """Return an empty batch."""
        return RecordBatch()

    def write(self, batch: Batch, done: Done) -> None:
        """Write a batch, and call `done` with the error or None: before this returns if the batch is small.

        After a failure, the thread writes the next batch, since the database is opened again before it.
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
        """Wait until nothing is under way."""
        while self._under_way:
            await asyncio.wait(self._under_way)
            await asyncio.sleep(0)  # for the callbacks of the last one

    def close(self) -> None:
        """End the thread; call `drain` before it."""
        self._thread.shutdown()

    def _write(self, batch: RecordBatch) -> None:
        self._database.write(batch, sync=self._sync)

    def _end(self, done: Done, error: BaseException | None) -> None:
        """Report the end of a write; an error that is not the disk's is raised too, for the log."""
        if self._database.failure is not None:
            self._failed()
        done(None if error is None else StoreError(str(error)))
        if error is not None and not isinstance(error, StoreError):
            raise error
