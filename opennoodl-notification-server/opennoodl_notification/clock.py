"""The clock: the time of day, without the steps of a clock that is wrong for a short time."""

from time import monotonic, time

import structlog

STEP = 1.0
"""Seconds by which the time of day may differ from one look to the next, beside the time that has gone by."""
HOUR = 3600.0

log = structlog.get_logger()


class Clock:
    """The time of day of the machine, whose steps are believed when they have lasted.

    A step forward or back lasts when the time of day has agreed with the monotonic clock ever since, for as long as the
    step is, and at most for an hour. So a clock that is wrong for some minutes makes no notification expire and dates
    none. At the start of the process, the time of day dates notifications at once, but deletes only what an hour of it
    or the dates in the store confirm.
    """

    def __init__(self) -> None:
        self._believed = self._seen = time() - monotonic()  # what is added to the monotonic clock
        self._since = self._started = monotonic()
        self._confirmed: float | None = None  # as `_believed`, until the time of day is confirmed

    def start(self, newest: int) -> None:
        """Take note of the newest date in the store, in milliseconds: the time of day has been that late, at least."""
        self._confirmed = newest / 1000 - self._started

    def now(self) -> int:
        """Return the time in milliseconds."""
        steady = monotonic()
        seen = time() - steady
        if abs(seen - self._seen) > STEP:
            self._since = steady
            log.warning("the clock of this machine was set", seconds=round(seen - self._believed, 3))
        self._seen = seen
        if steady - self._since >= min(abs(seen - self._believed), HOUR):
            self._believed = seen
        return int((steady + self._believed) * 1000)

    def expiry(self) -> int:
        """Return the time in milliseconds by which things expire.

        It differs from `now` in the first hour after `start`, or longer if a step of that hour has yet to be believed:
        a clock that was ahead at the start, and is corrected within the hour, deletes nothing.
        """
        now = self.now()
        if self._confirmed is None:
            return now
        steady = monotonic()
        if steady - self._started >= HOUR and abs(self._seen - self._believed) <= STEP:
            self._confirmed = None
            return now
        return min(now, int((steady + self._confirmed) * 1000))
