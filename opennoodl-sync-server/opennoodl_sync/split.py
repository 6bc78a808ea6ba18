"""What of an update a document can integrate now, and what has to wait for others.

Yjs allows an update to come before what it builds upon, and keeps it until that comes. Here the server does:
yrs 0.28 integrates only some of what waits in it, has no way to ask what that is, and fails on crafted updates
that wait.

Source of the order in which structs are integrated: yjs 13, ``src/utils/encoding.js``, ``integrateStructs``.
"""

from collections.abc import Mapping
from typing import NamedTuple

from .protocol import MalformedError, read_varuint, write_varuint
from .update import MAX_CLOCK, Id, Part, Section, Update, read, read_client, read_part


class Split(NamedTuple):
    """An update against a document.

    Attributes:
        ready: what the document can integrate now; None if that is nothing.
        clocks: for every client of `ready`, the clock behind its last element then.
        rest: what has to wait; None if that is nothing.
        needs: elements that the rest waits for: when none of them has come, it need not be looked at again.
    """

    ready: bytes | None
    clocks: dict[int, int]
    rest: bytes | None
    needs: tuple[Id, ...]


def split(data: bytes, known: Mapping[int, int]) -> Split:
    """Split an update into what a document can integrate now and what has to wait.

    Args:
        data: the update.
        known: the document's state vector.

    Raises:
        MalformedError: this is not an update.
    """
    try:
        whole = _whole(data, known)
        if whole is not None:
            news, clocks = whole
            return Split(data if news else None, clocks, None, ())
        return _take_apart(read(data), known)
    except IndexError:
        raise MalformedError("not a Yjs update: it ends before its content does") from None
    except (MalformedError, UnicodeDecodeError) as error:
        raise MalformedError(f"not a Yjs update: {error}") from None


def _whole(data: bytes, known: Mapping[int, int]) -> tuple[bool, dict[int, int]] | None:
    """Read an update that can be integrated section by section; return None if it has to be looked at closer.

    Otherwise whether it may change anything, and the clocks behind it.
    Nearly all updates can, and each passes here: no more is made of them than has to be.
    """
    news = False
    clocks: dict[int, int] = {}
    sections, at = read_varuint(data, 0)
    for _ in range(sections):
        parts, at = read_varuint(data, at)
        client, at = read_client(data, at)
        end, at = read_varuint(data, at)
        clock = known.get(client, 0)
        if not parts or end > clock or client in clocks:
            return None
        for _ in range(parts):
            length, needs, at = read_part(data, at)
            if needs is None:
                return None
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
        there = clocks.get(client) or known.get(client, 0)
        for _ in range(ranges):
            clock, at = read_varuint(data, at)
            length, at = read_varuint(data, at)
            if clock + length > there:
                return None
            news = True
    return news, clocks


def _take_apart(update: Update, known: Mapping[int, int]) -> Split:
    """Integrate in thought what can be, in any order of clients, and cut the update where that ends."""
    clocks: dict[int, int] = {}
    positions = dict.fromkeys((section.client for section in update.sections), 0)
    sections = {section.client: section for section in update.sections}
    blocked: dict[int, list[tuple[int, int]]] = {}  # by client: the clock that is needed, and who needs it
    needs: dict[int, Id] = {}
    work = list(sections)
    while work:
        client = work.pop()
        needs.pop(client, None)
        parts = sections[client].parts
        before = clock = clocks.get(client) or known.get(client, 0)
        while positions[client] < len(parts):
            missing = _missing(client, parts[positions[client]], clock, clocks, known)
            if missing is not None:
                needs[client] = missing
                blocked.setdefault(missing[0], []).append((missing[1], client))
                break
            clock = max(clock, parts[positions[client]].end)
            positions[client] += 1
        if clock > before:
            clocks[client] = clock
            waiting = blocked.pop(client, [])
            work += [other for needed, other in waiting if needed < clock]
            blocked[client] = [entry for entry in waiting if entry[0] >= clock]
    ready, rest = _Writer(update.data), _Writer(update.data)
    for section in update.sections:
        position = positions[section.client]
        ready.add(section, 0, position)
        rest.add(section, position, len(section.parts))
    missing_deletions = []
    for client, clock, end in update.deletions:
        there = clocks.get(client) or known.get(client, 0)
        ready.delete(client, clock, min(end, there))
        rest.delete(client, max(clock, there), end)
        if end > there:
            missing_deletions.append((client, max(clock, there)))
    return Split(ready.encode(), clocks, rest.encode(), (*needs.values(), *missing_deletions))


def _missing(client: int, part: Part, clock: int, clocks: dict[int, int], known: Mapping[int, int]) -> Id | None:
    """Return an element without which `part` cannot be integrated at `clock`, or None."""
    if part.needs is None:
        return (client, part.end - 1) if part.end > clock else None
    if part.clock > clock:
        return client, part.clock - 1
    for other, needed in part.needs:
        if needed >= (clock if other == client else clocks.get(other) or known.get(other, 0)):
            return other, needed
    return None


class _Writer:
    """Puts an update together from pieces of another one."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._sections: list[bytes] = []
        self._deletions: dict[int, list[bytes]] = {}

    def add(self, section: Section, first: int, end: int) -> None:
        """Add the parts `first` to `end` of a section, without the gaps at its ends."""
        parts = section.parts
        while first < end and parts[first].needs is None:
            first += 1
        while first < end and parts[end - 1].needs is None:
            end -= 1
        if first == end:
            return
        start = parts[first - 1].at if first else section.at
        head = (end - first, section.client, parts[first].clock)
        self._sections.append(b"".join(map(write_varuint, head)) + self._data[start : parts[end - 1].at])

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
