"""The outbox: what goes out at the end of a turn of the event loop, one write for each connection.

A system call costs more than all else that is done for a small message, and in a busy turn many are for one client.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .connection import Connection


class Outbox:
    """The connections that have something to write in this turn."""

    def __init__(self) -> None:
        self._connections: list[Connection] = []

    def add(self, connection: Connection) -> None:
        """Let a connection write when everything that came in this turn has been handled."""
        if not self._connections:
            asyncio.get_running_loop().call_soon(self._flush)
        self._connections.append(connection)

    def _flush(self) -> None:
        connections, self._connections = self._connections, []
        for connection in connections:
            connection.flush()
