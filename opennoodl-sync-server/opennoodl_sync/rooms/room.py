"""A room: one live document, its clients, and what they are to be told. Knows no socket.

Within one turn of the event loop the document takes everything that clients send at once, but it is told later:
`take` gives what is to be stored, and what is to be told when that is done. Nobody is shown what is not stored.
"""

from collections.abc import Callable, Hashable
from contextlib import suppress
from time import monotonic
from typing import NamedTuple

from ..storage.interface import Batch, DocumentStore
from ..y_protocol import Kind, acknowledgement, awareness_message, denial, parse, step_1, step_2, update_message
from ..yjs.document import MAX_VECTOR, Document
from ..yjs.lib0 import MalformedError, Steps
from ..yjs.segment import Segment
from ..yjs.segment_index import read_segment
from ..yjs.state_vector import decode
from ..yjs.update import NOTHING
from .awareness import Awareness

COMPACT_AFTER = 500
"""Stored updates of a document before they are merged into one; y-leveldb's own number."""
COMPACT_ANYWAY = 10_000
"""Stored updates before they are merged, however large the document was last: much of it may be deleted."""
COMPACT_SIZE = 1_048_576
"""Bytes of them before they are merged, however few they are."""
REST_AFTER = 20
"""Stored updates before they are merged when a room is left."""
READING = "You may only read this document; your change is not kept, and nobody else will see it."
COMPACT_PAUSE = 20
"""Times as long as a compaction takes, for which a document is not compacted again because it is full."""
FAILURE_PAUSE = 60.0
"""Seconds until a compaction is tried again after one has failed."""
INDEXED = 65_536
"""Bytes of a compacted document that is stored with an index."""
MIN_RECORDS = 2
"""Stored updates of which one can be made."""
MAX_ANSWER = 262_144
"""Bytes that are sent at once as the answer to step 1."""
MAX_STEPS = 8
"""Steps of `Document.difference` that may be done for that."""
NOBODY = (None, b"")
"""Who sent the last update, and the update, while there is none."""


class FullError(Exception):
    """What cannot be taken in for want of room; the text names the bound."""


class NoMemoryError(Exception):
    """What cannot be taken in since the documents in memory take all that they may; the text says so."""


class Behind(NamedTuple):
    """What a client that does not read has.

    Attributes:
        state_vector: of the document, if the client asked for it.
        version: of the document; -1 if it is to have all behind the state vector anyway.
        seen: the clients whose awareness states it saw.
    """

    state_vector: bytes | None
    version: int
    seen: frozenset[int]


class Stored(NamedTuple):
    """What is stored of a document.

    Attributes:
        updates: all of it.
        base_index: of the largest one of them, see ``yjs.segment_index``.
    """

    updates: list[bytes]
    base_index: bytes | None


class Compaction(NamedTuple):
    """What is being compacted.

    Attributes:
        last: the number of the last record of it.
        records: how many came since it was compacted before.
        size: their bytes.
        state_vector: of the document then.
        began: when it began.
    """

    last: int
    records: int
    size: int
    state_vector: bytes
    began: float


class Flush(NamedTuple):
    """What one turn gave, to be told when it is stored.

    Attributes:
        updates: the messages for everybody in `synced`.
        synced: who was up to date before them, as a rule but for a client that sent just this itself.
        awareness: the message for everybody in `present`, if there is one.
        present: who reads.
        replies: messages for one client each, after the others.
        large: clients that lack much, and the state vectors that they have: they are to be sent
            `Document.difference` in parts. They are sent updates meanwhile, which Yjs keeps until it can apply them.
    """

    updates: list[bytes]
    synced: list[Hashable]
    awareness: bytes | None
    present: list[Hashable]
    replies: list[tuple[Hashable, bytes]]
    large: list[tuple[Hashable, bytes]]


class Room:
    """One live document. Making it reads the whole document: do that off the event loop.

    Args:
        name: the room's name.
        store: where the document is kept.
        max_size: bytes that the document may have; 0 means no limit.
        may_grow: is asked whether a room may take so many bytes more of memory.

    Attributes:
        document: the document.
        clients: everybody in the room; any hashable objects.
        synced: those of them whose step 1 was answered: they are sent updates.
        busy: whether something long is being done with the document, and nothing else may be; see `TimeSlicer`.

    Raises:
        StoreError: the disk failed.
        DamagedError: what is stored is not sound.
    """

    def __init__(
        self,
        name: str,
        store: DocumentStore,
        max_size: int = 0,
        may_grow: "Callable[[Room, int], bool]" = lambda *_: True,
    ) -> None:
        self.name = name
        self.awareness = Awareness()
        self.clients: set[Hashable] = set()
        self.synced: set[Hashable] = set()
        self.busy = False
        self._store = store
        self._max_size = max_size
        self._may_grow = may_grow
        self._storing: list[bytes] = []  # what a batch has that may not be written yet
        self._readers: dict[Hashable, str] = {}  # those that may not change the document, and their users
        self._behind: dict[Hashable, Behind] = {}
        self._falling: set[Hashable] = set()  # those that are behind from the next flush on
        self._asked: dict[Hashable, bytes] = {}  # state vectors to be answered
        self._sent: dict[Hashable, int] = {}  # by client that wants acknowledgements: how many updates it sent
        self._acknowledge: set[Hashable] = set()
        self._last: tuple[Hashable, bytes] = NOBODY  # the update that came last, and who sent it
        self._moved: set[int] = set()  # awareness clients that changed since the last flush
        self._base = 0  # bytes of the compacted document
        self._since = [0, 0]  # updates, and their bytes, since it was compacted
        self._must_compact = False
        self._compact_again = 0.0  # when it may be compacted again because it is full
        self._compact_after = 0.0  # when it may be compacted again at all, after that failed
        self._compacting: Compaction | None = None
        self._compacted: tuple[bytes, bytes | None] | None = (
            None  # what is to take the place of the records, and its index
        )
        self._replacing = False  # a batch has that, and may not be written yet
        self.document = Document()

    def stored(self) -> Stored:
        """Return what is stored, for `load`; this may be called in another thread.

        Raises:
            StoreError: the disk failed, or the data is damaged.
        """
        return Stored(self._store.updates(), self._store.index())

    def load(self, stored: Stored) -> Steps[None]:
        """Take what is stored, before anything else is done.

        Raises:
            DamagedError: it is no document.
        """
        updates, index = stored
        base = max(updates, key=len, default=b"")
        segment = None
        if index is not None:
            with suppress(MalformedError):  # others have written the document since: it has to be walked
                segment = yield from read_segment(base, index)
        yield from self.document.load((update for update in updates if update is not base or segment is None), segment)
        self._base = len(base)
        self._since = [len(updates), sum(map(len, updates)) - self._base]

    @property
    def dirty(self) -> bool:
        """Whether `take` has something to give."""
        return bool(
            self.document.changed
            or self._moved
            or self.awareness.has_renewals
            or self._asked
            or self._falling
            or self._acknowledge
            or self._compacted is not None
        )

    @property
    def storing(self) -> bool:
        """Whether a batch has something of this room that is not written yet."""
        return bool(self._storing) or self._replacing

    @property
    def compacting(self) -> bool:
        """Whether a compaction is under way, which may make room."""
        return self._compacting is not None and self._compacted is None

    def join(self, client: Hashable, *, acknowledge: bool = False, reader: str | None = None) -> list[bytes]:
        """Let a client in; return what it is greeted with: step 1, and who is here.

        Args:
            client: who comes.
            acknowledge: whether it wants to know which of its updates are stored.
            reader: the user that it is, if it may only see the document.
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
        """Let a client change the document from now on, or only see it as the user `reader`."""
        self._readers.pop(client, None)
        if reader is not None:
            self._readers[client] = reader

    def leave(self, client: Hashable, *, lost: bool = False) -> bool:
        """Let a client go; its awareness states end with the next flush.

        If its connection was `lost`, they may be kept until `forget`; return whether they are.
        """
        self.clients.discard(client)
        self.synced.discard(client)
        self._readers.pop(client, None)
        self._behind.pop(client, None)
        self._falling.discard(client)
        self._asked.pop(client, None)
        self._sent.pop(client, None)
        self._acknowledge.discard(client)
        kept = lost and self.awareness.lose(client)
        if not kept:
            self.forget(client)
        return kept

    def forget(self, client: Hashable) -> None:
        """End the awareness states of a client that has left; others are told with the next flush."""
        self._moved.update(self.awareness.remove(client))

    def receive(self, client: Hashable, message: bytes) -> Steps[tuple[Kind, bytes | None]]:
        """Handle one message; return its kind and the reply for its sender, if it gets one at once.

        Raises:
            MalformedError: the message is not one; the room goes on without it.
            FullError: the document may not grow; the room goes on without the message.
            NoMemoryError: no document may grow now; the same.
        """
        kind, content = parse(message)
        if kind is Kind.STEP_1:
            if len(content) <= MAX_VECTOR:
                yield from decode(content)  # for what it raises
            self._ask(client, content)
        elif kind is Kind.AWARENESS:
            reader = self._readers.get(client)
            self._moved.update(self.awareness.apply(content, client, reader=reader, writers=self.document))
        elif kind is Kind.QUERY_AWARENESS:
            if client not in self._behind:
                return kind, awareness_message(self.awareness.encode())
        elif kind is Kind.TOKEN:
            pass
        elif client in self._readers:
            # Every step 2 repeats all deletions, those of others too: there, only what is inserted is the client's.
            changes = content[:1] not in (b"", b"\0") if kind is Kind.STEP_2 else content != NOTHING
            if changes and client not in self._behind:
                return kind, denial(READING)
        else:
            if content != NOTHING:
                self._make_room(content)
                yield from self.document.integrate(content)
                self._last = client, content
            if client in self._sent:
                self._sent[client] += 1
                self._acknowledge.add(client)
        return kind, None

    def take(self, batch: Batch) -> Flush:
        """End the turn: return what is to be told when `batch`, which is added to, is written.

        Until `written` says that it is, this must not be called again.

        Raises:
            StoreError: the disk failed; nobody may be told, and the room cannot go on.
        """
        updates = self._storing = self.document.commit()
        if updates:
            self._store.append(updates, self.document.state_vector, batch)
            self._since[0] += len(updates)
            self._since[1] += sum(map(len, updates))
        if self._compacted is not None:
            self._replace(*self._compacted, batch)
        replies: list[tuple[Hashable, bytes]] = []
        large: list[tuple[Hashable, bytes]] = []
        synced = list(self.synced)
        (author, sent), self._last = self._last, NOBODY
        if author in self.synced and updates == [sent]:  # it has that, and a write costs more than all else
            synced.remove(author)
        steps = MAX_STEPS  # of all answers: many clients may ask in one turn
        for client, state_vector in self._asked.items():
            answer, steps = self._answer(state_vector, steps)
            self.synced.add(client)
            if answer is None:
                large.append((client, state_vector))
            else:
                replies += [(client, message) for message in answer]
        self._asked = {}
        # One that does not read would have them pile up.
        told = self._acknowledge - self._behind.keys()
        replies += [(client, acknowledgement(self._sent[client])) for client in told]
        self._acknowledge -= told
        awareness, present = None, []
        if self._moved:
            present = [client for client in self.clients if client not in self._behind]
            # The sender too, as y-websocket's server does.
            awareness = awareness_message(self.awareness.encode(self._moved))
            self._moved = set()
        renewals = [(owner, update) for owner, update in self.awareness.renewals() if owner not in self._behind]
        replies += [(owner, awareness_message(update)) for owner, update in renewals]
        for client in self._falling:
            has = self.document.state_vector() if client in self.synced else None
            self.synced.discard(client)
            self._behind[client] = Behind(has, self.document.version, self.awareness.clients())
        self._falling = set()
        return Flush([update_message(update) for update in updates], synced, awareness, present, replies, large)

    def written(self) -> None:
        """Go on after a flush: what `take` gave is written."""
        self._storing = []
        self._replacing = False

    def put_behind(self, client: Hashable) -> None:
        """Send a client that does not read no more from the next flush on."""
        if client not in self._behind:
            self._falling.add(client)

    def catch_up(self, client: Hashable) -> bytes | None:
        """Let a client that reads again have what it missed, with the next flush; return who is here."""
        self._falling.discard(client)
        behind = self._behind.pop(client, None)
        if behind is None:
            return None
        if behind.state_vector is not None:
            if behind.version == self.document.version and not self.document.changed:
                self.synced.add(
                    client
                )  # all deletions, which are in every answer, may be more than it can read at once
            else:
                self._asked[client] = behind.state_vector
        return awareness_message(self.awareness.encode(behind.seen | self.awareness.clients()))

    def is_compaction_due(self, *, resting: bool = False) -> bool:
        """Return whether there are many updates, and as much again as the compacted document.

        What is stored is then never more than twice the document when it was last compacted, and one window.

        Args:
            resting: whether the room is about to leave memory, so that few records should be left.
        """
        count, size = self._since
        if self._compacting is not None or count < MIN_RECORDS or monotonic() < self._compact_after:
            return False
        if resting and (count > COMPACT_AFTER or (count > REST_AFTER and size >= self._base // 4)):
            return True
        if count > COMPACT_ANYWAY or self._must_compact:
            return True
        window = min(COMPACT_SIZE, self._max_size // 4 or COMPACT_SIZE)
        return (count > COMPACT_AFTER or size > window) and size >= self._base

    def begin_compaction(self) -> Steps[list[Segment]]:
        """Return what is to be compacted: all of the document. Call it right after a flush."""
        last, began = self._store.last(), monotonic()
        segments = yield from self.document.freeze()
        self._compacting = Compaction(last, self._since[0], self._since[1], self.document.state_vector(), began)
        return segments

    def end_compaction(self, update: bytes, segment: Segment, index: bytes) -> None:
        """Go on with what the compaction made; the next flush stores it.

        Args:
            update: the document.
            segment: the same.
            index: of the segment, see ``yjs.segment_index``.
        """
        self.document.thaw(segment)
        self._compacted = update, index if len(update) >= INDEXED else None
        self._must_compact = False

    def abandon_compaction(self) -> None:
        """Go on without the compaction, which failed."""
        self._compact_after = monotonic() + FAILURE_PAUSE
        self.document.thaw(None)
        self._compacting = None
        self._must_compact = False

    def _replace(self, update: bytes, index: bytes | None, batch: Batch) -> None:
        """Have `batch` keep what was compacted in place of the records that it was made of."""
        assert self._compacting is not None
        last, count, size, state_vector, began = self._compacting
        self._compact_again = monotonic() + COMPACT_PAUSE * (monotonic() - began)
        waiting = self.document.pending()
        updates = [update] if waiting is None else [waiting, update]
        self._compacting = self._compacted = None
        self._store.replace(last, updates, state_vector, index, batch)
        self._base = len(update)
        self._since = [self._since[0] - count + len(updates) - 1, self._since[1] - size]
        self._replacing = True

    def _answer(self, state_vector: bytes, steps: int) -> tuple[list[bytes] | None, int]:
        """Return the answer to a step 1, and how many steps are left.

        Args:
            state_vector: what the client has.
            steps: how many there may be that make no message.

        The answer is messages, or None if they may be many, or large.
        """
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
        if client in self._behind:
            # It does not read what it asks for; it gets the latest answer when it does.
            self._behind[client] = Behind(state_vector, -1, self._behind[client].seen)
        else:
            self._asked[client] = state_vector

    def _make_room(self, update: bytes) -> None:
        """See whether the document may grow by `update`; one that only deletes is always welcome.

        Raises:
            FullError: it may not.
            NoMemoryError: no document may now.
        """
        if update[:1] in (b"", b"\0"):
            return
        if not self._may_grow(self, len(update)):
            raise NoMemoryError("This server has no memory left for changes. They are kept by you; connect again.")
        if self._max_size and self.document.size + len(update) > self._max_size:
            # There may be less of it when it is compacted; that takes long, and a client may ask for it all the time.
            self._must_compact = self._since[0] > 0 and monotonic() >= self._compact_again
            raise FullError(f"This document is full: {self._max_size} bytes are allowed.")
