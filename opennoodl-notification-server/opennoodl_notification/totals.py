"""The totals: how much is stored, and how much more may be."""

from time import monotonic

import structlog

from .inbox.store import Store

FULL = 0.9
"""The part of `MAX_STORED_SIZE` below which a store that was full is no longer full for the log."""
COUNT_INTERVAL = 60.0
"""Seconds between two counts, where other servers may use the same database."""

log = structlog.get_logger()


class Totals:
    """How much is stored.

    Args:
        most: bytes that may be stored; 0 means any number.

    Attributes:
        notifications: how many there are.
        size: bytes for which all counts.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._full = False
        self._certain = False
        self._counted = 0.0
        self.notifications = 0
        self.size = 0

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
        self._certain, self._counted = True, monotonic()

    async def refresh(self, store: Store) -> None:
        """Count again if the totals are in doubt, or once in `COUNT_INTERVAL` if other servers may have changed them.

        Raises:
            StoreError: it could not be read.
        """
        if not self._certain or (not store.exclusive and monotonic() - self._counted >= COUNT_INTERVAL):
            await self.count(store)

    def doubt(self) -> None:
        """Take note that a change may have been stored or not."""
        self._certain = False

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
