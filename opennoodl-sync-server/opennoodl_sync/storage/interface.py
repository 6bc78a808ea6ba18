"""The store: where a document's updates are kept. This is what every store does."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple


class StoreError(Exception):
    """The disk did not do what it was asked; the text says what the store said."""


class CorruptError(StoreError):
    """What is stored is not what was written; the text says what is wrong with it."""


class Batch:
    """What is to be written in one step: all of it or nothing.

    Attributes:
        puts: keys and values to write.
        deletes: keys to delete.
    """

    def __init__(self) -> None:
        self.puts: list[tuple[bytes, bytes]] = []
        self.deletes: list[bytes] = []

    def __bool__(self) -> bool:
        return bool(self.puts or self.deletes)

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Take back what is added meanwhile if that fails half way."""
        puts, deletes = len(self.puts), len(self.deletes)
        try:
            yield
        except BaseException:
            del self.puts[puts:], self.deletes[deletes:]
            raise


class Record(NamedTuple):
    """One update that is kept, by its number."""

    number: int
    update: bytes


class DocumentStore(ABC):
    """One document's updates, numbered in the order in which they came.

    A store keeps bytes. It detects damage to them and knows nothing of what they mean.
    """

    @abstractmethod
    def records(self) -> list[Record]:
        """Return everything that is kept, in order.

        Raises:
            StoreError: the disk failed.
            CorruptError: the data is damaged.
        """

    @abstractmethod
    def append(self, updates: Sequence[bytes], state_vector: Callable[[], bytes], batch: Batch) -> None:
        """Have `batch` keep `updates`; they survive the end of this process when it is written.

        Args:
            updates: in their order.
            state_vector: returns that of the document with them, should the store need it.
            batch: is added to.

        Raises:
            StoreError: the disk failed; nothing was added.
        """

    @abstractmethod
    def last(self) -> int:
        """Return the number of the last record that is kept, or will be when a batch is written; -1 for none."""

    @abstractmethod
    def index(self) -> bytes | None:
        """Return the index that `replace` was given last, if it is still there.

        Raises:
            StoreError: the disk failed.
            CorruptError: the data is damaged.
        """

    @abstractmethod
    def replace(
        self, last: int, updates: Sequence[bytes], state_vector: bytes, index: bytes | None, batch: Batch
    ) -> None:
        """Have `batch` keep `updates` in place of all that is kept up to record `last`.

        Args:
            last: the number that the last one of them gets.
            updates: at most as many as there are records up to that one; the last one is the whole document.
            state_vector: that of the document then.
            index: helps to load the last one of them, if it is large.
            batch: is added to.

        Raises:
            StoreError: the disk failed; nothing was added.
        """

    @abstractmethod
    def commit(self, batch: Batch) -> None:
        """Write a batch.

        Raises:
            StoreError: the disk failed; everything is as before.
        """

    def updates(self) -> list[bytes]:
        """Return the updates of all records.

        Raises:
            StoreError: the disk failed.
            CorruptError: the data is damaged.
        """
        return [record.update for record in self.records()]
