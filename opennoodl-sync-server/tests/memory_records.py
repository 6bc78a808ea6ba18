"""Records of a document in memory: additions to a batch are stored at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from opennoodl_sync.storage.interface import Batch, DocumentRecords, Stored
from opennoodl_sync.storage.leveldb.documents import Record


class MemoryRecords(DocumentRecords):
    """Stores updates in memory."""

    def __init__(self) -> None:
        self._records: dict[int, bytes] = {}
        self._indexes: dict[int, bytes] = {}
        self._next = 0

    def records(self) -> list[Record]:
        """Return all records, in order."""
        return [Record(*record) for record in self._records.items()]

    def updates(self) -> list[bytes]:
        """Return the updates of all records."""
        return list(self._records.values())

    def stored(self) -> Stored:
        """Return all updates, with the index."""
        positions = {number: position for position, number in enumerate(self._records)}
        return Stored(self.updates(), {positions[number]: index for number, index in self._indexes.items()})

    def append(self, updates: Sequence[bytes], state_vector: Callable[[], bytes], batch: Batch) -> None:
        """Store `updates`."""
        for update in updates:
            self._records[self._next] = update
            self._next += 1

    def append_part(self, update: bytes, index: bytes, batch: Batch) -> None:
        """Store a part of a compacted document."""
        self._records[self._next] = update
        self._indexes[self._next] = index
        self._next += 1

    def last(self) -> int:
        """Return the number of the last record."""
        return self._next - 1

    def replace(
        self, last: int, updates: Sequence[bytes], state_vector: bytes, index: bytes | None, batch: Batch
    ) -> None:
        """Replace all records up to number `last` by `updates`."""
        self._indexes = {number: known for number, known in self._indexes.items() if number > last}
        if index is not None:
            self._indexes[last] = index
        later = {number: update for number, update in self._records.items() if number > last}
        self._records = dict(enumerate(updates, last + 1 - len(updates))) | later
