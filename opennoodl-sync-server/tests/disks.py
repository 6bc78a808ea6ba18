"""Replacements of disks that tests can delay, inspect, and make fail."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from io import BytesIO
from typing import TypeVar

import pytest
from opennoodl_sync.storage.interface import Batch, BatchWriter, Done, StoreError
from opennoodl_sync.storage.leveldb.database import Database, RecordBatch
from opennoodl_sync.storage.leveldb.record_format import seal

TIMEOUT = 30.0

T = TypeVar("T")


async def until(condition: Callable[[], object]) -> None:
    """Run the event loop until `condition` is true."""
    async with asyncio.timeout(TIMEOUT):
        while True:
            if condition():
                return
            await asyncio.sleep(0)


class Writes:
    """The writes to every `Database`; they can be delayed.

    Attributes:
        may_go_on: an event that writes wait for; set at the start.
        failure: the error of the next write, or None.
        done: the batches that were written, with `sync` and the writing thread of each.
        at_once: the largest number of concurrent writes.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.failure: BaseException | None = None
        self.done: list[tuple[RecordBatch, bool, threading.Thread]] = []
        self.at_once = 0
        self._under_way = 0
        self._begun = threading.Semaphore(0)
        real = Database.write

        def write(database: Database, batch: RecordBatch, *, sync: bool = False) -> None:
            self._under_way += 1
            self.at_once = max(self.at_once, self._under_way)
            self._begun.release()
            try:
                assert self.may_go_on.wait(TIMEOUT), "nobody let the write go on"
                if self.failure is not None:
                    failure, self.failure = self.failure, None
                    raise failure
                real(database, batch, sync=sync)
                self.done.append((batch, sync, threading.current_thread()))
            finally:
                self._under_way -= 1

        monkeypatch.setattr(Database, "write", write)

    def hold(self) -> None:
        """Delay writes from now on, and clear the record of started ones."""
        while self._begun.acquire(blocking=False):
            pass
        self.may_go_on.clear()

    def release(self) -> None:
        """Let writes continue."""
        self.may_go_on.set()

    async def begun(self) -> None:
        """Wait until a write has started."""
        assert await asyncio.to_thread(self._begun.acquire, timeout=TIMEOUT), "nothing was written"


class Records:
    """A database in memory that records its state after every batch.

    Attributes:
        now: the present records.
        before: the records after each batch.
    """

    def __init__(self, records: dict[bytes, bytes] | None = None) -> None:
        self.now: dict[bytes, bytes] = dict(records or {})
        self.before: list[dict[bytes, bytes]] = []
        self.failure: str | None = None

    def get(self, key: bytes) -> bytes | None:
        """Return one record."""
        return self.now.get(key)

    def read(self, prefix: bytes, take: Callable[[bytes, BytesIO], T]) -> list[T]:
        """Call `take` with each key that begins with `prefix`, in order, and its value; return the results."""
        return [take(key, BytesIO(self.now[key])) for key in sorted(self.now) if key.startswith(prefix)]

    def holds(self, prefix: bytes) -> bool:
        """Return whether there is a key that begins with `prefix`."""
        return any(key.startswith(prefix) for key in self.now)

    def write(self, batch: RecordBatch, *, sync: bool = False) -> None:
        """Write a batch."""
        if self.failure is not None:
            raise StoreError(self.failure)
        self.now.update(batch.puts)
        self.now.update((key, seal(key, value, first)) for key, value, first in batch.sealed)
        for key in batch.deletes:
            self.now.pop(key, None)
        self.before.append(dict(self.now))


class ByHand(BatchWriter):
    """A writer whose batches end when the test says so.

    Attributes:
        slow: whether batches wait for `finish`.
        batches: the batches that wait, with their callbacks.
        written: the batches that were written.
        failure: the error of writes, or None.
    """

    def __init__(self, database: Records) -> None:
        self.slow = True
        self.busy = False
        self.batches: list[tuple[RecordBatch, Done]] = []
        self.written: list[RecordBatch] = []
        self.failure: StoreError | None = None
        self._database = database
        self._when_idle: list[Callable[[], None]] = []

    def when_idle(self, act: Callable[[], None]) -> None:
        """Call `act` each time the last waiting batch has been written."""
        self._when_idle.append(act)

    def batch(self) -> RecordBatch:
        """Return an empty batch."""
        return RecordBatch()

    def write(self, batch: Batch, done: Done) -> None:
        """Add a batch to `batches`, or write it if not `slow`."""
        assert isinstance(batch, RecordBatch)
        self.batches.append((batch, done))
        self.busy = True
        if not self.slow:
            self.finish()

    def finish(self, failure: StoreError | None = None) -> None:
        """Write the first waiting batch, or make it fail."""
        slow = self.slow
        batch, done = self.batches.pop(0)
        self.busy = bool(self.batches)
        if failure is None:
            self._database.write(batch)
            self.written.append(batch)
        done(failure)
        if slow and not self.batches:
            for act in self._when_idle:
                act()
