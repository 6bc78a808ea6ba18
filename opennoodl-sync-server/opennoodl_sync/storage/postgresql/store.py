"""The store in PostgreSQL: one statement writes the changes of a turn to all documents that this instance owns."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence, Set
from contextlib import suppress
from typing import Any
from uuid import uuid4

import asyncpg
import structlog

from ...edge.errors import StartError
from ..interface import (
    Batch,
    BatchWriter,
    Contents,
    CorruptError,
    DocumentRecords,
    Done,
    ElsewhereError,
    History,
    PersistentStore,
    StoreCounts,
    Stored,
    StoreError,
    UnavailableError,
    Version,
)
from .documents import Changes, PostgreSQLBatch, PostgreSQLDocument, checksum, read, salvage
from .lease import RENEW_TIMEOUT, Lease
from .link import AWAY, TIMEOUT, Link, RejectedError, reason
from .schema import make_tables
from .statements import (
    ALIVE,
    CHANGE_VERSIONS,
    CLOSE,
    CLOSED_NAMES,
    CROWDED,
    DELETE,
    EXISTS,
    FIND,
    FORGET,
    HISTORY,
    IS_CLOSED,
    LAST,
    NAMES,
    OTHERS,
    OWNED,
    READ,
    READ_VERSION,
    RELEASE,
    REOPEN,
    REPLACE,
    STORE,
    SWEEP,
    TAKE,
    WITH_VERSIONS,
)
from .url import arguments, shown

LEAST_RATE = 1_048_576
"""Assumed minimum speed of the database in bytes per second; it extends the time limit of a large statement."""
READ_TIMEOUT = 60.0
"""Time limit for reading a document, in seconds."""

log = structlog.get_logger()


class PostgreSQLStore(PersistentStore, BatchWriter):
    """Documents in PostgreSQL, which other instances may use at the same time. Call `start` first.

    Args:
        url: the URL of the database.
        fsync: whether a batch survives a power cut when it is done; otherwise a second later.

    Raises:
        StartError: the URL is not valid.
    """

    def __init__(self, url: str, *, fsync: bool) -> None:
        self._name = uuid4().hex
        self._shown = shown(url)
        options = arguments(url, TIMEOUT)
        self._reading, self._leasing = Link(options), Link(options)
        self._writing = Link(options, relaxed=not fsync)
        self._lease = Lease(self._leasing, self._name, self._lapse, self._renewed)
        self._documents: dict[str, PostgreSQLDocument] = {}  # the documents that this instance owns
        self._batches: list[tuple[PostgreSQLBatch, Done]] = []  # the first one is being written
        self.writer = self
        self.busy = False
        self._when_idle: list[Callable[[], None]] = []
        self._when_lost: list[Callable[[str], None]] = []
        self._task: asyncio.Task[None] | None = None
        self._failure: str | None = None
        self._verified = 0  # the number of openings of links at the last comparison

    async def start(self) -> None:
        """Connect, create missing tables, and get a lease.

        Raises:
            StartError: the database cannot be used.
        """
        try:
            await make_tables(self._leasing)
            for statement in SWEEP:
                await self._leasing.fetch(statement)
            await self._lease.begin()
        except (OSError, TimeoutError, StoreError, ValueError, TypeError, asyncpg.PostgresError) as error:
            await self._disconnect()
            raise StartError(f"the database {self._shown} cannot be used: {reason(error.__cause__ or error)}") from None
        except asyncpg.InterfaceError as error:
            await self._disconnect()
            raise StartError(f"the database {self._shown} cannot be used: {reason(error)}") from None

    async def own_address(self) -> str | None:
        """Return the address from which the database sees this instance; None for a socket in the file system."""
        if self._leasing.pooled:
            raise StartError(
                "DATABASE_URL leads to a pooler, so the address of this server is not known to others; set INSTANCE_URL"
            )
        (row,) = await self._leasing.fetch("SELECT host(inet_client_addr()) AS address")
        address: str | None = row["address"]
        return address

    def announce(self, url: str) -> None:
        """Store the URL of this instance for other instances."""
        self._lease.url = url
        self._lease.renew_soon()

    @property
    def instance(self) -> str:
        """The name of this instance."""
        return self._name

    async def alive(self, instances: Set[str]) -> set[str]:
        """Return those of `instances` whose leases are valid."""
        return {row["name"] for row in await self._leasing.fetch(ALIVE, list(instances), seconds=RENEW_TIMEOUT)}

    @property
    def failure(self) -> str | None:
        """The reason why documents cannot be stored, for people; None if they can."""
        return self._failure or self._lease.failure

    @property
    def counts(self) -> StoreCounts:
        """The metrics of the database."""
        links = (self._reading, self._writing, self._leasing)
        reconnects = sum(max(link.opened - 1, 0) for link in links)
        return StoreCounts(reconnects, self._lease.age, len(self._documents))

    def when_idle(self, act: Callable[[], None]) -> None:
        """Call `act` each time the last waiting batch has been written."""
        self._when_idle.append(act)

    def when_lost(self, act: Callable[[str], None]) -> None:
        """Call `act` with the name of each document that another instance may own from then on."""
        self._when_lost.append(act)

    def batch(self) -> PostgreSQLBatch:
        """Return an empty batch."""
        return PostgreSQLBatch()

    # Documents

    async def find(self, name: str) -> None:
        """Raise `ElsewhereError` if another instance owns a document."""
        for row in await self._reading.fetch(FIND, name, self._name):
            raise ElsewhereError(row["name"], row["url"])

    async def open(self, name: str) -> tuple[DocumentRecords, Stored]:
        """Become the owner of a document, and read it."""
        epoch = await self._take(name)
        try:
            stored, last = read(name, await self._reading.fetch(READ, name, seconds=READ_TIMEOUT))
        except BaseException:
            self._release_unread(PostgreSQLDocument(name, epoch, 0))
            raise
        return self._opened(PostgreSQLDocument(name, epoch, last)), stored

    async def delete(self, name: str) -> None:
        """Become the owner of a document, and delete it."""
        if not await self._writing.fetch(DELETE, self._name, name, await self._take(name)):
            raise StoreError("another server has taken the document")

    def _opened(self, document: PostgreSQLDocument) -> PostgreSQLDocument:
        if not self._lease.check():
            raise UnavailableError(AWAY)
        self._documents[document.name] = document
        return document

    async def _take(self, name: str) -> int:
        while True:
            if not self._lease.check():
                raise UnavailableError(AWAY)
            await self.find(name)
            for row in await self._reading.fetch(TAKE, name, self._name):
                epoch: int = row["epoch"]
                return epoch

    async def read(self, name: str) -> Stored:
        """Read a document."""
        return read(name, await self._reading.fetch(READ, name, seconds=READ_TIMEOUT))[0]

    async def names(self, more_than: int) -> AsyncIterator[str]:
        """Yield the names of documents without an owner that have more than `more_than` updates."""
        last = ""
        while rows := await self._reading.fetch(CROWDED, last, more_than, seconds=READ_TIMEOUT):
            for row in rows:
                last = row["name"]
                yield last

    async def survey(self) -> Contents:
        """Return the names of all documents."""
        return Contents([row["name"] for row in await self._reading.fetch(NAMES, seconds=READ_TIMEOUT)], None)

    async def other_instances(self) -> int:
        """Return the number of other instances with a lease."""
        (row,) = await self._reading.fetch(OTHERS, self._name)
        number: int = row["number"]
        return number

    async def salvage(self, name: str) -> tuple[list[bytes], int]:
        """Return the undamaged updates of a document, and the number of lost ones."""
        return salvage(name, await self._reading.fetch(READ, name, seconds=READ_TIMEOUT))

    async def exists(self, name: str) -> bool:
        """Return whether anything is stored under this name."""
        (row,) = await self._reading.fetch(EXISTS, name)
        exists: bool = row["exists"]
        return exists

    async def is_closed(self, name: str) -> bool:
        """Return whether an operator has closed a room."""
        (row,) = await self._reading.fetch(IS_CLOSED, name)
        closed: bool = row["closed"]
        return closed

    async def set_closed(self, name: str, closed: bool) -> None:
        """Store whether a room is closed."""
        await self._reading.fetch(CLOSE if closed else REOPEN, name)

    async def closed_names(self) -> list[str]:
        """Return the names of all closed rooms, in order."""
        return [row["room"] for row in await self._reading.fetch(CLOSED_NAMES, seconds=READ_TIMEOUT)]

    # Versions

    async def read_until(self, name: str, last: int) -> tuple[list[bytes], int]:
        """Return the updates of a document up to number `last`."""
        rows = await self._reading.fetch(READ, name, seconds=READ_TIMEOUT)
        stored, number = read(name, rows)
        first = number + 1 - len(stored.updates)
        taken = stored.updates[: max(last + 1 - first, 0)] or stored.updates
        return taken, first + len(taken) - 1

    async def history(self, name: str) -> History:
        """Return the versions of a document."""
        rows = await self._reading.fetch(HISTORY, name)
        (row,) = await self._reading.fetch(LAST, name)
        return History([Version(one["made"], one["size"], one["last"]) for one in rows], row["last"])

    async def histories(self) -> AsyncIterator[tuple[str, History]]:
        """Yield name and versions of every document with versions."""
        last = ""
        while rows := await self._reading.fetch(WITH_VERSIONS, last, seconds=READ_TIMEOUT):
            for row in rows:
                last = row["room"]
                yield last, await self.history(last)

    async def read_version(self, name: str, time: int) -> bytes | None:
        """Return the content of a version."""
        for row in await self._reading.fetch(READ_VERSION, name, time, seconds=READ_TIMEOUT):
            content: bytes = row["data"]
            if row["checksum"] != checksum(name, time, content):
                raise CorruptError(f"version {time}: checksum mismatch")
            return content
        return None

    async def change_versions(
        self, name: str, added: Sequence[tuple[Version, bytes]], dropped: Collection[int]
    ) -> None:
        """Add and delete versions of a document in one statement."""
        await self._reading.fetch(
            CHANGE_VERSIONS,
            name,
            list(dropped),
            [version.time for version, _ in added],
            [version.last for version, _ in added],
            [content for _, content in added],
            [checksum(name, version.time, content) for version, content in added],
            seconds=READ_TIMEOUT,
        )

    # Writing

    def write(self, batch: Batch, done: Done) -> None:
        """Write a batch after the earlier ones, and call `done`."""
        assert isinstance(batch, PostgreSQLBatch)
        self._batches.append((batch, done))
        self.busy = True
        if self._task is None:
            self._task = asyncio.create_task(self._write_all())

    async def _write_all(self) -> None:
        while self._batches:
            batch, done = self._batches[0]
            error = None
            try:
                await self._write(batch)
                self._failure = None
            except StoreError as failed:
                error = failed
                self._failed(failed)
            except Exception as failed:
                error = StoreError(str(failed))
                log.exception("a batch could not be written")
            self._lease.check()  # so that changes of a lost document are not sent to clients
            del self._batches[0]
            self.busy = bool(self._batches)
            try:
                done(error)
            except Exception:
                log.exception("what follows a write failed")
        self._task = None
        for act in self._when_idle:
            act()

    async def _write(self, batch: PostgreSQLBatch) -> None:
        documents = {document: one for document, one in batch.documents().items() if not document.lost}
        if documents:
            try:
                await self._store(documents)
            except RejectedError:
                await self._store_each(documents)
        await self._release([document for document in batch.released if not document.lost])

    async def _store_each(self, documents: dict[PostgreSQLDocument, Changes]) -> None:
        """Store the changes of each document separately, because the database has rejected those of one document."""
        for document, changes in documents.items():
            try:
                await self._store({document: changes})
            except RejectedError as error:
                log.error("the database refused a change of a document", error=str(error))
                self._lose(document)

    async def _store(self, documents: dict[PostgreSQLDocument, Changes]) -> None:
        for document, changes in documents.items():
            appended = [number for number in changes.updates if number > document.written]
            # An earlier batch has failed: its changes are not in the database.
            if appended and min(appended) != document.written + 1:
                self._lose(document)
        documents = {document: changes for document, changes in documents.items() if not document.lost}
        updates = [
            (document.name, number, update)
            for document, changes in documents.items()
            for number, update in changes.updates.items()
        ]
        values: list[Any] = [
            self._name,
            [document.name for document in documents],
            [document.epoch for document in documents],
            [document.written for document in documents],
            [name for name, _, _ in updates],
            [number for _, number, _ in updates],
            [update for _, _, update in updates],
            [checksum(*update) for update in updates],
        ]
        statement = STORE
        replaced = {
            document.name: changes.replacement
            for document, changes in documents.items()
            if changes.replacement is not None
        }
        if replaced:
            statement = REPLACE
            values.append(list(replaced))
            values += ([one[part] for one in replaced.values()] for part in range(3))
        size = sum(len(update) for _, _, update in updates)
        rows = await self._writing.fetch(statement, *values, seconds=TIMEOUT + size / LEAST_RATE)
        held = {row["name"] for row in rows}
        for document, changes in documents.items():
            if document.name not in held:
                self._lose(document)
            elif changes.updates:
                document.written = max(document.written, *changes.updates)

    async def _release(self, documents: list[PostgreSQLDocument]) -> None:
        for statement, some in (
            (RELEASE, [document for document in documents if document.written >= 0]),
            (FORGET, [document for document in documents if document.written < 0]),
        ):
            names, epochs = [document.name for document in some], [document.epoch for document in some]
            with suppress(StoreError):  # the lease expires, and this instance can open them before that
                if some:
                    await self._writing.fetch(statement, self._name, names, epochs)
        for document in documents:
            self._forget(document)

    def _release_unread(self, document: PostgreSQLDocument) -> None:
        """Release a document that could not be read."""
        batch = self.batch()
        document.release(batch)
        self.write(batch, lambda _: None)

    def _failed(self, error: StoreError) -> None:
        if self._failure is None:
            log.error("documents cannot be written to the database", error=str(error.__cause__ or error))
        self._failure = "Documents cannot be written to the database."
        self._lease.renew_soon()

    # The end of ownership

    async def _renewed(self, made: bool) -> None:
        """Compare the owned documents with the database, if that may have lost some, as in a failover."""
        self._failure = None
        opened = sum(link.opened for link in (self._reading, self._writing, self._leasing))
        if not made and opened == self._verified:
            return
        before = {document: document.written for document in self._documents.values()}
        rows = await self._leasing.fetch(OWNED, self._name) if before else []
        self._verified = opened
        owned = {(row["name"], row["epoch"]): -1 if row["last"] is None else row["last"] for row in rows}
        for document, written in before.items():
            is_open = self._documents.get(document.name) is document
            if is_open and owned.get((document.name, document.epoch), -2) < written:
                self._lose(document)

    def _lapse(self) -> None:
        for document in list(self._documents.values()):
            self._lose(document)

    def _lose(self, document: PostgreSQLDocument) -> None:
        document.lost = True
        self._forget(document)
        for act in self._when_lost:
            act(document.name)

    def _forget(self, document: PostgreSQLDocument) -> None:
        if self._documents.get(document.name) is document:
            del self._documents[document.name]

    async def close(self) -> None:
        """Write all batches, end the lease, and disconnect."""
        while self._task is not None:
            await asyncio.wait([self._task])
        await self._lease.end()
        await self._disconnect()

    async def _disconnect(self) -> None:
        for link in (self._reading, self._writing, self._leasing):
            await link.close()
