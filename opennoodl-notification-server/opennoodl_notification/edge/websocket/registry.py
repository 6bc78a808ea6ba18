"""The registry: all WebSocket connections of this process, and the bound on all their unread output."""

from __future__ import annotations

from operator import itemgetter
from typing import Protocol, TypeVar

MAX_UNREAD = 536_870_912
"""Bytes of unread output of all slow clients together."""


class Registered(Protocol):
    """The members of a connection that the registry uses."""

    @property
    def slow(self) -> bool:
        """Whether its client has more than ``SLOW_CLIENT_BUFFER`` unread bytes."""

    @property
    def buffered(self) -> int:
        """Bytes of its unread output."""

    def abort(self, refusal: str) -> None:
        """Cut its TCP connection, with the code of a refusal."""


R = TypeVar("R", bound=Registered)


class Connections(set[R]):
    """All connections."""

    def limit_unread(self) -> None:
        """Cut the slow clients with the most unread output, until all together have at most `MAX_UNREAD`."""
        unread = {connection: connection.buffered for connection in self if connection.slow}
        total = sum(unread.values())
        for connection, size in sorted(unread.items(), key=itemgetter(1), reverse=True):
            if total <= MAX_UNREAD:
                break
            connection.abort("slow-client")
            total -= size
