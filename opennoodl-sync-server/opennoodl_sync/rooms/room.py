"""A room: one document in memory, its clients, and the messages for them. Imports no socket.

The document applies every message at once. `flush` ends the turn: it adds the changes to a batch of the store, and
returns the messages to send. Messages are sent when the batch is written, not before.
"""

from collections.abc import Callable, Hashable
from contextlib import suppress
from time import monotonic
from typing import NamedTuple

from ..storage.interface import Batch, DocumentRecords, Stored
from ..y_protocol import (
    Kind,
    acknowledgement,
    awareness_message,
    denial,
    step_1,
)
from ..yjs.difference import MAX_VECTOR, NO_VECTOR
from ..yjs.division import Part, divide
from ..yjs.document import Document
from ..yjs.lib0 import MalformedError, Steps
from ..yjs.segment import Segment
from ..yjs.segment_index import read_segment
from ..yjs.state_vector import decode
from ..yjs.update import NOTHING
from .answers import Answers, LargeAnswer
from .awareness import Awareness
from .records import Compacted, Records
from .slow_readers import Behind, SlowReaders

READING = "You may only read this document; your change is not kept, and nobody else will see it."
ROOM_CLOSED = "An operator has closed this room. Connect again later."
NOBODY = (None, b"")
"""The initial value of `Room._last`: no client and no update."""


class FullError(Exception):
    """A limit is reached: of a document's size, or of documents in memory; the text names it."""


class NoMemoryError(Exception):
    """MAX_MEMORY is reached; the text says so."""


class Flush(NamedTuple):
    """The messages of one turn; send them when the turn's changes are stored.

    Attributes:
        updates: the messages for the clients in `synced`.
        synced: the clients that had all earlier updates, except for the sender of a turn's only update.
        awareness: the message for the clients in `present`, or None.
        present: the clients that read.
        replies: (client, message) pairs; send them last.
        large: (client, answer) pairs. Send each answer in parts, then call `Room.transferred`; or call `Room.ask_again`
            later.
        stores: whether the turn has added changes to the batch.
    """

    updates: list[bytes]
    synced: list[Hashable]
    awareness: bytes | None
    present: list[Hashable]
    replies: list[tuple[Hashable, bytes]]
    large: list[tuple[Hashable, LargeAnswer]]
    stores: bool


class Room:
    """One document in memory.

    Args:
        name: the room's name.
        records: the stored records of the document.
        max_size: limit of the document's size in bytes; 0 means no limit.
        may_grow: is called with the room, a number of bytes, and whether they are deletions only; returns whether the
            room may use so much more memory.
        opened_by: the address of the client that caused the load.

    Attributes:
        document: the document.
        records: its stored records, with their counts.
        clients: the clients in the room; any hashable objects.
        synced: the clients that got an answer to their step 1; they get updates.
        closed: whether an operator has closed the room.
        busy: whether long work uses the document, so that other work must wait; see `TimeSlicer`.
    """

    def __init__(
        self,
        name: str,
        records: DocumentRecords,
        max_size: int = 0,
        may_grow: "Callable[[Room, int, bool], bool]" = lambda *_: True,
        *,
        opened_by: str = "",
    ) -> None:
        self.name = name
        self.opened_by = opened_by
        self.document = Document()
        self.awareness = Awareness()
        self.clients: set[Hashable] = set()
        self.synced: set[Hashable] = set()
        self.busy = False
        self.closed = False
        self.records = Records(records, max_size)
        self._max_size = max_size
        self._may_grow = may_grow
        self._readers: dict[Hashable, str] = {}  # by read-only client: its user
        self._slow = SlowReaders()
        self._answers = Answers(self.document, self.synced, self._slow)
        self._sent: dict[Hashable, int] = {}  # by client with acknowledgements: the number of its updates
        self._acknowledge: set[Hashable] = set()
        self._last: tuple[Hashable, bytes] = NOBODY  # the sender of the last update, and the update

    def set_busy(self, busy: bool) -> None:
        """Set `busy`; only the `TimeSlicer` calls this."""
        self.busy = busy

    def load(self, stored: Stored) -> Steps[None]:
        """Load the stored records; call this first.

        Raises:
            DamagedError: the records are not a document.
        """
        parts: dict[int, Segment] = {}  # by position among the updates
        repeated = False
        for position in sorted(stored.indexes):
            with suppress(MalformedError):  # another program wrote to the document later: the index does not fit
                part = yield from read_segment(stored.updates[position], stored.indexes.pop(position))
                # After a crash during a compaction, some parts are of that one, and repeat others.
                if any(map(part.overlaps, parts.values())):
                    repeated = True
                else:
                    parts[position] = part
        rest = (update for position, update in enumerate(stored.updates) if position not in parts)
        yield from self.document.load(rest, [*parts.values()])
        yield from self.document.prepare_state_vector()
        self.records.loaded(stored.updates, parts, repeated=repeated)

    @property
    def dirty(self) -> bool:
        """Whether `flush` has something to store or to send."""
        return bool(
            self.document.turn_updates
            or self.awareness.changed
            or self.awareness.stale
            or self._answers.asked
            or self._slow.falling
            or self._acknowledge
            or self.records.parts_left
        )

    def join(self, client: Hashable, *, acknowledge: bool = False, reader: str | None = None) -> list[bytes]:
        """Add a client; return its first messages: step 1 and the awareness states.

        Args:
            client: the client.
            acknowledge: whether to acknowledge its updates when they are stored.
            reader: the user of a read-only client; None if it may write.
        """
        self.clients.add(client)
        self.permit(client, reader=reader)
        if acknowledge:
            self._sent[client] = 0
        greeting = [step_1(self.document.state_vector())]
        if len(self.awareness):
            greeting.append(awareness_message(self.awareness.encode()))
        return greeting

    def permit(self, client: Hashable, *, reader: str | None) -> None:
        """Make a client read-only, with its user `reader`, or let it write if `reader` is None."""
        self._readers.pop(client, None)
        if reader is not None:
            self._readers[client] = reader

    def leave(self, client: Hashable, *, lost: bool = False) -> bool:
        """Remove a client; the next flush removes its awareness states.

        If its connection was `lost`, the states may stay until `forget` is called; return whether they stay.
        """
        self.clients.discard(client)
        self.synced.discard(client)
        self._readers.pop(client, None)
        self._slow.remove(client)
        self._answers.remove(client)
        self._sent.pop(client, None)
        self._acknowledge.discard(client)
        kept = lost and self.awareness.lose(client)
        if not kept:
            self.forget(client)
        return kept

    def forget(self, client: Hashable) -> None:
        """Remove the awareness states of a client that has left; the next flush sends that to the others."""
        self.awareness.remove(client)

    def receive(self, client: Hashable, kind: Kind, content: bytes) -> Steps[bytes | None]:
        """Handle one message; return the immediate reply to its sender, or None.

        Args:
            client: the sender.
            kind: the kind of the message.
            content: its content, see `y_protocol.parse`.

        Raises:
            MalformedError: the content is not valid.
            FullError: the document may not grow.
            NoMemoryError: no document may grow now.

        After an error, the document is unchanged.
        """
        if kind is Kind.UPDATE or kind is Kind.STEP_2:
            if client not in self._readers:
                if content != NOTHING:
                    if not self._has_room(content):
                        yield from self._limit_deletions(content)
                    yield from self.document.integrate(content)
                    self._last = client, content
                if client in self._sent:
                    self._sent[client] += 1
                    self._acknowledge.add(client)
            elif client not in self._slow:
                # A step 2 repeats all deletions of the document, so only its insertions count as changes of this
                # client.
                changes = content[:1] not in (b"", b"\0") if kind is Kind.STEP_2 else content != NOTHING
                if changes:
                    return denial(READING)
        elif kind is Kind.STEP_1:
            if len(content) > MAX_VECTOR:
                content = NO_VECTOR  # it has no other effect, and takes less memory
            yield from decode(content)  # only to raise MalformedError
            self._answers.ask(client, content)
        elif kind is Kind.AWARENESS:
            reader = self._readers.get(client)
            self.awareness.apply(content, client, reader=reader, writers=self.document)
        elif kind is Kind.QUERY_AWARENESS and client not in self._slow:
            return awareness_message(self.awareness.encode())
        return None

    def flush(self, batch: Batch) -> Flush:
        """End the turn: add its changes to `batch`, and return the messages to send when the batch is written."""
        updates = self.document.commit()
        stores = self.records.store(updates, self.document, batch)
        synced = list(self.synced)
        (author, sent), self._last = self._last, NOBODY
        if author in self.synced and updates == [sent]:
            synced.remove(author)  # it has the update, and a write is the most expensive part of a turn
        replies, large = self._answers.take() if self._answers.asked else ([], [])
        if self._acknowledge:
            # Acknowledgements would accumulate for a client that does not read.
            told = self._acknowledge - self._slow.keys()
            replies += [(client, acknowledgement(self._sent[client])) for client in told]
            self._acknowledge -= told
        awareness, present = None, []
        seen = self.awareness.seen() if self._slow.falling else frozenset()
        if self.awareness.changed:
            present = [client for client in self.clients if client not in self._slow]
            # Also to the sender, like y-websocket's server.
            awareness = awareness_message(self.awareness.encode_changes())
        if self.awareness.stale:
            renewals = [(owner, update) for owner, update in self.awareness.renewals() if owner not in self._slow]
            replies += [(owner, awareness_message(update)) for owner, update in renewals]
        for client in self._slow.fall() if self._slow.falling else ():
            has = self.document.state_vector_for_difference() if client in self.synced else None
            self.synced.discard(client)
            self._slow[client] = Behind(has, self.document.version, seen)
        return Flush(updates, synced, awareness, present, replies, large, stores)

    def transferred(self, client: Hashable, state_vector: bytes, version: int) -> None:
        """Record that a large answer was sent; see `Answers.transferred`."""
        self._answers.transferred(client, state_vector, version)

    def ask_again(self, client: Hashable, state_vector: bytes) -> None:
        """Answer a client again whose large answer did not start; see `Answers.ask_again`."""
        self._answers.ask_again(client, state_vector)

    def put_behind(self, client: Hashable) -> None:
        """Send nothing to a slow client after the next flush, until `catch_up`."""
        self._slow.add(client)

    def catch_up(self, client: Hashable) -> bytes | None:
        """Send a client that reads again its missed changes, with the next flush; return the awareness states."""
        behind = self._slow.remove(client)
        if behind is None:
            return None
        if behind.state_vector is not None:
            if behind.version == self.document.version and not self.document.changed:
                # No answer to step 1: it repeats all deletions, which may be more than the client can read at once.
                self.synced.add(client)
            else:
                self._answers.asked[client] = behind.state_vector
        return awareness_message(self.awareness.encode(behind.seen | self.awareness.seen()))

    def begin_compaction(self) -> Steps[None]:
        """Begin a compaction; call this directly after a flush."""
        last, began = self.records.last(), monotonic()
        yield from self.document.freeze()
        self.records.begin_compaction(last, began)

    def next_part(self) -> Steps[Part]:
        """Return the next part to compact."""
        return divide(self.document.frozen(), self.records.part_size)

    def end_part(self, part: Part, update: bytes, segment: Segment, index: bytes) -> None:
        """Replace a part of the document by its compacted form. After the last one, each flush stores one of them.

        Args:
            part: the part.
            update: the compacted part as an update.
            segment: the same as a segment.
            index: the index of the segment, see ``yjs.segment_index``.
        """
        self.document.replace(part, segment)
        if not part.rest:
            self.document.thaw()
        self.records.add_compacted(Compacted(update, index), ends=not part.rest)

    def abandon_compaction(self) -> None:
        """Continue after a failed compaction."""
        self.document.thaw()
        self.records.abandon_compaction()

    def _has_room(self, update: bytes) -> bool:
        """Return whether the document may grow by `update`; False if that depends on how much of the update is new.

        An update that only deletes may make the document smaller. Therefore deletions are counted apart from the
        document, against the same limit.

        Raises:
            FullError: the document may not grow.
            NoMemoryError: no document may grow now.
        """
        deletes = update[:1] in (b"", b"\0")
        if not self._may_grow(self, len(update), deletes):
            raise NoMemoryError(
                "MAX_MEMORY is reached, so the change was not stored. Your client keeps it; connect again."
            )
        if not self._max_size:
            return True
        if deletes:
            return self.document.deletions_size + len(update) <= self._max_size
        if self.document.size + len(update) > self._max_size:
            # A compaction may make it smaller. It takes long, so `must_shrink` limits how often it runs.
            self.records.must_shrink()
            raise FullError(f"This document would exceed MAX_DOCUMENT_SIZE: {self._max_size} bytes.")
        return True

    def _limit_deletions(self, update: bytes) -> Steps[None]:
        """Check the number of new deletions in `update`; clients repeat all deletions that they know.

        Raises:
            FullError: the document may not have more deletions.
            MalformedError: the bytes are not an update.
        """
        new = yield from self.document.new_deletions_size(update)
        if new and self.document.deletions_size + new > self._max_size:
            raise FullError(f"This document has too many deletions: {self._max_size} bytes of them are allowed.")
