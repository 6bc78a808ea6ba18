"""The open data directory: reads and writes records, and recovers after a failure of the disk."""

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
"""Bytes from which LevelDB moves a batch to a table before the next write: its default ``write_buffer_size``."""

FAULTS = (plyvel.Error, OSError, RuntimeError)
"""The errors of plyvel."""

T = TypeVar("T")


class Survey(NamedTuple):
    """The readable names of a database that may be damaged.

    Attributes:
        listed: the names of documents that have a state vector.
        stored: the names of documents that have updates.
        damage: the unreadable part, or None.
    """

    listed: set[str]
    stored: set[str]
    damage: str | None


class RecordBatch(Batch):
    """Changes that are written to a database atomically.

    Attributes:
        puts: keys and values, written unchanged.
        sealed: keys, values to write in the form of `record_format.seal`, and the number of the document's first
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
        """Return the number of changes of each kind."""
        return len(self.puts), len(self.sealed), len(self.deletes)

    def take_back(self, mark: Mark) -> None:
        """Remove the changes that were added after `mark`."""
        puts, sealed, deletes = mark
        del self.puts[puts:], self.sealed[sealed:], self.deletes[deletes:]


class Database:
    """A directory of documents, locked by this process.

    Args:
        path: the directory; it is created if it does not exist.

    Attributes:
        failure: the reason of the last failed write, for people; None if it succeeded.
        unsynced: whether there are writes that a power cut would lose.

    Raises:
        StartError: it cannot be opened; its content is unchanged.
    """

    def __init__(self, path: str) -> None:
        self.failure: str | None = None
        self.unsynced = False
        self._must_reopen = False  # whether to reopen LevelDB before the next write
        self._path = leveldb_files.directory_named(f"PERSIST_DIR {path}", path)
        self._lock = threading.Lock()  # held during reads, since the database must not be closed then
        try:
            self._path.mkdir(mode=0o700, parents=True, exist_ok=True)  # only this user may read the documents
            self._db = self._open()
        except leveldb_files.InUseError:
            raise StartError(f"PERSIST_DIR {path} is in use by another process") from None
        except CorruptError as error:
            raise StartError(f"PERSIST_DIR {path} cannot be opened: it is damaged: {error}. {DAMAGED}") from None
        except (StoreError, OSError) as error:
            raise StartError(f"PERSIST_DIR {path} cannot be opened: {_sentence(error)}") from None

    def _open(self) -> plyvel.DB:
        """Open LevelDB, after a check that it will find all stored records.

        Raises:
            InUseError: another process has locked the directory.
            StoreError, OSError: it cannot be opened.
        """
        with leveldb_files.held(self._path):
            there = leveldb_files.prepare(self._path)
        try:
            with _explained():
                # No block cache: a document is read once, and its blocks would stay in memory, of any size.
                db = plyvel.DB(str(self._path), create_if_missing=not there, paranoid_checks=True, lru_cache_size=0)
        except StoreError as error:
            if "lock " in str(error):  # "already held by process", or "Resource temporarily unavailable"
                raise leveldb_files.InUseError from None
            raise
        leveldb_files.mark_format(self._path)
        leveldb_files.restrict(self._path)
        # LevelDB does not sync the files that it writes when it opens.
        files = leveldb_files.data_files(self._path)
        self._synced_logs = leveldb_files.logs(self._path)
        leveldb_files.sync(*files, self._path / "CURRENT", self._path, self._path.parent)
        return db

    def survey(self) -> Survey:
        """Read all records, and return the names of documents; no thread may write in the meantime."""
        listed: set[str] = set()
        stored: set[str] = set()
        damage: str | None = None
        with _explained(), self._db.raw_iterator(verify_checksums=True) as records:
            move = records.seek_to_first
            while True:
                try:
                    move()  # it moves on even if it raises
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
            at = key_of("v1", name) + b"\xff"  # after all records of this document

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
            at = key_of("v1", name) + b"\xff"  # after all records of this document

    def holds(self, prefix: bytes) -> bool:
        """Return whether there is a key that begins with `prefix`.

        Raises:
            StoreError: the disk failed.
            CorruptError: the data is damaged.
        """
        return self._first_key(prefix).startswith(prefix)

    def _first_key(self, start: bytes) -> bytes:
        """Return the first key from `start` on; empty if there is none."""
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
        """Free the disk space of deleted records; this may take long.

        Raises:
            StoreError: the disk failed.
            CorruptError: the data is damaged.
        """
        self._db.compact_range(start=b"\x00", stop=b"\xff")  # plyvel needs bounds for the whole range
        self.write(RecordBatch())  # raises an error of the compaction

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a key, or None if the key does not exist.

        Raises:
            StoreError: the disk failed.
            CorruptError: the data is damaged.
        """
        with self._lock, _explained():
            value: bytes | None = self._db.get(key, verify_checksums=True)
        return value

    def read(self, prefix: bytes, take: Callable[[bytes, BytesIO], T]) -> list[T]:
        """Call `take` with each key that begins with `prefix`, in order, and its value; return the results.

        Only one value is in memory at a time, besides the results of `take`.

        Raises:
            StoreError: the disk failed.
            CorruptError: the data is damaged.
        """
        found = []
        # plyvel's own iterator stops without an error at a damaged block.
        with self._lock, _explained(), self._db.raw_iterator(verify_checksums=True) as records:
            records.seek(prefix)
            while records.valid() and (key := records.key()).startswith(prefix):
                value = BytesIO(records.value())  # the only reference, so that it can be changed without a copy
                records.next()  # LevelDB frees the block of `value`
                found.append(take(key, value))
        return found

    def write(self, batch: RecordBatch, *, sync: bool = False) -> None:
        """Write and delete records atomically.

        Args:
            batch: the changes.
            sync: whether they must survive a power cut when this returns, not only the end of this process.

        Raises:
            StoreError: the disk failed. `failure` is set until a write succeeds.
        """
        try:
            if self._must_reopen:
                self._reopen()
            size = batch.size
            self._write(batch, sync=sync)
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

    def _write(self, batch: RecordBatch, *, sync: bool) -> None:
        """Write a batch; LevelDB's copy of it is freed when this returns."""
        with self._db.write_batch(transaction=True, sync=sync) as records:
            for key, value in batch.puts:
                records.put(key, value)
            for key, value, first in batch.sealed:
                records.put(key, seal(key, value, first))
            for key in batch.deletes:
                records.delete(key)

    def _make_table(self) -> None:
        """Make LevelDB move a large batch from memory to a table now, instead of before the next write.

        Otherwise the batch would stay in memory. A restart would read it from the log, in several copies.

        Raises:
            StoreError: the disk failed.
        """
        with _explained(), self._db.write_batch():
            pass  # an empty write

    def sync(self) -> None:
        """Sync: all earlier writes survive a power cut when this returns. Any thread may call this; writes do not wait.

        LevelDB's own sync is not used, since it would block all other writes.

        Raises:
            StoreError: the disk failed. `failure` is set until a write succeeds.
        """
        self.unsynced = False  # later writes may need another sync
        try:
            # Records of a deleted log are in a table, and LevelDB syncs tables.
            with _explained():
                leveldb_files.sync(*leveldb_files.logs(self._path))
            self._sync_directory()
        except StoreError as error:
            self.unsynced = True
            self._failed(error)
            raise

    def _sync_directory(self) -> None:
        """Sync the directory: the names of new logs survive a power cut when this returns.

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
        if isinstance(error, CorruptError):  # found while LevelDB merged tables; it refuses further writes then
            self.failure = "The stored data is damaged, so documents cannot be written to disk."

    def _reopen(self) -> None:
        """Open LevelDB again, which moves the records of its log to a table, and syncs it.

        After a failed write, LevelDB would continue in a log with a torn record, and would not read beyond that record
        (https://github.com/google/leveldb/issues/1180; remove when a release ends such a log). After a failed sync, the
        operating system drops the data that it could not write.

        Raises:
            StoreError: it failed, or another thread is reading: the next write tries again.
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
        """Close the directory; another process may then open it."""
        self._db.close()


@contextmanager
def _explained() -> Iterator[None]:
    """Convert plyvel's errors to errors of the store."""
    try:
        yield
    except FAULTS as fault:
        raise _store_error(fault) from fault


def _store_error(fault: Exception) -> StoreError:
    """Return the store's error for an error of plyvel."""
    kind = CorruptError if isinstance(fault, plyvel.CorruptionError) else StoreError
    return kind(_sentence(fault))


def _sentence(error: Exception) -> str:
    """Return the text of an error; plyvel's texts are bytes."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    said = error.args[0] if error.args else ""
    return said.decode(errors="replace") if isinstance(said, bytes) else str(said)
