"""Slow readers: clients that do not read get no updates. When they read again, they get the changes since then."""

from collections.abc import Hashable
from typing import NamedTuple


class Behind(NamedTuple):
    """The state of a slow client.

    Attributes:
        state_vector: the client's state vector, if it has sent a step 1; otherwise None.
        version: the version of the document that it has; None if `state_vector` decides alone.
        seen: ids of the clients whose awareness states it has received.
    """

    state_vector: bytes | None
    version: int | None
    seen: frozenset[int]


class SlowReaders(dict[Hashable, Behind]):
    """The slow clients of a room, and the state of each.

    Attributes:
        falling: the clients that become slow readers with the next flush.
    """

    def __init__(self) -> None:
        super().__init__()
        self.falling: set[Hashable] = set()

    def add(self, client: Hashable) -> None:
        """Make a client a slow reader from the next flush on."""
        if client not in self:
            self.falling.add(client)

    def fall(self) -> set[Hashable]:
        """Return the clients in `falling` and clear it; the room then adds the state of each."""
        falling, self.falling = self.falling, set()
        return falling

    def ask(self, client: Hashable, state_vector: bytes) -> None:
        """Record the state vector of a slow client's step 1; it gets the answer when it reads again."""
        self[client] = Behind(state_vector, None, self[client].seen)

    def remove(self, client: Hashable) -> Behind | None:
        """Remove a client and return its state; None if it was not a slow reader yet."""
        self.falling.discard(client)
        return self.pop(client, None)
