"""The pacer: carries out a schedule to a fraction of a millisecond, which the event loop's own timers cannot."""

import asyncio
import ctypes
import os
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import NamedTuple

# `perf_counter` counts on this clock.
CLOCK_MONOTONIC = 1
TFD_NONBLOCK = os.O_NONBLOCK
TFD_TIMER_ABSTIME = 1


class Due(NamedTuple):
    """Something to be done `at` seconds after the start."""

    at: float
    do: Callable[[bytes], None]
    content: bytes


class _Spec(ctypes.Structure):
    """Linux' ``itimerspec`` on 64 bits."""

    _fields_ = (
        ("interval_s", ctypes.c_int64),
        ("interval_ns", ctypes.c_int64),
        ("value_s", ctypes.c_int64),
        ("value_ns", ctypes.c_int64),
    )


class Pacer:
    """Carries out one schedule.

    Args:
        schedule: in the order of time.

    Attributes:
        start: the time, as of `perf_counter`, that the schedule counts from.
        lags: by how much each item came too late, in seconds.
    """

    def __init__(self, schedule: Sequence[Due]) -> None:
        self.start = 0.0
        self.lags: list[float] = []
        self._schedule = schedule
        self._next = 0
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Carry out the schedule, from now on."""
        self._timer = self._libc.timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK)
        if self._timer < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        loop = asyncio.get_running_loop()
        loop.add_reader(self._timer, self._fire)
        try:
            self.start = perf_counter()
            self._arm()
            await self._done
        finally:
            loop.remove_reader(self._timer)
            os.close(self._timer)

    def _arm(self) -> None:
        at = max(self.start + self._schedule[self._next].at, 1e-9)
        spec = _Spec(0, 0, int(at), int(at % 1 * 1e9))
        self._libc.timerfd_settime(self._timer, TFD_TIMER_ABSTIME, ctypes.byref(spec), None)

    def _fire(self) -> None:
        os.read(self._timer, 8)
        while True:
            due = self._schedule[self._next]
            lag = perf_counter() - self.start - due.at
            if lag < 0:
                self._arm()
                return
            due.do(due.content)
            self.lags.append(lag)
            self._next += 1
            if self._next == len(self._schedule):
                self._done.set_result(None)
                return
