"""Unread output: what waits for all clients together. Where memory is short, connections with most of it are cut."""

from operator import itemgetter
from typing import Protocol

import structlog

from .budget import MemoryBudget

INTERVAL = 1.0
"""Seconds between two times of counting."""
PATIENCE = 10
"""Times in a row for which large answers may have to wait, before connections are cut."""

log = structlog.get_logger()


class Reader(Protocol):
    """A connection whose client reads output."""

    @property
    def buffered(self) -> int:
        """Bytes that wait for the client."""

    @property
    def is_closing(self) -> bool:
        """Whether the TCP connection is closing or closed."""

    def abort(self) -> None:
        """Cut the TCP connection."""


class UnreadOutput:
    """Counts what waits for clients.

    Args:
        budget: is told.
    """

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget = budget
        self._connections: set[Reader] = set()
        self._short = 0  # how often in a row there was too little memory

    def add(self, connection: Reader) -> None:
        """Count what waits for a client, until its connection is gone."""
        self._connections.add(connection)

    def count(self, more: int) -> None:
        """Count what waits for all; where that and the documents are too much, cut those that have read least.

        Clients that are cut come back, and are sent what they lack.

        Args:
            more: bytes that wait elsewhere.
        """
        waiting = {connection: connection.buffered for connection in self._connections}
        self._connections -= {connection for connection, size in waiting.items() if not size and connection.is_closing}
        self._budget.output = more + sum(waiting.values())
        self._short = self._short + 1 if self._budget.short else 0
        if self._budget.full or self._short > PATIENCE:
            self._cut(waiting)

    def _cut(self, waiting: dict[Reader, int]) -> None:
        number = 0
        for connection, size in sorted(waiting.items(), key=itemgetter(1), reverse=True):
            if not self._budget.short or not size:
                break
            connection.abort()
            self._budget.output -= size
            number += 1
        if number:
            log.warning("connections that read too slowly were cut: MAX_MEMORY is reached", connections=number)
