"""The totals: the number and bytes of all stored notifications, and their limit."""

from time import monotonic

import structlog

from .inbox.store import Store

FULL = 0.9
"""Part of `MAX_STORED_SIZE` below which a full store counts as not full any more, for the log."""
COUNT_INTERVAL = 60.0
"""Seconds between two counts of a store that other servers may use."""

log = structlog.get_logger()


class Totals:
    """The number and bytes of all stored notifications.

    Args:
        most: limit of the stored bytes; 0 means no limit.

    Attributes:
        notifications: the number of stored notifications.
        size: the bytes that all stored records count.
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
        """Bytes until the limit; None means no limit."""
        return self._most - self.size if self._most else None

    async def count(self, store: Store) -> None:
        """Read the totals from the store.

        Raises:
            StoreError: the store could not be read.
        """
        # Both at once: `/health` shows one of them, and the limit is about the other.
        self.notifications, self.size = await store.total(), await store.size()
        self._certain, self._counted = True, monotonic()

    async def refresh(self, store: Store) -> None:
        """Count again if the totals are in doubt, or once in `COUNT_INTERVAL` if other servers may have changed them.

        Raises:
            StoreError: the store could not be read.
        """
        if not self._certain or (not store.exclusive and monotonic() - self._counted >= COUNT_INTERVAL):
            await self.count(store)

    def mark_uncertain(self) -> None:
        """Mark the totals as wrong, since a commit may or may not have succeeded."""
        self._certain = False

    def add(self, notifications: int, size: int) -> None:
        """Add a change to the totals."""
        self.notifications += notifications
        self.size += size
        if size < 0 and self.size < FULL * self._most:
            self._full = False

    def refused(self) -> None:
        """Log that the store is full; once, until a tenth of it was free again."""
        if not self._full:
            log.error("notifications are refused: MAX_STORED_SIZE is reached", stored=self.size, most=self._most)
        self._full = True
