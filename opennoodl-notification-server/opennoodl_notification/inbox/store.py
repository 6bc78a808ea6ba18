"""The interface of a store, which makes changes durable. The implementations are in ``storage/``.

A store is asked for as little as a batch of messages needs, decides nothing, and is told what came of it.
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
    """The disk or the database did not do what it was asked; nothing was changed."""


class UnsettledError(StoreError):
    """A database has not said whether it has made a change: it may have, or not."""


class Needs(Struct):
    """What a batch needs to see.

    Attributes:
        now: the time by which things expire.
        room: notifications that an inbox may hold; 0 means any number.
        users: whose inboxes, and how many notifications each is about to get, those that become unread included.
        ids: notifications by their ids.
        revoked: ids of notifications, with the inboxes that they are in.
        unread: users all of whose unread notifications are needed.
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
    """What a batch was given to see: what it needs, as far as it is there, and maybe more.

    Attributes:
        inboxes: by user; to be changed at will. One that is about to get its first notification may be there, with
            number 0.
        records: the notifications asked for, those that have expired in these inboxes, and enough old ones
            to make room for what comes: as many of the oldest and of the oldest read ones as must go.
        due: for inboxes whose time has come, when the next of those that have not expired will.
        sendings: by sender and key.
        epoch: grows with each start of the store, and with each connection to a database: whenever the store may have
            been set back to an older state.
    """

    inboxes: dict[str, Inbox] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)
    due: dict[str, str] = field(default_factory=dict)
    sendings: dict[tuple[str, str], Sending] = field(default_factory=dict)
    epoch: int = 0


class Changes(Struct, omit_defaults=True):
    """What is to be stored, in this order.

    Attributes:
        cleared: users whose notifications and deletions all go.
        removed: ids of notifications that go.
        updated: notifications that were marked.
        added: new notifications. Those that refer to the same payload have the same data, which is stored once; it goes
            with the last notification that refers to it.
        deletions: to be remembered; those before the horizon of an inbox need not be any more.
        sendings: to be remembered, in place of others with the same sender and key.
        inboxes: new states.
        forgotten: users whose inboxes go, with their deletions; they are empty.
        unsent: senders and keys of sendings that go.
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
    """Which notifications of an inbox are to be read, the newest first.

    Attributes:
        limit: how many at most.
        before: only those created before this.
        unread: only unread ones.
        types: only those of these types, if any are named.
    """

    limit: int
    before: str | None = None
    unread: bool = False
    types: Sequence[Type] = ()


class Counts(NamedTuple):
    """How much a store holds."""

    notifications: int
    unread: int
    inboxes: int
    deletions: int
    sendings: int


class Transaction(ABC):
    """One batch, from what it needs to see to what it changed.

    Attributes:
        loaded: what it needs.
    """

    loaded: Loaded

    @abstractmethod
    async def commit(self, changes: Changes) -> int:
        """Make `changes` last, all or none; they survive a power cut when this returns. At most once.

        Returns:
            The bytes for which the payloads counted that went with their last notification.

        Raises:
            StoreError: they could not be stored; what was kept before still is.
            UnsettledError: nobody can know whether they are stored, all of them or none.
        """


class ReadableStore(ABC):
    """The part of a store that answers to clients are read from. Its methods may raise `StoreError`."""

    @abstractmethod
    async def page(self, user: str, query: Query, now: str) -> list[Record]:
        """Return notifications of an inbox that have not expired, the newest first."""

    @abstractmethod
    async def changed(self, user: str, since: int) -> list[Record | Deletion]:
        """Return what came, changed or went in an inbox after number `since`, in the order of its last change."""


class Store(ReadableStore):
    """Keeps notifications. Everything but `open` and `close` may raise `StoreError`.

    Attributes:
        exclusive: whether no other process can change what is stored.
        file: in which the store is, with others whose names begin with that of this one; None if it has none here.
    """

    exclusive = True
    file: Path | None = None

    @abstractmethod
    async def open(self) -> None:
        """Get ready.

        Raises:
            StartError: it cannot be used; nothing was changed.
        """

    @abstractmethod
    def transaction(self, needs: Needs) -> AbstractAsyncContextManager[Transaction]:
        """Begin a batch; only one at a time. Without a commit it changes nothing."""

    @abstractmethod
    async def numbers(self, users: Collection[str]) -> dict[str, int]:
        """Return the numbers of the inboxes of these users, as far as they have one."""

    @abstractmethod
    async def due(self, now: str, size: int) -> list[str]:
        """Return some users in whose inboxes something has expired, or whose inbox may be forgotten.

        As many as hold about `size` notifications: the first of the `portions` that all of them make.
        """

    @abstractmethod
    async def clean(self, now: str) -> int:
        """Forget sendings that have expired; return the bytes for which they counted."""

    @abstractmethod
    async def recover(self) -> None:
        """Return if the store works, after it has failed."""

    @abstractmethod
    async def newest(self) -> str:
        """Return when the newest notification ever came in, or an empty text."""

    @abstractmethod
    async def counts(self) -> Counts:
        """Return how much there is."""

    @abstractmethod
    async def total(self) -> int:
        """Return how many notifications there are; it reads the states of the inboxes only."""

    @abstractmethod
    async def size(self) -> int:
        """Return the bytes for which all counts that there is, payloads once."""

    @abstractmethod
    def content(self, size: int) -> AsyncIterator[Changes]:
        """Yield everything, as changes of about `size` notifications that make it from nothing.

        An inbox is never divided.
        """

    @abstractmethod
    async def purge(self) -> None:
        """Leave nothing of what was deleted in the files of this store, its own backups included.

        A database server keeps what it has deleted for as long as its administrator has set.
        """

    @abstractmethod
    async def back_up(self, path: Path) -> None:
        """Write a copy of all that there is to a new file, as it is at one moment; a server may be running.

        Raises:
            StoreError: this kind of store cannot do that, or the file could not be written.
        """

    @abstractmethod
    async def close(self) -> None:
        """Let go of the store; another process may then use it."""


def portions(sizes: Iterable[tuple[str, int]], size: int) -> Iterator[list[str]]:
    """Yield users whose notifications are about `size` together; an inbox counts as one more.

    Args:
        sizes: users, and how many notifications each has.
        size: more than that only where the last one of a portion brings it.
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
