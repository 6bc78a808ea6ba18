"""Yjs updates (format 1), read far enough to know what is sound and what it needs.

A server integrates what strangers send. What reaches the document has passed this reader: it is complete,
every string is UTF-8, no number is out of range, and everything that it builds upon is there already. Yjs
allows an update to come before what it builds upon, and keeps it until that comes; here the room keeps it,
because yrs 0.28 integrates only some of what waits in it, has no way to ask what that is, and fails on
crafted updates that do.

Source of the format: yjs 13, ``src/utils/encoding.js``, ``src/structs/*.js`` and ``DeleteSet.js``; lib0,
``decoding.js``.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from .protocol import MalformedError, read_bytes, read_varuint, write_varuint

NOTHING = b"\x00\x00"
"""The update that changes nothing."""

MAX_CLOCK = 2**32 - 1
MAX_DEPTH = 100
"""Levels of plain values within each other; JSON in yrs ends at 128."""

GC, DELETED, JSON, BINARY, STRING, EMBED, FORMAT, TYPE, ANY, DOC, SKIP = range(11)
ORIGIN, RIGHT_ORIGIN, PARENT_KEY, CONTENT = 0x80, 0x40, 0x20, 0x1F
XML_ELEMENT, XML_HOOK, LAST_TYPE = 3, 5, 6

Id = tuple[int, int]
"""A client, and the clock of one of its elements."""


class Part(NamedTuple):
    """One struct: an item, the trace of one, or a gap.

    Attributes:
        clock: of its first element.
        end: the clock behind its last one.
        needs: the elements that it builds upon; None for a gap.
        at: the offset behind its bytes.
    """

    clock: int
    end: int
    needs: tuple[Id, ...] | None
    at: int


class Section(NamedTuple):
    """What an update has of one client: `parts` without a hole between them, from offset `at` on."""

    client: int
    at: int
    parts: list[Part]


class Update(NamedTuple):
    """An update that was read: what it adds, and what it deletes as client, clock and end."""

    data: bytes
    sections: list[Section]
    deletions: list[tuple[int, int, int]]


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
    update = read(data)
    clocks = _advance(update, known)
    if clocks is not None:
        return Split(data if clocks or update.deletions else None, clocks, None, ())
    return _take_apart(update, known)


def _advance(update: Update, known: Mapping[int, int]) -> dict[int, int] | None:
    """Return the clocks that change if all of `update` can be integrated, section by section; else None."""
    clocks: dict[int, int] = {}
    for client, _, parts in update.sections:
        if not parts:
            return None  # yrs fails on such a section; it is left out of what is put together anew
        clock = known.get(client, 0)
        for first, end, needs, _ in parts:
            if first > clock or needs is None:
                return None
            for other, needed in needs:
                if needed >= (clock if other == client else clocks.get(other) or known.get(other, 0)):
                    return None
            if end > clock:
                clocks[client] = clock = end
    for client, _, end in update.deletions:
        if end > (clocks.get(client) or known.get(client, 0)):
            return None
    return clocks


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


def read(data: bytes) -> Update:
    """Read an update; what follows its end is ignored, as Yjs does.

    Raises:
        MalformedError: this is not one.
    """
    try:
        sections: list[Section] = []
        count, at = read_varuint(data, 0)
        seen: set[int] = set()
        for _ in range(count):
            length, at = read_varuint(data, at)
            client, at = read_varuint(data, at)
            clock, at = read_varuint(data, at)
            if client in seen:
                raise MalformedError(f"client {client} comes twice")
            seen.add(client)
            section = Section(client, at, [])
            for _ in range(length):
                part = _read_part(data, at, clock)
                section.parts.append(part)
                clock, at = part.end, part.at
            sections.append(section)
        return Update(data, sections, list(_read_deletions(data, at)))
    except IndexError:
        raise MalformedError("not a Yjs update: it ends before its content does") from None
    except (MalformedError, UnicodeDecodeError) as error:
        raise MalformedError(f"not a Yjs update: {error}") from None


def _read_part(data: bytes, at: int, clock: int) -> Part:
    info = data[at]
    at += 1
    content = info & CONTENT
    needs: tuple[Id, ...] = ()
    if content in (GC, SKIP):
        length, at = read_varuint(data, at)
    else:
        if info & (ORIGIN | RIGHT_ORIGIN):
            if info & ORIGIN:
                client, at = read_varuint(data, at)
                needed, at = read_varuint(data, at)
                needs = ((client, needed),)
            if info & RIGHT_ORIGIN:
                client, at = read_varuint(data, at)
                needed, at = read_varuint(data, at)
                needs = (*needs, (client, needed))
        else:
            named, at = read_varuint(data, at)
            if named == 1:
                at = _skip_string(data, at)
            else:
                client, at = read_varuint(data, at)
                needed, at = read_varuint(data, at)
                needs = ((client, needed),)
            if info & PARENT_KEY:
                at = _skip_string(data, at)
        length, at = _read_content(content, data, at)
    end = clock + length
    if end > MAX_CLOCK:
        raise MalformedError("a clock is too large")
    return Part(clock, end, None if content == SKIP else needs, at)


def _read_content(kind: int, data: bytes, at: int) -> tuple[int, int]:
    """Return how many elements a content is, and the offset behind it."""
    if kind == STRING:
        text, at = read_bytes(data, at)
        # JavaScript counts UTF-16.
        return len(text) if text.isascii() else len(text.decode().encode("utf-16-le")) // 2, at
    if kind == DELETED:
        return read_varuint(data, at)
    if kind in (JSON, ANY):
        length, at = read_varuint(data, at)
        if kind == ANY:
            return length, _skip_values(data, at, length)
        for _ in range(length):
            at = _skip_string(data, at)
        return length, at
    if kind == BINARY:
        return 1, read_bytes(data, at)[1]
    if kind == EMBED:
        return 1, _skip_string(data, at)
    if kind == FORMAT:
        return 1, _skip_string(data, _skip_string(data, at))
    if kind == TYPE:
        reference, at = read_varuint(data, at)
        if reference > LAST_TYPE or reference == XML_HOOK:  # yrs reads a hook without its name
            raise MalformedError(f"type {reference} is not supported")
        return 1, _skip_string(data, at) if reference == XML_ELEMENT else at
    if kind == DOC:
        return 1, _skip_values(data, _skip_string(data, at), 1)
    raise MalformedError(f"there is no content {kind}")


def _read_deletions(data: bytes, at: int) -> Iterator[tuple[int, int, int]]:
    clients, at = read_varuint(data, at)
    for _ in range(clients):
        client, at = read_varuint(data, at)
        ranges, at = read_varuint(data, at)
        for _ in range(ranges):
            clock, at = read_varuint(data, at)
            length, at = read_varuint(data, at)
            if clock + length > MAX_CLOCK:
                raise MalformedError("a clock is too large")
            yield client, clock, clock + length


def _skip_string(data: bytes, at: int) -> int:
    text, at = read_bytes(data, at)
    if not text.isascii():
        text.decode()
    return at


def _skip_values(data: bytes, at: int, count: int) -> int:
    """Return the offset behind `count` plain values, as lib0's ``writeAny`` writes them."""
    open_values = [(count, False)]  # of everything around: how many are left, and whether they have keys
    while open_values:
        left, keyed = open_values.pop()
        if not left:
            continue
        open_values.append((left - 1, keyed))
        if keyed:
            at = _skip_string(data, at)
        kind = data[at]
        at += 1
        if kind in (117, 118):  # array, object
            inner, at = read_varuint(data, at)
            open_values.append((inner, kind == 118))
            if len(open_values) > MAX_DEPTH:
                raise MalformedError(f"values stand more than {MAX_DEPTH} levels within each other")
        elif kind == 119:
            at = _skip_string(data, at)
        elif kind == 116:  # bytes
            at = read_bytes(data, at)[1]
        elif kind == 125:
            while data[at] >= 0x80:
                at += 1
            at += 1
        elif kind in (122, 123, 124):  # big integer, double, float
            at += 4 if kind == 124 else 8
        elif kind not in (120, 121, 126, 127):  # true, false, null, undefined
            raise MalformedError(f"there is no value {kind}")
    return at
