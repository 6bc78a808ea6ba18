"""Rooms in Redis: reads rooms, lets the domain decide, and writes the changes in an optimistic transaction."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from weakref import WeakValueDictionary

from ..edge.errors import BadMessage
from ..edge.metrics import Counts
from ..ice import Ice
from ..rooms.absent_peers import ENDS
from ..rooms.model import Effect
from ..rooms.rooms import JOINS, Rooms
from ..users import Users
from . import scripts
from .changes import Change
from .membership import Membership
from .model import Focus, Loaded, Rules
from .records import decode_room, mailbox
from .redis_connection import Unreachable
from .transaction import Transaction

ATTEMPTS = 100
"""Limit of the attempts at a decision, while other instances change the same rooms."""

Decision = Callable[[Transaction], tuple[Iterable[Effect], Iterable[Change]]]
"""Decides in a transaction; returns effects, and further changes. It is called again after a conflict."""


class SharedRooms:
    """The rooms of all instances.

    Args:
        membership: the membership of this instance.
        rules: the limits that decisions depend on.
        ice: adds the ICE servers to `joined`.

    Attributes:
        domain: the rules of rooms, without any room.
        joins: joins at this instance by outcome.
        absences: absences that ended at this instance, by outcome.
        conflicts: the number of decisions that were repeated, because another instance changed the rooms.
    """

    def __init__(self, membership: Membership, rules: Rules, ice: Ice) -> None:
        self.domain = Rooms(rules.max_size, Users(0))
        self.joins = Counts(JOINS)
        self.absences = Counts(ENDS)
        self.conflicts = 0
        self._membership = membership
        self._rules = rules
        self._ice = ice
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()  # while held or awaited

    async def decide(self, names: Iterable[str], focus: Focus, decision: Decision) -> Transaction:
        """Make a decision about some rooms, and write its changes; return the transaction.

        Args:
            names: the names of the rooms.
            focus: the place whose mailbox the decision may need.
            decision: makes the decision.

        Raises:
            BadMessage: from the decision. Changes that it made before are written.
            Unreachable: Redis does not answer.
        """
        rooms = sorted(set(names))
        async with self._alone(rooms):
            for _ in range(ATTEMPTS):
                transaction = await self.load(rooms, focus)
                refused: BadMessage | None = None
                changes: list[Change] = []
                try:
                    effects, more = decision(transaction)
                    changes += [*transaction.changes(effects), *more]
                except BadMessage as bad:
                    refused = bad
                    changes += transaction.changes(())
                if changes and not await self._commit(transaction, changes):
                    self.conflicts += 1
                    continue
                self.joins.update(transaction.rooms.joins)
                self.absences.update(transaction.rooms.absent_peers.ends)
                if refused is not None:
                    raise refused
                return transaction
        raise Unreachable(sent=False)

    async def load(self, rooms: list[str], focus: Focus) -> Transaction:
        """Return a transaction with rooms as they are now.

        Raises:
            Unreachable: Redis does not answer.
        """
        _, now, filling, absent, number, size, messages, found = await self._membership.ask(
            scripts.LOAD, focus.room, focus.peer, *rooms
        )
        versions = [version or b"" for version, _ in found]
        records = [None if data is None else decode_room(data) for _, data in found]
        loaded = Loaded(
            now,
            bool(filling),
            absent,
            focus,
            mailbox(number, size, messages),
            dict(zip(rooms, records, strict=True)),
            dict(zip(rooms, versions, strict=True)),
        )
        return Transaction(loaded, self._rules, self._ice)

    async def _commit(self, transaction: Transaction, changes: list[Change]) -> bool:
        loaded = transaction.loaded
        checks = [part for item in loaded.versions.items() for part in item]
        flat = [part for name, *arguments in changes for part in (name, len(arguments), *arguments)]
        answer = await self._membership.ask(
            scripts.COMMIT,
            loaded.focus.room,
            loaded.focus.peer,
            loaded.mailbox.number,
            len(loaded.versions),
            *checks,
            *flat,
        )
        return bool(answer == b"ok")

    @asynccontextmanager
    async def _alone(self, rooms: list[str]) -> AsyncIterator[None]:
        """Wait until this instance makes no other decision about the rooms.

        Without this, most decisions about a busy room would end in a conflict.
        """
        async with AsyncExitStack() as stack:
            for name in rooms:
                lock = self._locks.get(name)
                if lock is None:
                    lock = self._locks[name] = asyncio.Lock()
                await stack.enter_async_context(lock)
            yield
