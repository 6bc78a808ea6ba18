"""Slow readers: clients that do not read are left out of the updates, and brought up to date when they read again."""

from collections.abc import Hashable
from typing import NamedTuple


class Behind(NamedTuple):
    """What a client that does not read has.

    Attributes:
        state_vector: of the document, if the client asked for it.
        version: of the document; None if it is to have all behind the state vector anyway.
        seen: the clients whose awareness states it saw.
    """

    state_vector: bytes | None
    version: int | None
    seen: frozenset[int]


class SlowReaders(dict[Hashable, Behind]):
    """The clients of a room that are left out, and what they have.

    Attributes:
        falling: those that are left out from the next flush on.
    """

    def __init__(self) -> None:
        super().__init__()
        self.falling: set[Hashable] = set()

    def add(self, client: Hashable) -> None:
        """Leave a client out from the next flush on."""
        if client not in self:
            self.falling.add(client)

    def fall(self) -> set[Hashable]:
        """Return the clients that are left out from now on, for the room to note what they have."""
        falling, self.falling = self.falling, set()
        return falling

    def ask(self, client: Hashable, state_vector: bytes) -> None:
        """Note that a client which is left out asks for what it lacks: it gets the answer when it reads."""
        self[client] = Behind(state_vector, None, self[client].seen)

    def remove(self, client: Hashable) -> Behind | None:
        """Return what a client has, and leave it out no more; None if it was not left out yet."""
        self.falling.discard(client)
        return self.pop(client, None)
