"""Loans: rooms that a thread has, because something takes long. Nobody else touches them; what comes for them waits.

Of what a room does, little can take long: to integrate much at once, and to build a large document anew because
characters in it were cut or it was damaged. A client can ask for both, and the other rooms must not wait for it.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from time import monotonic, sleep
from typing import TypeVar

import structlog

from .room import Room

T = TypeVar("T")
Act = Callable[[], None]


LONGEST_REST = 1.0
"""Seconds that the thread rests at most after something; otherwise as long as that took."""

log = structlog.get_logger()


class Loans:
    """Lends rooms to a thread, one at a time.

    The thread has Python's lock, some of the time without a break, so it rests after each.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "integrator")
        self._rested = 0.0  # when the thread may go on
        self._waiting: dict[Room, deque[Act]] = {}

    def lend(self, room: Room, work: Callable[[], T], then: Callable[[asyncio.Future[T]], None]) -> None:
        """Have a thread do something with a room that is not lent.

        Args:
            room: it has `lent` set until that is done.
            work: what is done.
            then: is called with what that gave, after everything that has waited for the room.
        """
        future = asyncio.get_running_loop().run_in_executor(self._thread, self._work, work)
        room.lent = True
        self._waiting[room] = deque()
        future.add_done_callback(lambda future: self._returned(room, partial(then, future)))

    def when_back(self, room: Room, act: Act, *, first: bool = False) -> None:
        """Do something with a room: now, or when it is not lent any more, in the order of asking.

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

    async def back(self, room: Room) -> None:
        """Wait until a room is not lent any more, or was for a moment."""
        returned = asyncio.Event()
        self.when_back(room, returned.set)
        await returned.wait()

    async def close(self) -> None:
        """Wait until no room is lent, and end the thread."""
        while self._waiting:
            await self.back(next(iter(self._waiting)))
        self._thread.shutdown()

    def _work(self, work: Callable[[], T]) -> T:
        sleep(max(self._rested - monotonic(), 0.0))
        began = monotonic()
        try:
            return work()
        finally:
            now = monotonic()
            self._rested = now + min(now - began, LONGEST_REST)

    def _returned(self, room: Room, then: Act) -> None:
        room.lent = False
        waiting = self._waiting.pop(room)
        waiting.append(then)
        while waiting and not room.lent:
            act = waiting.popleft()
            try:
                act()
            except Exception:
                log.exception("what had waited for a room could not be done")
        if room.lent:  # again: the rest goes on waiting
            self._waiting[room].extend(waiting)
