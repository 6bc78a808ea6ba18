"""Limits: how fast one connection may speak, and how much one user may ask for."""

from collections import Counter
from typing import NamedTuple

BURST_SECONDS = 10
"""How many seconds' worth of tokens a quiet client saves up.

A first sync, a large paste or ten trickled ICE candidates come at once; the rate is an average.
"""


class Over(NamedTuple):
    """That something came too early: which limit it is over, and by how many seconds."""

    limit: str
    seconds: float


class Pace:
    """How fast one connection may speak, in messages and in bytes.

    Args:
        messages: a second; 0 for any number.
        size: bytes a second; 0 for any number.
        largest: bytes of the largest message, for which there is room in any case.
        now: the current time, in seconds of any steady clock.
    """

    __slots__ = ("_bytes", "_messages")

    def __init__(self, messages: int, size: int, largest: int, now: float) -> None:
        self._messages = TokenBucket(messages, now)
        self._bytes = TokenBucket(size, now, largest)

    def take(self, now: float, size: int) -> Over | None:
        """Count a message of `size` bytes at time `now`; return None, or what it is over."""
        wait, wait_for_bytes = self._messages.take(now), self._bytes.take(now, size)
        if wait_for_bytes > wait:
            return Over("bytes", wait_for_bytes)
        return Over("messages", wait) if wait else None


class TokenBucket:
    """Tokens that refill at `rate` a second up to `BURST_SECONDS` of them.

    Args:
        rate: tokens a second; 0 means that there are always enough.
        now: the current time, in seconds of any steady clock.
        room: how many fit in at least.
    """

    __slots__ = ("_most", "_rate", "_tokens", "_updated")

    def __init__(self, rate: float, now: float, room: int = 0) -> None:
        self._rate = rate
        self._most = self._tokens = max(rate * BURST_SECONDS, room)
        self._updated = now

    def take(self, now: float, count: int = 1) -> float:
        """Take `count` tokens at time `now`; return 0.0, or by how many seconds that came too early.

        Whoever goes on regardless runs up a debt, of at most as many tokens as can be saved.
        """
        rate = self._rate
        if not rate:
            return 0.0
        tokens = min(self._tokens + (now - self._updated) * rate, self._most) - count
        self._updated = now
        self._tokens = max(tokens, -self._most)
        return 0.0 if tokens >= 0 else -tokens / rate


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

    def has(self, key: str, now: float) -> bool:
        """Return whether `key` may have one more at time `now`."""
        window = int(now / self._seconds)
        if window != self._window:
            self._window = window
            self._used.clear()
        return not self._limit or self._used.get(key, 0) < self._limit

    def allow(self, key: str, now: float) -> bool:
        """Return whether `key` may have one more at time `now`, and count it if so."""
        if not self.has(key, now):
            return False
        if self._limit:
            self._used[key] += 1
        return True

    def give_back(self, key: str) -> None:
        """Take back what was counted last for `key`: it was not done after all."""
        if self._used[key] > 0:
            self._used[key] -= 1
