"""The newcomers: who is connected and not let in yet."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from .connection import Connection


class Newcomer(Protocol):
    """Whatever stands for a client on its way in."""

    def abort(self) -> None:
        """Cut the TCP connection."""


class Newcomers:
    """Keeps the number of newcomers within a bound.

    Honest clients are let in within moments, so of too many it is the one that has been at it longest who goes.

    Args:
        most: how many there may be; 0 for any number.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._here: dict[Any, None] = {}

    def add(self, newcomer: Newcomer) -> None:
        """Count one, and cut another one if there are too many; it is counted no more then."""
        if self._most and len(self._here) >= self._most:
            oldest = next(iter(self._here))
            del self._here[oldest]
            oldest.abort()
        self._here[newcomer] = None

    def remove(self, newcomer: object) -> None:
        """Count one no more, if it is still counted: it got further, or is gone."""
        self._here.pop(newcomer, None)


MAX_UNREAD = 536_870_912
"""Bytes that may wait for all who do not read, together."""


class Connections(set["Connection"]):
    """Every connection there is; until somebody removes it there, each is a newcomer as well."""

    def __init__(self, newcomers: Newcomers) -> None:
        super().__init__()
        self._newcomers = newcomers

    def add(self, connection: Connection) -> None:
        """Count one."""
        super().add(connection)
        self._newcomers.add(connection)

    def discard(self, connection: object) -> None:
        """Count one no more."""
        super().discard(connection)
        self._newcomers.remove(connection)

    def relieve(self) -> None:
        """Cut those for whom most waits, if too much does for all who are slow."""
        unread = {connection: connection.transport.get_write_buffer_size() for connection in self if connection.slow}
        total = sum(unread.values())
        for connection, size in sorted(unread.items(), key=itemgetter(1), reverse=True):
            if total <= MAX_UNREAD:
                break
            connection.abort()
            total -= size
