"""Fair turns: a lock that is given to the waiting addresses in rotation."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class FairTurns:
    """A lock. Waiting addresses get it in rotation; the tasks of one address get it in the order of their calls."""

    def __init__(self) -> None:
        self._taken = False
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}  # by address; the next address comes first

    @asynccontextmanager
    async def turn(self, address: str) -> AsyncIterator[None]:
        """Wait for the lock; it is released when the context ends."""
        if self._taken:
            given = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(address, deque()).append(given)
            try:
                await given
            except asyncio.CancelledError:
                if given.done() and not given.cancelled():  # cancelled after the lock was given to it
                    self._pass_on()
                raise
        self._taken = True
        try:
            yield
        finally:
            self._pass_on()

    def _pass_on(self) -> None:
        """Give the lock to the next task that still waits."""
        while self._waiting:
            address = next(iter(self._waiting))
            queue = self._waiting.pop(address)
            given = queue.popleft()
            if queue:
                self._waiting[address] = queue  # behind the other addresses
            if not given.done():
                given.set_result(None)
                return
        self._taken = False
