"""The store of servers without persistence: it keeps updates in memory."""

from collections.abc import Callable, Sequence

from .interface import Batch, DocumentStore, Record


class MemoryYStore(DocumentStore):
    """Keeps updates in memory, for servers without persistence: what a batch is given is kept at once."""

    def __init__(self) -> None:
        self._records: dict[int, bytes] = {}
        self._index: bytes | None = None
        self._next = 0

    def records(self) -> list[Record]:
        """Return everything that is kept, in order."""
        return [Record(*record) for record in self._records.items()]

    def append(self, updates: Sequence[bytes], state_vector: Callable[[], bytes], batch: Batch) -> None:
        """Keep `updates`."""
        for update in updates:
            self._records[self._next] = update
            self._next += 1

    def last(self) -> int:
        """Return the number of the last record."""
        return self._next - 1

    def index(self) -> bytes | None:
        """Return the index that `replace` was given last."""
        return self._index

    def replace(
        self, last: int, updates: Sequence[bytes], state_vector: bytes, index: bytes | None, batch: Batch
    ) -> None:
        """Keep `updates` in place of all that is kept up to record `last`."""
        self._index = index
        later = {number: update for number, update in self._records.items() if number > last}
        self._records = dict(enumerate(updates, last + 1 - len(updates))) | later

    def commit(self, batch: Batch) -> None:
        """Do nothing: it is kept already."""
