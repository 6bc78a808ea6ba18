"""The updates of one document in a `Database`."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from io import BytesIO
from typing import NamedTuple, Protocol, TypeVar

from ...yjs.lib0 import MalformedError, finish, read_bytes, read_varuint, write_bytes, write_varuint
from ...yjs.state_vector import decode
from ..interface import PART_SIZE, Batch, CorruptError, DocumentRecords, Stored
from .database import RecordBatch
from .record_format import key_of, number_element, unseal

BYTES = b"\x74"
"""The first bytes of our index, as a value in lib0's encoding, which y-leveldb's metadata has."""
INDEX = "opennoodl-index"
"""The beginning of an index's last element in its key; the number of its record follows."""
MAX_STATE_VECTOR = 1_048_576
"""Bytes of a state vector that is written with a compacted document: a larger one would take as much memory as much of
the document, and readers can make it."""
NOTHING = b"\x00"
"""The state vector of an empty document."""

T = TypeVar("T")


class Record(NamedTuple):
    """One stored update and its number."""

    number: int
    update: bytes


class ReadableDatabase(Protocol):
    """The read methods of a `Database` for a document."""

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a key, or None if the key does not exist."""

    def read(self, prefix: bytes, take: Callable[[bytes, BytesIO], T]) -> list[T]:
        """Call `take` with each key that begins with `prefix`, in order, and its value; return the results."""

    def holds(self, prefix: bytes) -> bool:
        """Return whether there is a key that begins with `prefix`."""


class LevelDBDocument(DocumentRecords):
    """One document's updates in a `Database`.

    Args:
        name: the document's name.
        database: the database.
    """

    part_size = PART_SIZE

    def __init__(self, name: str, *, database: ReadableDatabase) -> None:
        self._database = database
        self._prefix = key_of("v1", name, "update")
        self._state_vector_key = key_of("v1_sv", name)
        self._meta = key_of("v1", name, "meta")
        self._name = name
        self._first: int | None = None  # number of the first update; None before it is known
        self._next: int | None = None  # number of the next update; None before it is known
        self._numbers: set[int] = set()  # numbers of all records, including those of unwritten batches
        self._indexes: dict[bytes, int] = {}  # by key of an index: the number of its record

    def exists(self) -> bool:
        """Return whether anything is stored under this name, damaged or not.

        Raises:
            StoreError: the disk failed.
            CorruptError: the damage makes the answer unknown.
        """
        return self._database.get(self._state_vector_key) is not None or self._database.holds(self._prefix)

    def records(self) -> list[Record]:
        """Return all records, in order; later appends continue their numbers.

        Raises:
            StoreError: the disk failed.
            CorruptError: the data is damaged.
        """
        records, first = self._verified()
        if records and self._first is None:
            self._first = first
        # A batch that is not written yet may have higher numbers.
        self._next = max(self._next or 0, records[-1].number + 1 if records else 0)
        self._numbers.update(record.number for record in records)
        return records

    def updates(self) -> list[bytes]:
        """Return the updates of all records.

        Raises:
            StoreError: the disk failed.
            CorruptError: the data is damaged.
        """
        return [record.update for record in self.records()]

    def stored(self) -> Stored:
        """Return all updates, with the index.

        Raises:
            StoreError: the disk failed.
            CorruptError: the data is damaged.
        """
        records = self.records()
        first = records[0].number if records else 0
        indexes = {number - first: index for number, index in self.indexes() if first <= number < first + len(records)}
        return Stored([record.update for record in records], indexes)

    def parts(self) -> set[int]:
        """Return the numbers of the records with a compacted part of the document.

        Raises:
            StoreError: the disk failed.
        """
        self.indexes()
        return set(self._indexes.values())

    def append(self, updates: Sequence[bytes], state_vector: Callable[[], bytes], batch: Batch) -> None:
        """Add `updates` to `batch`, and the state vector if they are the first ones."""
        assert isinstance(batch, RecordBatch)
        if self._next is None:
            self.records()
        if self._first is None:
            self._first = self._next or 0
            batch.sealed.append(self._state_vector_record(self._first, state_vector()))
        for number, update in enumerate(updates, self._next or 0):
            batch.sealed.append((self._prefix + number_element(number), update, self._first))
            self._numbers.add(number)
            self._next = number + 1

    def last(self) -> int:
        """Return the number of the last record, written or in a batch; -1 for none."""
        if self._next is None:
            self.records()
        return (self._next or 0) - 1

    def append_part(self, update: bytes, index: bytes, batch: Batch) -> None:
        """Add a part of the document, and its index, to `batch`."""
        assert isinstance(batch, RecordBatch)
        self.append([update], lambda: NOTHING, batch)
        self._append_index(self.last(), index, batch)

    def _append_index(self, number: int, index: bytes, batch: RecordBatch) -> None:
        assert self._first is not None
        key = key_of("v1", self._name, "meta", f"{INDEX}-{number}")
        self._indexes[key] = number
        batch.sealed.append((key, BYTES + write_bytes(index), self._first))

    def indexes(self) -> list[tuple[int, bytes]]:
        """Return the numbers of records with an index, and the indexes; other programs may have written since.

        Raises:
            StoreError: the disk failed.
        """
        with suppress(CorruptError):
            return [found for found in self._database.read(self._meta, self._read_index) if found is not None]
        return []

    def _read_index(self, key: bytes, stored: BytesIO) -> tuple[int, bytes] | None:
        with suppress(CorruptError, MalformedError):  # without an index, the document only loads more slowly
            name = read_bytes(key, len(self._meta) + 1)[0].decode(errors="replace")
            if name.startswith(INDEX):
                number = name.removeprefix(f"{INDEX}-")
                self._indexes[key] = int(number) if number.isdecimal() else -1  # that of a former release
                return self._indexes[key], read_bytes(unseal(key, stored)[0], len(BYTES))[0]
        return None

    def replace(
        self, last: int, updates: Sequence[bytes], state_vector: bytes, index: bytes | None, batch: Batch
    ) -> None:
        """Add `updates` to `batch`, as the replacement of all records up to number `last`."""
        assert isinstance(batch, RecordBatch)
        if self._next is None:
            self.records()
        self._first = last + 1 - len(updates)
        batch.deletes += [self._prefix + number_element(number) for number in self._numbers if number < self._first]
        batch.sealed += self._records(self._first, updates)
        if len(state_vector) > MAX_STATE_VECTOR and last:
            # Readers make a state vector anew that is not of the last update.
            batch.sealed.append(self._state_vector_record(last - 1, NOTHING))
        else:
            batch.sealed.append(self._state_vector_record(last, state_vector))
        batch.deletes += [key for key, number in self._indexes.items() if number <= last]
        self._indexes = {key: number for key, number in self._indexes.items() if number > last}
        if index is not None:
            self._append_index(last, index, batch)
        self._numbers = {number for number in self._numbers if number > last}.union(range(self._first, last + 1))

    def salvage(self) -> tuple[list[bytes], list[int]]:
        """Return the undamaged updates of a damaged document, and the numbers of the lost ones.

        Call `replace` or `discard` next, to repair the document.

        Raises:
            StoreError: the disk failed.
            CorruptError: the damage is one that LevelDB itself must repair.
        """
        updates: dict[int, bytes] = {}
        first: int | None = None
        self._next = 0
        self.indexes()  # so that they are deleted
        for number, update, beginning in self._database.read(self._prefix, _salvaged):
            self._numbers.add(number)
            self._next = number + 1
            if update is not None:
                updates[number] = update
                if beginning is not None:  # a compaction makes it higher; parts have the one before that
                    first = max(first or 0, beginning)
        with suppress(CorruptError):
            record = self._state_vector()
            if record is not None:
                self._next = max(self._next, record[0] + 1)
                first = first if record[2] is None else record[2]
        if first is None:
            first = min(updates, default=0)
        lost = [number for number in range(first, self._next) if number not in updates]
        return [update for number, update in updates.items() if number >= first], lost

    def discard(self, batch: RecordBatch) -> None:
        """Add the deletion of all records that were read, and of the state vector, to `batch`."""
        batch.deletes += [self._prefix + number_element(number) for number in self._numbers]
        batch.deletes += [self._state_vector_key, *self._indexes]
        self._numbers, self._indexes, self._first, self._next = set(), {}, None, None

    def stale_state_vector(self, state_vector: bytes) -> bool:
        """Return whether readers would use a stored state vector that differs from `state_vector`.

        They do if its clock is the number of the last update. Call this after `records`.
        """
        record = self._state_vector()
        # The order of clients in a state vector is not defined.
        return (
            record is not None
            and record[0] == (self._next or 0) - 1
            and finish(decode(record[1])) != finish(decode(state_vector))
        )

    def _verified(self) -> tuple[list[Record], int]:
        """Return every record, and the number of the first.

        Raises:
            CorruptError: a record is damaged or missing.
        """
        records: list[Record] = []
        first: int | None = None
        for number, update, beginning in self._database.read(self._prefix, _unsealed):
            first = beginning
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
        # A compaction replaces the first updates and this record, and does not change later updates.
        first = first if record[2] is None else record[2]
        if first is not None and records[0].number > first:
            raise CorruptError(f"updates {first} to {records[0].number - 1} are missing")
        if record[0] > records[-1].number:
            raise CorruptError(f"updates {records[-1].number + 1} to {record[0]} are missing")
        return records, records[0].number

    def _state_vector(self) -> tuple[int, bytes, int | None] | None:
        """Return the number of the last update, the stored state vector, and the number of the first update or None."""
        stored = self._database.get(self._state_vector_key)
        if stored is None:
            return None
        try:
            record, first = unseal(self._state_vector_key, BytesIO(stored))
            clock, at = read_varuint(record, 0)
            return clock, read_bytes(record, at)[0], first
        except (CorruptError, MalformedError) as error:
            raise CorruptError(f"the state vector is damaged: {error}") from None

    def _records(self, number: int, updates: Sequence[bytes]) -> list[tuple[bytes, bytes, int]]:
        """Return the records of updates; the first has this number."""
        assert self._first is not None
        keys = (self._prefix + number_element(number + i) for i in range(len(updates)))
        return [(key, update, self._first) for key, update in zip(keys, updates, strict=True)]

    def _state_vector_record(self, clock: int, state_vector: bytes) -> tuple[bytes, bytes, int]:
        assert self._first is not None
        value = b"".join((write_varuint(clock), write_varuint(len(state_vector)), state_vector))
        return self._state_vector_key, value, self._first


def _unsealed(key: bytes, stored: BytesIO) -> tuple[int, bytes, int | None]:
    """Return the number of an update, the update, and the number of the document's first one if it is stored with it.

    Raises:
        CorruptError: the stored bytes are not those that were written.
    """
    number = int.from_bytes(key[-4:], "big")
    try:
        return number, *unseal(key, stored)
    except CorruptError as error:
        raise CorruptError(f"update {number}: {error}") from None


def _salvaged(key: bytes, stored: BytesIO) -> tuple[int, bytes | None, int | None]:
    """Do the same as `_unsealed`; return None in place of a damaged update."""
    try:
        return _unsealed(key, stored)
    except CorruptError:
        return int.from_bytes(key[-4:], "big"), None, None
