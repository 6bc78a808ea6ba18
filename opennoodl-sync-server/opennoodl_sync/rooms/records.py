"""The stored records of a room's document: which records a turn adds, and when they are compacted."""

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from time import monotonic

from ..storage.interface import Batch, DocumentRecords
from ..yjs.document import Document

COMPACT_AFTER = 500
"""Stored updates of a document before a compaction, as in y-leveldb."""
COMPACT_ANYWAY = 10_000
"""Stored updates before a compaction of a document of any size: much of it may be deleted."""
COMPACT_SIZE = 1_048_576
"""Bytes of stored updates before a compaction, for any number of updates."""
COMPACT_IDLE_AFTER = 20
"""Stored updates before a compaction when a room leaves memory."""
COMPACT_PAUSE = 20
"""The pause after the compaction of a full document, as a multiple of the compaction's duration."""
FAILURE_PAUSE = 60.0
"""Seconds until the next attempt after a failed compaction."""
INDEXED = 65_536
"""Bytes of a compacted document from which it is stored with an index."""
MIN_RECORDS = 2
"""Smallest number of stored updates for a compaction."""


@dataclass
class Compaction:
    """A running compaction.

    Attributes:
        last: the number of the last record that it includes.
        records: the number of records since the previous compaction.
        size: the bytes of these records.
        began: the monotonic time of its start.
        parts_size: the bytes of the parts that are stored beside the records.
    """

    last: int
    records: int
    size: int
    began: float
    parts_size: int = 0


@dataclass(frozen=True)
class Compacted:
    """A compacted part of the document. The last one replaces the records, once the others are stored.

    Attributes:
        update: the part.
        index: its index.
    """

    update: bytes
    index: bytes


class Records:
    """The stored records of one document.

    Args:
        store: reads and writes them.
        max_size: limit of the document's size in bytes; 0 means no limit.
    """

    def __init__(self, store: DocumentRecords, max_size: int) -> None:
        self._store = store
        self._max_size = max_size
        self._base = 0  # bytes of the compacted document
        self._count = self._size = 0  # number and bytes of the updates since the last compaction
        self._loaded = -1  # number of the last update at the time of loading
        self._must_compact = False
        self._compact_again = 0.0  # monotonic time from which the full document may be compacted again
        self._compact_after = 0.0  # monotonic time from which a compaction may start, after a failed one
        self._compaction: Compaction | None = None
        self._repeated = False  # whether an interrupted compaction has left parts
        self._parts: deque[Compacted] = deque()  # compacted parts that are not stored
        self._complete = False  # whether `_parts` has the last one

    def loaded(self, updates: Sequence[bytes], parts: Collection[int], *, repeated: bool = False) -> None:
        """Set the counts from the stored records.

        Args:
            updates: the updates of the records.
            parts: the positions of the compacted parts among them, which count as one record.
            repeated: whether further ones repeat these parts, since a compaction was interrupted.
        """
        self._loaded = self._store.last()
        self._repeated = repeated
        sizes = [*map(len, updates)]
        self._base = sum(sizes[position] for position in parts) or max(sizes, default=0)
        self._count, self._size = len(sizes) - max(len(parts) - 1, 0), sum(sizes) - self._base

    @property
    def added(self) -> int:
        """The number of updates that were added since the document was loaded."""
        return self._store.last() - self._loaded

    @property
    def compacting(self) -> bool:
        """Whether a compaction is running. It may make the document smaller."""
        return self._compaction is not None and not self._complete

    @property
    def part_size(self) -> int:
        """Bytes from which a compacted document is stored in several parts; 0 means that it is not.

        After an interrupted compaction, it is stored at once, so that interruptions do not add parts again and again.
        """
        return 0 if self._repeated else self._store.part_size

    @property
    def parts_left(self) -> int:
        """The number of compacted parts that are not stored; each batch has one."""
        return len(self._parts) if self._complete else 0

    def store(self, updates: Sequence[bytes], document: Document, batch: Batch) -> bool:
        """Add the new records of a turn to `batch`; return whether there are any.

        Args:
            updates: the updates of the turn.
            document: the document with these updates.
            batch: receives the records.
        """
        if updates:
            self._store.append(updates, document.state_vector, batch)
            self._count += len(updates)
            self._size += sum(map(len, updates))
        if not self._complete:
            return bool(updates)
        self._add(document, batch)
        return True

    @property
    def lost(self) -> bool:
        """Whether another process may have taken the document."""
        return self._store.lost

    def release(self, batch: Batch) -> None:
        """Add the release of the document to `batch`."""
        self._store.release(batch)

    def must_shrink(self) -> None:
        """Request a compaction of a full document, unless its pause is not over."""
        self._must_compact = self._count > 0 and monotonic() >= self._compact_again

    def is_compaction_due(self, *, idle: bool = False) -> bool:
        """Return whether the records are many, and have at least as many bytes as the compacted document.

        The stored bytes are therefore at most twice those of the last compacted document, plus `COMPACT_SIZE`.

        Args:
            idle: whether the room is about to leave memory; a smaller number of records is enough then.
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
        """Record the start of a compaction of all records up to number `last`, at monotonic time `began`."""
        self._compaction = Compaction(last, self._count, self._size, began)

    def last(self) -> int:
        """Return the number of the last record."""
        return self._store.last()

    def add_compacted(self, compacted: Compacted, *, ends: bool) -> None:
        """Record a part that the compaction has made; after the last one, each `store` adds one of them."""
        self._parts.append(compacted)
        self._complete = ends
        self._must_compact = False

    def abandon_compaction(self) -> None:
        """Record that the compaction has failed."""
        self._compact_after = monotonic() + FAILURE_PAUSE
        self._compaction = None
        self._parts.clear()
        self._must_compact = False

    def _add(self, document: Document, batch: Batch) -> None:
        """Add the next compacted part to `batch`, the last one as the replacement of all earlier records.

        Until then, the records have the whole document, and the parts have some of it again. So a crash loses nothing.

        Args:
            document: the same document with later changes. Its state vector is stored; it may include later records,
                since readers do not use a stored state vector that is followed by records.
            batch: receives the document.
        """
        assert self._compaction is not None
        compaction, part = self._compaction, self._parts.popleft()
        if self._parts:
            self._store.append_part(part.update, part.index, batch)
            self._loaded += 1  # it is not a change
            compaction.parts_size += len(part.update)
            return
        self._compaction = None
        self._complete = self._repeated = False
        self._compact_again = monotonic() + COMPACT_PAUSE * (monotonic() - compaction.began)
        pending = document.pending()  # the compacted document has no pending updates
        updates = [part.update] if pending is None else [pending, part.update]
        index = part.index if compaction.parts_size or len(part.update) >= INDEXED else None
        self._store.replace(compaction.last, updates, document.state_vector(), index, batch)
        self._base = compaction.parts_size + len(part.update)
        self._count += len(updates) - 1 - compaction.records
        self._size -= compaction.size
