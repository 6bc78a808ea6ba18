"""Segments: immutable updates with an index. A document consists of a few of them.

A document may have millions of clients with one struct each. Therefore clients have no objects here, and short sections
are indexed in groups. Yjs has a list of objects for each client instead (``StructStore.clients`` in yjs 13,
``utils/StructStore.js``).
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import merge as merged
from io import BytesIO
from itertools import groupby
from typing import NamedTuple

from .contents import LongContentError
from .delete_set import DeleteSet, Deletions, union
from .lib0 import PIECE, Steps, finish, read_varuint, write_varuint
from .sorting import order
from .structs import read_struct, struct_end
from .update import Deletion, Mark, Run, cut_run, in_order

GROUP = 64
"""Bytes of a group of short sections with one index entry; finding a section reads the group up to it."""
MARK_DISTANCE = 16_384
"""Smallest distance in bytes between two marks, which are positions in a long section where reading can start."""
MANY = 128
"""Sections of one step."""
SHARED = 7 / 8
"""A segment shares the bytes of an update if its sections are at least this part of it; otherwise it copies them."""


class Section(NamedTuple):
    """One client's structs in a segment.

    Attributes:
        client: the client id.
        clock: the clock of the first element.
        end: the clock after the last element.
        structs: the number of structs.
        head: the offset of the section.
        at: the offset of the first struct.
        stop: the offset after the last struct.
    """

    client: int
    clock: int
    end: int
    structs: int
    head: int
    at: int
    stop: int


@dataclass
class Cut:
    """A position between two sections of a segment.

    Attributes:
        at: the offset of the second one.
        sections: the number of sections before it.
        state: the bytes of their entries in the state vector.
    """

    at: int
    sections: int = 0
    state: int = 0


class Segment:
    """An update with an index.

    Args:
        data: has the sections, encoded as in an update, in descending order of clients.
        begin: the offset of the first section.
        stop: the offset after the last section.
        number: the number of sections.
        is_update: whether `data` is exactly an update with these sections and deletions.

    Attributes:
        data: has the sections.
        deleted: the delete set.
        is_update: as above.
    """

    __slots__ = (
        *("_base", "_begin", "_clients", "_ends", "_heads", "_mark_clocks", "_mark_left", "_marks", "_number"),
        *("_state", "_stop", "data", "deleted", "is_update"),
    )

    def __init__(
        self, data: bytes = b"", begin: int = 0, stop: int = 0, number: int = 0, *, is_update: bool = False
    ) -> None:
        self.data = data
        self.deleted = DeleteSet()
        self.is_update = is_update
        self._base = begin  # the index has offsets relative to this one
        self._begin = begin
        self._stop = stop
        self._number = number
        # One entry for each long section or group of short ones, in ascending order of clients. The data is in
        # descending order, so each ends where the previous entry begins.
        self._clients = array("Q")  # client of the first section
        self._ends = array("I")  # clock after the last element of a long section; 0 for a group
        self._heads = array("I")  # offsets
        # Marks in long sections, in ascending order of offsets.
        self._marks = array("I")
        self._mark_clocks = array("I")
        self._mark_left = array("I")
        self._state: bytes | None = None

    def __len__(self) -> int:
        """Return the number of sections."""
        return self._number

    @property
    def begin(self) -> int:
        """The offset of the first section."""
        return self._begin

    @property
    def size(self) -> int:
        """Bytes of the sections."""
        return self._stop - self._begin

    @property
    def memory(self) -> int:
        """Bytes of memory of the segment."""
        index = 16 * len(self._clients) + 12 * len(self._marks) + len(self._state or b"")
        return len(self.data) + index + self.deleted.memory

    def arrays(self) -> tuple["array[int]", ...]:
        """Return the arrays of the index, for ``segment_index``."""
        deleted = self.deleted
        marks = self._marks, self._mark_clocks, self._mark_left
        return self._clients, self._ends, self._heads, *marks, deleted.clients, deleted.places, deleted.bounds

    def state(self, client: int) -> int:
        """Return the clock after a client's last element; 0 if it has none."""
        at = bisect_left(self._clients, client)
        if at == len(self._clients):
            return 0
        if self._ends[at]:
            return self._ends[at] if self._clients[at] == client else 0
        for section in self._group(at):
            if section.client <= client:
                return section.end if section.client == client else 0
        return 0

    def overlaps(self, other: "Segment") -> bool:
        """Return whether the ranges of client ids in two segments overlap."""
        (low, high), (others_low, others_high) = self._range(), other._range()
        return low <= others_high and others_low <= high

    def _range(self) -> tuple[int, int]:
        """Return the lowest and the highest client id."""
        if not self._clients:
            return 0, 0
        lowest = self._clients[0] if self._ends[0] else [section.client for section in self._group(0)][-1]
        return lowest, self._clients[-1]

    def sections(self) -> Iterator[Section]:
        """Yield all sections in the order of `data`."""
        for number in range(len(self._clients) - 1, -1, -1):
            if end := self._ends[number]:
                structs, client, clock, head, at = self._head(self._base + self._heads[number])
                yield Section(client, clock, end, structs, head, at, self._end(number))
            else:
                yield from self._group(number)

    def _head(self, head: int) -> tuple[int, int, int, int, int]:
        """Read a head; return structs, client, clock, `head`, offset of the first struct."""
        structs, at = read_varuint(self.data, head)
        client, at = read_varuint(self.data, at)
        clock, at = read_varuint(self.data, at)
        return structs, client, clock, head, at

    def _end(self, number: int) -> int:
        """Return the offset after the long section or group with an index number."""
        return self._base + self._heads[number - 1] if number else self._stop

    def _group(self, number: int) -> Iterator[Section]:
        """Yield the sections of the group with an index number."""
        stop, end = self._base + self._heads[number], self._end(number)
        while stop < end:
            structs, client, clock, head, at = self._head(stop)
            stop, last = at, clock
            for _ in range(structs):
                try:
                    length, stop = read_struct(self.data, stop, client, last)
                except LongContentError as long:
                    length, stop = finish(long.steps)  # fast, since a group has few bytes
                last += length
            yield Section(client, clock, last, structs, head, at, stop)

    def marks(self, section: Section) -> Iterator[Mark]:
        """Yield the marks of a section; the first one is its beginning."""
        yield Mark(section.at, section.clock, section.structs)
        if section.stop - section.at > MARK_DISTANCE:
            yield from map(self._mark, self._marks_within(section))

    def find(self, section: Section, clock: int) -> Steps[Mark]:
        """Return the mark of the struct with the element at `clock`, which must be in the section."""
        mark = Mark(section.at, section.clock, section.structs)
        within = self._marks_within(section)
        place = bisect_right(self._mark_clocks, clock, within.start, within.stop)
        if place > within.start:
            mark = self._mark(place - 1)
        at, here, left = mark
        while True:
            length, behind = yield from struct_end(self.data, at, section.client, here)
            if here + length > clock:
                return Mark(at, here, left)
            at, here, left = behind, here + length, left - 1
            if left % MANY == 0:
                yield

    def _marks_within(self, section: Section) -> range:
        first = bisect_right(self._marks, section.at - self._base)
        return range(first, bisect_left(self._marks, section.stop - self._base, first))

    def _mark(self, number: int) -> Mark:
        return Mark(self._base + self._marks[number], self._mark_clocks[number], self._mark_left[number])

    def state_entries(self) -> Steps[bytes]:
        """Return the encoded entries of a state vector; they are cached."""
        if self._state is None:
            written = BytesIO()
            for number, section in enumerate(self.sections()):
                if number % MANY == MANY - 1:
                    yield
                written.write(write_varuint(section.client) + write_varuint(section.end))
            self._state = written.getvalue()
        return self._state

    def set_state_entries(self, entries: bytes) -> None:
        """Set the result of `state_entries`, which is known."""
        self._state = entries

    def cut(self, end: "Cut", client: int) -> tuple["Segment", "Segment"]:
        """Return the sections and deletions of the clients from `client` on, without an index, and the rest.

        Args:
            end: the end of these sections.
            client: the lowest of these clients.
        """
        below, deleted = self.deleted.split(client)
        first = Segment(self.data, self._begin, end.at, end.sections)
        first.deleted = deleted
        rest = Segment(self.data, end.at, self._stop, self._number - end.sections)
        rest.deleted = below
        rest._base = self._base
        at = bisect_left(self._clients, client)
        rest._clients, rest._ends, rest._heads = self._clients[:at], self._ends[:at], self._heads[:at]
        if end.at < self._end(at):  # within a group
            rest._clients.append(self._head(end.at)[1])
            rest._ends.append(0)
            rest._heads.append(end.at - self._base)
        mark = bisect_left(self._marks, end.at - self._base)
        rest._marks, rest._mark_clocks = self._marks[mark:], self._mark_clocks[mark:]
        rest._mark_left = self._mark_left[mark:]
        if self._state is not None:
            rest._state = self._state[end.state :]
        return first, rest

    def write(self) -> Steps[bytes]:
        """Return the segment as one update."""
        return b"".join((yield from self.pieces())) if not self.is_update else self.data

    def pieces(self) -> Steps[list[bytes | memoryview]]:
        """Return the segment as an update in pieces, which share its bytes."""
        if self.is_update:
            return [self.data]
        clients, written = 0, []
        for number, entries in self.deleted.write(MARK_DISTANCE):
            clients += number
            written.append(entries)
            yield
        sections = memoryview(self.data)[self._begin : self._stop]
        return [write_varuint(len(self)), sections, write_varuint(clients), *written]


class SegmentIndexer:
    """Builds the index of a segment. Add the sections in descending order of clients."""

    def __init__(self) -> None:
        self._segment = Segment()
        self._last = 0, 0, 0  # the section that was added last: client, end, head

    def add(self, client: int, end: int, head: int) -> None:
        """Add a section, which begins at offset `head` relative to the first one."""
        self._index_last(head)
        self._segment._number += 1
        self._last = client, end, head

    def _index_last(self, stop: int) -> None:
        """Add the last section, which ends at offset `stop`, to the index or to the last group."""
        segment = self._segment
        if not segment._number:
            return
        client, end, head = self._last
        is_long = stop - head > GROUP
        if is_long or not segment._heads or segment._ends[-1] or stop - segment._heads[-1] > GROUP:
            segment._clients.append(client)
            segment._ends.append(end if is_long else 0)
            segment._heads.append(head)

    def mark(self, mark: Mark) -> None:
        """Add a mark in the last section, unless the previous one is nearby."""
        segment = self._segment
        last = max(self._last[2], segment._marks[-1] if segment._marks else 0)
        if mark.at >= last + MARK_DISTANCE:
            segment._marks.append(mark.at)
            segment._mark_clocks.append(mark.clock)
            segment._mark_left.append(mark.left)

    def segment(self, data: bytes, begin: int, stop: int, deleted: DeleteSet) -> Segment:
        """Return the segment with the sections in `data`. Add nothing after this."""
        self._index_last(stop - begin)
        segment = self._segment
        segment.data, segment._base, segment._begin, segment._stop = data, begin, begin, stop
        segment.deleted = deleted
        for index in (segment._clients, segment._ends, segment._heads):
            index.reverse()
        return segment


class SegmentWriter:
    """Builds a segment. Add the sections in descending order of clients."""

    def __init__(self) -> None:
        self._data = BytesIO()
        self._index = SegmentIndexer()
        self._copied = 0  # bytes since the last yield
        self.mark = self._index.mark

    def section(self, client: int, clock: int, end: int, structs: int, content: bytes | bytearray = b"") -> int:
        """Begin a section; return the offset of its structs. `content` may have the first of them."""
        self._index.add(client, end, self._data.tell())
        self._data.write(write_varuint(structs) + write_varuint(client) + write_varuint(clock))
        at = self._data.tell()
        self._data.write(content)
        return at

    def structs(self, content: bytes | memoryview, begin: int, end: int) -> Steps[None]:
        """Add structs to the last section, from offset `begin` to before `end` of `content`, in steps."""
        for at in range(begin, end, PIECE):
            self._copied += self._data.write(memoryview(content)[at : min(at + PIECE, end)])
            if self._copied >= PIECE:
                self._copied = 0
                yield

    def copy(self, segment: Segment, section: Section) -> Steps[None]:
        """Add a section of another segment."""
        shift = self._data.tell() - section.head
        self._index.add(section.client, section.end, section.head + shift)
        yield from self.structs(segment.data, section.head, section.stop)
        if section.stop - section.at > MARK_DISTANCE:
            for mark in segment.marks(section):
                self.mark(mark._replace(at=mark.at + shift))

    def segment(self, deleted: DeleteSet) -> Segment:
        """Return the segment. Add nothing after this."""
        data = self._data.getvalue()
        return self._index.segment(data, 0, len(data), deleted)


class LargeParts:
    """The parts of a large update: a collector without an object for each part.

    Attributes:
        in_order: whether the deletions are in the order of Yjs.
    """

    def __init__(self) -> None:
        self._clients = array("Q")
        self._places = array("I")  # of each run: clock, end, structs, at, stop
        self.in_order = True
        self._marks: list[Mark] = []
        self._deletions = Deletions()
        self._last: Deletion | None = None

    def run(self, run: Run) -> None:
        """Add a run."""
        self._clients.append(run[0])
        self._places.extend(run[1:])

    def mark(self, mark: Mark) -> None:
        """Add a mark if it is far enough from the last one."""
        if not self._marks or mark.at >= self._marks[-1].at + MARK_DISTANCE:
            self._marks.append(mark)

    def deletion(self, deletion: Deletion) -> None:
        """Add a deletion."""
        self.in_order = self.in_order and in_order(deletion, self._last)
        self._last = deletion
        if deletion.clock < deletion.end:
            self._deletions.add(deletion)

    def __len__(self) -> int:
        """Return the number of runs."""
        return len(self._clients)

    def __getitem__(self, number: int) -> Run:
        if number >= len(self._clients):
            raise IndexError
        return Run(self._clients[number], *self._places[5 * number : 5 * number + 5])

    def marks(self, run: Run) -> list[Mark]:
        """Return the marks within a run."""
        if run.stop - run.at <= MARK_DISTANCE:
            return []
        first = bisect_right(self._marks, run.at, key=lambda mark: mark.at)
        last = bisect_left(self._marks, run.stop, key=lambda mark: mark.at)
        return self._marks[first:last]

    def deleted(self) -> Steps[DeleteSet]:
        """Return the delete set of the update."""
        return (yield from self._deletions.set())

    def descending(self, chosen: "array[int]") -> Steps["array[int]"]:
        """Sort numbers of runs of different clients in descending order of clients."""
        keys = array("Q")
        for start in range(0, len(chosen), MANY):
            keys.extend([self._clients[number] for number in chosen[start : start + MANY]])
            yield
        positions = yield from order(keys)
        numbers = array("I")
        for stop in range(len(positions), 0, -MANY):
            numbers.extend([chosen[position] for position in reversed(positions[max(stop - MANY, 0) : stop])])
            yield
        return numbers


def segment_of(update: bytes, parts: LargeParts, chosen: "array[int]", cut: Mapping[int, int]) -> Steps[Segment]:
    """Return a segment of some runs of an update, without its deletions. It may share the bytes of the update.

    Args:
        update: the update.
        parts: the parts of the update.
        chosen: the numbers of the runs.
        cut: by number of a run that is only taken in part: the clock of its first element to take.
    """
    if not cut and len(chosen) == len(parts):
        shared = yield from _sharing(update, parts)
        if shared is not None:
            return shared
    writer = SegmentWriter()
    for done, number in enumerate((yield from parts.descending(chosen))):
        run = parts[number]
        if number in cut:
            structs, first, behind = yield from cut_run(update, run, cut[number])
            yield
            writer.section(run.client, cut[number], run.end, structs, first)
            yield from writer.structs(update, behind, run.stop)
        else:
            at = writer.section(run.client, run.clock, run.end, run.structs)
            yield from writer.structs(update, run.at, run.stop)
            for mark in parts.marks(run):
                writer.mark(mark._replace(at=mark.at - run.at + at))
        if done % MANY == MANY - 1:
            yield
    return writer.segment(DeleteSet())


def _sharing(update: bytes, parts: LargeParts) -> Steps[Segment | None]:
    """Return a segment of all sections of an update that shares its bytes; None if their order is not a segment's.

    Updates that Yjs has written qualify if they have no ``Skip``: their clients are in descending order.
    """
    sections, begin = read_varuint(update, 0)
    stop = parts[len(parts) - 1].stop if len(parts) else begin
    if sections != len(parts) or stop - begin < SHARED * len(update):
        return None
    index = SegmentIndexer()
    last, at = 2**64, begin
    for number in range(sections):
        run, head = parts[number], at
        structs, at = read_varuint(update, head)
        client, at = read_varuint(update, at)
        _, at = read_varuint(update, at)
        if client >= last or structs != run.structs or at != run.at:
            return None
        index.add(client, run.end, head - begin)
        for mark in parts.marks(run):
            index.mark(mark._replace(at=mark.at - begin))
        last, at = client, run.stop
        if number % MANY == MANY - 1:
            yield
    return index.segment(update, begin, stop, DeleteSet())


def by_client(segments: Sequence[Segment]) -> Iterator[list[tuple[Section, Segment]]]:
    """Yield the sections of each client, in descending order of clients.

    Args:
        segments: a client's structs in a later segment follow those in earlier ones.
    """
    sections = merged(*(_sections(segment) for segment in segments), key=_descending)
    for _, of_one in groupby(sections, _descending):
        yield list(of_one)


def _sections(segment: Segment) -> Iterator[tuple[Section, Segment]]:
    for section in segment.sections():
        yield section, segment


def _descending(section: tuple[Section, Segment]) -> int:
    return -section[0].client


def merge(segments: Sequence[Segment]) -> Steps[Segment]:
    """Return the segments merged; a client's structs in a later one must follow those in earlier ones."""
    writer = SegmentWriter()
    state = BytesIO()
    for number, sections in enumerate(by_client(segments)):
        if number % MANY == MANY - 1:
            yield
        (first, only), (last, _) = sections[0], sections[-1]
        state.write(write_varuint(first.client) + write_varuint(last.end))
        if first is last:
            yield from writer.copy(only, first)
            continue
        left = sum(section.structs for section, _ in sections)
        at = writer.section(first.client, first.clock, last.end, left)
        for section, segment in sections:
            yield from writer.structs(segment.data, section.at, section.stop)
            left -= section.structs
            for mark in segment.marks(section):
                writer.mark(Mark(mark.at - section.at + at, mark.clock, mark.left + left))
            at += section.stop - section.at
    deleted = yield from deletions(segments)
    yield
    made = writer.segment(deleted)
    made._state = state.getvalue()
    return made


def deletions(segments: Iterable[Segment]) -> Steps[DeleteSet]:
    """Return the union of the segments' delete sets."""
    deleted = DeleteSet()
    for segment in segments:
        deleted = yield from union(deleted, segment.deleted)
    return deleted
