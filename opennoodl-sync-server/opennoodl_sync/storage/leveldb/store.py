"""The store in LevelDB: reads in a thread, writes batches in order, and tries again after a failure of the disk."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import TypeVar

import structlog

from ...yjs.lib0 import MalformedError
from ..interface import (
    Contents,
    DocumentRecords,
    History,
    PersistentStore,
    Stored,
    StoreError,
    Version,
)
from .background_sync import sync_every_second
from .database import Database, RecordBatch
from .documents import LevelDBDocument
from .record_format import key_of, seal
from .versions import LevelDBVersions
from .writer import Writer

CLOSED = "closed"
"""The last element in the key of a closed room's record."""
RETRY_INTERVAL = 2.0
"""Seconds between attempts to write after a failure, also without changes to store."""
LOG_INTERVAL = 60.0
"""Seconds between two log lines about a failing disk."""

T = TypeVar("T")

log = structlog.get_logger()


class LevelDBStore(PersistentStore):
    """Documents in LevelDB. Create it within the event loop.

    Args:
        directory: the data directory; it is created if it does not exist.
        fsync: when a change survives a power cut: ``true`` before its batch is done, ``every-second`` a second later,
            ``false`` when the operating system writes it.

    Raises:
        StartError: the directory cannot be opened; its content is unchanged.
    """

    def __init__(self, directory: str, *, fsync: str) -> None:
        self._database = Database(directory)
        self.writer: Writer = Writer(self._database, sync=fsync == "true", failed=self._failed)
        self._reader = ThreadPoolExecutor(1, "reader")
        self._retry: asyncio.TimerHandle | None = None
        self._log_again = 0.0  # monotonic time of the next log line about a failure
        self._syncing: asyncio.Task[None] | None = None
        if fsync == "every-second":
            self._syncing = asyncio.create_task(sync_every_second(self._database, self._failed))

    @property
    def failure(self) -> str | None:
        """The reason of the last failed write, for people; None if it succeeded."""
        return self._database.failure

    async def open(self, name: str) -> tuple[DocumentRecords, Stored]:
        """Read a document in the reader's thread."""
        document = LevelDBDocument(name, database=self._database)
        return document, await self._read(document.stored)

    async def names(self, more_than: int) -> AsyncIterator[str]:
        """Yield the names of the documents with more than `more_than` updates."""
        names = self._database.crowded_names(more_than)
        while (name := await self._read(lambda: next(names, None))) is not None:
            yield name

    async def survey(self) -> Contents:
        """Read all records, and return the names of the documents."""
        listed, stored, damage = await self._read(self._database.survey)
        return Contents(sorted(listed | stored), damage)

    async def read(self, name: str) -> Stored:
        """Read a document."""
        return (await self.open(name))[1]

    async def read_until(self, name: str, last: int) -> tuple[list[bytes], int]:
        """Return the updates of a document up to number `last`."""
        document = LevelDBDocument(name, database=self._database)
        records = await self._read(document.records)
        parts = await self._read(document.parts)
        taken = [record for record in records if record.number <= last]
        # A compacted part has updates up to that number merged with later ones.
        if not taken or any(record.number > last and record.number in parts for record in records):
            taken = records
        return [record.update for record in taken], taken[-1].number if taken else -1

    async def history(self, name: str) -> History:
        """Return the versions of a document."""
        return await self._read(LevelDBVersions(name, database=self._database).history)

    async def histories(self) -> AsyncIterator[tuple[str, History]]:
        """Yield name and versions of every document with versions."""
        names = self._database.names_with("history")
        while (name := await self._read(lambda: next(names, None))) is not None:
            yield name, await self.history(name)

    async def read_version(self, name: str, time: int) -> bytes | None:
        """Return the content of a version."""
        versions = LevelDBVersions(name, database=self._database)
        return await self._read(lambda: versions.content(time))

    async def change_versions(
        self, name: str, added: Sequence[tuple[Version, bytes]], dropped: Collection[int]
    ) -> None:
        """Add and delete versions of a document in one batch."""
        versions = LevelDBVersions(name, database=self._database)
        batch = RecordBatch()
        for time in dropped:
            versions.drop(time, batch)
        for version, content in added:
            versions.add(version, content, batch)
        await self.store(batch)

    async def is_closed(self, name: str) -> bool:
        """Return whether an operator has closed a room."""
        return await self._read(lambda: self._database.holds(key_of("v1", name, CLOSED)))

    async def set_closed(self, name: str, closed: bool) -> None:
        """Store whether a room is closed."""
        key = key_of("v1", name, CLOSED)
        batch = RecordBatch()
        if closed:
            batch.puts.append((key, seal(key, b"", 0)))
        else:
            batch.deletes.append(key)
        await self.store(batch)

    async def closed_names(self) -> list[str]:
        """Return the names of all closed rooms, in order."""
        return sorted(await self._read(lambda: list(self._database.names_with(CLOSED))))

    async def delete(self, name: str) -> None:
        """Delete all records of a name, including metadata of other programs."""
        batch = RecordBatch()
        keys = await self._read(lambda: self._database.keys(key_of("v1", name)))
        closed = key_of("v1", name, CLOSED)
        batch.deletes = [key_of("v1_sv", name), *(key for key in keys if key != closed)]
        await self.store(batch)

    async def exists(self, name: str) -> bool:
        """Return whether anything is stored under this name."""
        return await self._read(LevelDBDocument(name, database=self._database).exists)

    async def fault(self, name: str, state_vector: bytes) -> str | None:
        """Return the fault of a stored state vector that readers would use and that differs from this one, or None."""

        def is_stale() -> bool:
            document = LevelDBDocument(name, database=self._database)
            document.records()
            return document.stale_state_vector(state_vector)

        try:
            stale = await self._read(is_stale)
        except MalformedError as error:
            return f"cannot be loaded: {error}"
        return "its state vector claims to be current and is not" if stale else None

    async def shrink(self) -> None:
        """Free the space of deleted data; this may take long."""
        await self._read(self._database.shrink)

    async def close(self) -> None:
        """Write all batches, sync them unless FSYNC is false, and close the directory."""
        await self.writer.drain()
        self.writer.close()
        if self._retry is not None:
            self._retry.cancel()
        if self._syncing is not None:
            self._syncing.cancel()
            await asyncio.wait([self._syncing])
            try:
                await asyncio.to_thread(self._database.sync)
            except StoreError as error:
                log.error("written data could not be synced to the disk", error=str(error))
        self._reader.shutdown()
        self._database.close()

    async def _read(self, read: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._reader, read)

    def _failed(self) -> None:
        """Log the failure, and write an empty batch soon, before which the writer opens LevelDB again."""
        if monotonic() >= self._log_again:
            self._log_again = monotonic() + LOG_INTERVAL
            log.error(self.failure, retry_seconds=RETRY_INTERVAL)
        if self._retry is None:
            self._retry = asyncio.get_running_loop().call_later(RETRY_INTERVAL, self._try_again)

    def _try_again(self) -> None:
        self._retry = None
        self.writer.write(RecordBatch(), lambda _: None)
