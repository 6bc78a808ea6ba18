"""Pending connections: clients that are connected and have not finished the handshake."""

from __future__ import annotations

from typing import Any, Protocol


class Abortable(Protocol):
    """A connection in any state before the end of its handshake."""

    def abort(self, refusal: str = "") -> None:
        """Cut the TCP connection, for a reason with this code if it is to be noted."""


class Pending:
    """Bounds the number of pending connections.

    Honest clients finish their handshake within moments. So when there are too many, the oldest one is cut.

    Args:
        most: how many there may be; 0 for any number.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._connections: dict[Any, None] = {}

    def add(self, connection: Abortable) -> None:
        """Count a connection; if there are too many, cut the oldest one and stop counting it."""
        if self._most and len(self._connections) >= self._most:
            oldest = next(iter(self._connections))
            del self._connections[oldest]
            oldest.abort("pending-full")
        self._connections[connection] = None

    def close(self) -> None:
        """Cut all of them."""
        for connection in list(self._connections):
            connection.abort()

    def remove(self, connection: object) -> None:
        """Stop counting a connection, if it is still counted: it is open, or it has ended."""
        self._connections.pop(connection, None)
