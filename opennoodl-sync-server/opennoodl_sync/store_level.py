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

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import plyvel

from .edge.application import StartError
from .protocol import read_bytes, read_varuint, write_bytes, write_varuint
from .store import DocumentStore, StoreError
from .yjs import decode_state_vector

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
        try:
            Path(path).mkdir(parents=True, exist_ok=True)
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
        """Yield the names of all documents that have updates, listed or not."""
        prefix = _key("v1")
        at = prefix
        while (key := next(self._db.iterator(start=at, include_value=False), b"")).startswith(prefix):
            _, end = read_bytes(key, len(prefix) + 1)
            name = key[len(prefix) : end]
            if key.startswith(prefix + name + _key("update")):
                yield read_bytes(key, len(prefix) + 1)[0].decode()
            at = prefix + name + b"\xff"  # behind every record of this document

    def delete(self, name: str) -> None:
        """Delete everything that is stored under a name, others' metadata included.

        Raises:
            StoreError: the disk failed; everything is as before.
        """
        self.write([], [_key("v1_sv", name), *self._db.iterator(prefix=_key("v1", name), include_value=False)])

    def shrink(self) -> None:
        """Give the space of what was deleted back to the disk; it may take a while."""
        self._db.compact_range()

    def get(self, key: bytes) -> bytes | None:
        """Return one record, or None if it is not there.

        Raises:
            StoreError: the disk failed, or the data is damaged.
        """
        try:
            value: bytes | None = self._db.get(key)
        except (plyvel.Error, OSError) as error:
            raise StoreError(_sentence(error)) from error
        return value

    def read(self, prefix: bytes) -> list[tuple[int, bytes]]:
        """Return number and content of every update below `prefix`, in order.

        Raises:
            StoreError: the disk failed, or the data is damaged.
        """
        try:
            with self._db.iterator(start=prefix + _number(0), stop=prefix + _number(LAST)) as records:
                return [(int.from_bytes(key[-4:], "big"), update) for key, update in records]
        except (plyvel.Error, OSError, RuntimeError) as error:
            raise StoreError(_sentence(error)) from error

    def count(self, prefix: bytes) -> int:
        """Return the number that comes after that of the last update below `prefix`.

        Raises:
            StoreError: the disk failed, or the data is damaged.
        """
        try:
            with self._db.iterator(prefix=prefix, reverse=True, include_value=False) as keys:
                last = next(keys, None)
        except (plyvel.Error, OSError, RuntimeError) as error:
            raise StoreError(_sentence(error)) from error
        return 0 if last is None else int.from_bytes(last[-4:], "big") + 1

    def write(self, puts: Iterable[tuple[bytes, bytes]], deletes: Iterable[bytes] = ()) -> None:
        """Write and delete records in one batch: all of it or nothing.

        Raises:
            StoreError: the disk failed. `failure` says so until a write succeeds.
        """
        try:
            if self.failure is not None:
                # LevelDB goes on in a log that is torn where the write failed, and would not read on from there.
                self._db.close()
                self._db = plyvel.DB(self._path)
            with self._db.write_batch(transaction=True) as batch:
                for key, value in puts:
                    batch.put(key, value)
                for key in deletes:
                    batch.delete(key)
        except (plyvel.Error, OSError, RuntimeError) as error:
            self.failure = "Documents cannot be written to disk."
            raise StoreError(_sentence(error)) from error
        self.failure = None

    def close(self) -> None:
        """Close the directory; another process may then hold it."""
        self._db.close()


class LevelYStore(DocumentStore):
    """One document's updates in a `Database`.

    Args:
        path: the document's name.
        database: where it is kept.
    """

    def __init__(self, path: str, metadata_callback: Any = None, log: Any = None, *, database: Database) -> None:
        self._database = database
        self._prefix = _key("v1", path, "update")
        self._state_vector_key = _key("v1_sv", path)
        self._next: int | None = None

    def records(self) -> list[tuple[int, bytes]]:
        """Return number and update of everything that is kept; what is appended later comes behind it."""
        records = self._database.read(self._prefix)
        self._next = records[-1][0] + 1 if records else 0
        return records

    def append(self, updates: Sequence[bytes], state_vector: Callable[[], bytes]) -> None:
        """Keep `updates` in one batch, with the state vector if they are the first."""
        first = self._first()
        puts = self._numbered(first, updates)
        if first == 0:
            puts.append(self._state_vector(0, state_vector()))
        self._database.write(puts)
        self._next = first + len(updates)

    def replace(self, numbers: Iterable[int], updates: Sequence[bytes], state_vector: bytes) -> None:
        """Keep `updates` in place of the records `numbers`, and the state vector with them, in one batch."""
        first = self._first()
        puts = self._numbered(first, updates)
        puts.append(self._state_vector(first + len(updates) - 1, state_vector))
        self._database.write(puts, [self._prefix + _number(number) for number in numbers])
        self._next = first + len(updates)

    def stale_state_vector(self, state_vector: bytes) -> bool:
        """Return whether readers would trust a stored state vector that is not `state_vector`.

        They do if its clock is the last update's; call it after `records`.
        """
        record = self._database.get(self._state_vector_key)
        if record is None:
            return False
        clock, at = read_varuint(record, 0)
        # The order of clients in a state vector is free.
        return clock == self._first() - 1 and decode_state_vector(read_bytes(record, at)[0]) != decode_state_vector(
            state_vector
        )

    def _first(self) -> int:
        """Return the number for the next update."""
        if self._next is None:
            self._next = self._database.count(self._prefix)
        return self._next

    def _numbered(self, first: int, updates: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
        return [(self._prefix + _number(first + i), update) for i, update in enumerate(updates)]

    def _state_vector(self, clock: int, state_vector: bytes) -> tuple[bytes, bytes]:
        return self._state_vector_key, write_varuint(clock) + write_bytes(state_vector)


def _sentence(error: Exception) -> str:
    """Return what an error says; plyvel's errors say it in bytes."""
    said = error.args[0] if error.args else error
    return said.decode(errors="replace") if isinstance(said, bytes) else str(error)


def _key(*elements: str) -> bytes:
    return b"".join(b"\x00" + write_bytes(element.encode()) for element in elements)


def _number(number: int) -> bytes:
    return b"\x01" + number.to_bytes(4, "big")
