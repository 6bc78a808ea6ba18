"""The store in LevelDB, in the format of npm's y-leveldb.

A community that ran y-websocket points ``PERSIST_DIR`` at its directory and goes on, and can go back.
Keys are concatenated elements: a string is ``00``, its byte length as a varuint, its UTF-8 bytes; a number is
``01`` and four bytes, big-endian. The records of a document:

* ``['v1', doc, 'update', n]``: a Yjs update, format 1; a document is the merge of all of them;
* ``['v1_sv', doc]``: varuint clock, state vector. It makes the document listed, and is trusted by readers
  only if its clock is the last update's ``n``;
* ``['v1', doc, 'meta', key]``: others' metadata, left alone.

Source of the format: y-leveldb 0.1.2, ``src/y-leveldb.js``.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import plyvel

from .edge.application import StartError
from .store import Batch, DocumentStore, Record, StoreError
from .yjs.lib0 import MalformedError, finish, read_bytes, read_varuint, write_bytes, write_varuint
from .yjs.state_vector import decode

LAST = 0xFFFFFFFF


class Database:
    """A directory of documents, held by this process alone.

    Args:
        path: the directory; made if it is not there.

    Attributes:
        failure: what the last write failed with, for people; None when it succeeded.

    Raises:
        StartError: it cannot be opened; what is in it was not changed.
    """

    def __init__(self, path: str) -> None:
        self.failure: str | None = None
        self._path = path
        self._lock = threading.Lock()  # is held while somebody reads: the database must not be closed then
        try:
            Path(path).mkdir(mode=0o700, parents=True, exist_ok=True)  # the documents are nobody else's
            # LevelDB would make a new database over what is left of one that lost its CURRENT file.
            remains = any(Path(path).glob("MANIFEST-*"))
            self._db = plyvel.DB(path, create_if_missing=not remains)
        except (plyvel.Error, OSError) as error:
            why = _sentence(error)
            if "lock " in why:  # "already held by process", or "Resource temporarily unavailable"
                raise StartError(f"PERSIST_DIR {path} is in use by another process") from None
            raise StartError(f"PERSIST_DIR {path} cannot be opened: {why}") from None

    def names(self) -> Iterator[str]:
        """Yield the names of all documents."""
        for key in self._db.iterator(prefix=_key("v1_sv"), include_value=False):
            _, at = read_bytes(key, 1)
            yield read_bytes(key, at + 1)[0].decode()

    def stored_names(self) -> Iterator[str]:
        """Yield the names of all documents that have updates, listed or not.

        Raises:
            StoreError: the disk failed, or the data is damaged.
        """
        prefix = _key("v1")
        at = prefix
        while (key := self._first_key(at)).startswith(prefix):
            _, end = read_bytes(key, len(prefix) + 1)
            name = key[len(prefix) : end]
            if key.startswith(prefix + name + _key("update")):
                yield read_bytes(key, len(prefix) + 1)[0].decode()
            at = prefix + name + b"\xff"  # behind every record of this document

    def crowded_names(self, records: int) -> Iterator[str]:
        """Yield the names of all documents that have more than `records` updates.

        Raises:
            StoreError: the disk failed, or the data is damaged.
        """
        for name in self.stored_names():
            prefix = _key("v1", name, "update")
            first = int.from_bytes(self._first_key(prefix)[-4:], "big")
            if self.count(prefix) - first > records:
                yield name

    def _first_key(self, start: bytes) -> bytes:
        """Return the first key from `start` on, or nothing if there is none."""
        try:
            with self._lock, self._db.iterator(start=start, include_value=False) as keys:
                key: bytes = next(keys, b"")
        except (plyvel.Error, OSError, RuntimeError) as error:
            raise StoreError(_sentence(error)) from error
        return key

    def delete(self, name: str) -> None:
        """Delete everything that is stored under a name, others' metadata included.

        Raises:
            StoreError: the disk failed; everything is as before.
        """
        batch = Batch()
        batch.deletes = [_key("v1_sv", name), *self._db.iterator(prefix=_key("v1", name), include_value=False)]
        self.write(batch)

    def shrink(self) -> None:
        """Give the space of what was deleted back to the disk; it may take a while."""
        self._db.compact_range()

    def get(self, key: bytes) -> bytes | None:
        """Return one record, or None if it is not there.

        Raises:
            StoreError: the disk failed, or the data is damaged.
        """
        try:
            with self._lock:
                value: bytes | None = self._db.get(key)
        except (plyvel.Error, OSError) as error:
            raise StoreError(_sentence(error)) from error
        return value

    def read(self, prefix: bytes) -> list[Record]:
        """Return every update below `prefix`, in order.

        Raises:
            StoreError: the disk failed, or the data is damaged.
        """
        try:
            start, stop = prefix + _number(0), prefix + _number(LAST)
            with self._lock, self._db.iterator(start=start, stop=stop) as records:
                return [Record(int.from_bytes(key[-4:], "big"), update) for key, update in records]
        except (plyvel.Error, OSError, RuntimeError) as error:
            raise StoreError(_sentence(error)) from error

    def count(self, prefix: bytes) -> int:
        """Return the number that comes after that of the last update below `prefix`.

        Raises:
            StoreError: the disk failed, or the data is damaged.
        """
        try:
            with self._lock, self._db.iterator(prefix=prefix, reverse=True, include_value=False) as keys:
                last = next(keys, None)
        except (plyvel.Error, OSError, RuntimeError) as error:
            raise StoreError(_sentence(error)) from error
        return 0 if last is None else int.from_bytes(last[-4:], "big") + 1

    def write(self, batch: Batch, *, sync: bool = False) -> None:
        """Write and delete records in one batch: all of it or nothing.

        Args:
            batch: what to write.
            sync: whether it survives a power cut when this returns, and not only the end of this process.

        Raises:
            StoreError: the disk failed. `failure` says so until a write succeeds.
        """
        try:
            if self.failure is not None:
                self._reopen()
            with self._db.write_batch(transaction=True, sync=sync) as records:
                for key, value in batch.puts:
                    records.put(key, value)
                for key in batch.deletes:
                    records.delete(key)
        except (plyvel.Error, OSError, RuntimeError) as error:
            self.failure = "Documents cannot be written to disk."
            raise StoreError(_sentence(error)) from error
        self.failure = None

    def _reopen(self) -> None:
        """Open LevelDB anew: it goes on in a log that is torn where a write failed, and would not read on from there.

        Raises:
            plyvel.Error: that failed, or somebody is reading in another thread: the next write tries again.
        """
        if not self._lock.acquire(blocking=False):
            raise plyvel.Error("the disk had failed and is still being read")
        try:
            self._db.close()
            self._db = plyvel.DB(self._path)
        finally:
            self._lock.release()

    def close(self) -> None:
        """Close the directory; another process may then hold it."""
        self._db.close()


class LevelYStore(DocumentStore):
    """One document's updates in a `Database`.

    Args:
        path: the document's name.
        database: where it is kept.
    """

    def __init__(self, path: str, *, database: Database) -> None:
        self._database = database
        self._prefix = _key("v1", path, "update")
        self._state_vector_key = _key("v1_sv", path)
        self._next: int | None = None
        self._numbers: set[int] = set()  # of the records that are there, or will be when a batch is written

    def records(self) -> list[Record]:
        """Return everything that is kept; what is appended later comes behind it."""
        records = self._database.read(self._prefix)
        # A batch that is not written yet may have gone further.
        self._next = max(self._next or 0, records[-1].number + 1 if records else 0)
        self._numbers.update(record.number for record in records)
        return records

    def append(self, updates: Sequence[bytes], state_vector: Callable[[], bytes], batch: Batch) -> None:
        """Have `batch` keep `updates`, and the state vector if they are the first."""
        first = self._first()
        batch.puts += self._numbered(first, updates)
        if first == 0:
            batch.puts.append(self._put_state_vector(0, state_vector()))

    def last(self) -> int:
        """Return the number of the last record that is kept, or will be when a batch is written; -1 for none."""
        return self._first() - 1

    def replace(self, last: int, updates: Sequence[bytes], state_vector: bytes, batch: Batch) -> None:
        """Have `batch` keep `updates` in place of all that was read and appended up to record `last`."""
        first = last + 1 - len(updates)
        batch.deletes += [self._prefix + _number(number) for number in self._numbers if number < first]
        batch.puts += [(self._prefix + _number(first + i), update) for i, update in enumerate(updates)]
        batch.puts.append(self._put_state_vector(last, state_vector))
        self._numbers = {number for number in self._numbers if number > last}.union(range(first, last + 1))

    def commit(self, batch: Batch) -> None:
        """Write a batch."""
        self._database.write(batch)

    def stale_state_vector(self, state_vector: bytes) -> bool:
        """Return whether readers would trust a stored state vector that is not `state_vector`.

        They do if its clock is the last update's; call it after `records`.
        """
        record = self._state_vector()
        # The order of clients in a state vector is free.
        return (
            record is not None
            and record[0] == self._first() - 1
            and finish(decode(record[1])) != finish(decode(state_vector))
        )

    def _state_vector(self) -> tuple[int, bytes] | None:
        """Return the stored state vector and the number of the record it is of."""
        record = self._database.get(self._state_vector_key)
        if record is None:
            return None
        try:
            clock, at = read_varuint(record, 0)
            return clock, read_bytes(record, at)[0]
        except MalformedError as error:
            raise StoreError(f"the state vector record is damaged: {error}") from None

    def _first(self) -> int:
        """Return the number for the next update."""
        if self._next is None:
            self._next = self._database.count(self._prefix)
        return self._next

    def _numbered(self, first: int, updates: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
        self._next = first + len(updates)
        self._numbers.update(range(first, self._next))
        return [(self._prefix + _number(first + i), update) for i, update in enumerate(updates)]

    def _put_state_vector(self, clock: int, state_vector: bytes) -> tuple[bytes, bytes]:
        return self._state_vector_key, write_varuint(clock) + write_bytes(state_vector)


def _sentence(error: Exception) -> str:
    """Return what an error says; plyvel's errors say it in bytes."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    said = error.args[0] if error.args else error
    return said.decode(errors="replace") if isinstance(said, bytes) else str(error)


def _key(*elements: str) -> bytes:
    return b"".join(b"\x00" + write_bytes(element.encode()) for element in elements)


def _number(number: int) -> bytes:
    return b"\x01" + number.to_bytes(4, "big")
