"""A document: takes updates in any order, knows what is new in them, and tells what others lack. It knows no room.

It is a few segments, each about twice as large as the next one or more, and what came last (`Recent`). So it takes
hardly more memory than its bytes, and nothing is copied more often than the logarithm of its size.

What comes before its predecessors is handed on and kept as well, as Yjs clients do (``StructStore.pendingStructs``).
Source: yjs 13, ``utils/StructStore.js`` and ``utils/encoding.js`` (``readUpdateV2``, ``writeClientsStructs``).
"""

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

from .delete_set import DeleteSet, Deletions, insert, union
from .delete_set import rest as missing
from .lib0 import MalformedError, Steps, finish, write_varuint
from .segment import LargeParts, Segment, SegmentWriter, merge
from .state_vector import decode
from .structs import SKIP, cut_struct, struct_end
from .update import NOTHING, STEP_SIZE, Deletion, Parts, Run, in_order, read, write, write_deletions, write_section

LARGE_UPDATE = 16_384
"""Bytes of an update that becomes a segment at once."""
RECENT_SIZE = 65_536
"""Bytes of recent changes that become a segment."""
RECENT_CLIENTS = 1024
"""Clients, and ranges of deletions, of which there are as many at most among recent changes."""
MAX_PENDING = 4_194_304
"""Bytes of what came before its predecessors; a client that goes on sending more is refused."""
CHUNK = 524_288
"""Bytes of a part of a difference: a client on a slow line hears something before it gives up."""
PART = 8192
"""Bytes of a delete set that are written at once."""
MANY = 512
"""Sections that are worked on at once."""
RANGE_SIZE = 8
"""Bytes that a deletion of what is not there counts."""
RUN_SIZE = 4096
"""Bytes that a run counts besides its own when it waits: each makes every answer to step 1 longer."""
MAX_VECTOR = 1_048_576
"""Bytes of a state vector; of a larger one nothing is taken to be known."""


class DamagedError(Exception):
    """What is stored is not a document."""


class Tail:
    """The recent structs of one client.

    Attributes:
        client: whose they are.
        clock: of the first element.
        end: the clock behind the last one.
        structs: how many there are.
        content: the structs.
        turn: clock, structs and offset at which those of this turn begin; None if there are none.
    """

    __slots__ = ("client", "clock", "content", "end", "structs", "turn")

    def __init__(self, client: int, clock: int) -> None:
        self.client = client
        self.clock = self.end = clock
        self.structs = 0
        self.content = bytearray()
        self.turn: tuple[int, int, int] | None = None


class Document:
    """One Yjs document.

    Attributes:
        version: changes with every change of the document.
        pending_size: bytes of what waits for its predecessors.
        turn_updates: how many updates came since the last `commit`.
        turn_size: their bytes.
    """

    def __init__(self) -> None:
        self._segments: list[Segment] = []
        self._frozen = 0  # segments that are being compacted
        self._tails: dict[int, Tail] = {}
        self._recent_size = 0
        self._deleted: dict[int, list[int]] = {}  # recently, by client: clock, end, clock, end and so on
        self._ranges = 0
        self._pending: dict[int, list[tuple[int, int, int, bytes]]] = {}  # clock, end, structs, content
        self.version = 0
        self._view: tuple[list[Segment], bytes | None] | None = None  # what differences are made of, until it changes
        self.pending_size = 0
        self._loading = False
        self.turn_updates = self.turn_size = 0
        self._touched: list[Tail] = []
        self._turn_deleted: list[Deletion] = []
        self._turn_pending: list[bytes] = []
        self._whole: bytes | None = None  # the only update of this turn, if all of it is new
        self._told: list[bytes] = []  # updates of this turn that are complete

    # What it knows

    def __contains__(self, client: object) -> bool:
        """Return whether a client has written."""
        return isinstance(client, int) and self.state(client) > 0

    @property
    def size(self) -> int:
        """Bytes of the document, as an update of it would have."""
        return sum(len(segment.data) + 4 * len(segment.deleted) for segment in self._segments) + self._recent_size

    @property
    def memory(self) -> int:
        """Bytes that it takes, as far as they depend on what is in it."""
        recent = 2 * self._recent_size + 300 * len(self._tails) + 200 * len(self._deleted)
        return sum(segment.memory for segment in self._segments) + recent + self.pending_size

    @property
    def changed(self) -> bool:
        """Whether `commit` has something to give."""
        return bool(self._touched or self._turn_deleted or self._turn_pending or self._told)

    def state(self, client: int) -> int:
        """Return the clock behind a client's last element without a gap before it."""
        tail = self._tails.get(client)
        if tail is not None:
            return tail.end
        for segment in reversed(self._segments):
            if end := segment.state(client):
                return end
        return 0

    # What comes

    def integrate(self, update: bytes) -> Steps[None]:
        """Take an update: what of it is new is told and stored with the next `commit`.

        Raises:
            MalformedError: a Yjs client could not decode or integrate it; nothing was changed.
        """
        self._view = None
        if self._recent_size > RECENT_SIZE or len(self._tails) + self._ranges > RECENT_CLIENTS:
            yield from self._seal()
        if len(update) < LARGE_UPDATE:
            parts = Parts()
            end = yield from read(update, parts)
            yield from self._take(update[:end] if end < len(update) else update, parts)
        else:
            yield from self._take_large(update)
        self.turn_updates += 1
        self.turn_size += len(update)

    def load(self, records: Iterable[bytes], base: Segment | None = None) -> Steps[None]:
        """Take what is stored; nothing of it is told.

        Args:
            records: updates.
            base: another part of it, which was compacted.

        Raises:
            DamagedError: a record is not an update.
        """
        self._loading = True
        if base is not None:
            yield from base.state_entries()
            self._segments = [base]
        for number, record in enumerate(records):
            try:
                yield from self.integrate(record)
            except MalformedError as error:
                raise DamagedError(f"record {number} is {error}") from None
            self._end_turn()
            yield
        self._loading = False

    def commit(self) -> list[bytes]:
        """Return updates that have all that is new since the last time, in the order in which they came."""
        self._tell_turn()
        told = self._told
        self._end_turn()
        self.version += bool(told)
        return told

    def _end_turn(self) -> None:
        self._told = []
        for tail in self._touched:
            tail.turn = None
        self._touched = []
        self._turn_deleted = []
        self._turn_pending = []
        self._whole = None
        self.turn_updates = self.turn_size = 0

    def _tell_turn(self) -> None:
        """Complete the update of this turn."""
        if self._whole is not None:
            self._told.append(self._whole)
        else:
            sections = []
            for tail in self._touched:
                assert tail.turn is not None
                clock, structs, at = tail.turn
                sections.append(write_section(tail.client, clock, tail.structs - structs, tail.content[at:]))
            deletions: dict[int, list[int]] = {}
            for client, clock, end in self._turn_deleted:
                insert(deletions.setdefault(client, []), clock, end)
            if sections or deletions:
                self._told.append(write(sections, len(deletions), write_deletions(deletions)))
            self._told += self._turn_pending
        for tail in self._touched:
            tail.turn = None
        self._touched, self._turn_deleted, self._turn_pending, self._whole = [], [], [], None

    def _take(self, update: bytes, parts: Parts) -> Steps[None]:
        if self.pending_size + len(update) > MAX_PENDING // 2:
            self._may_wait(self._early(parts))
        first = not self.changed
        whole = True
        for run in parts.runs:
            known = self.state(run[0])
            if run[1] == known:
                self._append(run[0], known, run[2], run[3], update[run[4] : run[5]])
            elif run[1] > known:
                whole = (yield from self._keep(run, update[run[4] : run[5]])) and whole
                continue
            elif run[2] > known:
                whole = False
                structs, content = yield from cut_run(update, run, known)
                self._append(run[0], known, run[2], structs, content)
            else:
                whole = False
                continue
            if run[0] in self._pending:
                # What was told before is told again: a compaction that is under way does not have it.
                whole = not (yield from self._release(run[0])) and whole
        last = None
        for deletion in parts.deletions:
            new = self._delete(deletion) if deletion.clock < deletion.end else []
            whole = whole and new == [deletion] and in_order(deletion, last)
            last = deletion
            self._turn_deleted += new
        if first:
            self._whole = update if whole and update != NOTHING else None
        elif self.changed:
            self._whole = None

    def _early(self, parts: Parts) -> int:
        """Return the bytes of an update that come too early."""
        size = 0
        ends: dict[int, int] = {}
        for run in parts.runs:
            if run.clock > (ends.get(run.client) or self.state(run.client)):
                size += self._wait_size(run)
            else:
                ends[run.client] = run.end
        for deletion in parts.deletions:
            if deletion.end > max(ends.get(deletion.client, 0), self.state(deletion.client)):
                size += RANGE_SIZE * len(self._undeleted(deletion))
        return size

    def _wait_size(self, run: Run) -> int:
        """Return the bytes that a run counts while it waits; none if all of it waits already."""
        runs = self._pending.get(run.client, [])
        at = bisect_right(runs, run.clock, key=lambda run: run[0])
        if at and runs[at - 1][1] >= run.end:
            return 0
        return run.stop - run.at + RUN_SIZE

    def _append(self, client: int, clock: int, end: int, structs: int, content: bytes) -> None:
        tail = self._tails.get(client)
        if tail is None:
            tail = self._tails[client] = Tail(client, clock)
        if tail.turn is None:
            tail.turn = clock, tail.structs, len(tail.content)
            self._touched.append(tail)
        tail.end = end
        tail.structs += structs
        tail.content += content
        self._recent_size += len(content)

    def _delete(self, deletion: Deletion) -> list[Deletion]:
        """Take a deletion; return what of it is new."""
        client = deletion[0]
        rest = self._undeleted(deletion)
        if rest:
            known = self.state(client)
            for piece in rest:
                if piece.end > known:  # Yjs keeps these too: ``StructStore.pendingDs``
                    self.pending_size += RANGE_SIZE
                self._ranges += 1
                self._recent_size += RANGE_SIZE // 2
                insert(self._deleted.setdefault(client, []), piece.clock, piece.end)
        return rest

    def _undeleted(self, deletion: Deletion) -> list[Deletion]:
        """Return what of a deletion is not deleted yet."""
        rest = missing(self._deleted.get(deletion.client, ()), deletion)
        for segment in self._segments:
            if rest and len(segment.deleted):
                rest = [piece for part in rest for piece in segment.deleted.rest(part)]
        return rest

    def _keep(self, run: Run, content: bytes) -> Steps[bool]:
        """Keep a run that comes too early; return whether all of it is new. Those that are kept do not overlap."""
        client, clock, end, structs = run[:4]
        runs = self._pending.setdefault(client, [])
        at = bisect_right(runs, clock, key=lambda run: run[0])
        if at and runs[at - 1][1] > clock:
            known = runs[at - 1][1]
            if known >= end:
                return False
            structs, content = yield from cut_run(content, Run(client, clock, end, structs, 0, len(content)), known)
            clock = known
        whole = clock == run.clock
        while at < len(runs) and runs[at][0] < end:
            start, stop, number, later = runs.pop(at)
            whole = False
            self.pending_size -= len(later) + RUN_SIZE
            if stop > end:
                number, later = yield from cut_run(later, Run(client, start, stop, number, 0, len(later)), end)
                runs.insert(at, (end, stop, number, later))
                self.pending_size += len(later) + RUN_SIZE
        runs.insert(at, (clock, end, structs, content))
        self.pending_size += len(content) + RUN_SIZE
        self._turn_pending.append(write([write_section(client, clock, structs, content)]))
        return whole

    def _may_wait(self, size: int) -> None:
        """Refuse what would make too much wait.

        Raises:
            MalformedError: it would.
        """
        if size and self.pending_size + size > MAX_PENDING and not self._loading:
            raise MalformedError("too much waits for updates that never came")

    def _release(self, client: int) -> Steps[bool]:
        """Append what has waited for a client's last element; return whether there was something."""
        runs = self._pending[client]
        waiting = len(runs)
        while runs and runs[0][0] <= (known := self.state(client)):
            clock, end, structs, content = runs.pop(0)
            self.pending_size -= len(content) + RUN_SIZE
            if end > known:
                if clock < known:
                    run = Run(client, clock, end, structs, 0, len(content))
                    structs, content = yield from cut_run(content, run, known)
                self._append(client, known, end, structs, content)
        released = len(runs) < waiting
        if not runs:
            del self._pending[client]
        return released

    def _take_large(self, update: bytes) -> Steps[None]:
        """Take an update as a segment."""
        parts = LargeParts()
        end = yield from read(update, parts)
        whole = True
        chosen = array("I")
        cut: dict[int, int] = {}  # by the number of a run, the clock from which it is new
        waiting: list[Run] = []
        for number in range(len(parts)):
            run = parts[number]
            known = self.state(run.client)
            if run.clock == known:
                chosen.append(number)
            elif run.clock > known:
                waiting.append(run)
            else:
                whole = False
                if run.end > known:
                    chosen.append(number)
                    cut[number] = known
            if number % MANY == MANY - 1:
                yield
        self._may_wait(sum(map(self._wait_size, waiting)))
        yield from self._seal()
        writer = SegmentWriter()
        for done, number in enumerate((yield from parts.descending(chosen))):
            run = parts[number]
            if number in cut:
                structs, content = yield from cut_run(update, run, cut[number])
                writer.section(run.client, cut[number], run.end, structs, content)
            else:
                at = writer.section(run.client, run.clock, run.end, run.structs, memoryview(update)[run.at : run.stop])
                for mark in parts.marks(run):
                    writer.mark(mark._replace(at=mark.at - run.at + at))
            if done % MANY == MANY - 1:
                yield
        segment = writer.segment(DeleteSet())
        asked = yield from parts.deleted()
        segment.deleted, early = yield from self._new_deletions(asked, segment)
        self._may_wait(early * RANGE_SIZE)
        self.pending_size += early * RANGE_SIZE
        whole = whole and segment.deleted is asked and parts.in_order
        for run in waiting:
            whole = (yield from self._keep(run, update[run.at : run.stop])) and whole
        if len(segment) or len(segment.deleted):
            self._told.append(update[:end] if whole else (yield from segment.write()))
            if whole:
                self._turn_pending = []
            self._segments.append(segment)
            yield from self._settle()
        for client in list(self._pending):
            yield from self._release(client)

    def _new_deletions(self, asked: DeleteSet, segment: Segment) -> Steps[tuple[DeleteSet, int]]:
        """Return what of a set is not deleted yet (the set itself if that is all of it), and how much is too early."""
        new = Deletions()
        same = True
        done = early = 0
        deleted = [other.deleted for other in self._segments if len(other.deleted)]
        for client in asked.clients:
            bounds = asked.ranges(client)
            known = max(self.state(client), segment.state(client))
            for at in range(0, len(bounds), 2):
                deletion = Deletion(client, bounds[at], bounds[at + 1])
                rest = [deletion]
                for others in deleted:
                    rest = [piece for part in rest for piece in others.rest(part)]
                same = same and rest == [deletion]
                for piece in rest:
                    early += piece.end > known
                    new.add(piece)
                done += 1
                if done % MANY == 0:
                    yield
        return asked if same else (yield from new.set()), early

    def _seal(self) -> Steps[None]:
        """Make a segment of what came recently."""
        self._view = None
        self._tell_turn()
        if self._tails or self._deleted:
            self._segments.append(self._recent())
            self._tails, self._deleted = {}, {}
            self._recent_size = self._ranges = 0
            yield from self._settle()

    def _recent(self) -> Segment:
        """Return what came recently."""
        writer = SegmentWriter()
        for tail in sorted(self._tails.values(), key=lambda tail: -tail.client):
            writer.section(tail.client, tail.clock, tail.end, tail.structs, tail.content)
        deletions = Deletions()
        for client, bounds in self._deleted.items():
            for at in range(0, len(bounds), 2):
                deletions.add(Deletion(client, bounds[at], bounds[at + 1]))
        return writer.segment(finish(deletions.set()))

    def _settle(self) -> Steps[None]:
        """Merge segments until each is at least twice as large as the next one."""
        segments = self._segments
        while len(segments) - self._frozen >= 2 and 2 * segments[-1].memory > segments[-2].memory:
            merged = yield from merge(segments[-2], segments[-1])
            segments[-2:] = [merged]
        if segments and len(segments[-1]) > MANY:
            yield from segments[-1].state_entries()

    # Compaction

    def freeze(self) -> Steps[list[Segment]]:
        """Return the segments that make the document, but for what waits; they stay until `thaw`."""
        yield from self._seal()
        self._frozen = len(self._segments)
        return [*self._segments]

    def thaw(self, compacted: Segment | None) -> None:
        """Put a segment in the place of those that were frozen; None leaves them as they are."""
        self._view = None
        if compacted is not None:
            self._segments[: self._frozen] = [compacted]
        self._frozen = 0

    def pending(self) -> bytes | None:
        """Return what waits for its predecessors as one update; None if nothing does."""
        sections = []
        for client in self._pending:
            clock, _, structs, content = self._waiting(client, self._pending[client][0][0])
            sections.append(write_section(client, clock, structs, content))
        return write(sections) if sections else None

    def write(self) -> Steps[bytes]:
        """Return all of the document as one update."""
        yield from self._seal()
        writer = SegmentWriter()
        for client in sorted(self._pending, reverse=True):
            writer.section(client, *self._waiting(client, self.state(client)))
        whole = writer.segment(DeleteSet())
        for segment in reversed(self._segments):
            whole = yield from merge(segment, whole)
        return (yield from whole.write())

    def _waiting(self, client: int, clock: int) -> tuple[int, int, int, bytes]:
        """Return what waits of a client as a run from `clock` on, with ``Skip`` structs for what has not come."""
        end, number = clock, 0
        written = []
        for start, stop, structs, content in self._pending[client]:
            if start > end:
                written.append(bytes((SKIP,)) + write_varuint(start - end))
                number += 1
            written.append(content)
            number += structs
            end = stop
        return clock, end, number, b"".join(written)

    # What others lack

    def state_vector(self) -> bytes:
        """Return how much of each client is known, encoded."""
        written = [finish(segment.state_entries()) for segment in self._segments]
        written += [write_varuint(tail.client) + write_varuint(tail.end) for tail in self._tails.values()]
        return write_varuint(sum(map(len, self._segments)) + len(self._tails)) + b"".join(written)

    def difference(self, state_vector: bytes) -> Iterator[bytes | None]:
        """Yield updates of `CHUNK` or so that bring a document at a state vector to where this one is now.

        Later changes of this document do not matter. All deletions are in the updates, as in those of Yjs. None is no
        update, but an opportunity to do something else.

        Raises:
            MalformedError: this is not a state vector.
        """
        if self._view is None:
            segments = [*self._segments]
            if self._tails or self._deleted:
                segments.append(self._recent())
            self._view = segments, self.pending()
        return _difference(*self._view, state_vector)


class Chunk:
    """An update that is being made of sections of several segments, the older ones first."""

    def __init__(self) -> None:
        self._sections: dict[int, tuple[int, int, list[bytes]]] = {}  # by client: clock, structs, contents
        self.size = 0

    def add(self, client: int, clock: int, structs: int, content: bytes) -> None:
        """Add structs of a client, which follow those that it has."""
        first, before, contents = self._sections.get(client, (clock, 0, []))
        contents.append(content)
        self._sections[client] = first, before + structs, contents
        self.size += len(content) + 12

    def write(self, clients: int = 0, deletions: bytes = b"") -> bytes:
        """Return the update, and begin another one."""
        sections = [
            write_section(client, clock, structs, b"".join(contents))
            for client, (clock, structs, contents) in self._sections.items()
        ]
        self._sections = {}
        self.size = 0
        return write(sections, clients, deletions)


def _difference(segments: Sequence[Segment], pending: bytes | None, state_vector: bytes) -> Iterator[bytes | None]:
    known: dict[int, int] = {}
    if len(state_vector) <= MAX_VECTOR:
        known = yield from decode(state_vector)
    chunk = Chunk()
    done = 0
    for segment in segments:
        for section in segment.sections():
            done += 1
            if done % MANY == 0:
                yield None
            clock = known.get(section.client, 0)
            if clock >= section.end:
                continue
            # A struct that is known in part is sent whole: Yjs leaves out what it knows.
            start = next(iter(segment.marks(section)))
            if clock > section.clock:
                start = yield from segment.find(section, clock)
                yield None
            for mark in segment.marks(section):
                if mark.at > start.at and mark.at - start.at + chunk.size >= CHUNK:
                    chunk.add(section.client, start.clock, start.left - mark.left, segment.data[start.at : mark.at])
                    yield chunk.write()
                    start = mark
            chunk.add(section.client, start.clock, start.left, segment.data[start.at : section.stop])
            if chunk.size >= CHUNK:
                yield chunk.write()
    if pending is not None:
        yield pending
    deleted = DeleteSet()
    for segment in segments:
        deleted = yield from union(deleted, segment.deleted)
    clients, entries = 0, list[bytes]()
    for number, part in deleted.write(PART):
        clients += number
        entries.append(part)
        if len(entries) * PART >= CHUNK:
            yield chunk.write(clients, b"".join(entries))
            clients, entries = 0, []
        yield None
    yield chunk.write(clients, b"".join(entries))


def cut_run(data: bytes, run: Run, clock: int) -> Steps[tuple[int, bytes]]:
    """Return what of a run comes from `clock` on, which is within it: how many structs, and their bytes."""
    at, here = run.at, run.clock
    for passed in range(run.structs):
        length, behind = yield from struct_end(data, at, run.client, here)
        if here + length > clock:
            left = run.structs - passed
            if here == clock:
                return left, data[at : run.stop]
            first = yield from cut_struct(data, at, run.client, here, clock - here)
            return left, first + data[behind : run.stop]
        if passed % MANY == MANY - 1 or behind - at > STEP_SIZE // MANY:
            yield
        at, here = behind, here + length
    raise ValueError("the clock is not in the run")
