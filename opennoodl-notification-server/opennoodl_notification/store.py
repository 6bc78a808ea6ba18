"""The store: what makes changes last. Here, the interface; implementations are in ``store_*.py``."""

from abc import ABC, abstractmethod

from .inbox import Changes
from .notification import Record


class StoreError(Exception):
    """The disk did not do what it was asked; nothing was changed."""


class Store(ABC):
    """Keeps notifications."""

    @abstractmethod
    def load(self) -> list[Record]:
        """Return everything that is kept, in any order."""

    @abstractmethod
    def commit(self, changes: Changes) -> None:
        """Make `changes` last, all or none; they survive a power cut when this returns. It may block.

        Raises:
            StoreError: they could not be stored; what was kept before still is.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of the store; another process may then use it."""
