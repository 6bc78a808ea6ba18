"""What waits: updates that came before what they build upon."""

from collections.abc import Iterable, Iterator, Mapping
from heapq import heappop, heappush

from .update import Id


class Waiting:
    """Updates, found again by the elements that they need.

    Attributes:
        size: bytes of all of them.
    """

    def __init__(self) -> None:
        self.size = 0
        self._updates: dict[bytes, None] = {}
        self._needed: dict[int, list[tuple[int, bytes]]] = {}  # by client, a heap by clock

    def __len__(self) -> int:
        return len(self._updates)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._updates)

    def __contains__(self, update: bytes) -> bool:
        return update in self._updates

    def awaits(self, clients: Iterable[int]) -> bool:
        """Return whether anything waits for an element of one of these clients."""
        return any(client in self._needed for client in clients)

    def add(self, update: bytes, needs: Iterable[Id]) -> None:
        """Keep an update until one of the elements that it `needs` has come."""
        if update not in self._updates:
            self._updates[update] = None
            self.size += len(update)
        for client, clock in needs:
            heappush(self._needed.setdefault(client, []), (clock, update))

    def take(self, clocks: Mapping[int, int]) -> list[bytes]:
        """Give back the updates of which a needed element has come.

        Args:
            clocks: for every client of whom something came, the clock behind its last element.
        """
        found = []
        for client, clock in clocks.items():
            heap = self._needed.get(client)
            if heap is None:
                continue
            while heap and heap[0][0] < clock:
                _, update = heappop(heap)
                if update in self._updates:  # it may have needed more than one, and be taken already
                    del self._updates[update]
                    self.size -= len(update)
                    found.append(update)
            if not heap:
                del self._needed[client]
        return found
