"""A room: one live document, its clients, and the messages for them. Knows no socket.

Within one turn, the document takes every message at once. `flush` ends the turn: it returns the
messages to send, and adds the changes to a batch of the store. Nothing is sent before that batch is written.
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
    step_2,
    update_message,
)
from ..yjs.difference import MAX_VECTOR, Difference
from ..yjs.document import Document
from ..yjs.lib0 import MalformedError, Steps
from ..yjs.segment import Segment
from ..yjs.segment_index import read_segment
from ..yjs.state_vector import decode
from ..yjs.update import NOTHING
from .awareness import Awareness
from .records import Records
from .slow_readers import Behind, SlowReaders

READING = "You may only read this document; your change is not kept, and nobody else will see it."
ROOM_CLOSED = "An operator has closed this room. Connect again later."
MAX_ANSWER = 262_144
"""Bytes of an answer to step 1 that is sent in the same turn; a larger one is a transfer."""
MAX_STEPS = 8
"""Steps of a difference that may be done for such answers in one turn."""
NOBODY = (None, b"")
"""The sender of the last update, and the update, while there is none."""


class FullError(Exception):
    """A bound is reached: of a document's size, or of documents in memory; the text names it."""


class NoMemoryError(Exception):
    """MAX_MEMORY is reached; the text says so."""


class LargeAnswer(NamedTuple):
    """What a client lacks of the document as it is at the end of a turn. Later changes, not stored yet, are not in it.

    Attributes:
        asked: the state vector of the client.
        difference: the updates.
        state_vector: what the client will have in the end.
        version: the version of the document that it will have.
    """

    asked: bytes
    difference: Difference
    state_vector: bytes
    version: int


class Flush(NamedTuple):
    """The messages of one turn, to be sent when its changes are stored.

    Attributes:
        updates: for the clients in `synced`.
        synced: the clients that were up to date before, without one that sent just this update itself.
        awareness: the message for the clients in `present`, if there is one.
        present: the clients that read.
        replies: messages for one client each, to be sent after the others.
        large: clients that lack much, and their answers. Send each of them its answer in parts, and then call
            `Room.transferred`; or call `Room.ask_again` later.
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
    """One live document.

    Args:
        name: the room's name.
        records: keeps the document.
        max_size: bytes that the document may have; 0 means no limit.
        may_grow: returns whether the room may take so many more bytes of memory; its last argument is whether they
            only delete.
        opened_by: the address of the client that caused the load.

    Attributes:
        document: the document.
        records: its stored records.
        clients: the clients in the room; any hashable objects.
        synced: the clients whose step 1 was answered; they get updates.
        closed: whether an operator has closed the room.
        busy: whether long work is being done with the document, so that other work has to wait; see `TimeSlicer`.
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
        self._readers: dict[Hashable, str] = {}  # clients that may only read, and their users
        self._slow = SlowReaders()
        self._asked: dict[Hashable, bytes] = {}  # state vectors to be answered
        self._transferring: set[Hashable] = set()  # clients whose first large answer is under way
        self._sent: dict[Hashable, int] = {}  # by client that wants acknowledgements: how many updates it sent
        self._acknowledge: set[Hashable] = set()
        self._last: tuple[Hashable, bytes] = NOBODY  # the sender of the last update, and the update

    def set_busy(self, busy: bool) -> None:
        """Note that long work begins or has ended; only the `TimeSlicer` calls this."""
        self.busy = busy

    def load(self, stored: Stored) -> Steps[None]:
        """Load the stored records; call this first.

        Raises:
            DamagedError: they are not a document.
        """
        updates, index = stored
        base = max(updates, key=len, default=b"")
        segment = None
        if index is not None:
            with suppress(MalformedError):  # another program has written the document since: read all of it
                segment = yield from read_segment(base, index)
        yield from self.document.load((update for update in updates if update is not base or segment is None), segment)
        self.records.loaded(stored)

    @property
    def dirty(self) -> bool:
        """Whether `flush` has something to store or to send."""
        return bool(
            self.document.turn_updates
            or self.awareness.changed
            or self.awareness.stale
            or self._asked
            or self._slow.falling
            or self._acknowledge
            or self.records.has_compacted
        )

    def join(self, client: Hashable, *, acknowledge: bool = False, reader: str | None = None) -> list[bytes]:
        """Let a client in; return its first messages: step 1 and the awareness states.

        Args:
            client: the client.
            acknowledge: whether its updates are acknowledged when they are stored.
            reader: its user, if it may only read the document.
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
        """Let a client change the document, or only read it as the user `reader`."""
        self._readers.pop(client, None)
        if reader is not None:
            self._readers[client] = reader

    def leave(self, client: Hashable, *, lost: bool = False) -> bool:
        """Remove a client; its awareness states end with the next flush.

        If its connection was `lost`, they may be kept until `forget`; return whether they are.
        """
        self.clients.discard(client)
        self.synced.discard(client)
        self._transferring.discard(client)
        self._readers.pop(client, None)
        self._slow.remove(client)
        self._asked.pop(client, None)
        self._sent.pop(client, None)
        self._acknowledge.discard(client)
        kept = lost and self.awareness.lose(client)
        if not kept:
            self.forget(client)
        return kept

    def forget(self, client: Hashable) -> None:
        """End the awareness states of a client that has left; others are told with the next flush."""
        self.awareness.remove(client)

    def receive(self, client: Hashable, kind: Kind, content: bytes) -> Steps[bytes | None]:
        """Handle one message; return the immediate reply to its sender if there is one.

        Args:
            client: the sender.
            kind: what the message is.
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
                # A step 2 repeats all deletions of the document, so only its insertions are changes of this client.
                changes = content[:1] not in (b"", b"\0") if kind is Kind.STEP_2 else content != NOTHING
                if changes:
                    return denial(READING)
        elif kind is Kind.STEP_1:
            if len(content) <= MAX_VECTOR:
                yield from decode(content)  # for what it raises
            if client not in self._transferring:  # else it gets another step 2 anyway
                self._ask(client, content)
        elif kind is Kind.AWARENESS:
            reader = self._readers.get(client)
            self.awareness.apply(content, client, reader=reader, writers=self.document)
        elif kind is Kind.QUERY_AWARENESS and client not in self._slow:
            return awareness_message(self.awareness.encode())
        return None

    def flush(self, batch: Batch) -> Flush:
        """End the turn: add its changes to `batch`, and return the messages to send when that is written."""
        updates = self.document.commit()
        stores = self.records.store(updates, self.document, batch)
        synced = list(self.synced)
        (author, sent), self._last = self._last, NOBODY
        if author in self.synced and updates == [sent]:
            synced.remove(author)  # it has the update, and a write costs more than everything else
        replies, large = self._answers() if self._asked else ([], [])
        if self._acknowledge:
            # For a client that does not read, they would accumulate.
            told = self._acknowledge - self._slow.keys()
            replies += [(client, acknowledgement(self._sent[client])) for client in told]
            self._acknowledge -= told
        awareness, present = None, []
        seen = self.awareness.seen() if self._slow.falling else frozenset()
        if self.awareness.changed:
            present = [client for client in self.clients if client not in self._slow]
            # To the sender too, as y-websocket's server does.
            awareness = awareness_message(self.awareness.encode_changes())
        if self.awareness.stale:
            renewals = [(owner, update) for owner, update in self.awareness.renewals() if owner not in self._slow]
            replies += [(owner, awareness_message(update)) for owner, update in renewals]
        for client in self._slow.fall() if self._slow.falling else ():
            has = self.document.state_vector() if client in self.synced else None
            self.synced.discard(client)
            self._slow[client] = Behind(has, self.document.version, seen)
        return Flush(updates, synced, awareness, present, replies, large, stores)

    def transferred(self, client: Hashable, state_vector: bytes, version: int) -> None:
        """Note that a large answer was sent. Its client gets the changes since then with the next flush, then updates.

        Args:
            client: the client.
            state_vector: of the document when the answer began.
            version: of that document.
        """
        if client not in self._transferring:
            return
        if version == self.document.version and not self.document.changed and client not in self._slow:
            self._transferring.discard(client)
            self.synced.add(client)
        else:
            self._ask(client, state_vector)

    def ask_again(self, client: Hashable, state_vector: bytes) -> None:
        """Answer a client with the next flush whose large answer was not begun."""
        self._transferring.discard(client)
        self._ask(client, state_vector)

    def put_behind(self, client: Hashable) -> None:
        """Stop sending to a client that does not read, after the next flush."""
        self._slow.add(client)

    def catch_up(self, client: Hashable) -> bytes | None:
        """Send a client that reads again what it missed, with the next flush; return the awareness states."""
        behind = self._slow.remove(client)
        if behind is None:
            return None
        if behind.state_vector is not None:
            if behind.version == self.document.version and not self.document.changed:
                # No answer: it would repeat all deletions, which may be more than the client can read at once.
                self.synced.add(client)
            else:
                self._asked[client] = behind.state_vector
        return awareness_message(self.awareness.encode(behind.seen | self.awareness.seen()))

    def begin_compaction(self) -> Steps[list[Segment]]:
        """Return the segments to compact: all of the document. Call it right after a flush."""
        last, began = self.records.last(), monotonic()
        segments = yield from self.document.freeze()
        self.records.begin_compaction(last, began)
        return segments

    def end_compaction(self, update: bytes, segment: Segment, index: bytes) -> None:
        """Use the result of a compaction; the next flush stores it.

        Args:
            update: the document.
            segment: the same.
            index: of the segment, see ``yjs.segment_index``.
        """
        self.document.thaw(segment)
        self.records.end_compaction(update, index)

    def abandon_compaction(self) -> None:
        """Continue after a failed compaction."""
        self.document.thaw(None)
        self.records.abandon_compaction()

    def _answers(self) -> tuple[list[tuple[Hashable, bytes]], list[tuple[Hashable, LargeAnswer]]]:
        """Return the answers to every step 1: messages, and large answers."""
        replies: list[tuple[Hashable, bytes]] = []
        large: list[tuple[Hashable, LargeAnswer]] = []
        has: bytes | None = None  # the state vector of the document; for one with many clients, it takes a while
        steps = MAX_STEPS  # of all answers: many clients may ask in one turn
        for client, state_vector in self._asked.items():
            answer, steps = self._answer(state_vector, steps)
            if answer is None:
                has = self.document.state_vector() if has is None else has
                difference = self.document.difference(state_vector)
                large.append((client, LargeAnswer(state_vector, difference, has, self.document.version)))
            else:
                replies += [(client, message) for message in answer]
            if answer is None and client not in self._transferring:
                # Updates would come before their predecessors, and some clients (yrs) then do not apply them.
                self.synced.discard(client)
                self._transferring.add(client)
            else:
                # A second large answer may be deletions only, which every answer repeats.
                self._transferring.discard(client)
                self.synced.add(client)
        self._asked = {}
        return replies, large

    def _answer(self, state_vector: bytes, steps: int) -> tuple[list[bytes] | None, int]:
        """Return the answer to a step 1, and the number of steps that are left.

        Args:
            state_vector: of the client.
            steps: the number of steps without a message that may be done.

        The answer is a list of messages, or None if it may be large.
        """
        if steps < 0:
            return None, steps
        updates: list[bytes] = []
        for update in self.document.difference(state_vector):
            if update is None:
                steps -= 1
            else:
                updates.append(update)
            if steps < 0 or sum(map(len, updates)) > MAX_ANSWER:
                return None, steps
        return [*map(update_message, updates[:-1]), step_2(updates[-1])], steps

    def _ask(self, client: Hashable, state_vector: bytes) -> None:
        if client in self._slow:
            self._slow.ask(client, state_vector)
        else:
            self._asked[client] = state_vector

    def _has_room(self, update: bytes) -> bool:
        """Return whether the document may grow by `update`; False if that depends on how much of it is new.

        An update that only deletes may make room. Therefore deletions are counted apart from the document, against the
        same limit.

        Raises:
            FullError: it may not.
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
            # Compaction may make it smaller; that takes long, so `must_shrink` limits how often it is done.
            self.records.must_shrink()
            raise FullError(f"This document would exceed MAX_DOCUMENT_SIZE: {self._max_size} bytes.")
        return True

    def _limit_deletions(self, update: bytes) -> Steps[None]:
        """Check the number of deletions that are new in `update`; clients repeat all that they know.

        Raises:
            FullError: it may not.
            MalformedError: it is not an update.
        """
        new = yield from self.document.new_deletions_size(update)
        if new and self.document.deletions_size + new > self._max_size:
            raise FullError(f"This document has too many deletions: {self._max_size} bytes of them are allowed.")
