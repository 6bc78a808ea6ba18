"""The clock: the time of day, without the steps of a clock that is wrong for a short time."""

from time import monotonic, time

import structlog

STEP = 1.0
"""Seconds by which the time of day may drift between two reads; more is a step."""
HOUR = 3600.0

log = structlog.get_logger()


class Clock:
    """The time of day of the machine. It follows a step of the machine's clock only after the step has lasted.

    A step lasts when the time of day has agreed with the monotonic clock since, for as long as the step's size, at most
    for an hour. Therefore a clock that is wrong for some minutes neither expires nor dates a notification. At the start
    of the process, the time of day dates notifications at once. It deletes only those that an hour of agreement or the
    dates in the store confirm as expired.
    """

    def __init__(self) -> None:
        self._believed = self._seen = time() - monotonic()  # difference to the monotonic clock
        self._since = self._started = monotonic()
        self._confirmed: float | None = None  # like `_believed`, until the time of day is confirmed

    def start(self, newest: int) -> None:
        """Use the newest date in the store, in milliseconds, as a lower limit of the time."""
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
        """Return the time in milliseconds by which notifications expire.

        It differs from `now` in the first hour after `start`, or longer if a step of that hour still has to last: a
        clock that was ahead at the start, and is corrected within the hour, deletes nothing.
        """
        now = self.now()
        if self._confirmed is None:
            return now
        steady = monotonic()
        if steady - self._started >= HOUR and abs(self._seen - self._believed) <= STEP:
            self._confirmed = None
            return now
        return min(now, int((steady + self._confirmed) * 1000))
