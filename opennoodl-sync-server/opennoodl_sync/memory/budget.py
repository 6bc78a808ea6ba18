"""The memory budget: one bound for all documents in memory and all output that clients have not read yet.

Documents are counted a moment after they change; until then, the bytes of updates that came count. So a message costs
an addition. A quarter of the bound is kept for output, or more if more is waiting. Large answers wait while half of
that quarter is left.
"""

from collections.abc import Callable

from ..rooms.room import Room

ROOM_SIZE = 8_192
"""Bytes that a room takes besides what its document has."""
TRANSFER_SIZE = 1_048_576
"""Bytes that a large answer takes while it is made, besides what waits to be read."""
OUTPUT_SHARE = 4
"""One byte in so many is kept for output."""
MARGIN_SHARE = 8
"""One byte in so many is free, or large answers wait."""


class MemoryBudget:
    """Counts bytes.

    Args:
        limit: bytes that documents and output may take together; 0 means no limit.

    Attributes:
        output: bytes that waited to be read when they were counted last.
        transfers: large answers that have begun.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.output = self.transfers = 0
        self._kept = limit // OUTPUT_SHARE  # for output; or what waits, if that is more
        self._sizes: dict[Room, int] = {}
        self._counted = 0
        self._growth: dict[Room, int] = {}  # of documents that have changed, the bytes of updates that came since
        self._grown = 0  # their sum
        self._make_space: Callable[[int, bool], bool] = lambda *_: False

    @property
    def documents(self) -> int:
        """Bytes that documents take."""
        return self._counted + self._grown

    def allows(self, size: int, *, deletes: bool = False) -> bool:
        """Return whether documents may take so many bytes more; deletions may take of what is kept for output."""
        # This is asked for every update. So what is kept for output is computed when the output is counted.
        left = self.limit - self._counted - self._grown - size
        return not self.limit or left >= (self.output if deletes else self._kept)

    def when_full(self, make_space: Callable[[int, bool], bool]) -> None:
        """Call `make_space` before a document is refused memory; it returns whether there is space now.

        Its arguments are those of `allows`.
        """
        self._make_space = make_space

    def grow(self, room: Room, size: int, deletes: bool = False) -> bool:
        """Count `size` bytes more for a document, if it may take them; return whether it may. See `allows`."""
        if not (self.allows(size, deletes=deletes) or self._make_space(size, deletes)):
            return False
        if room in self._sizes:
            self._growth[room] = self._growth.get(room, 0) + size
            self._grown += size
        return True

    def change(self, room: Room) -> None:
        """Note that a document is to be counted again."""
        if room in self._sizes:
            self._growth.setdefault(room, 0)

    def count(self, room: Room, size: int | None = None) -> None:
        """Count a document: what it takes now, or `size`."""
        if size is None:
            size = room.document.memory
        size += ROOM_SIZE
        self._counted += size - self._sizes.get(room, 0)
        self._sizes[room] = size

    def remove(self, room: Room) -> None:
        """Count a document no more."""
        self._grown -= self._growth.pop(room, 0)
        self._counted -= self._sizes.pop(room, 0)

    def recount(self) -> None:
        """Count the documents that have changed; not one that is changing, of which the updates that came count."""
        for room in [room for room in self._growth if not room.busy]:
            self._grown -= self._growth.pop(room)
            self.count(room)

    def count_output(self, size: int) -> None:
        """Note how many bytes wait to be read."""
        self.output = size
        self._kept = max(size, self.limit // OUTPUT_SHARE)

    def begin_transfer(self) -> None:
        """Count one large answer more."""
        self.transfers += 1

    def end_transfer(self) -> None:
        """Count one large answer less."""
        self.transfers -= 1

    @property
    def full(self) -> bool:
        """Whether documents and output take more than they may."""
        return bool(self.limit) and self.documents + self.output > self.limit

    @property
    def short(self) -> bool:
        """Whether so little is left that large answers have to wait."""
        taken = self.documents + self.output + self.transfers * TRANSFER_SIZE
        return bool(self.limit) and taken > self.limit - self.limit // MARGIN_SHARE

    @property
    def may_transfer(self) -> bool:
        """Whether a large answer may begin: at least one at a time may."""
        return not (self.transfers and self.short)
