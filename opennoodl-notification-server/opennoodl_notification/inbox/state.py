"""The inbox of one user, but for the notifications in it: what is known of them all without reading one."""

from collections.abc import Iterable
from secrets import randbits

from msgspec import Struct

HISTORY = 1000
"""Changes of an inbox that a device may have missed and still be told one by one."""
JUMP = 24
"""Bits of the number by which an epoch begins later than it could: hours, less than an empty inbox is kept."""
SIZE = 1024
"""Bytes for which an empty inbox counts."""
DELETION_SIZE = 256
"""Bytes for what is remembered of a notification that is gone."""
GAPS = 16
"""Gaps between the numbers of an inbox that are remembered."""


class Inbox(Struct, rename="camel", kw_only=True):
    """The state of one inbox.

    Attributes:
        user_id: whose it is.
        sequence: the number of its last change, 0 before the first one. Numbers begin after the time in milliseconds,
            so an inbox that was forgotten and is made anew does not repeat one.
        total: notifications in it.
        unread: how many of them are.
        newest: when the newest one ever came in.
        due: when the next one expires; in an empty inbox, when the inbox itself may be forgotten.
        cleared: the number of the change that deleted everything last.
        epoch: the epoch of the store in which it changed last.
        size: bytes for which it counts, with its notifications and what is remembered of those that are gone.
        gone: how many of these are remembered, at most.
        gaps: numbers that this inbox has never used: those after the first of a pair, up to the second. The oldest
            gap comes first.
    """

    user_id: str
    sequence: int
    total: int = 0
    unread: int = 0
    newest: str = ""
    due: str = ""
    cleared: int = 0
    epoch: int = 0
    size: int = 0
    gone: int = 0
    gaps: tuple[tuple[int, int], ...] = ()

    def measure(self, sizes: Iterable[int], gone: int) -> None:
        """Find out for how many bytes it counts.

        Args:
            sizes: of the notifications in it.
            gone: how many are remembered that are gone.
        """
        self.gone = gone
        self.size = SIZE + DELETION_SIZE * gone + sum(sizes)

    def advance(self, epoch: int, now: int) -> None:
        """Take the next number.

        The first number of an inbox, and the first one in an epoch, leaves a gap after the former one. If the store
        was set back to an older state, the numbers that it has lost are in this gap or far above, so they are neither
        used again nor taken for numbers of today. The gap ends at random, since the clock may have been wrong, and
        since a store can be set back to the same state twice.

        Args:
            epoch: the epoch of the store.
            now: the time in milliseconds.
        """
        if self.epoch < epoch or not self.sequence:
            start = max(now, self.sequence) + randbits(JUMP)
            self.gaps = (*self.gaps, (self.sequence or -1, start))[-GAPS:]
            self.sequence, self.epoch = start, epoch
        self.sequence += 1

    def forget(self) -> None:
        """Remember no number so far: something may have changed without one."""
        self.gaps = ((-1, self.sequence),)

    @property
    def horizon(self) -> int:
        """Return the number after which all changes are remembered, deletions included."""
        left, end = HISTORY, self.sequence
        for last, start in reversed(self.gaps):
            if end - start > left:
                break
            left -= end - start
            end = last
        # Before the first of so many gaps there may be gaps that are forgotten.
        return max(end - left, self.gaps[0][1]) if len(self.gaps) == GAPS else end - left

    def remembers(self, since: int) -> bool:
        """Return whether everything that changed after number `since` can still be told."""
        lost = any(last < since <= start for last, start in self.gaps)
        return self.horizon <= since <= self.sequence and not lost
