"""Time slices: long work is done a few milliseconds at a time, between the turns of the event loop.

Clients choose the size of their updates, and other rooms must not wait for them. Each address gets the same number of
slices. During work on a room, nothing else is done with that room; later calls wait.
"""

import asyncio
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


class StoppedError(Exception):
    """Work was stopped, since the server stops."""


T = TypeVar("T")
Act = Callable[[], None]
Outcome = Callable[[], T]
"""Returns what some work gave, or raises what it failed with."""

log = structlog.get_logger()


class Work(NamedTuple):
    """Something long.

    Attributes:
        room: it is done with this one; None if it needs none for itself.
        steps: does it.
        then: is called with the outcome.
    """

    room: Room | None
    steps: Steps[Any]
    then: Callable[[Outcome[Any]], None]


class TimeSlicer:
    """Does long work in slices."""

    def __init__(self) -> None:
        self._queues: dict[Hashable, deque[Work]] = {}  # by address, the one whose turn it is first
        self._waiting: dict[Room, deque[Act]] = {}
        self._scheduled: asyncio.Handle | None = None

    def do(self, room: Room, steps: Steps[T], then: Callable[[Outcome[T]], None], address: Hashable = None) -> bool:
        """Do something with a room: at once if it is done within a slice, else in slices; return whether it is done.

        Args:
            room: it is not busy.
            steps: what is done.
            then: is called with the outcome: before this returns, or later, after everything that has waited.
            address: who caused it.
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
        """Do something that needs no room for itself; `then` is called later."""
        self._add(address, Work(None, steps, then))

    async def done(self, steps: Steps[T], address: Hashable = None) -> T:
        """Do something that needs no room for itself, and return its outcome.

        Raises:
            StoppedError: `close` was called meanwhile.
        """
        outcome = _slice(steps)
        if outcome is None:
            came: asyncio.Queue[Outcome[T]] = asyncio.Queue()
            self.do_beside(steps, came.put_nowait, address)
            outcome = await came.get()
        return outcome()

    def when_free(self, room: Room, act: Act, *, first: bool = False) -> None:
        """Do something with a room: now, or when it is not busy any more, in the order of asking.

        Args:
            room: the room.
            act: what is done.
            first: whether it is done before everything else that waits.
        """
        waiting = self._waiting.get(room)
        if waiting is None:
            act()
        elif first:
            waiting.appendleft(act)
        else:
            waiting.append(act)

    async def free(self, room: Room) -> None:
        """Wait until a room is not busy any more, or was for a moment."""
        freed = asyncio.Event()
        self.when_free(room, freed.set)
        await freed.wait()

    def close(self) -> None:
        """Stop all work where it is; what has waited for a room is done, and `done` returns to its callers."""
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
        """Go on with what has waited for a room."""
        room.set_busy(False)
        waiting = self._waiting.pop(room)
        if then is not None:
            waiting.append(then)
        while waiting and not room.busy:
            _do(waiting.popleft())
        if room.busy:  # again: the rest goes on waiting
            self._waiting[room].extend(waiting)


def _do(act: Act) -> None:
    try:
        act()
    except Exception:
        log.exception("what had waited could not be done")


def _slice(steps: Steps[T], ends: float = 0.0) -> Outcome[T] | None:
    """Do one slice of some work, to a time that is counted from after its first step if it is 0.

    Returns:
        the outcome if that was the last slice.
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
