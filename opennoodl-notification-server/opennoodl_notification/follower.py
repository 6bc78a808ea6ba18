"""The follower: sends devices the changes that other instances have stored in the same database.

All devices of a user at this instance know the same sequence number of the inbox. A change that directly follows that
number is sent from its hint. Otherwise all changes since are read, as for a device that resumes with `since`. The
worker calls these methods between two batches, or while a batch has locked its inboxes, so events stay in order.
"""

from collections.abc import Collection, Iterable, Iterator
from itertools import islice

import structlog
from msgspec import DecodeError

from .clock import Clock
from .devices import Devices
from .edge.metrics import Counts
from .hints import Change, events_of
from .inbox.reading import missed
from .inbox.store import Needs, Store
from .records import Inbox, timestamp

LOCKED = 20
"""Inboxes that are locked at a time while their changes are read."""
FORGOTTEN = "The missed changes are no longer stored. Connect again for the whole list."

log = structlog.get_logger()


class Follower:
    """Sends devices the changes of other instances.

    Args:
        store: stores the inboxes.
        devices: send the events.
        clock: gives the time.

    Attributes:
        gaps: counts missing numbers before a change, by the way in which they were found.
    """

    def __init__(self, store: Store, devices: Devices, clock: Clock) -> None:
        self._store = store
        self._devices = devices
        self._clock = clock
        self.gaps = Counts(("batch", "hint", "poll"))

    async def catch_up(self, inboxes: Iterable[Inbox], now: str, found: str = "batch") -> None:
        """Send devices all events up to the states of these inboxes, which are locked and unchanged.

        Args:
            inboxes: the stored states.
            now: the time.
            found: the label for `gaps`.

        Raises:
            StoreError: the changes could not be read.
        """
        known = self._devices.sequences
        for inbox in inboxes:
            user = inbox.user_id
            if known.get(user, inbox.sequence) == inbox.sequence:
                continue
            self.gaps[found] += 1
            since = known[user]
            # Number 0 means that the inbox was empty, so all its notifications are new to the devices.
            complete = not since or inbox.remembers(since)
            events = await missed(self._store, inbox, since, now) if complete else None
            if user not in known:  # the last device has disconnected in the meantime
                continue
            if events is None:
                for device in self._devices.of(user):
                    device.disconnect(1013, FORGOTTEN, "catch-up")
                continue
            for event in events:
                self._devices.send_event(user, event)
            self._devices.know(user, inbox.sequence, inbox.total)

    async def follow(self, changes: Iterable[Change]) -> None:
        """Send devices the changes that another instance has stored.

        Raises:
            StoreError: missing changes could not be read.
        """
        behind: dict[str, None] = {}
        for change in changes:
            user, known = change.user, self._devices.sequences.get(change.user)
            if known is None or known == change.after or (change.after and known > change.after):
                continue
            if user in behind or known != change.before or not self._send_events(change):
                behind[user] = None
        await self._read_up(behind, "hint")

    async def compare(self, users: Collection[str]) -> None:
        """Send the devices of these users all changes that they have missed.

        Raises:
            StoreError: the changes could not be read.
        """
        numbers = await self._store.numbers(users)
        known = self._devices.sequences
        await self._read_up([user for user in users if user in known and known[user] != numbers.get(user, 0)], "poll")

    def _send_events(self, change: Change) -> bool:
        """Send the events of a change that directly follows; return False if it does not, or its events are unknown."""
        if change.events is None:
            return False
        try:
            events = events_of(change)
        except DecodeError as error:  # from an instance of a later version
            log.debug("the events of a hint cannot be read", error=str(error))
            return False
        for event in events:
            self._devices.send_event(change.user, event)
        self._devices.know(change.user, change.after, self._devices.sizes[change.user])
        return True

    async def _read_up(self, users: Iterable[str], found: str) -> None:
        """Read and send the changes that devices of these users have missed."""
        now = timestamp(self._clock.expiry())
        for some in _portions(users):
            needs = Needs(now, 0)
            needs.users.update(dict.fromkeys(some, 0))
            async with self._store.transaction(needs) as transaction:
                inboxes = transaction.loaded.inboxes
                all_ = [inboxes.get(user) or Inbox(user_id=user, sequence=0) for user in some]
                await self.catch_up(all_, now, found)


def _portions(users: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(users)
    while some := list(islice(rest, LOCKED)):
        yield some
