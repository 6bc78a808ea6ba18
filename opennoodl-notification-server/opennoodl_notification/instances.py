"""The instances: the hints that this server and others on the same database send each other, and when.

After each commit the worker announces the changes. A channel sends them to the other instances as hints, which may be
lost. Therefore the sequence numbers of all connected users are compared with the database every ten seconds, and at
once when a hint is missing. Limits on sendings and devices apply across instances as far as hints arrive.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from secrets import token_hex
from time import monotonic
from typing import Protocol

import structlog
from msgspec import MsgspecError, Struct, field

from .clock import Clock
from .devices import Devices
from .edge.metrics import Histogram
from .follower import Follower
from .hints import Change, Growth, Hello, Hint, Item, Present, Recount, Sends, changed, pack, size_of, unpack
from .inbox.batch import Batch
from .inbox.send_quota import SendQuota
from .inbox.store import Changes
from .messages import Event
from .totals import Totals

INTERVAL = 10.0
"""Seconds between two comparisons with the database, and between two signs of life of an instance."""
ABSENT = 30.0
"""Seconds without a hint after which an instance's devices do not count any more."""
MOST_WAITING = 8_388_608
"""Limit of the bytes of hints to send, and of hints to follow. Above it, hints are dropped."""
COMPARED = 500
"""Users whose numbers are compared in one job."""
LATENCIES = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)

log = structlog.get_logger()


Job = Callable[[], Awaitable[None]]
"""A job that the worker runs between two batches. If it raises `StoreError`, the store has failed."""


class Channel(Protocol):
    """Carries hints to all instances, including this one, in the order of their sending instance."""

    def wake(self) -> None:
        """Start sending the hints of `take`."""


class Other(Struct):
    """Another instance.

    Attributes:
        expected: the number of its next hint.
        heard: the monotonic time in seconds of its last hint.
        devices: the number of its devices by user.
    """

    expected: int
    heard: float
    devices: dict[str, int] = field(default_factory=dict)


class Instances:
    """This instance and the other ones.

    Args:
        follower: sends events about other instances' changes to devices.
        devices: the devices of this instance.
        totals: counts the stored bytes.
        quota: counts the notifications that users send.
        clock: gives the time.

    Attributes:
        follower: the follower.
        name: the name of this instance; new at each start.
        latency: histogram of seconds from a commit until its hint returns to this instance.
        sent: the number of hints sent.
        heard: the number of hints received from others.
        lost: the number of hints that could not be sent, read or followed.
    """

    def __init__(self, follower: Follower, devices: Devices, totals: Totals, *, quota: SendQuota, clock: Clock) -> None:
        self.follower = follower
        self._devices = devices
        self._totals = totals
        self._quota = quota
        self._clock = clock
        self._channel: Channel | None = None
        self._schedule: Callable[[Job], None] | None = None
        self.name = token_hex(8)
        self._echo = f'["{self.name}",'
        self._number = 0
        self._outgoing: list[Item] = []
        self._outgoing_size = 0
        self._outgoing_since: float | None = None
        self._under_way: deque[tuple[int, float]] = deque()
        self._moved: set[str] = set()
        self._others: dict[str, Other] = {}
        self._changes: list[Change] = []
        self._changes_size = 0
        self._to_compare: list[str] = []
        self._compare_again = False
        self.latency = Histogram(LATENCIES)
        self.sent = 0
        self.heard = 0
        self.lost = 0

    def use(self, channel: Channel) -> None:
        """Use a channel for hints from now on."""
        self._channel = channel
        self._devices.moved = self._move

    @property
    def present(self) -> int:
        """The number of other instances."""
        now = monotonic()
        return sum(now - other.heard < ABSENT for other in self._others.values())

    def devices_elsewhere(self, user: str) -> int:
        """Return the number of a user's devices at other instances, as far as hints say."""
        now = monotonic()
        return sum(other.devices.get(user, 0) for other in self._others.values() if now - other.heard < ABSENT)

    async def run(self, schedule: Callable[[Job], None]) -> None:
        """Compare with the database every few seconds, until cancelled.

        Args:
            schedule: makes the worker run a job between two batches.
        """
        self._schedule = schedule
        while True:
            self.compare()
            await asyncio.sleep(INTERVAL)

    # Outgoing hints

    def announce(
        self, before: Mapping[str, int], batch: Batch, changes: Changes, grown: int, events: Iterable[tuple[str, Event]]
    ) -> None:
        """Send hints about a commit.

        Args:
            before: the sequence numbers of the batch's inboxes before the commit.
            batch: the batch.
            changes: its changes as given to the store.
            grown: the bytes that were added to the store.
            events: the events for the devices of users, in order.
        """
        if self._channel is None:
            return
        of_users: dict[str, list[Event]] = {}
        for user, event in events:
            of_users.setdefault(user, []).append(event)
        after = {inbox.user_id: inbox.sequence for inbox in changes.inboxes}
        after |= dict.fromkeys(changes.forgotten, 0)
        items: list[Item] = [
            changed(user, before.get(user, 0), number, of_users.get(user, ()))
            for user, number in after.items()
            if number != before.get(user, 0)
        ]
        items += (Sends(*sends) for sends in batch.sends)
        if batch.growth or grown:
            items.append(Growth(batch.growth, grown))
        self._enqueue(items)

    def take(self) -> list[str]:
        """Return the hints to send, at least one, as a sign of life.

        The channel must send them at once, before it calls this again.
        """
        items = self._outgoing
        items += (Present(user, len(self._devices.of(user))) for user in self._moved)
        hints = list(pack(self.name, self._number, items))
        self._number += len(hints)
        self.sent += len(hints)
        if self._outgoing_since is not None:
            self._under_way.append((self._number - 1, self._outgoing_since))
        self._moved, self._outgoing, self._outgoing_size, self._outgoing_since = set(), [], 0, None
        return hints

    @property
    def waiting(self) -> bool:
        """Whether there are hints to send."""
        return bool(self._outgoing or self._moved)

    def begin(self) -> None:
        """Start, or start again after an interruption of the channel, in which hints may have been lost."""
        self._under_way.clear()
        self._enqueue([Hello()])
        self._recount()
        self.compare()

    def _recount(self) -> None:
        """Send the number of each user's devices at this instance again."""
        self._enqueue([Recount()])
        self._moved.update(self._devices.users)

    def _enqueue(self, items: list[Item]) -> None:
        assert self._channel is not None
        if not items:
            return
        self._outgoing += items
        self._outgoing_size += sum(map(size_of, items))
        if self._outgoing_since is None:
            self._outgoing_since = monotonic()
        if self._outgoing_size > MOST_WAITING:
            # The gap in the numbers makes the others compare with the database.
            self._outgoing, self._outgoing_size, self._outgoing_since = [Recount()], 0, None
            self._moved.update(self._devices.users)
            self._number += 1
            self.lost += 1
        self._channel.wake()

    def _move(self, user: str) -> None:
        """Send a hint that a user's number of devices has changed."""
        self._moved.add(user)
        assert self._channel is not None
        self._channel.wake()

    # Incoming hints

    def hear(self, text: str) -> None:
        """Receive a hint; its events are sent to devices between two batches."""
        if text.startswith(self._echo):
            self._measure(text)
            return
        try:
            hint = unpack(text)
        except MsgspecError as error:  # from an instance of a later version
            log.debug("a hint cannot be read", error=str(error))
            self.lost += 1
            self.compare()
            return
        self.heard += 1
        other = self._others.get(hint.instance)
        if other is None:
            self._forget_absent()
            other = self._others[hint.instance] = Other(expected=-1, heard=0.0)
            log.info("another instance was found", instance=hint.instance)
        follows = hint.number == other.expected
        other.expected, other.heard = hint.number + 1, monotonic()
        self._take_note(hint, other)
        if self._changes and self._schedule is not None:
            self._schedule(self._follow)
        if not follows:
            self.compare()

    def _take_note(self, hint: Hint, other: Other) -> None:
        now = self._clock.now() / 1000
        for item in hint.items:
            match item:
                case Change():
                    self._changes.append(item)
                    self._changes_size += size_of(item)
                case Sends(user, address, number, size):
                    self._quota.count(user, address, number, size, now)
                case Growth(notifications, size):
                    self._totals.add(notifications, size)
                case Present(user, 0):
                    other.devices.pop(user, None)
                case Present(user, number):
                    other.devices[user] = number
                case Recount():
                    other.devices.clear()
                case Hello():
                    self._recount()
        if self._changes_size > MOST_WAITING:
            self._changes, self._changes_size = [], 0
            self.lost += 1
            self.compare()

    def _measure(self, text: str) -> None:
        """Record the latency of a hint of this instance."""
        number = int(text.removeprefix(self._echo).partition(",")[0].rstrip("]"))
        while self._under_way and self._under_way[0][0] <= number:
            _, since = self._under_way.popleft()
            self.latency.observe(monotonic() - since)

    def _forget_absent(self) -> None:
        now = monotonic()
        self._others = {name: other for name, other in self._others.items() if now - other.heard < 120 * ABSENT}

    async def _follow(self) -> None:
        changes, self._changes, self._changes_size = self._changes, [], 0
        await self.follower.follow(changes)

    # Comparison with the database

    def compare(self) -> None:
        """Compare the numbers of all connected users with the database, between the next batches."""
        self._compare_again = True
        if self._schedule is not None:
            self._schedule(self._compare)

    async def _compare(self) -> None:
        if not self._to_compare:
            self._to_compare, self._compare_again = list(self._devices.users), False
        some, self._to_compare = self._to_compare[:COMPARED], self._to_compare[COMPARED:]
        if some:
            await self.follower.compare(some)
        if self._to_compare or self._compare_again:
            assert self._schedule is not None
            self._schedule(self._compare)
