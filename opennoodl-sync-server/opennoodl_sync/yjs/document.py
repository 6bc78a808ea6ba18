"""A document: integrates updates in any order, finds what is new in them, and makes differences. It knows no room.

It consists of a few segments and the recent changes (`Tail`). Of two adjacent small segments, the older one is at least
about twice as large. Therefore a document needs little more memory than its bytes, and each byte is copied at most as
often as the logarithm of the document's size.

Structs with missing dependencies are forwarded and stored as well, like Yjs does (``StructStore.pendingStructs``).
Source: yjs 13, ``utils/StructStore.js`` and ``utils/encoding.js`` (``readUpdateV2``, ``writeClientsStructs``).
"""

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import pairwise

from .delete_set import DeleteSet, Deletions, insert
from .delete_set import rest as missing
from .difference import MAX_VECTOR, NO_VECTOR, Difference
from .division import Part
from .lib0 import MalformedError, Steps, finish, write_varuint
from .pending import PendingRuns
from .segment import LargeParts, Segment, SegmentWriter, merge, segment_of
from .update import (
    NOTHING,
    Deletion,
    Edit,
    Parts,
    Run,
    cut_run,
    in_order,
    read,
    read_edit,
    write,
    write_deletions,
    write_section,
)

LARGE_UPDATE = 16_384
"""Bytes of an update that becomes a segment at once."""
RECENT_SIZE = 65_536
"""Bytes of recent changes that become a segment."""
RECENT_CLIENTS = 1024
"""Limit of clients, and of ranges of deletions, in recent changes."""
MAX_PENDING = 4_194_304
"""Limit of the bytes of pending structs; updates with more of them are refused."""
MERGED = 4_194_304
MERGED_SHARE = 8
"""Limit of the bytes of a merged segment, or this fraction of the document if that is more: the merge needs memory for
both the old and the new segment. A large document therefore has few segments, too."""
MANY = 128
"""Sections of one step."""
DELETION_SIZE = 4
"""Bytes of a range of deletions in an update, approximately."""
RANGE_SIZE = 8
"""Bytes that are counted for a deletion of elements that are missing."""


class DamagedError(Exception):
    """The stored bytes are not a document."""


class Tail:
    """The recent structs of one client.

    Attributes:
        client: the client id.
        clock: the clock of the first element.
        end: the clock after the last element.
        structs: the number of structs.
        content: the encoded structs.
        turn: clock, number of structs and offset where those of this turn begin; None if there are none.
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
        version: a number that changes with every change of the document.
        turn_updates: the number of updates since the last `commit`.
        turn_size: their bytes.
    """

    def __init__(self) -> None:
        self._segments: list[Segment] = []
        self._segments_size = 0  # bytes of all segments in an update
        self._compacted = self._frozen = 0  # segments that a running compaction has made, and those and its input
        self._tails: dict[int, Tail] = {}
        self._recent_size = 0
        self._deleted: dict[int, list[int]] = {}  # recent deletions by client: clock, end, clock, end and so on
        self._ranges = 0
        self._pending = PendingRuns()
        # Upper limit of deleted ranges of missing elements. Yjs stores these too: ``StructStore.pendingDs``.
        self._early = 0
        self._fewer_early = False  # elements have been added since they were counted
        self.version = 0
        self._view: tuple[list[Segment], bytes | None] | None = None  # the input of differences, until the next change
        self._loading = False
        self.turn_updates = self.turn_size = 0
        self._touched: list[Tail] = []
        self._turn_deleted: list[Deletion] = []
        self._turn_pending: list[bytes] = []
        self._whole: bytes | None = None  # the only update of this turn, if it is completely new
        self._told: list[bytes] = []  # complete updates of this turn

    # State

    def __contains__(self, client: object) -> bool:
        """Return whether the document has elements of a client."""
        return isinstance(client, int) and self.state(client) > 0

    @property
    def size(self) -> int:
        """Bytes of the document as one update, approximately."""
        return self._segments_size + self._recent_size + DELETION_SIZE * self._ranges

    @property
    def deletions_size(self) -> int:
        """Bytes of its deletions, approximately."""
        return DELETION_SIZE * (sum(len(segment.deleted) for segment in self._segments) + self._ranges)

    def new_deletions_size(self, update: bytes) -> Steps[int]:
        """Return the bytes of an update's deletions that are not in this document.

        Raises:
            MalformedError: the bytes are not an update.
        """
        yield from self._seal()
        parts = LargeParts()
        yield from read(update, parts)
        new, _ = yield from self._new_deletions((yield from parts.deleted()), SegmentWriter().segment(DeleteSet()))
        return DELETION_SIZE * len(new)

    @property
    def memory(self) -> int:
        """Bytes of memory that depend on the document's content."""
        recent = 2 * self._recent_size + 300 * len(self._tails) + 200 * len(self._deleted)
        return sum(segment.memory for segment in self._segments) + recent + self.pending_size

    @property
    def pending_size(self) -> int:
        """Upper limit of the bytes that are counted for pending structs and deletions."""
        return self._pending.size + RANGE_SIZE * self._early

    @property
    def changed(self) -> bool:
        """Whether `commit` has updates to return."""
        return bool(self._touched or self._turn_deleted or self._turn_pending or self._told)

    def state(self, client: int) -> int:
        """Return the clock after a client's last element that has no gap before it."""
        tail = self._tails.get(client)
        if tail is not None:
            return tail.end
        for segment in reversed(self._segments):
            if end := segment.state(client):
                return end
        return 0

    # Updates

    def integrate(self, update: bytes) -> Steps[None]:
        """Integrate an update; the next `commit` returns its new parts.

        Raises:
            MalformedError: a Yjs client could not decode or integrate it; nothing was changed.
        """
        self._view = None
        if self._recent_size > RECENT_SIZE or len(self._tails) + self._ranges > RECENT_CLIENTS:
            yield from self._seal()
        if len(update) < LARGE_UPDATE:
            edit = read_edit(update)
            if edit is None or not self._take_edit(update, edit):
                parts = Parts()
                end = yield from read(update, parts)
                yield from self._take(update[:end] if end < len(update) else update, parts)
        else:
            yield from self._take_large(update)
        self.turn_updates += 1
        self.turn_size += len(update)

    def load(self, records: Iterable[bytes], parts: Sequence[Segment] = ()) -> Steps[None]:
        """Integrate the stored updates; `commit` does not return them.

        Args:
            records: stored updates.
            parts: compacted parts of the document, with different clients.

        Raises:
            DamagedError: a record is not an update.
        """
        self._loading = True
        self._segments = [*parts]
        self._count_segments()
        for number, record in enumerate(records):
            try:
                yield from self.integrate(record)
            except MalformedError as error:
                raise DamagedError(f"record {number} is {error}") from None
            self._begin_turn()
            self._told = []
            yield
        self.turn_updates = self.turn_size = 0
        self._loading = False

    def commit(self) -> list[bytes]:
        """Return updates with all changes since the last call, in the order of their arrival."""
        self._tell_turn()
        told, self._told = self._told, []
        self.turn_updates = self.turn_size = 0
        self.version += bool(told)
        return told

    def _tell_turn(self) -> None:
        """Complete the update of this turn."""
        if self._whole is not None:
            self._told.append(self._whole)
        else:
            sections = []
            for tail in sorted(self._touched, key=lambda tail: -tail.client):
                assert tail.turn is not None
                clock, structs, at = tail.turn
                sections.append(write_section(tail.client, clock, tail.structs - structs, tail.content[at:]))
            deletions: dict[int, list[int]] = {}
            for client, clock, end in self._turn_deleted:
                insert(deletions.setdefault(client, []), clock, end)
            if sections or deletions:
                self._told.append(write(sections, len(deletions), write_deletions(deletions)))
            self._told += self._turn_pending
        self._begin_turn()

    def _begin_turn(self) -> None:
        """Clear the changes of the last turn."""
        for tail in self._touched:
            tail.turn = None
        self._touched, self._turn_deleted, self._turn_pending, self._whole = [], [], [], None

    def _take_edit(self, update: bytes, edit: Edit) -> bool:
        """Integrate an edit if it follows its client's last element and nothing is pending; return whether it was."""
        run, deletion, stop = edit
        tail = self._tails.get(run.client)
        known = self.state(run.client) if tail is None else tail.end
        if run.clock != known or self._pending.size or self.pending_size > MAX_PENDING // 4:
            return False
        first = not self.changed
        self._append(run.client, run.clock, run.end, 1, update[run.at : run.stop])
        whole = True
        if deletion is not None:
            new = self._delete(deletion) if deletion.clock < deletion.end else []
            whole = new == [deletion]
            self._turn_deleted += new
        self._whole = update[:stop] if first and whole else None
        return True

    def _take(self, update: bytes, parts: Parts) -> Steps[None]:
        if self.pending_size + len(update) > MAX_PENDING // 2:
            yield from self._may_wait(self._early_size(parts))
        first = not self.changed
        # ``Y.mergeUpdates`` loses sections that are not in descending order of clients: they are written anew.
        whole = all(run[0] > later[0] for run, later in pairwise(parts.runs))
        for number, run in enumerate(parts.runs):
            if number % MANY == MANY - 1:
                yield
            known = self.state(run[0])
            if run[1] == known:
                self._append(run[0], known, run[2], run[3], update[run[4] : run[5]])
            elif run[1] > known:
                whole = (yield from self._keep(run, update[run[4] : run[5]])) and whole
                continue
            elif run[2] > known:
                whole = False
                structs, cut, behind = yield from cut_run(update, run, known)
                self._append(run[0], known, run[2], structs, cut + update[behind : run[5]])
            else:
                whole = False
                continue
            if self._pending.size and run[0] in self._pending:
                # Pending structs that were sent before are sent again: a running compaction does not have them.
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

    def _early_size(self, parts: Parts) -> int:
        """Return the bytes that an update would add to the pending structs and deletions."""
        size = 0
        ends: dict[int, int] = {}
        for run in parts.runs:
            if run.clock > (ends.get(run.client) or self.state(run.client)):
                size += self._pending.cost(run)
            else:
                ends[run.client] = run.end
        for deletion in parts.deletions:
            if deletion.end > max(ends.get(deletion.client, 0), self.state(deletion.client)):
                size += RANGE_SIZE * len(self._undeleted(deletion))
        return size

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
        self._fewer_early = True

    def _delete(self, deletion: Deletion) -> list[Deletion]:
        """Add a deletion; return its new parts."""
        client = deletion[0]
        rest = self._undeleted(deletion)
        if rest:
            known = self.state(client)
            for piece in rest:
                if piece.end > known:
                    self._early += 1
                self._ranges += 1
                insert(self._deleted.setdefault(client, []), piece.clock, piece.end)
        return rest

    def _undeleted(self, deletion: Deletion) -> list[Deletion]:
        """Return the parts of a deletion that are not deleted yet."""
        rest = missing(self._deleted.get(deletion.client, ()), deletion)
        for segment in self._segments:
            if rest and len(segment.deleted):
                rest = [piece for part in rest for piece in segment.deleted.rest(part)]
        return rest

    def _keep(self, run: Run, content: bytes) -> Steps[bool]:
        """Add a run to the pending ones; return whether it is completely new."""
        told, whole = yield from self._pending.add(run, content)
        if told is not None:
            self._turn_pending.append(told)
        return whole

    def _may_wait(self, size: int) -> Steps[None]:
        """Check the limit of pending bytes for `size` more.

        Raises:
            MalformedError: the limit would be exceeded.
        """
        if not size or self._loading or self.pending_size + size <= MAX_PENDING:
            return
        if self._early and self._fewer_early:
            yield from self._recount_early()
        if self.pending_size + size > MAX_PENDING:
            raise MalformedError("too many changes wait for earlier updates")

    def _recount_early(self) -> Steps[None]:
        """Count the deletions of missing elements again; some elements have been added since."""
        early = 0
        for client, recent in self._deleted.items():
            early += len(recent) // 2 - bisect_right(recent, self.state(client)) // 2
        for segment in self._segments:
            for number, client in enumerate(segment.deleted.clients):
                bounds = segment.deleted.ranges(client)
                early += len(bounds) // 2 - bisect_right(bounds, self.state(client)) // 2
                if number % MANY == MANY - 1:
                    yield
        self._early = min(early, self._early)
        self._fewer_early = False

    def _release(self, client: int) -> Steps[bool]:
        """Append the pending structs that follow a client's last element; return whether there were any."""
        released = False
        while client in self._pending and (run := (yield from self._pending.pop(client, self.state(client)))):
            self._append(client, self.state(client), run.end, run.structs, run.content)
            released = True
        return released

    def _take_large(self, update: bytes) -> Steps[None]:
        """Integrate an update as a segment."""
        parts = LargeParts()
        end = yield from read(update, parts)
        whole = True
        last: int | None = None
        chosen = array("I")
        cut: dict[int, int] = {}  # by number of a run: the clock of its first new element
        waiting: list[Run] = []
        for number in range(len(parts)):
            run = parts[number]
            whole = whole and (last is None or run.client < last)
            last = run.client
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
        yield from self._may_wait(sum(map(self._pending.cost, waiting)))
        yield from self._seal()
        segment = yield from segment_of(update, parts, chosen, cut)
        asked, ordered = (yield from parts.deleted()), parts.in_order
        del parts  # it may need as much memory as the update
        segment.deleted, early = yield from self._new_deletions(asked, segment)
        yield from self._may_wait(early * RANGE_SIZE)
        self._early += early
        whole = whole and segment.deleted is asked and ordered
        segment.is_update = whole and segment.data is update and end == len(update)
        for run in waiting:
            whole = (yield from self._keep(run, update[run.at : run.stop])) and whole
        if len(segment) or len(segment.deleted):
            yield
            self._told.append(update[:end] if whole else (yield from segment.write()))
            if whole:
                self._turn_pending = []
            self._segments.append(segment)
            self._fewer_early = True
            yield from self._settle()
        for client in self._pending.clients():
            yield from self._release(client)

    def _new_deletions(self, asked: DeleteSet, segment: Segment) -> Steps[tuple[DeleteSet, int]]:
        """Return the new part of a delete set (itself if all is new), and the number of ranges without elements."""
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
        """Make a segment of the recent changes."""
        self._view = None
        self._tell_turn()
        if self._tails or self._deleted:
            self._segments.append(self._recent())
            self._tails, self._deleted = {}, {}
            self._recent_size = self._ranges = 0
            yield from self._settle()

    def _recent(self) -> Segment:
        """Return the recent changes as a segment."""
        writer = SegmentWriter()
        for tail in sorted(self._tails.values(), key=lambda tail: -tail.client):
            writer.section(tail.client, tail.clock, tail.end, tail.structs, tail.content)
        deletions = Deletions()
        for client, bounds in self._deleted.items():
            for at in range(0, len(bounds), 2):
                deletions.add(Deletion(client, bounds[at], bounds[at + 1]))
        return writer.segment(finish(deletions.set()))

    def _settle(self) -> Steps[None]:
        """Merge segments until each is at least twice as large as the next one; large ones are not merged."""
        segments = self._segments
        most = max(MERGED, sum(segment.memory for segment in segments) // MERGED_SHARE)
        while len(segments) - self._frozen >= 2:
            older, newer = segments[-2].memory, segments[-1].memory
            if older >= 2 * newer or older + newer > most:
                break
            merged = yield from merge(segments[-2:])
            segments[-2:] = [merged]
        if not self._loading:
            yield from self.prepare_state_vector()
        self._count_segments()

    def _count_segments(self) -> None:
        self._segments_size = sum(segment.size + DELETION_SIZE * len(segment.deleted) for segment in self._segments)

    # Compaction

    def freeze(self) -> Steps[None]:
        """Keep the segments of the document unchanged until `thaw`, without pending structs."""
        yield from self._seal()
        self._compacted, self._frozen = 0, len(self._segments)

    def frozen(self) -> list[Segment]:
        """Return the frozen segments that `replace` has not replaced."""
        return self._segments[self._compacted : self._frozen]

    def replace(self, part: Part, compacted: Segment) -> None:
        """Replace a part of the frozen segments by its compacted form."""
        self._view = None
        compacted.set_state_entries(part.state)
        self._segments[self._compacted : self._frozen] = [compacted, *part.rest]
        self._compacted += 1
        self._frozen = self._compacted + len(part.rest)
        self._count_segments()

    def thaw(self) -> None:
        """End a compaction; segments that are not replaced stay as they are."""
        self._compacted = self._frozen = 0

    def pending(self) -> bytes | None:
        """Return the pending structs as one update; None if there are none."""
        return self._pending.update()

    def write(self) -> Steps[bytes]:
        """Return the whole document as one update."""
        yield from self._seal()
        writer = SegmentWriter()
        for client in sorted(self._pending.clients(), reverse=True):
            writer.section(client, *self._pending.run(client, self.state(client)))
        whole = yield from merge([*self._segments, writer.segment(DeleteSet())])
        return (yield from whole.write())

    # Differences

    def prepare_state_vector(self) -> Steps[None]:
        """Prepare `state_vector` in steps, since it takes long; call this after `load` if it will be called soon."""
        for segment in self._segments:
            yield from segment.state_entries()

    def state_vector(self) -> bytes:
        """Return the encoded state vector."""
        return b"".join(self._state_vector())

    def state_vector_for_difference(self) -> bytes:
        """Return the encoded state vector, or an empty one if `difference` would treat it as empty."""
        written = self._state_vector()
        return b"".join(written) if sum(map(len, written)) <= MAX_VECTOR else NO_VECTOR

    def _state_vector(self) -> list[bytes]:
        number = sum(map(len, self._segments)) + len(self._tails)
        written = [write_varuint(number), *(finish(segment.state_entries()) for segment in self._segments)]
        written += [write_varuint(tail.client) + write_varuint(tail.end) for tail in self._tails.values()]
        return written

    def difference(self, state_vector: bytes) -> Difference:
        """Return the updates that a document with this state vector lacks."""
        if self._view is None:
            segments = [*self._segments]
            if self._tails or self._deleted:
                segments.append(self._recent())
            self._view = segments, self.pending()
        return Difference(*self._view, state_vector)

    def superseded(self, difference: Difference) -> list[Segment]:
        """Return the segments of a difference that this document has replaced."""
        mine = set(map(id, self._segments))
        return [segment for segment in difference.segments if id(segment) not in mine]
