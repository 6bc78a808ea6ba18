"""Limits: the rate of messages and bytes of one connection, the rate of events for each key, and quotas.

This is our own code, because it runs for every message and costs an addition. Libraries for rate limits call a storage
or wait in a task.
"""

from collections import Counter
from math import inf
from typing import NamedTuple

BURST_SECONDS = 10
"""Seconds of the rate that a client can use at once, after it was quiet for as long.

A first sync, a large paste or ten trickled ICE candidates arrive at once. The rate is an average.
"""

PATIENCE = 1000
"""Messages over the rate that are answered with an error, or frames over it that wait; then 1008 closes the client."""


SETTING_OF = {"messages": "RATE_LIMIT", "bytes": "BYTE_RATE_LIMIT"}
"""The setting of each rate limit of a connection."""


class Over(NamedTuple):
    """A message over a rate limit.

    Attributes:
        limit: the limit, a key of `SETTING_OF`.
        seconds: time until the connection is within the limit again.
    """

    limit: str
    seconds: float


class Pace:
    """The rate limits of one connection, in messages and in bytes: two token buckets.

    Messages over the limit make the bucket negative, down to minus its capacity.

    Args:
        messages: messages a second; 0 for any number.
        size: bytes a second; 0 for any number.
        largest: bytes of the largest message, which the capacity allows in any case.
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
        """Count a message of `size` bytes at time `now`; return None, or the limit that it exceeds for longer."""
        passed = now - self._updated
        messages = self._messages + passed * self._message_rate
        left = self._bytes + passed * self._byte_rate
        # This runs for every message, and min() would take longer than all the rest.
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
    """A rate limit for each key: `rate` times a second, with a burst of `BURST_SECONDS`.

    A refused event is not counted, so a crowd that keeps trying is admitted at the rate. A key whose burst is complete
    again is forgotten, so memory is bounded by the keys of the last seconds.

    Args:
        rate: events a second; 0 means any number.
    """

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._turn = 0.0  # time at which the older half is forgotten
        self._paid: dict[str, float] = {}  # by key, time at which its burst is complete again
        self._older: dict[str, float] = {}

    def allow(self, key: str, now: float) -> bool:
        """Count an event of `key` at time `now`, in seconds of any steady clock, if it may happen; return whether."""
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
    """A quota for each key: at most `limit` in every window of `seconds`.

    Windows are fixed. All keys are forgotten at the end of a window, so memory is bounded by the keys of one window.

    Args:
        limit: the quota; 0 means any number.
        seconds: the length of a window.
    """

    def __init__(self, limit: int, seconds: float) -> None:
        self._limit = limit
        self._seconds = seconds
        self._window = 0
        self._used: Counter[str] = Counter()

    def has(self, key: str, now: float, number: int = 1) -> bool:
        """Return whether `key` has a quota for `number` more at time `now`, in seconds."""
        self._turn(now)
        return not self._limit or self._used.get(key, 0) + number <= self._limit

    def allow(self, key: str, now: float, number: int = 1) -> bool:
        """Return whether `key` has a quota for `number` more at time `now`, in seconds; count them if so."""
        if not self.has(key, now, number):
            return False
        self.count(key, now, number)
        return True

    def count(self, key: str, now: float, number: int = 1) -> None:
        """Count `number` more for `key`, even beyond its quota."""
        self._turn(now)
        if self._limit:
            self._used[key] += number

    def give_back(self, key: str, number: int = 1) -> None:
        """Subtract `number` from the count of `key`, because the counted action did not happen."""
        if self._used[key] > number:
            self._used[key] -= number
        else:
            del self._used[key]  # a key with a count of 0 is forgotten

    def _turn(self, now: float) -> None:
        """Forget all keys if another window has begun."""
        window = int(now / self._seconds)
        if window != self._window:
            self._window = window
            self._used.clear()
