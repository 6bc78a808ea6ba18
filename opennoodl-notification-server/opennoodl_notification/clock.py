"""The clock: the time of day, as far as it can be believed."""

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
    none. What it says at the start of the process is believed.
    """

    def __init__(self) -> None:
        self._believed = self._seen = time() - monotonic()  # what is added to the monotonic clock
        self._since = monotonic()

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
