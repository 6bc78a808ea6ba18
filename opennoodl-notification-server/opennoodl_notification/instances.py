"""The instances: what this server and others on the same database tell each other, and when.

After each commit the worker announces what has changed. A channel carries that to the other instances as hints, which
may be lost: the numbers of all connected users are compared with the database every ten seconds, and at once when a
hint is missing. Quotas and the number of a user's devices hold across instances as far as hints arrive.
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
"""Seconds between two comparisons with the database, and after which an instance says that it is there."""
ABSENT = 30.0
"""Seconds after which the devices of an instance that says nothing do not count any more."""
MOST_WAITING = 8_388_608
"""Bytes of hints that wait to be sent, and of hints that wait to be followed. Then these are lost."""
COMPARED = 500
"""Users whose numbers are compared between two batches."""
LATENCIES = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)

log = structlog.get_logger()


Job = Callable[[], Awaitable[None]]
"""What the worker does between two batches. If it raises `StoreError`, the store has failed."""


class Channel(Protocol):
    """Carries hints to all instances, this one included, in the order in which each instance sends them."""

    def wake(self) -> None:
        """Let it send what is to be sent."""


class Other(Struct):
    """Another instance.

    Attributes:
        expected: the number of its next hint.
        heard: when it was heard last, in seconds of a steady clock.
        devices: how many each user has there.
    """

    expected: int
    heard: float
    devices: dict[str, int] = field(default_factory=dict)


class Instances:
    """This instance among others.

    Args:
        follower: what tells devices of changes that were made elsewhere.
        devices: the devices here.
        totals: how much is stored.
        quota: what users have sent.
        clock: the time.

    Attributes:
        follower: what tells devices of changes that were made elsewhere.
        name: of this instance; another one at each start.
        latency: seconds from a commit until its hint has come back to this instance.
        sent: hints that were sent.
        heard: hints of others.
        lost: hints that were not sent, or could not be read or followed.
    """

    def __init__(self, follower: Follower, devices: Devices, totals: Totals, *, quota: SendQuota, clock: Clock) -> None:
        self.follower = follower
        self._devices = devices
        self._totals = totals
        self._quota = quota
        self._clock = clock
        self._channel: Channel | None = None
        self._soon: Callable[[Job], None] | None = None
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
        """Tell the others what changes, on a channel, from now on."""
        self._channel = channel
        self._devices.moved = self._move

    @property
    def present(self) -> int:
        """How many other instances there are."""
        now = monotonic()
        return sum(now - other.heard < ABSENT for other in self._others.values())

    def devices_elsewhere(self, user: str) -> int:
        """Return how many devices of a user other instances have, as far as they have told."""
        now = monotonic()
        return sum(other.devices.get(user, 0) for other in self._others.values() if now - other.heard < ABSENT)

    async def run(self, soon: Callable[[Job], None]) -> None:
        """Compare with the database every few seconds, until this is cancelled.

        Args:
            soon: lets the worker do something between two batches.
        """
        self._soon = soon
        while True:
            self.compare()
            await asyncio.sleep(INTERVAL)

    # What is told

    def announce(
        self, before: Mapping[str, int], batch: Batch, changes: Changes, grown: int, events: Iterable[tuple[str, Event]]
    ) -> None:
        """Tell the others what was stored.

        Args:
            before: the numbers of the batch's inboxes before it.
            batch: what was stored.
            changes: the same, as the store was told.
            grown: by how many bytes more is stored.
            events: what the devices of users are told, in order.
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
        self._tell(items)

    def take(self) -> list[str]:
        """Return the hints that are to be sent now; there is at least one, since the others want to hear of this one.

        The channel has to send them at once, and before it takes more.
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
        """Whether something is to be sent."""
        return bool(self._outgoing or self._moved)

    def begin(self) -> None:
        """Begin to be heard and to hear, also after an interruption of the channel: something may have been lost."""
        self._under_way.clear()
        self._tell([Hello()])
        self._recount()
        self.compare()

    def _recount(self) -> None:
        """Tell the others anew how many devices each user has here."""
        self._tell([Recount()])
        self._moved.update(self._devices.users)

    def _tell(self, items: list[Item]) -> None:
        assert self._channel is not None
        if not items:
            return
        self._outgoing += items
        self._outgoing_size += sum(map(size_of, items))
        if self._outgoing_since is None:
            self._outgoing_since = monotonic()
        if self._outgoing_size > MOST_WAITING:
            # The missing number lets the others compare with the database.
            self._outgoing, self._outgoing_size, self._outgoing_since = [Recount()], 0, None
            self._moved.update(self._devices.users)
            self._number += 1
            self.lost += 1
        self._channel.wake()

    def _move(self, user: str) -> None:
        """Tell the others that a user has one device more or less."""
        self._moved.add(user)
        assert self._channel is not None
        self._channel.wake()

    # What is heard

    def hear(self, text: str) -> None:
        """Take a hint; what it says is told to devices between two batches."""
        if text.startswith(self._echo):
            self._measure(text)
            return
        try:
            hint = unpack(text)
        except MsgspecError as error:  # an instance of a later version
            log.debug("a hint cannot be read", error=str(error))
            self.lost += 1
            self.compare()
            return
        self.heard += 1
        other = self._others.get(hint.instance)
        if other is None:
            self._forget_absent()
            other = self._others[hint.instance] = Other(expected=-1, heard=0.0)
            log.info("another instance is there", instance=hint.instance)
        follows = hint.number == other.expected
        other.expected, other.heard = hint.number + 1, monotonic()
        self._take_note(hint, other)
        if self._changes and self._soon is not None:
            self._soon(self._follow)
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
        """Take note of how long a hint of this instance has taken."""
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

    # The comparison

    def compare(self) -> None:
        """Compare the numbers of all connected users with the database, between the next batches."""
        self._compare_again = True
        if self._soon is not None:
            self._soon(self._compare)

    async def _compare(self) -> None:
        if not self._to_compare:
            self._to_compare, self._compare_again = list(self._devices.users), False
        some, self._to_compare = self._to_compare[:COMPARED], self._to_compare[COMPARED:]
        if some:
            await self.follower.compare(some)
        if self._to_compare or self._compare_again:
            assert self._soon is not None
            self._soon(self._compare)
