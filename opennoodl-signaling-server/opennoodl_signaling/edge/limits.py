"""Limits: how fast one connection may speak, and how much one user may ask for.

This is our own code, since it runs for every message: an addition for each. Libraries for rate limits call a storage
or wait in a task.
"""

from collections import Counter
from math import inf
from typing import NamedTuple

BURST_SECONDS = 10
"""How many seconds' worth of tokens a quiet client saves up.

A first sync, a large paste or ten trickled ICE candidates come at once; the rate is an average.
"""

PATIENCE = 1000
"""Messages over the rate that are answered with an error, or frames over it that wait, until 1008 ends it."""


SETTING_OF = {"messages": "RATE_LIMIT", "bytes": "BYTE_RATE_LIMIT"}
"""The setting of each limit of a connection."""


class Over(NamedTuple):
    """That something came too early: which limit it is over, and by how many seconds."""

    limit: str
    seconds: float


class Pace:
    """How fast one connection may speak, in messages and in bytes.

    Whoever goes on regardless runs up a debt, of at most as much as can be saved up.

    Args:
        messages: a second; 0 for any number.
        size: bytes a second; 0 for any number.
        largest: bytes of the largest message, for which there is room in any case.
        now: the current time, in seconds of any steady clock.
    """

    __slots__ = ("_byte_rate", "_bytes", "_message_rate", "_messages", "_most_bytes", "_most_messages", "_updated")

    def __init__(self, messages: int, size: int, largest: int, now: float) -> None:
        self._message_rate, self._byte_rate = messages, size
        self._most_messages: float = messages * BURST_SECONDS if messages else inf
        self._most_bytes: float = max(size * BURST_SECONDS, largest) if size else inf
        self._messages, self._bytes = self._most_messages, self._most_bytes
        self._updated = now

    def take(self, now: float, size: int) -> Over | None:
        """Count a message of `size` bytes at time `now`; return None, or which limit it is over for longer."""
        passed = now - self._updated
        messages = self._messages + passed * self._message_rate
        left = self._bytes + passed * self._byte_rate
        # This is done for every message; min() takes longer than all the rest.
        messages = (messages if messages < self._most_messages else self._most_messages) - 1
        left = (left if left < self._most_bytes else self._most_bytes) - size
        self._messages, self._bytes, self._updated = messages, left, now
        if messages >= 0 and left >= 0:
            return None
        self._messages, self._bytes = max(messages, -self._most_messages), max(left, -self._most_bytes)
        wait = -messages / self._message_rate if messages < 0 else 0.0
        wait_for_bytes = -left / self._byte_rate if left < 0 else 0.0
        return Over("messages", wait) if wait >= wait_for_bytes else Over("bytes", wait_for_bytes)


class Rates:
    """How often each of many may come: `rate` times a second, with `BURST_SECONDS` of that saved up.

    One that comes too early costs nothing, so that of a crowd which keeps trying as many get in as may. Who has
    everything saved up is forgotten, so what is remembered is bounded by who came in the last seconds.

    Args:
        rate: times a second; 0 means any number.
    """

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._turn = 0.0  # when the older half is forgotten
        self._paid: dict[str, float] = {}  # when everything that a key had will have been made up for
        self._older: dict[str, float] = {}

    def allow(self, key: str, now: float) -> bool:
        """Return whether `key` may come at time `now`, in seconds of any steady clock, and count it if so."""
        if not self._rate:
            return True
        if now >= self._turn:
            self._older, self._paid, self._turn = self._paid, {}, now + BURST_SECONDS
        paid = max(self._paid.get(key, self._older.get(key, now)), now) + 1 / self._rate
        if paid > now + BURST_SECONDS + 1e-6:  # sums of fractions are not exact
            return False
        self._paid[key] = paid
        return True


class Quota:
    """At most `limit` of something for each key in every window of `seconds`.

    Windows are fixed, and all keys are forgotten when one ends, so what is remembered is bounded by who
    was active in it.

    Args:
        limit: how many; 0 means any number.
        seconds: the length of a window.
    """

    def __init__(self, limit: int, seconds: float) -> None:
        self._limit = limit
        self._seconds = seconds
        self._window = 0
        self._used: Counter[str] = Counter()

    def has(self, key: str, now: float, number: int = 1) -> bool:
        """Return whether `key` may have so many more at time `now`."""
        self._turn(now)
        return not self._limit or self._used.get(key, 0) + number <= self._limit

    def allow(self, key: str, now: float, number: int = 1) -> bool:
        """Return whether `key` may have so many more at time `now`, and count them if so."""
        if not self.has(key, now, number):
            return False
        self.count(key, now, number)
        return True

    def count(self, key: str, now: float, number: int = 1) -> None:
        """Count so many more for `key`, whether it may have them or not."""
        self._turn(now)
        if self._limit:
            self._used[key] += number

    def give_back(self, key: str, number: int = 1) -> None:
        """Take back what was counted last for `key`: it was not done after all."""
        if self._used[key] > number:
            self._used[key] -= number
        else:
            del self._used[key]  # who has nothing left to give back is not remembered

    def _turn(self, now: float) -> None:
        """Forget all keys if another window has begun."""
        window = int(now / self._seconds)
        if window != self._window:
            self._window = window
            self._used.clear()
