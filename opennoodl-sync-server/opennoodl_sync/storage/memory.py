"""The store of servers without persistence: a document is lost when it leaves memory."""

from collections.abc import AsyncIterator, Callable, Sequence

from .interface import PART_SIZE, Batch, BatchWriter, DocumentRecords, Done, Mark, Store, Stored


class NothingToWrite(Batch):
    """A batch that stays empty."""

    def __bool__(self) -> bool:
        return False

    def mark(self) -> Mark:
        """Return a mark without content."""
        return ()

    def take_back(self, mark: Mark) -> None:
        """Do nothing."""


class NoRecords(DocumentRecords):
    """Stores nothing, and counts the updates."""

    part_size = PART_SIZE

    def __init__(self) -> None:
        self._next = 0

    def append(self, updates: Sequence[bytes], state_vector: Callable[[], bytes], batch: Batch) -> None:
        """Count `updates`."""
        self._next += len(updates)

    def append_part(self, update: bytes, index: bytes, batch: Batch) -> None:
        """Count `update`."""
        self._next += 1

    def last(self) -> int:
        """Return the number of the last update."""
        return self._next - 1

    def replace(
        self, last: int, updates: Sequence[bytes], state_vector: bytes, index: bytes | None, batch: Batch
    ) -> None:
        """Do nothing."""


class NoWriter(BatchWriter):
    """Writes nothing."""

    busy = False

    def when_idle(self, act: Callable[[], None]) -> None:
        """Do nothing: no batch is ever being written."""

    def batch(self) -> Batch:
        """Return an empty batch."""
        return NothingToWrite()

    def write(self, batch: Batch, done: Done) -> None:
        """Report success."""
        done(None)


class MemoryStore(Store):
    """Stores nothing: the rooms have the documents."""

    durable = False
    failure = None

    def __init__(self) -> None:
        self.writer = NoWriter()

    async def open(self, name: str) -> tuple[DocumentRecords, Stored]:
        """Return an empty document."""
        return NoRecords(), Stored([], {})

    async def names(self, more_than: int) -> AsyncIterator[str]:
        """Yield nothing."""
        return
        yield

    async def close(self) -> None:
        """Do nothing."""
