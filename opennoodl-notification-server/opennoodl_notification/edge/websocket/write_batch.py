"""The write batch: joins all frames for one connection in a turn of the event loop into one write.

A system call costs more than all else that is done for a small message, and in a busy turn many are for one client.
"""

from __future__ import annotations

import asyncio
from typing import Protocol


class Flushable(Protocol):
    """A connection with frames to write."""

    def flush(self) -> None:
        """Write the frames."""


class WriteBatch:
    """The connections that have frames to write in this turn."""

    def __init__(self) -> None:
        self._connections: list[Flushable] = []

    def add(self, connection: Flushable) -> None:
        """Flush a connection at the end of this turn, when all data that was read is handled."""
        if not self._connections:
            asyncio.get_running_loop().call_soon(self._flush)
        self._connections.append(connection)

    def _flush(self) -> None:
        connections, self._connections = self._connections, []
        for connection in connections:
            connection.flush()
