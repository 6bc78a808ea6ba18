"""The totals: how much is stored, and how much more may be."""

import structlog

from .inbox.store import Store

FULL = 0.9
"""The part of the most below which a store that was full is no longer said to be."""

log = structlog.get_logger()


class Totals:
    """How much is stored.

    Args:
        most: bytes that may be stored; 0 means any number.

    Attributes:
        notifications: how many there are.
        size: bytes for which all counts.
        certain: whether these are right, as far as this server knows.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._full = False
        self.notifications = 0
        self.size = 0
        self.certain = True

    @property
    def free(self) -> int | None:
        """Bytes that may be stored beside all that is; None means any number."""
        return self._most - self.size if self._most else None

    async def count(self, store: Store) -> None:
        """Find out how much is stored.

        Raises:
            StoreError: it could not be read.
        """
        self.notifications = await store.total()
        self.size = await store.size()
        self.certain = True

    def add(self, notifications: int, size: int) -> None:
        """Take note of a change."""
        self.notifications += notifications
        self.size += size
        if size < 0 and self.size < FULL * self._most:
            self._full = False

    def refused(self) -> None:
        """Say once that the store is full, and again only after a tenth of it was free meanwhile."""
        if not self._full:
            log.error("notifications are refused: MAX_STORED_SIZE is reached", stored=self.size, most=self._most)
        self._full = True
