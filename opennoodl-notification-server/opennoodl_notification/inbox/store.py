"""The interface of a store, which makes changes durable. The implementations are in ``storage/``.

A store loads only the records that a batch needs. It decides nothing, and gets the resulting changes.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import NamedTuple

from msgspec import Struct, field

from ..records import Deletion, Inbox, Mark, Record, Sending, Type


class StoreError(Exception):
    """The disk or the database failed; nothing was changed."""


class UnsettledError(StoreError):
    """The result of a commit is unknown: the database did not answer."""


class Needs(Struct):
    """The records that a batch needs.

    Attributes:
        now: the time by which notifications expire.
        room: limit of notifications in an inbox; 0 means no limit.
        users: by user whose inbox is needed: the number of its new notifications, including those that become unread.
        ids: notifications by id.
        revoked: ids of notifications, with the owners of their inboxes.
        unread: users whose unread notifications are all needed.
        sendings: senders and keys of sendings.
    """

    now: str
    room: int
    users: Counter[str] = field(default_factory=Counter)
    ids: set[str] = field(default_factory=set)
    revoked: set[str] = field(default_factory=set)
    unread: set[str] = field(default_factory=set)
    sendings: set[tuple[str, str]] = field(default_factory=set)


class Loaded(Struct):
    """The records of a batch: those that it needs and that exist, perhaps more.

    Attributes:
        inboxes: by user; the batch may change them. The inbox of a first notification may be included, with number 0.
        records: the requested notifications, the expired ones of these inboxes, and those to delete when an inbox is
            full: the oldest ones and the oldest read ones.
        due: for inboxes with expired notifications: the time at which the next of the others expires.
        sendings: by sender and key.
        epoch: a number that grows with each start of the store and each connection to a database, since the store may
            have been restored to an older state before.
    """

    inboxes: dict[str, Inbox] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)
    due: dict[str, str] = field(default_factory=dict)
    sendings: dict[tuple[str, str], Sending] = field(default_factory=dict)
    epoch: int = 0


class Changes(Struct, omit_defaults=True):
    """The changes to store, in this order.

    Attributes:
        cleared: users whose notifications and deletions are all deleted.
        removed: ids of deleted notifications.
        updated: changed marks of notifications.
        added: new notifications. Those of the same payload have the same data, which is stored once and deleted with
            the last of them.
        deletions: records of deletions; a store may delete those before the horizon of an inbox.
        sendings: records of sendings, which replace others with the same sender and key.
        inboxes: new states.
        forgotten: users whose empty inboxes are deleted, with their records of deletions.
        unsent: senders and keys of deleted sendings.
    """

    cleared: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    updated: list[Mark] = field(default_factory=list)
    added: list[Record] = field(default_factory=list)
    deletions: list[Deletion] = field(default_factory=list)
    sendings: list[Sending] = field(default_factory=list)
    inboxes: list[Inbox] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    unsent: list[tuple[str, str]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return any(getattr(self, name) for name in self.__struct_fields__)


class Query(NamedTuple):
    """A query for notifications of an inbox, newest first.

    Attributes:
        limit: the largest number of results.
        before: only those created before this time.
        unread: only unread ones.
        types: only those of these types; empty for all types.
    """

    limit: int
    before: str | None = None
    unread: bool = False
    types: Sequence[Type] = ()


class Counts(NamedTuple):
    """The numbers of records in a store."""

    notifications: int
    unread: int
    inboxes: int
    deletions: int
    sendings: int


class Transaction(ABC):
    """One batch, from loading its records to storing its changes.

    Attributes:
        loaded: the records that it needs.
    """

    loaded: Loaded

    @abstractmethod
    async def commit(self, changes: Changes) -> int:
        """Store `changes` atomically; they survive a power cut when this returns. Call it at most once.

        Returns:
            the bytes that payloads counted which were deleted with their last notification.

        Raises:
            StoreError: nothing was stored; the old records are unchanged.
            UnsettledError: it is unknown whether the changes were stored.
        """


class ReadableStore(ABC):
    """The read methods of a store, for answers to clients. They may raise `StoreError`."""

    @abstractmethod
    async def page(self, user: str, query: Query, now: str) -> list[Record]:
        """Return notifications of an inbox that have not expired, newest first."""

    @abstractmethod
    async def changed(self, user: str, since: int) -> list[Record | Deletion]:
        """Return the changes and deletions of an inbox after number `since`, ordered by their last change."""


class Store(ReadableStore):
    """Stores notifications. All methods but `open` and `close` may raise `StoreError`.

    Attributes:
        exclusive: whether no other process can change the store.
        file: the store's file, whose side files' names begin with its name; None if there is no file on this machine.
    """

    exclusive = True
    file: Path | None = None

    @abstractmethod
    async def open(self) -> None:
        """Open the store.

        Raises:
            StartError: the store cannot be used; nothing was changed.
        """

    @abstractmethod
    def transaction(self, needs: Needs) -> AbstractAsyncContextManager[Transaction]:
        """Begin a batch; only one at a time. Without a commit it changes nothing."""

    @abstractmethod
    async def numbers(self, users: Collection[str]) -> dict[str, int]:
        """Return the sequence numbers of these users' inboxes, without those that do not exist."""

    @abstractmethod
    async def due(self, now: str, size: int) -> list[str]:
        """Return some users with expired notifications, or with expired empty inboxes.

        Their inboxes have about `size` notifications together: the first list of `portions`.
        """

    @abstractmethod
    async def clean(self, now: str) -> int:
        """Delete expired sendings; return the bytes that they counted."""

    @abstractmethod
    async def recover(self) -> None:
        """Test whether the store works, after it has failed."""

    @abstractmethod
    async def newest(self) -> str:
        """Return the time of the newest notification that was ever added, or an empty text."""

    @abstractmethod
    async def counts(self) -> Counts:
        """Return the numbers of records."""

    @abstractmethod
    async def total(self) -> int:
        """Return the number of notifications; it reads only the states of the inboxes."""

    @abstractmethod
    async def size(self) -> int:
        """Return the bytes that all records count, payloads once."""

    @abstractmethod
    def content(self, size: int) -> AsyncIterator[Changes]:
        """Yield all records, as changes of about `size` notifications each that recreate them in an empty store.

        An inbox is never divided.
        """

    @abstractmethod
    async def purge(self) -> None:
        """Remove all deleted data from the files of this store, including its own backups.

        A database server keeps deleted data as long as its administrator has configured.
        """

    @abstractmethod
    async def back_up(self, path: Path) -> None:
        """Write a copy of all records of one moment to a new file; a server may use the store.

        Raises:
            StoreError: this kind of store does not support it, or the file could not be written.
        """

    @abstractmethod
    async def close(self) -> None:
        """Close the store; another process may then use it."""


def portions(sizes: Iterable[tuple[str, int]], size: int) -> Iterator[list[str]]:
    """Yield lists of users whose notifications are about `size` together; each inbox counts one more.

    Args:
        sizes: users, and the number of notifications of each.
        size: the limit of a list; its last user may exceed it.
    """
    portion: list[str] = []
    total = 0
    for user, notifications in sizes:
        portion.append(user)
        total += notifications + 1
        if total >= size:
            yield portion
            portion, total = [], 0
    if portion:
        yield portion
