"""The interface of a store, which stores the updates of documents. Rooms and commands use only this interface.

A store works with bytes: it detects damage and does not interpret them. Changes are added to a batch in memory, and the
store's writer makes the batch durable. Nothing here blocks the event loop.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Collection, Sequence, Set
from typing import ClassVar, NamedTuple

Done = Callable[["StoreError | None"], None]
"""Is called after the write of a batch, with the error or None."""

PART_SIZE = 4_194_304
"""Bytes from which a part of a compacted document ends. A part takes several times as much memory while it is compacted
and stored; the fewer parts a document has, the faster it is used."""

Mark = tuple[int, ...]
"""A position in a batch, for `Batch.take_back`."""

DAMAGED = "Restore a backup, or run the command `repair`"
"""Advice to the operator about damaged data."""


class StoreError(Exception):
    """The store failed; the text says why."""


class CorruptError(StoreError):
    """The stored data is damaged; the text says how."""


class UnavailableError(StoreError):
    """The store cannot be reached now; the text is for clients."""


class ElsewhereError(StoreError):
    """Another instance owns the document.

    Args:
        instance: the name of the other instance.
        url: the URL of the other instance.
    """

    def __init__(self, instance: str, url: str) -> None:
        super().__init__("another server has this document")
        self.instance = instance
        self.url = url


class Batch(ABC):
    """Changes that are written atomically. A batch is true if it has changes."""

    @abstractmethod
    def __bool__(self) -> bool: ...

    @abstractmethod
    def mark(self) -> Mark:
        """Return a mark for `take_back`."""

    @abstractmethod
    def take_back(self, mark: Mark) -> None:
        """Remove the changes that were added after `mark`, since adding the rest has failed."""


class Stored(NamedTuple):
    """A stored document.

    Attributes:
        updates: all its updates.
        indexes: by position of a compacted part among them: its index, see ``yjs.segment_index``.
    """

    updates: list[bytes]
    indexes: dict[int, bytes]


class Version(NamedTuple):
    """A copy of a document at a point in time.

    Attributes:
        time: the time of the copy, in seconds since 1970; unique for the document.
        size: the stored bytes of the copy.
        last: the number of the last update in it.
    """

    time: int
    size: int
    last: int


class History(NamedTuple):
    """The versions of a document.

    Attributes:
        versions: the versions, oldest first.
        last: the number of the last stored update of the document; -1 for none.
    """

    versions: list[Version]
    last: int


class Contents(NamedTuple):
    """The documents of a store.

    Attributes:
        names: of all documents, in order.
        damage: the reason why documents may be missing here, or None.
    """

    names: list[str]
    damage: str | None


class DocumentRecords(ABC):
    """One document's updates, numbered in their order. The methods only add to a batch.

    Attributes:
        lost: whether another process may have taken the document. From then on no change of it is stored.
        part_size: bytes from which a compacted document is stored in several parts; 0 means that it is one update.
    """

    lost: bool = False
    part_size: int = 0

    @abstractmethod
    def append(self, updates: Sequence[bytes], state_vector: Callable[[], bytes], batch: Batch) -> None:
        """Add `updates` to `batch`; after the write of the batch, they survive the end of this process.

        Args:
            updates: the updates, in their order.
            state_vector: returns the state vector of the document with the updates; called if the store needs it.
            batch: the batch.
        """

    def append_part(self, update: bytes, index: bytes, batch: Batch) -> None:
        """Add a part of a compacted document to `batch`; stores with a `part_size` have this.

        Earlier updates have its content, too, until `replace` deletes them.

        Args:
            update: the part.
            index: its index.
            batch: the batch.
        """
        raise NotImplementedError

    @abstractmethod
    def last(self) -> int:
        """Return the number of the last update, written or in a batch; -1 for none."""

    @abstractmethod
    def replace(
        self, last: int, updates: Sequence[bytes], state_vector: bytes, index: bytes | None, batch: Batch
    ) -> None:
        """Add `updates` to `batch`, as the replacement of all updates up to number `last`.

        Args:
            last: the number of the last replaced update, and of the last one of `updates`.
            updates: at most as many as they replace; the last one is the document, without the parts that were added.
            state_vector: the state vector of the document; it may include later updates.
            index: the index of the last update if that is large, for faster loading; else None.
            batch: the batch.
        """

    def release(self, batch: Batch) -> None:
        """Add the release of the document to `batch`, so that another process can open it. Make no further call."""


class StoreCounts(NamedTuple):
    """The metrics of a store that other instances use too.

    Attributes:
        reconnects: the number of lost connections that were opened again.
        lease_age: seconds since the last renewal of this instance's lease.
        owned: the number of documents that this instance owns.
    """

    reconnects: int = 0
    lease_age: float = 0.0
    owned: int = 0


class BatchWriter(ABC):
    """The part of a store that writes.

    Attributes:
        busy: whether a batch is being written; another one would have to wait.
    """

    busy: bool

    @abstractmethod
    def when_idle(self, act: Callable[[], None]) -> None:
        """Call `act` each time the last waiting batch has been written."""

    @abstractmethod
    def batch(self) -> Batch:
        """Return an empty batch."""

    @abstractmethod
    def write(self, batch: Batch, done: Done) -> None:
        """Write a batch after the earlier ones; call `done`, perhaps before this returns."""


class Store(ABC):
    """The store of all documents.

    Attributes:
        writer: writes batches; it may be the store itself.
    """

    durable: ClassVar[bool]
    """Whether written changes survive the end of this process."""
    writer: BatchWriter

    @property
    @abstractmethod
    def failure(self) -> str | None:
        """The reason of the last failed write, for people; None if it succeeded."""

    @property
    def instance(self) -> str:
        """The name of this instance among those that use the store; empty for a store of one instance."""
        return ""

    async def own_address(self) -> str | None:
        """Return the address from which the store sees this process; None if the store is on this machine.

        Raises:
            StartError: the address cannot be found.
            UnavailableError: the store cannot be reached.
        """
        return None

    def announce(self, url: str) -> None:
        """Store the URL of this instance for other instances."""

    async def alive(self, instances: Set[str]) -> set[str]:
        """Return those of `instances` that still own their rooms.

        Raises:
            UnavailableError: the store cannot be reached.
        """
        return set(instances)

    @property
    def counts(self) -> StoreCounts:
        """The metrics of a shared store."""
        return StoreCounts()

    def when_lost(self, act: Callable[[str], None]) -> None:
        """Call `act` with the name of each open document that another process may own from then on."""

    async def find(self, name: str) -> None:
        """Check that this process can open a document.

        Raises:
            ElsewhereError: another instance owns it.
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
        """Open a document, which may not exist yet; no other process can write it until it is released.

        Raises:
            StoreError: it could not be read.
            CorruptError: the data is damaged.
            ElsewhereError: another instance owns it.
            UnavailableError: the store cannot be reached.
        """

    @abstractmethod
    def names(self, more_than: int) -> AsyncIterator[str]:
        """Yield the names of the documents with more than `more_than` updates.

        Raises:
            StoreError: the names could not be read.
            CorruptError: the data is damaged.
        """

    @abstractmethod
    async def close(self) -> None:
        """Write all batches, and close."""


class PersistentStore(Store):
    """A store whose documents survive the process; the operator's commands use it too."""

    durable = True

    async def store(self, batch: Batch) -> None:
        """Write a batch.

        Raises:
            StoreError: nothing of it was written.
        """
        done = asyncio.get_running_loop().create_future()
        self.writer.write(batch, done.set_result)
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
        """Return the number of other processes that use the store now.

        Raises:
            UnavailableError: the store cannot be reached.
        """
        return 0

    @abstractmethod
    async def read(self, name: str) -> Stored:
        """Read a document without opening it; a server may be writing it.

        Raises:
            StoreError: it could not be read.
            CorruptError: the data is damaged.
        """

    @abstractmethod
    async def read_until(self, name: str, last: int) -> tuple[list[bytes], int]:
        """Return the updates of a document up to number `last`, and the number of the last of them.

        If later updates have been merged with that one, the result includes them.

        Raises:
            StoreError: it could not be read.
            CorruptError: the data is damaged.
        """

    @abstractmethod
    async def history(self, name: str) -> History:
        """Return the versions of a document; empty if it does not exist.

        Raises:
            StoreError: they could not be read.
            CorruptError: the data is damaged.
        """

    @abstractmethod
    def histories(self) -> AsyncIterator[tuple[str, History]]:
        """Yield name and versions of every document with versions.

        Raises:
            StoreError: they could not be read.
            CorruptError: the data is damaged.
        """

    @abstractmethod
    async def read_version(self, name: str, time: int) -> bytes | None:
        """Return the content of the version at `time`, or None if there is none.

        Raises:
            StoreError: it could not be read.
            CorruptError: it is damaged.
        """

    @abstractmethod
    async def change_versions(
        self, name: str, added: Sequence[tuple[Version, bytes]], dropped: Collection[int]
    ) -> None:
        """Add versions with their contents, and delete the versions at the times `dropped`, atomically.

        Raises:
            StoreError: nothing was changed.
        """

    @abstractmethod
    async def set_closed(self, name: str, closed: bool) -> None:
        """Store whether a room is closed. This does not notify an instance that has the room in memory.

        Raises:
            StoreError: nothing was changed.
        """

    @abstractmethod
    async def closed_names(self) -> list[str]:
        """Return the names of all closed rooms, in order.

        Raises:
            StoreError: they could not be read.
        """

    @abstractmethod
    async def delete(self, name: str) -> None:
        """Delete a document, damaged or not, with its versions and all other records of its name.

        A closed room stays closed.

        Raises:
            StoreError: it could not be deleted; nothing was changed.
            ElsewhereError: another instance owns it.
        """

    @abstractmethod
    async def exists(self, name: str) -> bool:
        """Return whether anything is stored under this name, damaged or not.

        Raises:
            StoreError: it could not be read.
        """

    async def fault(self, name: str, state_vector: bytes) -> str | None:
        """Return a fault beside the updates of a document with this state vector, or None.

        Raises:
            StoreError: it could not be read.
        """
        return None

    async def shrink(self) -> None:
        """Free the space of deleted data.

        Raises:
            StoreError: the disk failed.
        """
