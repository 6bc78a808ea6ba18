"""The stored records of a room's document: which records a turn adds, and when they are compacted."""

from collections.abc import Sequence
from time import monotonic
from typing import NamedTuple

from ..storage.interface import Batch, DocumentRecords, Stored
from ..yjs.document import Document

COMPACT_AFTER = 500
"""Stored updates of a document before they are merged into one; y-leveldb's own number."""
COMPACT_ANYWAY = 10_000
"""Stored updates before they are merged in a document of any size: much of it may be deleted."""
COMPACT_SIZE = 1_048_576
"""Bytes of stored updates before they are merged, for any number of them."""
COMPACT_IDLE_AFTER = 20
"""Stored updates before they are merged when a room leaves memory."""
COMPACT_PAUSE = 20
"""A full document is not compacted again for so many times the duration of its last compaction."""
FAILURE_PAUSE = 60.0
"""Seconds until the next attempt after a failed compaction."""
INDEXED = 65_536
"""Bytes of a compacted document; a larger one is stored with an index."""
MIN_RECORDS = 2
"""Stored updates that compaction needs at least."""


class Compaction(NamedTuple):
    """A compaction that is under way.

    Attributes:
        last: the number of the last record that is compacted.
        records: the number of records since the compaction before.
        size: the bytes of these records.
        began: when it began.
    """

    last: int
    records: int
    size: int
    began: float


class Compacted(NamedTuple):
    """The replacement of the records: the document, and its index if it is large."""

    update: bytes
    base_index: bytes | None


class Records:
    """The stored records of one document.

    Args:
        store: keeps them.
        max_size: bytes that the document may have; 0 means no limit.
    """

    def __init__(self, store: DocumentRecords, max_size: int) -> None:
        self._store = store
        self._max_size = max_size
        self._base = 0  # bytes of the compacted document
        self._count = self._size = 0  # of the updates since it was compacted
        self._loaded = -1  # the number of the last update when it was loaded
        self._must_compact = False
        self._compact_again = 0.0  # when it may be compacted again because it is full
        self._compact_after = 0.0  # when it may be compacted again at all, after that failed
        self._compaction: Compaction | None = None
        self._compacted: Compacted | None = None

    def loaded(self, stored: Stored) -> None:
        """Note the stored records."""
        self._loaded = self._store.last()
        self._base = max(map(len, stored.updates), default=0)
        self._count, self._size = len(stored.updates), sum(map(len, stored.updates)) - self._base

    @property
    def added(self) -> int:
        """The number of updates that were added since the document was loaded."""
        return self._store.last() - self._loaded

    @property
    def compacting(self) -> bool:
        """Whether a compaction is under way, which may make room."""
        return self._compaction is not None and self._compacted is None

    @property
    def has_compacted(self) -> bool:
        """Whether the next batch replaces records."""
        return self._compacted is not None

    def store(self, updates: Sequence[bytes], document: Document, batch: Batch) -> bool:
        """Add to `batch` what a turn has to store; return whether that is anything.

        Args:
            updates: new ones.
            document: with them. If it was compacted, it replaces its records.
            batch: is added to.
        """
        if updates:
            self._store.append(updates, document.state_vector, batch)
            self._count += len(updates)
            self._size += sum(map(len, updates))
        if self._compacted is None:
            return bool(updates)
        self._replace(self._compacted, document, batch)
        return True

    @property
    def lost(self) -> bool:
        """Whether another process may have taken the document."""
        return self._store.lost

    def release(self, batch: Batch) -> None:
        """Add the release of the document to `batch`."""
        self._store.release(batch)

    def must_shrink(self) -> None:
        """Note that the document is full: compact it, unless that was done a short time ago."""
        self._must_compact = self._count > 0 and monotonic() >= self._compact_again

    def is_compaction_due(self, *, idle: bool = False) -> bool:
        """Return whether there are many records, with as many bytes as the compacted document.

        So the store never has more than twice the bytes of the document when it was last compacted, plus one window.

        Args:
            idle: whether the room is about to leave memory, so that few records should be left.
        """
        if self._compaction is not None or self._count < MIN_RECORDS or monotonic() < self._compact_after:
            return False
        if idle and (
            self._count > COMPACT_AFTER or (self._count > COMPACT_IDLE_AFTER and self._size >= self._base // 4)
        ):
            return True
        if self._count > COMPACT_ANYWAY or self._must_compact:
            return True
        window = min(COMPACT_SIZE, self._max_size // 4 or COMPACT_SIZE)
        return (self._count > COMPACT_AFTER or self._size > window) and self._size >= self._base

    def begin_compaction(self, last: int, began: float) -> None:
        """Note that all records up to `last` are being compacted."""
        self._compaction = Compaction(last, self._count, self._size, began)

    def last(self) -> int:
        """Return the number of the last record."""
        return self._store.last()

    def end_compaction(self, update: bytes, index: bytes) -> None:
        """Note the result of the compaction; the next `store` has it."""
        self._compacted = Compacted(update, index if len(update) >= INDEXED else None)
        self._must_compact = False

    def abandon_compaction(self) -> None:
        """Note that the compaction has failed."""
        self._compact_after = monotonic() + FAILURE_PAUSE
        self._compaction = None
        self._must_compact = False

    def _replace(self, compacted: Compacted, document: Document, batch: Batch) -> None:
        """Add the compacted document to `batch`, in place of the records that it was made from.

        Args:
            compacted: the document.
            document: the same, with later changes. Readers do not trust a stored state vector behind which there are
                records, so it may have them too.
            batch: is added to.
        """
        assert self._compaction is not None
        last, count, size, began = self._compaction
        update, index = compacted
        self._compaction = self._compacted = None
        self._compact_again = monotonic() + COMPACT_PAUSE * (monotonic() - began)
        pending = document.pending()  # the compacted document lacks what waits for its predecessors
        updates = [update] if pending is None else [pending, update]
        self._store.replace(last, updates, document.state_vector(), index, batch)
        self._base = len(update)
        self._count += len(updates) - 1 - count
        self._size -= size
