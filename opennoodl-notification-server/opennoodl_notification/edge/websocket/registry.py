"""The registry: all WebSocket connections of this process, and the bound on all their unread output."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING

from ..admission.pending import Pending

if TYPE_CHECKING:
    from .connection import Connection

MAX_UNREAD = 536_870_912
"""Bytes that may wait for all slow clients together."""


class Connections(set["Connection"]):
    """All connections; each is also pending until it is removed there, at the end of its handshake."""

    def __init__(self, pending: Pending) -> None:
        super().__init__()
        self._pending = pending

    def add(self, connection: Connection) -> None:
        """Register a connection."""
        super().add(connection)
        self._pending.add(connection)

    def discard(self, connection: object) -> None:
        """Forget a connection."""
        super().discard(connection)
        self._pending.remove(connection)

    def limit_unread(self) -> None:
        """Cut the slow clients with the most unread output, until that of all is within `MAX_UNREAD`."""
        unread = {connection: connection.transport.get_write_buffer_size() for connection in self if connection.slow}
        total = sum(unread.values())
        for connection, size in sorted(unread.items(), key=itemgetter(1), reverse=True):
            if total <= MAX_UNREAD:
                break
            connection.abort()
            total -= size
