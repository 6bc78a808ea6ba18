"""Limits: how fast one connection may speak, and how much one user may ask for."""

from collections import Counter

BURST_SECONDS = 10
"""How many seconds' worth of tokens a quiet client saves up.

A first sync, a large paste or ten trickled ICE candidates come at once; the rate is an average.
"""


class TokenBucket:
    """Tokens that refill at `rate` a second up to `BURST_SECONDS` of them.

    Args:
        rate: tokens a second; 0 means that there is always one.
        now: the current time, in seconds of any steady clock.
    """

    __slots__ = ("_rate", "_tokens", "_updated")

    def __init__(self, rate: float, now: float) -> None:
        self._rate = rate
        self._tokens = rate * BURST_SECONDS
        self._updated = now

    def take(self, now: float) -> float:
        """Take a token at time `now`; return 0.0, or by how many seconds that came too early.

        Whoever goes on regardless runs up a debt, of at most as many tokens as can be saved.
        """
        rate = self._rate
        if not rate:
            return 0.0
        most = rate * BURST_SECONDS
        tokens = min(self._tokens + (now - self._updated) * rate, most) - 1
        self._updated = now
        self._tokens = max(tokens, -most)
        return 0.0 if tokens >= 0 else -tokens / rate


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
