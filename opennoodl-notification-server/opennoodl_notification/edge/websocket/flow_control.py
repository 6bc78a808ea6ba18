"""Flow control of one client: when it is not read from, and when it reads too slowly."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum

LEAST_PAUSE = 0.05
"""The shortest read-pause, in seconds, of a client over its rate limit: each one costs a timer."""


class ReadPause(Enum):
    """A reason not to read from a client; a server declares its own reasons in a subclass.

    The value of a member says whether messages that have been read already wait too.

    Attributes:
        holds_messages: that value.
    """

    def __new__(cls, holds_messages: bool) -> ReadPause:  # noqa: ARG004  # which `__init__` takes
        """Make a member; the value of each is its number, since members with equal values would be one."""
        member = object.__new__(cls)
        member._value_ = len(cls.__members__)
        return member

    def __init__(self, holds_messages: bool) -> None:
        self.holds_messages = holds_messages

    @property
    def label(self) -> str:
        """The member's name as metrics show it."""
        return self.name.lower().replace("_", "-")


class EdgePause(ReadPause):
    """The reasons of the edge."""

    OPENING = False
    """The application has not opened the connection yet."""
    RATE = True
    """The client is over its rate limit."""
    WORK = True
    """A message of the client is being worked on, such as one with a token."""
    MEMORY = False
    """The large messages of other clients have to be handled first."""


NO_REASON: frozenset[ReadPause] = frozenset()
"""One object for all connections that are read from."""


class ReadFlow:
    """The reasons not to read from one client.

    Attributes:
        reasons: all of them.
        paused: whether there is any.
        holds_messages: whether messages that have been read already wait too.
    """

    __slots__ = ("_timer", "holds_messages", "paused", "reasons")

    def __init__(self) -> None:
        self.reasons = NO_REASON
        self._timer: asyncio.TimerHandle | None = None
        self.paused = self.holds_messages = False

    def pause(self, reason: ReadPause) -> None:
        """Add a reason."""
        self._set(self.reasons | {reason})

    def resume(self, reason: ReadPause) -> None:
        """Remove a reason."""
        self._set(self.reasons - {reason})

    def resume_later(self, seconds: float, resume: Callable[[ReadPause], None]) -> None:
        """Call `resume` with `EdgePause.RATE` after so many seconds; a later call replaces this one."""
        self.stop()
        self._timer = asyncio.get_running_loop().call_later(max(seconds, LEAST_PAUSE), resume, EdgePause.RATE)

    def stop(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def _set(self, reasons: frozenset[ReadPause]) -> None:
        self.reasons = reasons or NO_REASON
        self.paused = bool(reasons)
        self.holds_messages = any(reason.holds_messages for reason in reasons)


class WriteFlow:
    """Whether one client reads too slowly.

    Args:
        limit: bytes of output that may wait for it; 0 means any number.

    Attributes:
        slow: whether more waits, and this was noticed.
    """

    __slots__ = ("_check_scheduled", "_limit", "slow")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._check_scheduled = False
        self.slow = False

    def schedule_check(self, check: Callable[[], None]) -> None:
        """Call `check` soon, unless that is scheduled: the event loop may not have tried to send yet."""
        if self._limit and not self._check_scheduled:
            self._check_scheduled = True
            asyncio.get_running_loop().call_later(0.001, check)

    def check(self, size: int) -> bool:
        """Make the scheduled check; return whether `size` bytes are more than may wait."""
        self._check_scheduled = False
        return size > self._limit

    def begin_slow(self) -> bool:
        """Note that the client is slow; return whether this is new."""
        if self.slow or not self._limit:
            return False
        self.slow = True
        return True

    def end_slow(self) -> bool:
        """Note that all output was read; return whether the client was slow before."""
        was_slow, self.slow = self.slow, False
        return was_slow
