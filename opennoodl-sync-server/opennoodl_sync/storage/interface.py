"""The interface of a store, which keeps the updates of documents. Rooms and commands use no other part of a store.

A store keeps bytes. It detects damage to them and does not interpret them. Changes are added to a batch in memory;
`Store.write` makes it durable. Nothing here blocks the event loop.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Collection, Sequence, Set
from contextlib import AbstractContextManager
from typing import ClassVar, NamedTuple

Done = Callable[["StoreError | None"], None]
"""Is called when a batch is written, with what failed or None."""

DAMAGED = "Put a backup back, or see what the command `repair` can read"
"""What an operator can do about damaged data."""


class StoreError(Exception):
    """The store did not do what it was asked; the text says why."""


class CorruptError(StoreError):
    """What is stored is not what was written; the text says what is wrong with it."""


class UnavailableError(StoreError):
    """The store cannot be reached now, and no document is at fault; the text is for clients."""


class ElsewhereError(StoreError):
    """Another instance has the document.

    Args:
        instance: its name.
        url: where it is reached.
    """

    def __init__(self, instance: str, url: str) -> None:
        super().__init__("another server has this document")
        self.instance = instance
        self.url = url


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


class Version(NamedTuple):
    """A copy of a document as it was.

    Attributes:
        time: when it was made, in seconds since 1970; no two versions of a document have the same.
        size: bytes that it takes.
        last: the number of the last update that is in it.
    """

    time: int
    size: int
    last: int


class History(NamedTuple):
    """The versions of a document.

    Attributes:
        versions: the oldest one first.
        last: the number of the last stored update of the document; -1 for none.
    """

    versions: list[Version]
    last: int


class Contents(NamedTuple):
    """The documents of a store.

    Attributes:
        names: of all documents, in order.
        damage: why documents may be missing here, or None.
    """

    names: list[str]
    damage: str | None


class DocumentRecords(ABC):
    """One document's updates, numbered in the order in which they came. Its methods only add to a batch.

    Attributes:
        lost: whether another process may have taken the document; nothing of it is stored from then on.
    """

    lost: bool = False

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

    def release(self, batch: Batch) -> None:
        """Have `batch` give the document back, so that another process can open it; call nothing else after it."""


class StoreCounts(NamedTuple):
    """What metrics show of a store that other instances use too.

    Attributes:
        reconnects: how often a lost connection to it was opened again.
        lease_age: seconds since this instance's lease was renewed.
        owned: documents that no other instance can open.
    """

    reconnects: int = 0
    lease_age: float = 0.0
    owned: int = 0


class BatchWriter(ABC):
    """The part of a store that writes."""

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
    def write(self, batch: Batch, done: Done) -> None:
        """Write a batch, after those that were given before; call `done`, perhaps before this returns."""


class Store(BatchWriter):
    """Where all documents are kept."""

    durable: ClassVar[bool]
    """Whether what is written survives the end of this process."""

    @property
    @abstractmethod
    def failure(self) -> str | None:
        """What the last write failed with, for people; None when it succeeded."""

    @property
    def instance(self) -> str:
        """The name of this instance among those that use the store; empty where there is no other one."""
        return ""

    async def own_address(self) -> str | None:
        """Return the address from which the store sees this process, if it is another one than the store's own.

        Raises:
            StartError: it cannot be known.
            UnavailableError: the store cannot be reached.
        """
        return None

    def announce(self, url: str) -> None:
        """Tell other instances where this one is reached."""

    async def alive(self, instances: Set[str]) -> set[str]:
        """Return those of some instances whose rooms nobody else can open.

        Raises:
            UnavailableError: the store cannot be reached.
        """
        return set(instances)

    @property
    def counts(self) -> StoreCounts:
        """What metrics show."""
        return StoreCounts()

    def when_lost(self, act: Callable[[str], None]) -> None:
        """Have `act` called with the name of each open document that another process may take from now on."""

    async def find(self, name: str) -> None:
        """Return if this process has a document, or can open it.

        Raises:
            ElsewhereError: another instance has it.
            UnavailableError: the store cannot be reached.
        """

    async def is_closed(self, name: str) -> bool:
        """Return whether an operator has closed a room.

        Raises:
            StoreError: it could not be read.
        """
        return False

    @abstractmethod
    async def open(self, name: str) -> tuple[DocumentRecords, Stored]:
        """Read a document, which may not exist yet; no other process can write it until it is released.

        Raises:
            StoreError: it could not be read.
            CorruptError: the data is damaged.
            ElsewhereError: another instance has it.
            UnavailableError: the store cannot be reached.
        """

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


class PersistentStore(Store):
    """A store whose documents survive the process, as the operator's commands use it."""

    durable = True

    async def store(self, batch: Batch) -> None:
        """Write a batch.

        Raises:
            StoreError: nothing of it was written.
        """
        done = asyncio.get_running_loop().create_future()
        self.write(batch, done.set_result)
        error: StoreError | None = await done
        if error is not None:
            raise error

    @abstractmethod
    async def survey(self) -> Contents:
        """Return the names of all documents, damaged ones included.

        Raises:
            StoreError: they could not be read.
        """

    async def other_instances(self) -> int:
        """Return how many other processes use the store now.

        Raises:
            UnavailableError: the store cannot be reached.
        """
        return 0

    @abstractmethod
    async def read(self, name: str) -> Stored:
        """Read a document without taking it; a server may be writing it.

        Raises:
            StoreError: it could not be read.
            CorruptError: the data is damaged.
        """

    @abstractmethod
    async def read_until(self, name: str, last: int) -> tuple[list[bytes], int]:
        """Read a document as it was at update number `last`; return its updates, and the number of the last of them.

        If later updates have been merged with that one since, they are in it.

        Raises:
            StoreError: it could not be read.
            CorruptError: the data is damaged.
        """

    @abstractmethod
    async def history(self, name: str) -> History:
        """Return the versions of a document; there are none of one that does not exist.

        Raises:
            StoreError: they could not be read.
            CorruptError: the data is damaged.
        """

    @abstractmethod
    def histories(self) -> AsyncIterator[tuple[str, History]]:
        """Yield the name and the versions of every document that has some.

        Raises:
            StoreError: they could not be read.
            CorruptError: the data is damaged.
        """

    @abstractmethod
    async def read_version(self, name: str, time: int) -> bytes | None:
        """Return the content of a version, or None if there is none of this time.

        Raises:
            StoreError: it could not be read.
            CorruptError: it is damaged.
        """

    @abstractmethod
    async def change_versions(
        self, name: str, added: Sequence[tuple[Version, bytes]], dropped: Collection[int]
    ) -> None:
        """Add versions of a document with their contents, and drop those of some times, in one step.

        Raises:
            StoreError: nothing was changed.
        """

    @abstractmethod
    async def set_closed(self, name: str, closed: bool) -> None:
        """Note that a room is closed, or open again. Instances that have it in memory are not told.

        Raises:
            StoreError: it is as before.
        """

    @abstractmethod
    async def closed_names(self) -> list[str]:
        """Return the names of all closed rooms, in order.

        Raises:
            StoreError: they could not be read.
        """

    @abstractmethod
    async def delete(self, name: str) -> None:
        """Delete a document, damaged or not, with its versions and everything that is stored under its name.

        A closed room stays closed.

        Raises:
            StoreError: it could not be deleted, and is as before.
            ElsewhereError: another instance has it.
        """

    @abstractmethod
    async def exists(self, name: str) -> bool:
        """Return whether anything is stored under this name, damaged or not.

        Raises:
            StoreError: it could not be read.
        """

    async def fault(self, name: str, state_vector: bytes) -> str | None:
        """Return what is wrong beside the updates of a document, whose state vector this is; None for nothing.

        Raises:
            StoreError: it could not be read.
        """
        return None

    async def shrink(self) -> None:
        """Free the space of what was deleted.

        Raises:
            StoreError: the disk failed.
        """
