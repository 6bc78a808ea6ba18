"""Time slices: long work runs for a few milliseconds at a time, between the turns of the event loop.

Clients choose the size of their updates, and other rooms must not wait for them. Each address gets the same number of
slices. Work on a room locks the room; later calls for it wait.
"""

import asyncio
import sys
from collections import deque
from collections.abc import Callable, Hashable
from contextlib import suppress
from functools import partial
from time import perf_counter
from typing import Any, NamedTuple, TypeVar

import structlog

from ..yjs.lib0 import Steps
from .room import Room

SLICE = 0.002
"""Seconds of one slice."""
SWITCH_INTERVAL = 0.001
"""Seconds after which a waiting thread asks the event loop for the interpreter lock.

With an interval longer than a slice, it never asks: the event loop releases the lock after each slice, but for less
time than a thread needs to wake up on an idle core. Then the store opens no room until the long work has ended.
"""


class StoppedError(Exception):
    """Work was cancelled because the server stops."""


T = TypeVar("T")
Act = Callable[[], None]
Outcome = Callable[[], T]
"""Returns the result of some work, or raises its exception."""

log = structlog.get_logger()


class Work(NamedTuple):
    """Work that may take several slices.

    Attributes:
        room: the room that it locks, or None.
        steps: the work.
        then: is called with the outcome.
    """

    room: Room | None
    steps: Steps[Any]
    then: Callable[[Outcome[Any]], None]


class TimeSlicer:
    """Runs long work in slices."""

    def __init__(self) -> None:
        sys.setswitchinterval(SWITCH_INTERVAL)
        self._queues: dict[Hashable, deque[Work]] = {}  # by address; the next address comes first
        self._waiting: dict[Room, deque[Act]] = {}
        self._scheduled: asyncio.Handle | None = None

    def do(self, room: Room, steps: Steps[T], then: Callable[[Outcome[T]], None], address: Hashable = None) -> bool:
        """Run work on a room: at once if it takes less than a slice, else in slices; return whether it is done.

        Args:
            room: a room that is not busy.
            steps: the work.
            then: is called with the outcome: before this method returns, or later, after all waiting calls.
            address: the address of the client that caused the work.
        """
        outcome = _slice(steps)
        if outcome is not None:
            then(outcome)
            return True
        room.set_busy(True)
        self._waiting[room] = deque()
        self._add(address, Work(room, steps, then))
        return False

    def do_beside(self, steps: Steps[T], then: Callable[[Outcome[T]], None], address: Hashable = None) -> None:
        """Run work without a room in slices; `then` is called later with the outcome."""
        self._add(address, Work(None, steps, then))

    async def done(self, steps: Steps[T], address: Hashable = None) -> T:
        """Run work without a room in slices, and return its result.

        Raises:
            StoppedError: `close` was called before the end of the work.
        """
        outcome = _slice(steps)
        if outcome is None:
            came: asyncio.Queue[Outcome[T]] = asyncio.Queue()
            self.do_beside(steps, came.put_nowait, address)
            outcome = await came.get()
        return outcome()

    def when_free(self, room: Room, act: Act, *, first: bool = False) -> None:
        """Call `act` now, or when the room is no longer busy, in the order of the calls.

        Args:
            room: the room.
            act: the call.
            first: whether it precedes all other waiting calls.
        """
        waiting = self._waiting.get(room)
        if waiting is None:
            act()
        elif first:
            waiting.appendleft(act)
        else:
            waiting.append(act)

    async def free(self, room: Room) -> None:
        """Wait until a room is not busy; it may be busy again when this returns."""
        freed = asyncio.Event()
        self.when_free(room, freed.set)
        await freed.wait()

    def close(self) -> None:
        """Cancel all work; calls that wait for a room are made, and `done` raises `StoppedError`."""
        if self._scheduled is not None:
            self._scheduled.cancel()
        queues, self._queues = self._queues, {}
        for queue in queues.values():
            for work in queue:
                work.steps.close()
                if work.room is not None:
                    self._freed(work.room)
                else:
                    with suppress(StoppedError):
                        work.then(partial(_raise, StoppedError("the server stops")))

    def _add(self, address: Hashable, work: Work) -> None:
        self._queues.setdefault(address, deque()).append(work)
        if self._scheduled is None:
            self._scheduled = asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        address = next(iter(self._queues))
        queue = self._queues.pop(address)
        work = queue.popleft()
        outcome = _slice(work.steps, ends=perf_counter() + SLICE)
        if outcome is None:
            queue.append(work)
        if queue:
            self._queues[address] = queue  # behind the other addresses
        self._scheduled = asyncio.get_running_loop().call_soon(self._next) if self._queues else None
        if outcome is not None:
            if work.room is not None:
                self._freed(work.room, partial(work.then, outcome))
            else:
                _do(partial(work.then, outcome))

    def _freed(self, room: Room, then: Act | None = None) -> None:
        """Make the calls that wait for a room, after `then`."""
        room.set_busy(False)
        waiting = self._waiting.pop(room)
        if then is not None:
            waiting.append(then)
        while waiting and not room.busy:
            _do(waiting.popleft())
        if room.busy:  # a call has started new work: the others wait again
            self._waiting[room].extend(waiting)


def _do(act: Act) -> None:
    try:
        act()
    except Exception:
        log.exception("a call that waited for a room failed")


def _slice(steps: Steps[T], ends: float = 0.0) -> Outcome[T] | None:
    """Run one slice of some work; it ends at `ends`, a time of `perf_counter`, or one slice after the first step if 0.

    Returns:
        the outcome if that was the last slice, else None.
    """
    try:
        while True:
            next(steps)
            now = perf_counter()
            if not ends:
                ends = now + SLICE
            elif now >= ends:
                return None
    except StopIteration as end:
        return partial(_give, end.value)
    except Exception as error:
        return partial(_raise, error)


def _give(value: T) -> T:
    return value


def _raise(error: Exception) -> Any:
    raise error
