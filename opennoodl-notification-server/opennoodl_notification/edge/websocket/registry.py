"""The registry: all WebSocket connections of this process, and the bound on all their unread output."""

from __future__ import annotations

from operator import itemgetter
from typing import Protocol, TypeVar

MAX_UNREAD = 536_870_912
"""Bytes that may wait for all slow clients together."""


class Registered(Protocol):
    """What the registry needs to know of a connection."""

    @property
    def slow(self) -> bool:
        """Whether more than ``SLOW_CLIENT_BUFFER`` waits for its client."""

    @property
    def buffered(self) -> int:
        """Bytes that wait for its client."""

    def abort(self, refusal: str) -> None:
        """Cut its TCP connection, for a reason with this code."""


R = TypeVar("R", bound=Registered)


class Connections(set[R]):
    """All connections."""

    def limit_unread(self) -> None:
        """Cut the slow clients with the most unread output, until that of all is within `MAX_UNREAD`."""
        unread = {connection: connection.buffered for connection in self if connection.slow}
        total = sum(unread.values())
        for connection, size in sorted(unread.items(), key=itemgetter(1), reverse=True):
            if total <= MAX_UNREAD:
                break
            connection.abort("slow-client")
            total -= size
