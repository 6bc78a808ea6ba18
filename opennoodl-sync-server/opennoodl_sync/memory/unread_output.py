"""Unread output: what waits for all clients together. Where memory is short, connections with most of it are cut."""

from collections.abc import Mapping
from operator import itemgetter
from typing import Generic, Protocol, TypeVar

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


R = TypeVar("R", bound=Reader)


class UnreadOutput(Generic[R]):
    """Counts what waits for clients.

    Args:
        budget: is told.
    """

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget = budget
        self._readers: set[R] = set()
        self._short = 0  # how often in a row there was too little memory

    def add(self, reader: R) -> None:
        """Count what waits for a client, until its connection is gone."""
        self._readers.add(reader)

    def count(self, elsewhere: Mapping[R, int]) -> None:
        """Count what waits for all; where that and the documents are too much, cut those that have read least.

        Clients that are cut come back, and are sent what they lack.

        Args:
            elsewhere: bytes that are kept for a client besides what waits in its connection.
        """
        waiting = {reader: reader.buffered + elsewhere.get(reader, 0) for reader in self._readers}
        self._readers -= {reader for reader, size in waiting.items() if not size and reader.is_closing}
        self._budget.count_output(sum(waiting.values()))
        self._short = self._short + 1 if self._budget.short else 0
        if self._budget.full or self._short > PATIENCE:
            self._cut(waiting)

    def _cut(self, waiting: dict[R, int]) -> None:
        number = 0
        for reader, size in sorted(waiting.items(), key=itemgetter(1), reverse=True):
            if not self._budget.short or not size:
                break
            reader.abort()
            self._budget.count_output(self._budget.output - size)
            number += 1
        if number:
            log.warning("connections that read too slowly were cut: MAX_MEMORY is reached", connections=number)
