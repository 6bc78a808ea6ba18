"""The updates of one document in PostgreSQL, and batches of changes to documents."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from zlib import crc32

from ..interface import Batch, CorruptError, DocumentRecords, Mark, Stored
from .link import Row


class Replacement(NamedTuple):
    """The row of a document that is new, or whose updates from `first` to `last` replace all earlier ones."""

    first: int
    last: int
    base_index: bytes | None


class PostgreSQLDocument(DocumentRecords):
    """One document that this instance owns.

    Args:
        name: the name of the document.
        epoch: the epoch of the ownership.
        last: the number of its last update; -1 for none.

    Attributes:
        written: the number of the last update in the database.
    """

    def __init__(self, name: str, epoch: int, last: int) -> None:
        self.name = name
        self.epoch = epoch
        self.written = last
        self.lost = False
        self._last = last

    def append(self, updates: Sequence[bytes], state_vector: Callable[[], bytes], batch: Batch) -> None:
        """Add `updates` to `batch`."""
        assert isinstance(batch, PostgreSQLBatch)
        first = self._last + 1
        if self._last < 0:
            batch.add(self, Replacement(0, 0, None))
        for number, update in enumerate(updates, first):
            batch.add(self, (number, update))
        self._last += len(updates)

    def last(self) -> int:
        """Return the number of the last update, written or in a batch; -1 for none."""
        return self._last

    def replace(
        self, last: int, updates: Sequence[bytes], state_vector: bytes, index: bytes | None, batch: Batch
    ) -> None:
        """Add `updates` to `batch`, in place of all updates up to number `last`."""
        assert isinstance(batch, PostgreSQLBatch)
        first = last + 1 - len(updates)
        batch.add(self, Replacement(first, last, None if index is None else index + _checksum(index)))
        for number, update in enumerate(updates, first):
            batch.add(self, (number, update))

    def release(self, batch: Batch) -> None:
        """Add the release of the document to `batch`."""
        assert isinstance(batch, PostgreSQLBatch)
        if not self.lost:
            batch.released.append(self)


Change = Replacement | tuple[int, bytes]


@dataclass
class Changes:
    """The changes of one document in a batch."""

    updates: dict[int, bytes] = field(default_factory=dict)
    replacement: Replacement | None = None


class PostgreSQLBatch(Batch):
    """Changes to documents.

    Attributes:
        released: documents to release, after the changes.
    """

    def __init__(self) -> None:
        self.released: list[PostgreSQLDocument] = []
        self._changes: list[tuple[PostgreSQLDocument, Change]] = []

    def __bool__(self) -> bool:
        return bool(self._changes or self.released)

    def mark(self) -> Mark:
        """Return the number of changes of each kind."""
        return len(self._changes), len(self.released)

    def take_back(self, mark: Mark) -> None:
        """Remove the changes that were added after `mark`."""
        changes, released = mark
        del self._changes[changes:], self.released[released:]

    def add(self, document: PostgreSQLDocument, change: Change) -> None:
        """Add a change of one document."""
        self._changes.append((document, change))

    def documents(self) -> dict[PostgreSQLDocument, Changes]:
        """Return the changes by document, without updates that the same batch replaces."""
        documents: dict[PostgreSQLDocument, Changes] = {}
        for document, change in self._changes:
            changes = documents.get(document)
            if changes is None:
                changes = documents[document] = Changes()
            if isinstance(change, Replacement):
                changes.replacement = change
                changes.updates = {number: one for number, one in changes.updates.items() if number > change.last}
            else:
                changes.updates[change[0]] = change[1]
        return documents


def checksum(name: str, number: int, update: bytes) -> int:
    """Return the checksum of an update. It includes name and number, so a misplaced update is detected."""
    return crc32(f"{number} {name}".encode(), crc32(update))


def read(name: str, rows: Sequence[Row]) -> tuple[Stored, int]:
    """Return a document, and the number of its last update (-1 for none).

    Args:
        name: of the document.
        rows: the result of the statement `READ`.

    Raises:
        CorruptError: an update is damaged or missing.
    """
    index, first, last = None, 0, -1
    if rows and rows[0]["seq"] is None:
        index, first, last = rows[0]["data"], rows[0]["first"], rows[0]["last"]
        rows = rows[1:]
    expected = first
    for row in rows:
        if row["seq"] != expected:
            raise CorruptError(f"updates {expected} to {row['seq'] - 1} are missing")
        if row["checksum"] != checksum(name, row["seq"], row["data"]):
            raise CorruptError(f"update {row['seq']}: checksum mismatch")
        expected += 1
    if expected <= last:
        raise CorruptError(f"updates {expected} to {last} are missing")
    if index is not None:  # without an index, a document loads more slowly
        index = index[:-4] if index[-4:] == _checksum(index[:-4]) else None
    indexes = {} if index is None else {last - first: index}
    return Stored([row["data"] for row in rows], indexes), rows[-1]["seq"] if rows else -1


def salvage(name: str, rows: Sequence[Row]) -> tuple[list[bytes], int]:
    """Return the undamaged updates of a document, and the number of those known to be lost.

    Args:
        name: of the document.
        rows: the result of the statement `READ`.
    """
    numbers: set[int] = set()
    if rows and rows[0]["seq"] is None:
        numbers.update(range(rows[0]["first"], rows[0]["last"] + 1))
        rows = rows[1:]
    if rows:
        numbers.update(range(min(numbers, default=rows[0]["seq"]), rows[-1]["seq"] + 1))
    sound = [row["data"] for row in rows if row["checksum"] == checksum(name, row["seq"], row["data"])]
    return sound, len(numbers) - len(sound)


def _checksum(data: bytes) -> bytes:
    return crc32(data).to_bytes(4, "big")
