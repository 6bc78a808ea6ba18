"""The open data directory: reads and writes records, and recovers from a disk that failed."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import NamedTuple, TypeVar

from ...edge.errors import StartError
from ..interface import DAMAGED, Batch, CorruptError, Mark, StoreError
from . import files as leveldb_files
from .bindings import plyvel
from .record_format import key_of, number_element, parse_key, seal

WRITE_BUFFER = 4_194_304
"""Bytes of a batch that LevelDB moves to a table before it writes another one: its default ``write_buffer_size``."""

FAULTS = (plyvel.Error, OSError, RuntimeError)
"""The errors of plyvel."""

T = TypeVar("T")


class Survey(NamedTuple):
    """What can be read of a database that may be damaged.

    Attributes:
        listed: the names of documents that have a state vector.
        stored: the names of those that have updates.
        damage: what could not be read, or None.
    """

    listed: set[str]
    stored: set[str]
    damage: str | None


class RecordBatch(Batch):
    """What is to be written to a database in one step.

    Attributes:
        puts: keys and values to write as they are.
        sealed: keys, values to write as `record_format.seal` returns them, and the number of the document's first
            update.
        deletes: keys to delete.
    """

    def __init__(self) -> None:
        self.puts: list[tuple[bytes, bytes]] = []
        self.sealed: list[tuple[bytes, bytes, int]] = []
        self.deletes: list[bytes] = []

    def __bool__(self) -> bool:
        return bool(self.puts or self.sealed or self.deletes)

    @property
    def size(self) -> int:
        """Bytes of the values."""
        size = 0
        for _, value in self.puts:
            size += len(value)
        for _, value, _ in self.sealed:
            size += len(value)
        return size

    def mark(self) -> Mark:
        """Return how many there are of each."""
        return len(self.puts), len(self.sealed), len(self.deletes)

    def take_back(self, mark: Mark) -> None:
        """Take back what was added since."""
        puts, sealed, deletes = mark
        del self.puts[puts:], self.sealed[sealed:], self.deletes[deletes:]


class Database:
    """A directory of documents, held by this process alone.

    Args:
        path: the directory; made if it is not there.

    Attributes:
        failure: what the last write failed with, for people; None when it succeeded.
        unsynced: whether something was written that a power cut would take.

    Raises:
        StartError: it cannot be opened; what is in it was not changed.
    """

    def __init__(self, path: str) -> None:
        self.failure: str | None = None
        self.unsynced = False
        self._must_reopen = False  # before anything is written
        self._path = leveldb_files.directory_named(f"PERSIST_DIR {path}", path)
        self._lock = threading.Lock()  # is held while somebody reads: the database must not be closed then
        try:
            self._path.mkdir(mode=0o700, parents=True, exist_ok=True)  # the documents are nobody else's
            self._db = self._open()
        except leveldb_files.InUseError:
            raise StartError(f"PERSIST_DIR {path} is in use by another process") from None
        except CorruptError as error:
            raise StartError(f"PERSIST_DIR {path} cannot be opened: it is damaged: {error}. {DAMAGED}") from None
        except (StoreError, OSError) as error:
            raise StartError(f"PERSIST_DIR {path} cannot be opened: {_sentence(error)}") from None

    def _open(self) -> plyvel.DB:
        """Open LevelDB, if it would find everything that was stored.

        Raises:
            InUseError: another process holds the directory.
            StoreError, OSError: it cannot be opened.
        """
        with leveldb_files.held(self._path):
            there = leveldb_files.prepare(self._path)
        try:
            with _explained():
                # No cache of blocks: a document is read once, and its blocks would stay, however large they are.
                db = plyvel.DB(str(self._path), create_if_missing=not there, paranoid_checks=True, lru_cache_size=0)
        except StoreError as error:
            if "lock " in str(error):  # "already held by process", or "Resource temporarily unavailable"
                raise leveldb_files.InUseError from None
            raise
        leveldb_files.mark_format(self._path)
        leveldb_files.restrict(self._path)
        # LevelDB leaves what it wrote while it opened to the operating system.
        files = leveldb_files.data_files(self._path)
        self._synced_logs = leveldb_files.logs(self._path)
        leveldb_files.sync(*files, self._path / "CURRENT", self._path, self._path.parent)
        return db

    def survey(self) -> Survey:
        """Read everything, and return which documents that shows; no thread may write meanwhile."""
        listed: set[str] = set()
        stored: set[str] = set()
        damage: str | None = None
        with _explained(), self._db.raw_iterator(verify_checksums=True) as records:
            move = records.seek_to_first
            while True:
                try:
                    move()  # moves on, whatever it raises
                except plyvel.Error as error:
                    damage = _sentence(error)
                if not records.valid():
                    return Survey(listed, stored, damage)
                move = records.next
                try:
                    kind, name = parse_key(records.key())
                except CorruptError as error:
                    damage = str(error)
                    continue
                if kind == "v1_sv":
                    listed.add(name)
                elif kind == "update":
                    stored.add(name)

    def stored_names(self) -> Iterator[str]:
        """Yield the names of all documents that have updates.

        Raises:
            StoreError: the disk failed.
            CorruptError: the data is damaged.
        """
        prefix = at = key_of("v1")
        while (key := self._first_key(at)).startswith(prefix):
            _, name = parse_key(key)
            if self.holds(key_of("v1", name, "update")):
                yield name
            at = key_of("v1", name) + b"\xff"  # behind every record of this document

    def crowded_names(self, records: int) -> Iterator[str]:
        """Yield the names of all documents that have more than `records` updates.

        Raises:
            StoreError: the disk failed.
            CorruptError: the data is damaged.
        """
        for name in self.stored_names():
            prefix = key_of("v1", name, "update")
            first = int.from_bytes(self._first_key(prefix)[-4:], "big")
            if self._first_key(prefix + number_element(first + records)).startswith(prefix):
                yield name

    def names_with(self, kind: str) -> Iterator[str]:
        """Yield the names of all documents that have a record of a kind, such as ``history``.

        Raises:
            StoreError: the disk failed.
            CorruptError: the data is damaged.
        """
        prefix = at = key_of("v1")
        while (key := self._first_key(at)).startswith(prefix):
            _, name = parse_key(key)
            if self.holds(key_of("v1", name, kind)):
                yield name
            at = key_of("v1", name) + b"\xff"  # behind every record of this document

    def holds(self, prefix: bytes) -> bool:
        """Return whether there is a key that begins with `prefix`.

        Raises:
            StoreError: the disk failed.
            CorruptError: the data is damaged.
        """
        return self._first_key(prefix).startswith(prefix)

    def _first_key(self, start: bytes) -> bytes:
        """Return the first key from `start` on, or nothing if there is none."""
        with self._lock, _explained(), self._db.raw_iterator(verify_checksums=True) as records:
            records.seek(start)
            key: bytes = records.key() if records.valid() else b""
        return key

    def last_key(self, prefix: bytes) -> bytes | None:
        """Return the last key that begins with `prefix`, or None if there is none.

        Raises:
            StoreError: the disk failed.
            CorruptError: the data is damaged.
        """
        with self._lock, _explained(), self._db.raw_iterator(verify_checksums=True) as records:
            records.seek(prefix + b"\xff")
            if records.valid():
                records.prev()
            else:
                records.seek_to_last()
            key = records.key() if records.valid() else b""
        return key if key.startswith(prefix) else None

    def keys(self, prefix: bytes) -> list[bytes]:
        """Return every key that begins with `prefix`, in order.

        Raises:
            StoreError: the disk failed.
            CorruptError: the data is damaged.
        """
        found = []
        with self._lock, _explained(), self._db.raw_iterator(verify_checksums=True) as records:
            records.seek(prefix)
            while records.valid() and (key := records.key()).startswith(prefix):
                found.append(key)
                records.next()
        return found

    def shrink(self) -> None:
        """Give the space of what was deleted back to the disk; it may take a while.

        Raises:
            StoreError: the disk failed.
            CorruptError: the data is damaged.
        """
        self._db.compact_range(start=b"\x00", stop=b"\xff")  # plyvel takes no bounds for an empty range
        self.write(RecordBatch())  # fails if that has failed

    def get(self, key: bytes) -> bytes | None:
        """Return one value, or None if it is not there.

        Raises:
            StoreError: the disk failed.
            CorruptError: the data is damaged.
        """
        with self._lock, _explained():
            value: bytes | None = self._db.get(key, verify_checksums=True)
        return value

    def read(self, prefix: bytes, take: Callable[[bytes, BytesIO], T]) -> list[T]:
        """Return what `take` makes of each key that begins with `prefix`, in order, and of its value.

        So no more than one value is in memory besides what `take` returns.

        Raises:
            StoreError: the disk failed.
            CorruptError: the data is damaged.
        """
        found = []
        # plyvel's own iterator takes a damaged block for the end.
        with self._lock, _explained(), self._db.raw_iterator(verify_checksums=True) as records:
            records.seek(prefix)
            while records.valid() and (key := records.key()).startswith(prefix):
                value = BytesIO(records.value())  # has the only reference, and so can change it without a copy
                records.next()  # LevelDB forgets the block of which `value` is a copy
                found.append(take(key, value))
        return found

    def write(self, batch: RecordBatch, *, sync: bool = False) -> None:
        """Write and delete records in one batch: all of it or nothing.

        Args:
            batch: what to write.
            sync: whether it survives a power cut when this returns, and not only the end of this process.

        Raises:
            StoreError: the disk failed. `failure` says so until a write succeeds.
        """
        try:
            if self._must_reopen:
                self._reopen()
            size = batch.size
            with self._db.write_batch(transaction=True, sync=sync) as records:
                for key, value in batch.puts:
                    records.put(key, value)
                for key, value, first in batch.sealed:
                    records.put(key, seal(key, value, first))
                for key in batch.deletes:
                    records.delete(key)
            if size > WRITE_BUFFER:
                self._make_table()
            if sync:
                self._sync_directory()
        except StoreError as error:
            self._failed(error)
            raise
        except FAULTS as fault:
            failure = _store_error(fault)
            self._failed(failure)
            raise failure from fault
        self.unsynced = self.unsynced or not sync
        self.failure = None

    def _make_table(self) -> None:
        """Have LevelDB move a large batch from memory to a table; else it does so before the next write, if one comes.

        Until then it would keep the batch in memory. At a restart it would read it from the log, in several copies.

        Raises:
            StoreError: the disk failed.
        """
        with _explained(), self._db.write_batch():
            pass  # a write of nothing

    def sync(self) -> None:
        """Return when all that was written before survives a power cut. Any thread may call this; nothing waits for it.

        LevelDB's own sync would hold up every write that comes meanwhile, so it is not used.

        Raises:
            StoreError: the disk failed. `failure` says so until a write succeeds.
        """
        self.unsynced = False  # what is written from here on may need another one
        try:
            # What was in a log that is gone meanwhile is in a table, and LevelDB syncs tables.
            with _explained():
                leveldb_files.sync(*leveldb_files.logs(self._path))
            self._sync_directory()
        except StoreError as error:
            self.unsynced = True
            self._failed(error)
            raise

    def _sync_directory(self) -> None:
        """Return when the names of new logs survive a power cut.

        Raises:
            StoreError: the disk failed.
        """
        with _explained():
            logs = leveldb_files.logs(self._path)
            if not logs <= self._synced_logs:
                leveldb_files.sync(self._path)
            self._synced_logs = logs

    def _failed(self, error: StoreError) -> None:
        self._must_reopen = True
        self.failure = "Documents cannot be written to disk."
        if isinstance(error, CorruptError):  # LevelDB met it while it merged tables, and writes nothing more then
            self.failure = "The stored data is damaged, so documents cannot be written to disk."

    def _reopen(self) -> None:
        """Open LevelDB anew, which writes what its log has to a table, with a sync.

        After a write failed, LevelDB would go on in a log that is torn there, and would not read on from there
        (https://github.com/google/leveldb/issues/1180; remove when a release ends such a log). After a sync failed,
        the operating system forgets what it could not write.

        Raises:
            StoreError: that failed, or somebody is reading in another thread: the next write tries again.
        """
        if not self._lock.acquire(blocking=False):
            raise StoreError("the disk had failed and is still being read")
        try:
            self._db.close()
            self._db = self._open()
            self._must_reopen = False
        except (leveldb_files.InUseError, OSError) as error:
            raise StoreError(_sentence(error) or "another process has taken the directory") from error
        finally:
            self._lock.release()

    def close(self) -> None:
        """Close the directory; another process may then hold it."""
        self._db.close()


@contextmanager
def _explained() -> Iterator[None]:
    """Raise what plyvel raises as an error of the store."""
    try:
        yield
    except FAULTS as fault:
        raise _store_error(fault) from fault


def _store_error(fault: Exception) -> StoreError:
    """Return the error of the store that says what plyvel has raised."""
    kind = CorruptError if isinstance(fault, plyvel.CorruptionError) else StoreError
    return kind(_sentence(fault))


def _sentence(error: Exception) -> str:
    """Return what an error says; plyvel's errors say it in bytes."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    said = error.args[0] if error.args else ""
    return said.decode(errors="replace") if isinstance(said, bytes) else str(said)
