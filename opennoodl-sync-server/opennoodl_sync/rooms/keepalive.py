"""Keepalive: a client that was sent nothing for a while is sent a message without effect. It knows no socket.

y-websocket's client connects again when no message has come for 30 seconds. It does not see pings.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from time import monotonic
from typing import Generic, Protocol, TypeVar

INTERVAL = 10.0
"""Seconds between two looks at a client: it is sent something at the latest after two of them."""
TICK = 0.1
"""Seconds between two looks at all clients that are due; those that came apart from each other stay apart."""


class Client(Protocol):
    """A client that has to be sent something now and then."""

    def check_idle(self) -> bool:
        """Return whether nothing was written to the client since the last call."""


C = TypeVar("C", bound=Client)


class KeepAlive(Generic[C]):
    """Finds clients that were sent nothing. A message costs nothing here, since the client notes what it is sent.

    Args:
        send: is called with a client that is to be sent something.
    """

    def __init__(self, send: Callable[[C], None]) -> None:
        self._send = send
        self._due: OrderedDict[C, float] = OrderedDict()  # when to look at each client, the first one first

    def add(self, client: C) -> None:
        """Begin with a client, which has just been sent something."""
        self._due[client] = monotonic() + INTERVAL

    def remove(self, client: C) -> None:
        """Forget a client."""
        self._due.pop(client, None)

    def check(self, now: float) -> None:
        """Look at every client that is due."""
        while self._due:
            client, due = next(iter(self._due.items()))
            if due > now:
                return
            self._due[client] = now + INTERVAL
            self._due.move_to_end(client)
            if client.check_idle():
                self._send(client)

    async def run(self) -> None:
        """Look at clients when they are due, for ever."""
        while True:
            await asyncio.sleep(TICK)
            self.check(monotonic())
