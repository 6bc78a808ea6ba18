"""The store: where a document's updates are kept. Here, what every store does; and the one in memory."""

from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any

from pycrdt import Doc
from pycrdt.store import BaseYStore

from .yjs import build, waiting


class StoreError(Exception):
    """The disk did not do what it was asked; the text says what the store said."""


class DocumentStore(BaseYStore):
    """One document's updates, numbered in the order of their coming.

    pycrdt-store's interface, and beside it the synchronous calls that a room needs: that something is
    stored *before* it is shown can only be had in one step.
    """

    metadata_callback = None

    @abstractmethod
    def records(self) -> list[tuple[int, bytes]]:
        """Return number and update of everything that is kept.

        Raises:
            StoreError: the disk failed, or the data is damaged.
        """

    @abstractmethod
    def append(self, updates: Sequence[bytes], state_vector: Callable[[], bytes]) -> None:
        """Keep `updates`, all or none; they survive the end of this process when it returns.

        Args:
            updates: in their order.
            state_vector: returns that of the document with them, should the store need it.

        Raises:
            StoreError: the disk failed; nothing was kept.
        """

    @abstractmethod
    def replace(self, numbers: Iterable[int], updates: Sequence[bytes], state_vector: bytes) -> None:
        """Keep `updates` in place of the records `numbers`, in one step.

        Raises:
            StoreError: the disk failed; everything is as before.
        """

    async def write(self, data: bytes) -> None:
        """Append one update."""
        self.append([data], build([data]).get_state)

    async def read(self) -> AsyncIterator[tuple[bytes, bytes, float]]:
        """Yield every update; neither metadata nor a time is kept, so they are empty and zero."""
        for _, update in self.records():
            yield update, b"", 0.0

    def compact(self, doc: Doc[Any], records: Sequence[tuple[int, bytes]]) -> int:
        """Replace `records`, of which `doc` is the merge, with its state and what still waits.

        Returns:
            how many records there are now.

        Raises:
            StoreError: the disk failed; everything is as before.
        """
        kept = waiting((update for _, update in records), doc)
        self.replace([number for number, _ in records], [*kept, doc.get_update()], doc.get_state())
        return len(kept) + 1


class MemoryYStore(DocumentStore):
    """Keeps updates in memory, for servers without persistence."""

    def __init__(self, path: str = "", metadata_callback: Any = None, log: Any = None) -> None:
        self._records: dict[int, bytes] = {}
        self._next = 0

    def records(self) -> list[tuple[int, bytes]]:
        """Return number and update of everything that is kept."""
        return list(self._records.items())

    def append(self, updates: Sequence[bytes], state_vector: Callable[[], bytes]) -> None:
        """Keep `updates`."""
        for update in updates:
            self._records[self._next] = update
            self._next += 1

    def replace(self, numbers: Iterable[int], updates: Sequence[bytes], state_vector: bytes) -> None:
        """Keep `updates` in place of the records `numbers`."""
        self.append(updates, lambda: state_vector)
        for number in numbers:
            del self._records[number]
