"""What of an update a document can integrate now, and what has to wait for others.

Yjs allows an update to come before what it builds upon, and keeps it until that comes. Here the server does:
yrs 0.28 integrates only some of what waits in it, has no way to ask what that is, and fails on crafted updates
that wait.

Source of the order in which structs are integrated: yjs 13, ``src/utils/encoding.js``, ``integrateStructs``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from heapq import heappop, heappush
from typing import NamedTuple

from .protocol import MalformedError, read_varuint, write_varuint
from .update import (
    MAX_CLOCK,
    Id,
    Section,
    check_cut,
    check_size,
    read,
    read_client,
    read_deletions,
    read_part,
)


class Split(NamedTuple):
    """An update against a document.

    Attributes:
        ready: what the document can integrate now; None if that is nothing.
        clocks: for every client of `ready`, the clock behind its last element then.
        rest: what has to wait; None if that is nothing.
        needs: elements that the rest waits for: before one of them has come, it need not be looked at again.
        parts: how many structs and deletions the update has.
    """

    ready: bytes | None
    clocks: dict[int, int]
    rest: bytes | None
    needs: tuple[Id, ...]
    parts: int


def split(data: bytes, known: Mapping[int, int], most: int = sys.maxsize) -> Split:
    """Split an update into what a document can integrate now and what has to wait.

    Args:
        data: the update.
        known: the document's state vector.
        most: structs, clients and deletions that the update may have.

    Raises:
        MalformedError: this is not an update.
    """
    try:
        whole = _whole(data, known, most)
        if whole is not None:
            news, clocks, parts = whole
            return Split(data if news else None, clocks, None, (), parts)
        return _take_apart(data, known, most)
    except IndexError:
        raise MalformedError("not a Yjs update: it ends before its content does") from None
    except (MalformedError, UnicodeDecodeError) as error:
        raise MalformedError(f"not a Yjs update: {error}") from None


def _whole(data: bytes, known: Mapping[int, int], most: int) -> tuple[bool, dict[int, int], int] | None:
    """Read an update that can be integrated section by section; return None if it has to be looked at closer.

    Otherwise whether it may change anything, the clocks behind it, and how many parts it has.
    Nearly all updates can, and each passes here: no more is made of them than has to be.
    """
    news = False
    size = 0
    clocks: dict[int, int] = {}
    sections, at = read_varuint(data, 0)
    for _ in range(sections):
        parts, at = read_varuint(data, at)
        client, at = read_client(data, at)
        end, at = read_varuint(data, at)
        clock = known.get(client, 0)
        if not parts or end > clock or client in clocks:
            return None
        size += parts + 1
        check_size(size, most)
        for _ in range(parts):
            start = at
            length, needs, at = read_part(data, at)
            if needs is None:
                return None
            if end < clock < end + length:
                check_cut(data, start, at, end + length - clock)
            for other, needed in needs:
                if needed >= (clock if other == client else clocks.get(other) or known.get(other, 0)):
                    return None
            end += length
            if end > clock:
                clock = end
                news = True
        if end > MAX_CLOCK:
            return None
        clocks[client] = clock
    clients, at = read_varuint(data, at)
    for _ in range(clients):
        client, at = read_client(data, at)
        ranges, at = read_varuint(data, at)
        size += ranges
        check_size(size, most)
        there = clocks.get(client) or known.get(client, 0)
        for _ in range(ranges):
            clock, at = read_varuint(data, at)
            length, at = read_varuint(data, at)
            if clock + length > there:
                return None
            news = True
    return news, clocks, size - sections


def _take_apart(data: bytes, known: Mapping[int, int], most: int) -> Split:
    """Integrate in thought what can be, in any order of clients, and cut the update where that ends."""
    sections, deletions = read(data, most)
    clocks: dict[int, int] = {}
    walks = {section.client: _Walk(data, section) for section in sections}
    for _ in _walk(walks, clocks, known, lambda: sys.maxsize):
        pass
    ready, rest = _Writer(), _Writer()
    needs: dict[int, int] = {}
    parts = sum(section.structs for section in sections)
    for walk in walks.values():
        walk.write(ready, rest)
        if walk.missing is not None:
            _need(needs, *walk.missing)
    for client, clock, end in read_deletions(data, deletions):
        parts += 1
        there = clocks.get(client) or known.get(client, 0)
        ready.delete(client, clock, min(end, there))
        rest.delete(client, max(clock, there), end)
        if end > there:
            _need(needs, client, max(clock, there))
    return Split(ready.encode(), clocks, rest.encode(), tuple(needs.items()), parts)


def pieces(data: bytes, known: Mapping[int, int], most: Callable[[], int]) -> Iterator[bytes]:
    """Cut an update into small ones, each of which can be integrated after those before it.

    Args:
        data: the update; what of it cannot be integrated is left out.
        known: the document's state vector.
        most: is asked for each piece how many structs and deletions it may have.

    Raises:
        MalformedError, UnicodeDecodeError, IndexError: this is not one.
    """
    sections, deletions = read(data)
    clocks: dict[int, int] = {}
    walks = {section.client: _Walk(data, section) for section in sections}
    for walked in _walk(walks, clocks, known, most):
        piece = _Writer()
        for client in walked:
            walks[client].take(piece)
        if (update := piece.encode()) is not None:
            yield update
    size, piece = 0, _Writer()
    for client, clock, end in read_deletions(data, deletions):
        piece.delete(client, clock, min(end, clocks.get(client) or known.get(client, 0)))
        size += 1
        if size >= most() and (update := piece.encode()) is not None:
            yield update
            size, piece = 0, _Writer()
    if (update := piece.encode()) is not None:
        yield update


def _walk(
    walks: Mapping[int, _Walk], clocks: dict[int, int], known: Mapping[int, int], most: Callable[[], int]
) -> Iterator[Iterable[int]]:
    """Go through sections as far as they can be integrated, and in that order.

    Args:
        walks: the sections, by client.
        clocks: is told, for every client, the clock behind what can be.
        known: the document's state vector.
        most: is asked after how many structs it is to be said of which clients they were.
    """
    blocked: dict[int, list[Id]] = {}  # by client, a heap: the clock that is needed, and the client that needs it
    work = list(walks)
    walked: dict[int, None] = {}
    size, limit = 0, most()
    while work:
        client = work.pop()
        walk, before = walks[client], clocks.get(client) or known.get(client, 0)
        passed = walk.passed
        clock = walk.go(before, clocks, known, limit - size)
        walked[client] = None
        size += walk.passed - passed
        if walk.missing is not None:
            heappush(blocked.setdefault(walk.missing[0], []), (walk.missing[1], client))
        elif not walk.ended:
            work.append(client)
        if clock > before:
            clocks[client] = clock
            waiting = blocked.get(client, [])
            while waiting and waiting[0][0] < clock:
                work.append(heappop(waiting)[1])
        if size >= limit or not work:
            yield walked
            walked, size, limit = {}, 0, most()


def _need(needs: dict[int, int], client: int, clock: int) -> None:
    # A client's elements come one after the other, so the first that is missing is the first to come.
    needs[client] = min(clock, needs.get(client, clock))


class _Writer:
    """Puts an update together from pieces of another one."""

    def __init__(self) -> None:
        self._sections: list[bytes] = []
        self._deletions: dict[int, list[bytes]] = {}

    def add(self, count: int, client: int, clock: int, structs: bytes) -> None:
        """Add the structs of a client."""
        self._sections.append(write_varuint(count) + write_varuint(client) + write_varuint(clock) + structs)

    def delete(self, client: int, clock: int, end: int) -> None:
        """Add a deletion, unless it is of nothing."""
        if clock < end:
            self._deletions.setdefault(client, []).append(write_varuint(clock) + write_varuint(end - clock))

    def encode(self) -> bytes | None:
        """Return the update, or None if it would change nothing."""
        if not self._sections and not self._deletions:
            return None
        pieces = [write_varuint(len(self._sections)), *self._sections, write_varuint(len(self._deletions))]
        for client, ranges in self._deletions.items():
            pieces += [write_varuint(client), write_varuint(len(ranges)), *ranges]
        return b"".join(pieces)


class _Place(NamedTuple):
    """A place in a section: the structs before it, and the clock and the offset of the next one."""

    passed: int
    clock: int
    at: int


class _Walk:
    """Goes through a section as far as its structs can be integrated.

    Attributes:
        missing: the element that is needed to go on; None at the end.
    """

    def __init__(self, data: bytes, section: Section) -> None:
        self.missing: Id | None = None
        self._data = data
        self._section = section
        self._here = _Place(0, section.clock, section.at)
        self._first: _Place | None = None  # of what can be integrated, without gaps at its ends
        self._last = self._here

    @property
    def passed(self) -> int:
        """How many structs were passed."""
        return self._here.passed

    @property
    def ended(self) -> bool:
        """Whether the section's end was reached."""
        return self._here.passed == self._section.structs

    def take(self, ready: _Writer) -> None:
        """Add what was passed since the last time to `ready`."""
        if self._first is not None:
            count = self._last.passed - self._first.passed
            ready.add(count, self._section.client, self._first.clock, self._data[self._first.at : self._last.at])
        self._first = None

    def go(self, clock: int, clocks: Mapping[int, int], known: Mapping[int, int], most: int) -> int:
        """Go on from where the client is at `clock`, for so many structs at most; return at which clock it is then."""
        client = self._section.client
        passed, start, at = self._here
        last = min(passed + most, self._section.structs)
        self.missing = None
        while passed < last and self.missing is None:
            length, needs, behind = read_part(self._data, at)
            if needs is None:
                self.missing = (client, start + length - 1) if start + length > clock else None
            elif start > clock:
                self.missing = (client, start - 1)
            else:
                if start < clock < start + length:
                    check_cut(self._data, at, behind, start + length - clock)
                for other, needed in needs:
                    if needed >= (clock if other == client else clocks.get(other) or known.get(other, 0)):
                        self.missing = (other, needed)
            if self.missing is None:
                if needs is not None:
                    self._first = self._first or _Place(passed, start, at)
                    self._last = _Place(passed + 1, start + length, behind)
                passed, start, at = passed + 1, start + length, behind
                clock = max(clock, start)
        self._here = _Place(passed, start, at)
        return clock

    def write(self, ready: _Writer, rest: _Writer) -> None:
        """Add what was passed to `ready`, and what was not to `rest`, both without gaps at the front."""
        data, section = self._data, self._section
        self.take(ready)
        passed, clock, at = self._here
        while passed < section.structs:
            length, needs, behind = read_part(data, at)
            if needs is not None:
                rest.add(section.structs - passed, section.client, clock, data[at : section.end])
                return
            passed, clock, at = passed + 1, clock + length, behind
