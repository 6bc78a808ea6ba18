"""Delete sets: the deleted elements, as ranges of clocks by client.

Yjs stores and sends every deletion without an end, so a set may have millions of ranges. They are stored in arrays.
Each client's ranges are written in ascending order. In any other order, Yjs 13 damages those of missing elements when
it encodes them as differences (``readAndApplyDeleteSet`` with ``DSEncoderV2``).
A client occurs once in a set: for a repeated client, yrs keeps only the last ranges (``impl Decode for DeleteSet``).
Source: yjs 13, ``utils/DeleteSet.js``.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence

from .lib0 import Steps, write_varuint
from .sorting import order
from .update import Deletion, write_ranges

MANY = 1024
"""Ranges of one step."""
MANY_CLIENTS = 256
"""Clients of one step."""


class DeleteSet:
    """An immutable delete set.

    Attributes:
        clients: client ids in ascending order.
        places: for each client, the index of its first bound in `bounds`; then the number of all bounds.
        bounds: clock, end, clock, end and so on of each client's ranges, ascending; adjacent ranges are merged.
    """

    __slots__ = ("bounds", "clients", "places")

    def __init__(self) -> None:
        self.clients = array("Q")
        self.places = array("I", (0,))
        self.bounds = array("I")

    def __len__(self) -> int:
        """Return the number of ranges."""
        return len(self.bounds) // 2

    @property
    def memory(self) -> int:
        """Bytes of memory of the set."""
        return 8 * len(self.clients) + 4 * len(self.places) + 4 * len(self.bounds)

    def ranges(self, client: int) -> "memoryview | Sequence[int]":
        """Return the bounds of a client's ranges: clock, end, clock, end and so on."""
        at = bisect_left(self.clients, client)
        if at == len(self.clients) or self.clients[at] != client:
            return ()
        return memoryview(self.bounds)[self.places[at] : self.places[at + 1]]

    def rest(self, deletion: Deletion) -> list[Deletion]:
        """Return the parts of a deletion that are not in this set."""
        return rest(self.ranges(deletion[0]), deletion)

    def split(self, client: int) -> tuple["DeleteSet", "DeleteSet"]:
        """Return the deletions of the clients below `client`, and those of the others."""
        at = bisect_left(self.clients, client)
        if not at:
            return DeleteSet(), self
        below, rest = DeleteSet(), DeleteSet()
        bound = self.places[at]
        below.clients, rest.clients = self.clients[:at], self.clients[at:]
        below.places = self.places[: at + 1]
        rest.places = array("I", [place - bound for place in self.places[at:]])
        below.bounds, rest.bounds = self.bounds[:bound], self.bounds[bound:]
        return below, rest

    def write(self, size: int) -> Iterator[tuple[int, bytes]]:
        """Yield the encoded set in parts: the number of clients that begin in a part, and its bytes.

        Args:
            size: approximate bytes of a part.
        """
        for clients, entries, _ in self.write_updates(size, len(self.clients) + len(self)):
            yield clients, entries

    def write_updates(self, size: int, most: int) -> Iterator[tuple[int, bytes, bool]]:
        """Yield the set for several updates, in parts: those of `write`, and whether an update ends after the part.

        Args:
            size: approximate bytes of a part.
            most: limit of an update's clients and ranges together, at least two. A client's further ranges go to the
                next update.
        """
        written: list[bytes] = []
        clients = length = 0
        left = most
        for number, client in enumerate(self.clients):
            at, stop = self.places[number], self.places[number + 1]
            while at < stop:
                last = min(at + 2 * (left - 1), stop)
                written.append(write_varuint(client) + write_varuint((last - at) // 2))
                length += len(written[-1])
                clients += 1
                left -= 1 + (last - at) // 2
                for first in range(at, last, 2 * MANY):
                    written.append(write_ranges(self.bounds[first : min(first + 2 * MANY, last)]))
                    length += len(written[-1])
                    if length >= size and first + 2 * MANY < last:
                        yield clients, b"".join(written), False
                        written, clients, length = [], 0, 0
                at = last
                ends = left < 2  # no space for another client with one range
                if ends or length >= size:
                    yield clients, b"".join(written), ends
                    written, clients, length = [], 0, 0
                if ends:
                    left = most
        if written:
            yield clients, b"".join(written), False

    def _add(self, client: int, bounds: Sequence[int]) -> None:
        """Add a client with its bounds; its id is higher than all others."""
        self.clients.append(client)
        self.bounds.extend(bounds)
        self.places.append(len(self.bounds))


def rest(bounds: Sequence[int], deletion: Deletion) -> list[Deletion]:
    """Return the parts of a deletion that are not in these ranges; the whole deletion if they would be very many."""
    client, clock, end = deletion
    left = []
    at = bisect_right(bounds, clock)
    if bisect_left(bounds, end, at) - at > 2 * MANY:
        return [deletion]
    if at % 2:  # the deletion begins within a range
        clock = bounds[at]
        at += 1
    while clock < end and at < len(bounds) and bounds[at] < end:
        left.append(Deletion(client, clock, bounds[at]))
        clock = bounds[at + 1]
        at += 2
    if clock < end:
        left.append(Deletion(client, clock, end))
    return left


def insert(bounds: list[int], clock: int, end: int) -> None:
    """Insert a range into a list of bounds."""
    first = bisect_left(bounds, clock)
    first -= first % 2  # merge with a range that ends at `clock`
    last = first
    while last < len(bounds) and bounds[last] <= end:
        clock, end = min(clock, bounds[last]), max(end, bounds[last + 1])
        last += 2
    bounds[first:last] = [clock, end]


class Deletions:
    """Collects deletions in any order for a `DeleteSet`."""

    def __init__(self) -> None:
        self._clients = array("Q")
        self._clocks = array("I")
        self._ends = array("I")

    def __len__(self) -> int:
        return len(self._clients)

    def add(self, deletion: Deletion) -> None:
        """Add a deletion."""
        self._clients.append(deletion[0])
        self._clocks.append(deletion[1])
        self._ends.append(deletion[2])

    def set(self) -> Steps[DeleteSet]:
        """Return the set of all deletions that were added."""
        made = DeleteSet()
        # Yjs writes each client's deletions together, and clients in descending order. Then only whole groups are
        # moved.
        keys, starts = array("Q"), array("I")
        last = -1
        for at, client in enumerate(self._clients):
            if client != last:
                keys.append(client)
                starts.append(at)
                last = client
            if at % (4 * MANY) == 4 * MANY - 1:
                yield
        starts.append(len(self._clients))
        positions = yield from order(keys)
        first = 0
        while first < len(positions):
            client = keys[positions[first]]
            clocks, ends = array("I"), array("I")
            while first < len(positions) and keys[positions[first]] == client:
                begin, stop = starts[positions[first]], starts[positions[first] + 1]
                clocks.extend(self._clocks[begin:stop])
                ends.extend(self._ends[begin:stop])
                first += 1
                if first % MANY_CLIENTS == 0:
                    yield
            made._add(client, (yield from _joined(clocks, ends)))
        return made


def _joined(clocks: "array[int]", ends: "array[int]") -> Steps["array[int]"]:
    """Return the bounds of ranges, sorted and merged."""
    bounds = array("I")
    positions: Sequence[int] = range(len(clocks))
    if len(clocks) > 1:
        positions = yield from order(clocks)
    for done, position in enumerate(positions):
        if bounds and clocks[position] <= bounds[-1]:
            bounds[-1] = max(bounds[-1], ends[position])
        else:
            bounds.extend((clocks[position], ends[position]))
        if done % MANY == MANY - 1:
            yield
    return bounds


def union(one: DeleteSet, other: DeleteSet) -> Steps[DeleteSet]:
    """Return the union of two sets."""
    if not len(other):
        return one
    if not len(one):
        return other
    made = DeleteSet()
    mine = theirs = 0
    done = 0
    while mine < len(one.clients) or theirs < len(other.clients):
        my = one.clients[mine] if mine < len(one.clients) else None
        their = other.clients[theirs] if theirs < len(other.clients) else None
        client = my if their is None or (my is not None and my <= their) else their
        assert client is not None
        parts = []
        if my == client:
            parts.append(one.bounds[one.places[mine] : one.places[mine + 1]])
            mine += 1
        if their == client:
            parts.append(other.bounds[other.places[theirs] : other.places[theirs + 1]])
            theirs += 1
        bounds = parts[0]
        if len(parts) == 2:
            bounds = yield from _join(*parts)
        made._add(client, bounds)
        done += 1
        if done % MANY_CLIENTS == 0:
            yield
    return made


def _join(one: "array[int]", other: "array[int]") -> Steps["array[int]"]:
    """Return the union of two lists of bounds."""
    if len(one) < len(other):
        one, other = other, one
    joined = array("I")
    at = 0
    for begin in range(0, len(other), 2):
        clock, end = other[begin], other[begin + 1]
        # Bounds of the longer list before this range are copied unchanged.
        before = bisect_left(one, clock, at)
        before -= before % 2
        _extend(joined, one, at, before)
        at = before
        if joined and clock <= joined[-1]:
            clock = joined.pop(-2)
            end = max(end, joined.pop())
        while at < len(one) and one[at] <= end:
            clock, end = min(clock, one[at]), max(end, one[at + 1])
            at += 2
        joined.extend((clock, end))
        if begin % MANY == 0:
            yield
    _extend(joined, one, at, len(one))
    return joined


def _extend(joined: "array[int]", bounds: "array[int]", at: int, stop: int) -> None:
    """Append ranges that follow those in `joined`; the first one may be adjacent to the last one there."""
    if at < stop and joined and bounds[at] <= joined[-1]:
        joined[-1] = max(joined[-1], bounds[at + 1])
        at += 2
    joined.extend(bounds[at:stop])
