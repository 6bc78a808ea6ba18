"""The store in LevelDB, in the format of npm's y-leveldb.

A community that ran y-websocket points ``PERSIST_DIR`` at its directory and goes on, and can go back.
Keys are concatenated elements: a string is ``00``, its byte length as a varuint, its UTF-8 bytes; a number is
``01`` and four bytes, big-endian. The records of a document:

* ``['v1', doc, 'update', n]``: a Yjs update, format 1; a document is the merge of all of them. Their numbers
  have no gaps;
* ``['v1_sv', doc]``: varuint clock, state vector. It makes the document listed, and is trusted by readers
  only if its clock is the last update's ``n``; there is one for every document with updates;
* ``['v1', doc, 'meta', 'opennoodl-index']``: our index of a large update, see ``yjs.segment_index``;
* ``['v1', doc, 'meta', key]``: others' metadata, left alone.

Behind the end of an update and of a state vector, where y-leveldb does not read, stands a checksum (`integrity`).

Source of the format: y-leveldb 0.1.2, ``src/y-leveldb.js``.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from . import leveldb_files
from .edge.application import StartError
from .integrity import seal, unseal
from .leveldb_bindings import plyvel
from .store import Batch, CorruptError, DocumentStore, Record, StoreError
from .yjs.lib0 import MalformedError, finish, read_bytes, read_varuint, write_bytes, write_varuint
from .yjs.state_vector import decode

BYTES = b"\x74"
"""How bytes begin among y-leveldb's metadata, which is in lib0's encoding of any value."""
DAMAGED = "Put a backup back, or see what the command `repair` can read"
"""What an operator can do about a damaged directory."""


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
        self._path = Path(path)
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
                db = plyvel.DB(str(self._path), create_if_missing=not there, paranoid_checks=True)
        except StoreError as error:
            if "lock " in str(error):  # "already held by process", or "Resource temporarily unavailable"
                raise leveldb_files.InUseError from None
            raise
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
        with _explained(), self._db.raw_iterator(verify_checksums=True, fill_cache=False) as records:
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
        prefix = at = _key("v1")
        while (key := self._first_key(at)).startswith(prefix):
            _, name = parse_key(key)
            if self.holds(_key("v1", name, "update")):
                yield name
            at = _key("v1", name) + b"\xff"  # behind every record of this document

    def crowded_names(self, records: int) -> Iterator[str]:
        """Yield the names of all documents that have more than `records` updates.

        Raises:
            StoreError: the disk failed.
            CorruptError: the data is damaged.
        """
        for name in self.stored_names():
            prefix = _key("v1", name, "update")
            first = int.from_bytes(self._first_key(prefix)[-4:], "big")
            if self._first_key(prefix + _number(first + records)).startswith(prefix):
                yield name

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

    def delete(self, name: str) -> None:
        """Delete everything that is stored under a name, others' metadata included.

        Raises:
            StoreError: the disk failed; everything is as before.
            CorruptError: the data is damaged; everything is as before.
        """
        batch = Batch()
        batch.deletes = [_key("v1_sv", name), *(key for key, _ in self.read(_key("v1", name)))]
        self.write(batch)

    def shrink(self) -> None:
        """Give the space of what was deleted back to the disk; it may take a while.

        Raises:
            StoreError: the disk failed.
            CorruptError: the data is damaged.
        """
        self._db.compact_range(start=b"\x00", stop=b"\xff")  # plyvel takes no bounds for an empty range
        self.write(Batch())  # fails if that has failed

    def get(self, key: bytes) -> bytes | None:
        """Return one value, or None if it is not there.

        Raises:
            StoreError: the disk failed.
            CorruptError: the data is damaged.
        """
        with self._lock, _explained():
            value: bytes | None = self._db.get(key, verify_checksums=True)
        return value

    def read(self, prefix: bytes) -> list[tuple[bytes, bytes]]:
        """Return every key that begins with `prefix`, in order, and its value.

        Raises:
            StoreError: the disk failed.
            CorruptError: the data is damaged.
        """
        found = []
        # plyvel's own iterator takes a damaged block for the end.
        with self._lock, _explained(), self._db.raw_iterator(verify_checksums=True) as records:
            records.seek(prefix)
            while records.valid() and (key := records.key()).startswith(prefix):
                found.append((key, records.value()))
                records.next()
        return found

    def write(self, batch: Batch, *, sync: bool = False) -> None:
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
            with _explained(), self._db.write_batch(transaction=True, sync=sync) as records:
                for key, value in batch.puts:
                    records.put(key, value)
                for key in batch.deletes:
                    records.delete(key)
            if sync:
                self._sync_directory()
        except StoreError as error:
            self._failed(error)
            raise
        self.unsynced = self.unsynced or not sync
        self.failure = None

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

        After a write failed, LevelDB would go on in a log that is torn there, and would not read on from there. After
        a sync failed, the operating system forgets what it could not write.

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


class LevelYStore(DocumentStore):
    """One document's updates in a `Database`.

    Args:
        name: the document's name.
        database: where it is kept.
    """

    def __init__(self, name: str, *, database: Database) -> None:
        self._database = database
        self._prefix = _key("v1", name, "update")
        self._state_vector_key = _key("v1_sv", name)
        self._index_key = _key("v1", name, "meta", "opennoodl-index")
        self._first: int | None = None  # the number of the first update, if there is one
        self._next: int | None = None  # the number for the next one
        self._numbers: set[int] = set()  # of the records that are there, or will be when a batch is written

    def exists(self) -> bool:
        """Return whether anything is kept under this name, damaged or not.

        Raises:
            StoreError: the disk failed.
            CorruptError: the data is so damaged that this cannot be said.
        """
        return self._database.get(self._state_vector_key) is not None or self._database.holds(self._prefix)

    def records(self) -> list[Record]:
        """Return everything that is kept; what is appended later comes behind it."""
        records, first = self._verified()
        if records and self._first is None:
            self._first = first
        # A batch that is not written yet may have gone further.
        self._next = max(self._next or 0, records[-1].number + 1 if records else 0)
        self._numbers.update(record.number for record in records)
        return records

    def append(self, updates: Sequence[bytes], state_vector: Callable[[], bytes], batch: Batch) -> None:
        """Have `batch` keep `updates`, and the state vector if they are the first."""
        if self._next is None:
            self.records()
        if self._first is None:
            self._first = self._next or 0
            batch.puts.append(self._put_state_vector(self._first, state_vector()))
        first = self._next or 0
        batch.puts += self._sealed(first, updates)
        self._next = first + len(updates)
        self._numbers.update(range(first, self._next))

    def last(self) -> int:
        """Return the number of the last record that is kept, or will be when a batch is written; -1 for none."""
        if self._next is None:
            self.records()
        return (self._next or 0) - 1

    def index(self) -> bytes | None:
        """Return the index that `replace` was given last, if it is still there; others may have written since."""
        with suppress(CorruptError, MalformedError):  # a document is loaded without it, only more slowly
            stored = self._database.get(self._index_key)
            if stored is not None:
                return read_bytes(unseal(self._index_key, stored)[0], len(BYTES))[0]
        return None

    def replace(
        self, last: int, updates: Sequence[bytes], state_vector: bytes, index: bytes | None, batch: Batch
    ) -> None:
        """Have `batch` keep `updates` in place of all that was read and appended up to record `last`."""
        if self._next is None:
            self.records()
        self._first = last + 1 - len(updates)
        batch.deletes += [self._prefix + _number(number) for number in self._numbers if number < self._first]
        batch.puts += self._sealed(self._first, updates)
        batch.puts.append(self._put_state_vector(last, state_vector))
        if index is None:
            batch.deletes.append(self._index_key)
        else:
            batch.puts.append((self._index_key, seal(self._index_key, BYTES + write_bytes(index), self._first)))
        self._numbers = {number for number in self._numbers if number > last}.union(range(self._first, last + 1))

    def commit(self, batch: Batch) -> None:
        """Write a batch."""
        self._database.write(batch)

    def salvage(self) -> tuple[list[bytes], list[int]]:
        """Return the updates of a damaged document that are sound, and the numbers of those that are lost.

        `replace` or `discard` puts the document in order then.

        Raises:
            StoreError: the disk failed.
            CorruptError: the data is damaged in a way that LevelDB itself must repair.
        """
        updates: dict[int, bytes] = {}
        first = None
        self._next = 0
        for key, stored in self._database.read(self._prefix):
            number = int.from_bytes(key[-4:], "big")
            self._numbers.add(number)
            self._next = number + 1
            try:
                updates[number], first = unseal(key, stored)
            except CorruptError:
                continue
        with suppress(CorruptError):
            record = self._state_vector()
            if record is not None:
                self._next = max(self._next, record[0] + 1)
                first = first if record[2] is None else record[2]
        if first is None:
            first = min(updates, default=0)
        lost = [number for number in range(first, self._next) if number not in updates]
        return [update for number, update in updates.items() if number >= first], lost

    def discard(self, batch: Batch) -> None:
        """Have `batch` delete what was read, and the state vector."""
        batch.deletes += [self._prefix + _number(number) for number in self._numbers]
        batch.deletes += [self._state_vector_key, self._index_key]
        self._numbers, self._first, self._next = set(), None, None

    def stale_state_vector(self, state_vector: bytes) -> bool:
        """Return whether readers would trust a stored state vector that is not `state_vector`.

        They do if its clock is the last update's; call it after `records`.
        """
        record = self._state_vector()
        # The order of clients in a state vector is free.
        return (
            record is not None
            and record[0] == (self._next or 0) - 1
            and finish(decode(record[1])) != finish(decode(state_vector))
        )

    def _verified(self) -> tuple[list[Record], int]:
        """Return every record, and the number of the first.

        Raises:
            CorruptError: one is damaged or missing.
        """
        records: list[Record] = []
        first: int | None = None
        for key, stored in self._database.read(self._prefix):
            number = int.from_bytes(key[-4:], "big")
            try:
                update, first = unseal(key, stored)
            except CorruptError as error:
                raise CorruptError(f"update {number}: {error}") from None
            if records and number != records[-1].number + 1:
                raise CorruptError(f"updates {records[-1].number + 1} to {number - 1} are missing")
            records.append(Record(number, update))
        record = self._state_vector()
        if not records:
            if record is not None:
                raise CorruptError("there is a state vector, and no update")
            return [], 0
        if record is None:
            raise CorruptError("there are updates, and no state vector")
        # A compaction replaces the first updates and this record, and leaves later updates as they are.
        first = first if record[2] is None else record[2]
        if first is not None and records[0].number > first:
            raise CorruptError(f"updates {first} to {records[0].number - 1} are missing")
        if record[0] > records[-1].number:
            raise CorruptError(f"updates {records[-1].number + 1} to {record[0]} are missing")
        return records, records[0].number

    def _state_vector(self) -> tuple[int, bytes, int | None] | None:
        """Return the stored state vector between the number of the update that it is of and that of the first one."""
        stored = self._database.get(self._state_vector_key)
        if stored is None:
            return None
        try:
            record, first = unseal(self._state_vector_key, stored)
            clock, at = read_varuint(record, 0)
            return clock, read_bytes(record, at)[0], first
        except (CorruptError, MalformedError) as error:
            raise CorruptError(f"the state vector is damaged: {error}") from None

    def _sealed(self, number: int, updates: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
        """Return the records of updates, the first of which has this number."""
        assert self._first is not None
        keys = (self._prefix + _number(number + i) for i in range(len(updates)))
        return [(key, seal(key, update, self._first)) for key, update in zip(keys, updates, strict=True)]

    def _put_state_vector(self, clock: int, state_vector: bytes) -> tuple[bytes, bytes]:
        assert self._first is not None
        key = self._state_vector_key
        return key, seal(key, write_varuint(clock) + write_bytes(state_vector), self._first)


@contextmanager
def _explained() -> Iterator[None]:
    """Raise what plyvel raises as an error of the store."""
    try:
        yield
    except plyvel.CorruptionError as error:
        raise CorruptError(_sentence(error)) from error
    except (plyvel.Error, OSError, RuntimeError) as error:
        raise StoreError(_sentence(error)) from error


def _sentence(error: Exception) -> str:
    """Return what an error says; plyvel's errors say it in bytes."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    said = error.args[0] if error.args else ""
    return said.decode(errors="replace") if isinstance(said, bytes) else str(said)


def _key(*elements: str) -> bytes:
    return b"".join(b"\x00" + write_bytes(element.encode()) for element in elements)


def parse_key(key: bytes) -> tuple[str, str]:
    """Return the kind of a key ("v1_sv", or what stands behind "v1" and the name) and the document's name.

    Raises:
        CorruptError: y-leveldb has no such key.
    """
    try:
        version, at = read_bytes(key, 1)
        name, at = read_bytes(key, at + 1)
        kind = version if version == b"v1_sv" else read_bytes(key, at + 1)[0]
        return kind.decode(), name.decode()
    except (MalformedError, UnicodeDecodeError):
        raise CorruptError(f"the key {key.hex()} is none of y-leveldb's") from None


def _number(number: int) -> bytes:
    return b"\x01" + number.to_bytes(4, "big")
