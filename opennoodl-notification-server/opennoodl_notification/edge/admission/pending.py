"""Pending connections: TCP connections without a finished handshake."""

from __future__ import annotations

from typing import Any, Protocol


class Abortable(Protocol):
    """A connection whose handshake is not finished."""

    def abort(self, refusal: str = "") -> None:
        """Abort the TCP connection.

        Args:
            refusal: the code under which it is counted and logged; empty if it is not.
        """


class Pending:
    """Bounds the number of pending connections.

    Honest clients finish their handshake quickly. So if there are too many, the oldest one is aborted.

    Args:
        most: the number of pending connections that are allowed; 0 for any number.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._connections: dict[Any, None] = {}

    def add(self, connection: Abortable) -> None:
        """Count a connection. If there are too many, abort the oldest one and stop counting it."""
        if self._most and len(self._connections) >= self._most:
            oldest = next(iter(self._connections))
            del self._connections[oldest]
            oldest.abort("pending-full")
        self._connections[connection] = None

    def close(self) -> None:
        """Abort all pending connections."""
        for connection in list(self._connections):
            connection.abort()

    def remove(self, connection: object) -> None:
        """Stop counting a connection that is open, or has ended. Does nothing if it is not counted."""
        self._connections.pop(connection, None)
