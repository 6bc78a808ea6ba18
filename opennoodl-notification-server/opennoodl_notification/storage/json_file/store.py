"""The store in one JSON file of TinyDB, with all records in memory and a journal beside the file.

A commit is one line at the end of the journal. When the journal has become larger than the file, a new journal is begun
and the file is written again with the changes of all earlier journals. The file's generation is the number of the first
journal that it does not include. The previous file stays as a backup, with the journals that follow it. Each of the two
files, with its journals, has all records.
"""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from glob import escape
from pathlib import Path

import structlog
from msgspec import structs

from ...edge.errors import StartError
from ...inbox.store import Changes, Counts, Needs, Query, Store, StoreError, Transaction, portions
from ...records import Deletion, Record
from ..file_lock import FileLock
from ..paths import named
from .contents import Contents, Snapshot
from .format import ForeignFileError
from .journal import Journal, JournalError, read
from .snapshot import ChecksumError, SnapshotFile, keep_directory, keep_names

LEAST = 1 << 20
"""Bytes below which a journal is never too large."""
ATTEMPTS = 100
"""Attempts to read a file that a server replaces at the same time."""
COMFORTABLE = 50_000
"""Notifications for which a file is suitable."""

log = structlog.get_logger()


class JsonTransaction(Transaction):
    """A batch in memory."""

    def __init__(self, store: "JsonStore", needs: Needs) -> None:
        self._store = store
        self.loaded = store.contents.load(needs)
        self.loaded.epoch = store.epoch

    async def commit(self, changes: Changes) -> int:
        """Write the changes to disk, and then to memory."""
        return await self._store.commit(changes)


class JsonStore(Store):
    """All inboxes in memory, with a file and a journal.

    Args:
        path: the path of the file; its directory is created if necessary.
        create: whether a missing file is allowed.
        read_only: whether to read without a lock, from a file that a server may use.

    Raises:
        StartError: the path cannot be a file.

    Attributes:
        contents: the records.
        epoch: the number of the journal that this process has begun. All inboxes that were read are from earlier
            epochs.
    """

    def __init__(self, path: str, *, create: bool = True, read_only: bool = False) -> None:
        self.contents = Contents()
        self.epoch = 0
        self._name = path
        self._path = named(f"DB_FILE {path}", path).resolve()  # the target of a link is locked and replaced
        self.file = self._path
        self._create = create
        self._read_only = read_only
        self._file = SnapshotFile(self._path)
        self._generation = 0  # the number of the current journal
        self._oldest = 0  # the number of the first journal whose changes are not in the file
        self._journal: Journal | None = None
        self._writing: asyncio.Task[None] | None = None
        self._warned = False
        self._stuck = False  # whether the last attempt to begin a journal failed

    async def open(self) -> None:
        """Lock and read the file and the journals, and begin a new journal."""
        if not self._create and not (self._path.exists() or self._numbers() or self._file.backup.exists()):
            raise StartError(f"{self._name} does not exist")
        try:
            outdated = self._open()
        except BlockingIOError:
            raise StartError(f"DB_FILE {self._name} is in use by another process") from None
        except OSError as error:
            raise StartError(f"DB_FILE {self._name} cannot be used: {error.strerror}") from None
        except ForeignFileError as error:
            raise StartError(f"DB_FILE {self._name} {error}; the file is unchanged: name another one") from None
        except (ValueError, RecursionError) as error:
            advice = "; the lines before it are undamaged" if isinstance(error, JournalError) else self._advice()
            if isinstance(error, ChecksumError):
                advice += "; if you edited it, delete its table `checksum`"
            raise StartError(f"DB_FILE {self._name} is damaged, and is unchanged: {error}{advice}") from None
        if outdated and not self._read_only:
            self._write_meanwhile()

    def transaction(self, needs: Needs) -> AbstractAsyncContextManager[Transaction]:
        """Begin a batch."""
        return nullcontext(JsonTransaction(self, needs))

    async def page(self, user: str, query: Query, now: str) -> list[Record]:
        """Return notifications of an inbox."""
        return self.contents.page(user, query, now)

    async def changed(self, user: str, since: int) -> list[Record | Deletion]:
        """Return the changes of an inbox."""
        return self.contents.changed(user, since)

    async def numbers(self, users: Collection[str]) -> dict[str, int]:
        """Return the sequence numbers of inboxes."""
        inboxes = self.contents.inboxes
        return {user: inboxes[user].sequence for user in users if user in inboxes}

    async def due(self, now: str, size: int) -> list[str]:
        """Return users whose inboxes have expired records."""
        sizes = ((user, self.contents.inboxes[user].total) for user in self.contents.due(now))
        return next(portions(sizes, size), [])

    async def clean(self, now: str) -> int:
        """Delete expired sendings; the next file is written without them."""
        return self.contents.clean(now)

    async def newest(self) -> str:
        """Return the time of the newest notification."""
        return max((inbox.newest for inbox in self.contents.inboxes.values()), default="")

    async def counts(self) -> Counts:
        """Return the numbers of records."""
        return self.contents.counts()

    async def total(self) -> int:
        """Return the number of notifications."""
        return len(self.contents)

    async def size(self) -> int:
        """Return the bytes that all records count."""
        return self.contents.size()

    async def content(self, size: int) -> AsyncIterator[Changes]:
        """Yield all records."""
        for piece in self.contents.content(size):
            yield piece

    async def commit(self, changes: Changes) -> int:
        """Write changes to the journal, then apply them; return the bytes of deleted payloads."""
        if self._journal is None or not self._journal.sound:
            raise StoreError("the journal's state on disk is unknown")
        try:
            await asyncio.to_thread(self._journal.append, changes)
        except OSError as error:
            raise _failed(error) from error
        freed = self.contents.apply(changes)
        if self._journal.size > max(LEAST, self._file.size) and (self._writing is None or self._writing.done()):
            await self._rotate()
        if len(self.contents) > COMFORTABLE and not self._warned:
            self._warned = True
            log.warning(
                "the JSON file has very many notifications; `migrate` them and set DATABASE_URL",
                stored=len(self.contents),
            )
        return freed

    async def recover(self) -> None:
        """Test whether the disk has space; after any other failure, write all records to a new file."""
        if self._writing is not None:
            await self._writing
        try:
            if self._journal is not None and self._journal.sound:
                await asyncio.to_thread(self._journal.probe)
            else:
                await asyncio.to_thread(self._renew)
        except OSError as error:
            raise _failed(error) from error

    async def purge(self) -> None:
        """Write all records to a new file; delete the previous one and all previous journals."""
        if self._writing is not None:
            await self._writing
        try:
            await asyncio.to_thread(self._purge)
        except OSError as error:
            raise _failed(error) from error

    async def back_up(self, path: Path) -> None:
        """Write all records to a file without a journal, with generations before each epoch of its later use."""
        snapshot = self.contents.snapshot()
        snapshot = snapshot._replace(inboxes=[structs.replace(inbox, epoch=-1) for inbox in snapshot.inboxes])
        try:
            await asyncio.to_thread(SnapshotFile(path).write, snapshot, 0)
        except OSError as error:
            raise _failed(error) from error

    async def close(self) -> None:
        """Write all records to the file, so that the last journal is empty, and release the lock."""
        if self._read_only:
            return
        if self._writing is not None:
            await self._writing
        if self._journal is not None:
            if self._journal.size:
                with suppress(OSError):  # the next start reads the journal instead
                    await asyncio.to_thread(self._renew)
            self._journal.close()
            self._journal = None
        self._lock.release()

    def _open(self) -> bool:
        if self._read_only:
            return self._read_beside_server()
        keep_directory(self._path.parent)
        self._lock = FileLock(self._path)
        try:
            outdated = self._read()
            self._begin(self._generation)
            self.epoch = self._generation
        except BaseException:
            self._lock.release()
            raise
        return outdated

    def _read_beside_server(self) -> bool:
        """Read like `_read`; repeat it if a server has replaced the file and deleted journals in the meantime."""
        for _ in range(ATTEMPTS):
            before = self._numbers()
            try:
                return self._read()
            except (StartError, FileNotFoundError):
                if self._numbers() == before:
                    raise
                self.contents = Contents()
        return self._read()

    def _read(self) -> bool:
        """Read the file and the journals after it; return whether the file must be written again."""
        there = self._path.exists()
        self._generation = self._oldest = self._file.read(self.contents)
        if not there and (traces := self._traces()):
            missing = f"DB_FILE {self._name} is missing, but {traces[0]} exists; restore it from a backup"
            raise StartError(missing + self._advice())
        numbers = [number for number in self._numbers() if number >= self._generation]
        for number in range(self._generation, numbers[-1] if numbers else self._generation + bool(self._generation)):
            if number not in numbers:
                name = self._journal_path(number).name
                advice = "to start without its changes, create an empty file with this name"
                raise StartError(f"DB_FILE {self._name} continues in {name}, which is missing; {advice}")
        replayed = False
        for number in numbers:
            path = self._journal_path(number)
            for changes in read(path, last=number == numbers[-1], mend=not self._read_only):
                self.contents.apply(changes)
            used = path.stat().st_size > 0
            self._generation = number + used
            replayed |= used
        self.contents.correct_states()
        if self._file.edited:  # the changes have no sequence numbers: devices must get their whole lists
            for inbox in self.contents.inboxes.values():
                inbox.forget()
        return replayed or self._file.edited

    def _traces(self) -> list[str]:
        """Return names of files that prove a former file: a backup, or journals without the very first one."""
        numbers = self._numbers()
        backup = [self._file.backup.name] * self._file.backup.exists()
        return backup if 0 in numbers else [*backup, *(self._journal_path(number).name for number in numbers)]

    def _advice(self) -> str:
        """Return advice for a missing file; empty if there is none."""
        backup = self._file.backup
        return f"; to start with its backup, rename {backup.name} to {self._path.name}" if backup.exists() else ""

    def _new(self, generation: int) -> Journal:
        journal = Journal(self._journal_path(generation))
        try:
            keep_names(self._path.parent)
        except OSError:
            journal.close()
            raise
        return journal

    def _begin(self, generation: int) -> None:
        """Begin a new journal."""
        journal = self._new(generation)
        if self._journal is not None:
            self._journal.close()
        self._journal, self._generation = journal, generation

    def _renew(self) -> None:
        """Begin a new journal, then write all records to the file; in this order, the file always has its journal."""
        if self._journal is not None:
            self._journal.mend()
        generation = self._generation + 1
        journal = self._new(generation)
        try:
            self._write(self.contents.snapshot(), generation)
        except OSError:
            journal.close()
            raise
        if self._journal is not None:
            self._journal.close()
        self._journal, self._generation = journal, generation

    def _purge(self) -> None:
        self._renew()
        self._file.backup.unlink(missing_ok=True)
        for number in self._numbers():
            if number < self._generation:
                self._journal_path(number).unlink(missing_ok=True)
        keep_names(self._path.parent)

    async def _rotate(self) -> None:
        """Begin a new journal, and write the file with the earlier changes in the background."""
        try:
            await asyncio.to_thread(self._begin, self._generation + 1)
        except OSError as error:
            if not self._stuck:  # otherwise it would be logged at every commit
                log.error("a new journal could not be started", error=error.strerror)
            self._stuck = True
            return
        self._stuck = False
        self._write_meanwhile()

    def _write_meanwhile(self) -> None:
        snapshot, generation = self.contents.snapshot(), self._generation

        async def write() -> None:
            try:
                await asyncio.to_thread(self._write, snapshot, generation)
            except OSError as error:
                # Nothing is lost, since the journals have it. The next attempt comes when the current journal has
                # grown.
                log.error("the file could not be written", error=error.strerror)

        self._writing = asyncio.create_task(write())

    def _write(self, snapshot: Snapshot, generation: int) -> None:
        """Write the file, and delete the journals that neither the file nor its backup needs."""
        if self._file.write(snapshot, generation):  # otherwise the backup is older, and needs its journals
            for number in self._numbers():
                if number < self._oldest:
                    self._journal_path(number).unlink(missing_ok=True)
        self._oldest = generation

    def _numbers(self) -> list[int]:
        """Return the numbers of the existing journals."""
        paths = self._path.parent.glob(f"{escape(self._path.name)}.journal.*")
        return sorted(int(path.suffix[1:]) for path in paths if path.suffix[1:].isdecimal())

    def _journal_path(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.journal.{number}")


def _failed(error: OSError) -> StoreError:
    return StoreError(error.strerror or str(error))
