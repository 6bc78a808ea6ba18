"""Flow control of one client: reasons to stop reading from it, and whether it reads too slowly."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum

LEAST_PAUSE = 0.05
"""The shortest read-pause, in seconds, of a client over its rate limit: each one costs a timer."""


class ReadPause(Enum):
    """A reason not to read from a client; a server declares its own reasons in a subclass.

    The value of a member is `holds_messages`.

    Attributes:
        holds_messages: whether messages that the server has already read wait too.
    """

    def __new__(cls, holds_messages: bool) -> ReadPause:  # noqa: ARG004  # which `__init__` takes
        """Make a member with its number as the value: an enum merges members with equal values."""
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
    """The server works on a message of the client, such as one with a token."""
    TURN = True
    """The client has sent very many messages at once; others are read first."""
    MEMORY = False
    """The server handles large messages of other clients first."""


NO_REASON: frozenset[ReadPause] = frozenset()
"""No reason: one object for all connections, to save memory."""


class ReadFlow:
    """The reasons not to read from one client.

    Attributes:
        reasons: the reasons now.
        paused: whether there is a reason.
        holds_messages: whether messages that the server has already read wait too.
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
        """Call `resume(EdgePause.RATE)` after `seconds`, at least `LEAST_PAUSE`. A later call replaces this one."""
        self.stop()
        self._timer = asyncio.get_running_loop().call_later(max(seconds, LEAST_PAUSE), resume, EdgePause.RATE)

    def stop(self) -> None:
        """Cancel the timer of `resume_later`."""
        if self._timer is not None:
            self._timer.cancel()

    def _set(self, reasons: frozenset[ReadPause]) -> None:
        self.reasons = reasons or NO_REASON
        self.paused = bool(reasons)
        self.holds_messages = any(reason.holds_messages for reason in reasons)


class WriteFlow:
    """Whether one client reads too slowly.

    Args:
        limit: bytes of output that may wait for the client; 0 means no limit.

    Attributes:
        slow: whether more bytes wait, as of the last check.
    """

    __slots__ = ("_check_scheduled", "_limit", "slow")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._check_scheduled = False
        self.slow = False

    def schedule_check(self, check: Callable[[], None]) -> None:
        """Call `check` in a millisecond, once: the event loop may not have tried to send yet."""
        if self._limit and not self._check_scheduled:
            self._check_scheduled = True
            asyncio.get_running_loop().call_later(0.001, check)

    def check(self, size: int) -> bool:
        """End the scheduled check; return whether `size`, in bytes, is over the limit."""
        self._check_scheduled = False
        return size > self._limit

    def begin_slow(self) -> bool:
        """Mark the client as slow; return whether it was not slow before."""
        if self.slow or not self._limit:
            return False
        self.slow = True
        return True

    def end_slow(self) -> bool:
        """Mark that the client has read all output; return whether it was slow before."""
        was_slow, self.slow = self.slow, False
        return was_slow
