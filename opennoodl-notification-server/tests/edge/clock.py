"""A clock whose time a test sets."""

from __future__ import annotations


class Clock:
    """A replacement of ``time.monotonic``.

    Attributes:
        now: the time, in seconds.
    """

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now
