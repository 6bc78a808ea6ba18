"""The outbox: what goes out at the end of a turn of the event loop, one write for each connection.

A system call costs more than all else that is done for a small message, and in a busy turn many are for one client.
"""

from __future__ import annotations

import asyncio
from typing import Protocol


class Flushable(Protocol):
    """A connection with frames to write."""

    def flush(self) -> None:
        """Write them."""


class Outbox:
    """The connections that have something to write in this turn."""

    def __init__(self) -> None:
        self._connections: list[Flushable] = []

    def add(self, connection: Flushable) -> None:
        """Flush a connection when all that was read in this turn has been handled."""
        if not self._connections:
            asyncio.get_running_loop().call_soon(self._flush)
        self._connections.append(connection)

    def _flush(self) -> None:
        connections, self._connections = self._connections, []
        for connection in connections:
            connection.flush()
