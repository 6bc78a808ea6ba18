"""What a store does: it keeps the updates of documents. The rooms know nothing else of it.

A store keeps bytes. It detects damage to them and knows nothing of what they mean. What rooms want to keep is gathered
in a batch in memory; `Store.write` makes it durable. Nothing here blocks the event loop.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager
from typing import ClassVar, NamedTuple

Done = Callable[["StoreError | None"], None]
"""Is called when a batch is written, with what failed or None."""


class StoreError(Exception):
    """The store did not do what it was asked; the text says why."""


class CorruptError(StoreError):
    """What is stored is not what was written; the text says what is wrong with it."""


class Batch(ABC):
    """What is to be written in one step: all of it or nothing. It is true if there is something to write."""

    @abstractmethod
    def __bool__(self) -> bool: ...

    @abstractmethod
    def whole(self) -> AbstractContextManager[None]:
        """Take back what is added meanwhile if that fails half way."""


class Stored(NamedTuple):
    """What is stored of a document.

    Attributes:
        updates: all of it.
        base_index: of the largest one of them, see ``yjs.segment_index``; None if there is none.
    """

    updates: list[bytes]
    base_index: bytes | None


class DocumentRecords(ABC):
    """One document's updates, numbered in the order in which they came. Its methods only add to a batch."""

    @abstractmethod
    def append(self, updates: Sequence[bytes], state_vector: Callable[[], bytes], batch: Batch) -> None:
        """Have `batch` keep `updates`; they survive the end of this process when it is written.

        Args:
            updates: in their order.
            state_vector: returns that of the document with them, should the store need it.
            batch: is added to.
        """

    @abstractmethod
    def last(self) -> int:
        """Return the number of the last update that is kept, or will be when a batch is written; -1 for none."""

    @abstractmethod
    def replace(
        self, last: int, updates: Sequence[bytes], state_vector: bytes, index: bytes | None, batch: Batch
    ) -> None:
        """Have `batch` keep `updates` in place of all that is kept up to number `last`.

        Args:
            last: the number that the last one of them gets.
            updates: at most as many as there are up to that one; the last one is the whole document.
            state_vector: that of the document then.
            index: helps to load the last one of them, if it is large.
            batch: is added to.
        """


class Store(ABC):
    """Where all documents are kept."""

    durable: ClassVar[bool]
    """Whether what is written survives the end of this process."""

    @property
    @abstractmethod
    def failure(self) -> str | None:
        """What the last write failed with, for people; None when it succeeded."""

    @property
    @abstractmethod
    def busy(self) -> bool:
        """Whether a batch is under way; another one would have to wait for it."""

    @abstractmethod
    def when_idle(self, act: Callable[[], None]) -> None:
        """Have `act` called whenever batches were under way and none is any more."""

    @abstractmethod
    def batch(self) -> Batch:
        """Return an empty batch."""

    @abstractmethod
    async def open(self, name: str) -> tuple[DocumentRecords, Stored]:
        """Read a document, which may not exist yet; nobody else may write it from here on.

        Raises:
            StoreError: it could not be read.
            CorruptError: the data is damaged.
        """

    @abstractmethod
    def write(self, batch: Batch, done: Done) -> None:
        """Write a batch, after those that were given before; call `done`, perhaps before this returns."""

    @abstractmethod
    def names(self, more_than: int) -> AsyncIterator[str]:
        """Yield the names of the documents that have more than so many updates.

        Raises:
            StoreError: they could not be read.
            CorruptError: the data is damaged.
        """

    @abstractmethod
    async def close(self) -> None:
        """Write what was given, and close."""
