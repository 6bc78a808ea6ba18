"""Fair turns: a lock whose holders come from each address in turn."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class FairTurns:
    """One turn at a time. Addresses take turns; those of one address get theirs in the order of asking."""

    def __init__(self) -> None:
        self._taken = False
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}  # by address, the one whose turn it is first

    @asynccontextmanager
    async def turn(self, address: str) -> AsyncIterator[None]:
        """Wait for a turn, and have it."""
        if self._taken:
            given = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(address, deque()).append(given)
            try:
                await given
            except asyncio.CancelledError:
                if given.done() and not given.cancelled():  # it was given, and is not taken
                    self._pass_on()
                raise
        self._taken = True
        try:
            yield
        finally:
            self._pass_on()

    def _pass_on(self) -> None:
        """Give the turn to the next one that still waits."""
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
