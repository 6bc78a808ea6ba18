"""Keepalive: sends a message without effect to clients that got no message for a while. Imports no socket.

y-websocket's client reconnects after 30 seconds without a message. Pings do not count for it.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from time import monotonic
from typing import Generic, Protocol, TypeVar

INTERVAL = 10.0
"""Seconds between two checks of a client: without other messages, it gets one after at most two checks."""
TICK = 0.1
"""Seconds between two runs over the clients that are due. The checks of clients stay spread over time."""


class Client(Protocol):
    """A client that needs messages at intervals."""

    def check_idle(self) -> bool:
        """Return whether nothing was written to the client since the last call."""


C = TypeVar("C", bound=Client)


class KeepAlive(Generic[C]):
    """Finds clients that got no message. Sending costs nothing here, since the client records that it was written to.

    Args:
        send: is called with a client that needs a message.
    """

    def __init__(self, send: Callable[[C], None]) -> None:
        self._send = send
        self._due: OrderedDict[C, float] = OrderedDict()  # by client: time of its next check; the earliest comes first

    def add(self, client: C) -> None:
        """Add a client that has just got a message."""
        self._due[client] = monotonic() + INTERVAL

    def remove(self, client: C) -> None:
        """Remove a client."""
        self._due.pop(client, None)

    def check(self, now: float) -> None:
        """Check every client that is due at `now`, in seconds of the monotonic clock."""
        while self._due:
            client, due = next(iter(self._due.items()))
            if due > now:
                return
            self._due[client] = now + INTERVAL
            self._due.move_to_end(client)
            if client.check_idle():
                self._send(client)

    async def run(self) -> None:
        """Check clients when they are due, until cancelled."""
        while True:
            await asyncio.sleep(TICK)
            self.check(monotonic())
