"""A room: one live document, its clients, and what they are to be told. Knows no socket.

Within one turn of the event loop everything that clients send is integrated at once but told later: `take` gives
what is to be stored, and what is to be told when that is done. Nobody is shown what is not stored.

pycrdt-websocket's `YRoom` was the start of this class and is its reference in the tests. Of a subclass
nothing of the parent was left: its five tasks and memory streams a room are what merging replaces, its
`serve` shows a joining client updates before step 2, and its awareness keeps a state of the server's own.
"""

from collections.abc import Hashable
from time import monotonic
from typing import NamedTuple

from .awareness import Awareness
from .document import Document
from .portions import TakesLongError
from .protocol import (
    Kind,
    MalformedError,
    acknowledgement,
    awareness_message,
    denial,
    parse,
    step_1,
    step_2,
    update_message,
)
from .store import Batch, DocumentStore, compact
from .update import NOTHING
from .yjs import decode_state_vector

COMPACT_AFTER = 500
"""Stored updates of a document before they are merged into one; y-leveldb's own number."""
COMPACT_ANYWAY = 10_000
"""Stored updates before they are merged, however large the document was last: much of it may be deleted."""
COMPACT_SIZE = 1_048_576
"""Bytes of them before they are merged, however few they are."""
LARGE = 262_144
"""Bytes of a stored document that is encoded for its first client as soon as it is read."""
LARGE_VECTOR = 16_384
"""Bytes of a state vector that takes long to read."""
MAX_VECTOR = 1_048_576
"""Bytes of a state vector, which has an entry for each client that ever wrote."""
MEASURE_PAUSE = 20
"""Times as long as it takes to measure a document, for which it is not measured again."""
REST_AFTER = 20
"""Stored updates before they are merged when a room is left."""
READING = "You may only read this document; your change is not kept, and nobody else will see it."
ECHO_INTERVAL = 10.0
"""Seconds after which a client is sent its own update again, so that it hears something."""
NOBODY = (None, b"")
"""Who sent the last update, and the update, while there is none."""


class FullError(Exception):
    """What cannot be taken in for want of room; the text names the bound."""


class Behind(NamedTuple):
    """What a client that does not read has: the document's state, if it asked for it, and who it saw."""

    state_vector: bytes | None
    seen: frozenset[int]


class Flush(NamedTuple):
    """What one turn gave, to be told when it is stored.

    Attributes:
        updates: the messages for everybody in `synced`.
        synced: who was up to date before them, as a rule but for a client that sent just this itself.
        awareness: the message for everybody in `present`, if there is one.
        present: who reads.
        replies: messages for one client each, after the others.
    """

    updates: list[bytes]
    synced: list[Hashable]
    awareness: bytes | None
    present: list[Hashable]
    replies: list[tuple[Hashable, bytes]]


class Room:
    """One live document. Making it reads the whole document: do that off the event loop.

    Args:
        name: the room's name.
        store: where the document is kept.
        max_size: bytes that the document may have; 0 means no limit.

    Attributes:
        document: the document.
        clients: everybody in the room; any hashable objects.
        synced: those of them whose step 1 was answered: they are sent updates.
        lent: whether a thread has this room, and nobody else may touch it; see `Loans`.

    Raises:
        StoreError: the disk failed.
        DamagedError: what is stored is not sound.
    """

    def __init__(self, name: str, store: DocumentStore, max_size: int = 0) -> None:
        self.name = name
        self.awareness = Awareness()
        self.clients: set[Hashable] = set()
        self.synced: set[Hashable] = set()
        self.lent = False
        self._store = store
        self._max_size = max_size
        self._storing: list[bytes] = []  # what a batch has that may not be written yet
        self._readers: dict[Hashable, str] = {}  # those that may not change the document, and their users
        self._behind: dict[Hashable, Behind] = {}
        self._falling: set[Hashable] = set()  # those that are behind from the next flush on
        self._asked: dict[Hashable, bytes] = {}  # state vectors to be answered
        self._sent: dict[Hashable, int] = {}  # by client that wants acknowledgements: how many updates it sent
        self._acknowledge: set[Hashable] = set()
        self._last: tuple[Hashable, bytes] = NOBODY  # the update that came last, and who sent it
        self._echoed: dict[Hashable, float] = {}  # when a client was last sent what it sent
        self._moved: set[int] = set()  # awareness clients that changed since the last flush
        self._base = 0  # bytes of the compacted document
        self._since = [0, 0]  # updates, and their bytes, since it was compacted
        self._must_compact = False
        self._excess = 0  # bytes that it was found to be smaller than that
        self._measure_again = 0.0  # when it may be seen again how large the document really is
        self.document = Document(self._stored)
        if self._base + self._since[1] >= LARGE:
            self.document.prepare()

    @property
    def dirty(self) -> bool:
        """Whether `take` has something to give."""
        told = self._moved or self.awareness.has_renewals
        return bool(self.document.changed or told or self._asked or self._falling or self._acknowledge)

    @property
    def storing(self) -> bool:
        """Whether a batch has something of this room that is not written yet."""
        return bool(self._storing)

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
        self._echoed.pop(client, None)
        kept = lost and self.awareness.lose(client)
        if not kept:
            self.forget(client)
        return kept

    def forget(self, client: Hashable) -> None:
        """End the awareness states of a client that has left; others are told with the next flush."""
        self._moved.update(self.awareness.remove(client))

    def receive(self, client: Hashable, message: bytes, *, patient: bool = True) -> tuple[Kind, bytes | None]:
        """Handle one message; return its kind and the reply for its sender, if it gets one at once.

        Args:
            client: who sends it.
            message: what it sends.
            patient: whether that may take long.

        Raises:
            TakesLongError: it may; before anything else, it has to be handled again, with patience.
            MalformedError: the message is not one; the room goes on without it.
            FullError: the document may not grow; the room goes on without the message.
            StoreError, DamagedError: the room cannot go on.
        """
        kind, content = parse(message)
        if kind is Kind.STEP_1:
            if not patient and len(content) > LARGE_VECTOR:
                raise TakesLongError
            self._ask(client, content)
        elif kind is Kind.AWARENESS:
            reader, writers = self._readers.get(client), self.document.clocks
            self._moved.update(self.awareness.apply(content, client, reader=reader, writers=writers))
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
                if patient:
                    self.document.mend()
                self._make_room(content, patient=patient)
                self.document.integrate(content, patient=patient)
                self._last = client, content
            if client in self._sent:
                self._sent[client] += 1
                self._acknowledge.add(client)
        return kind, None

    def take(self, batch: Batch) -> Flush:
        """End the turn: return what is to be told when `batch`, which is added to, is written.

        Until `stored` says that it is, this must not be called again.

        Raises:
            StoreError: the disk failed; nobody may be told, and the room cannot go on.
            DamagedError: what is stored is not sound, and the room cannot go on either.
        """
        changes = self.document.commit()
        self._storing = [*changes.updates, *changes.held]
        if self._storing:
            self._store.append(self._storing, self.document.state_vector, batch)
            self._since[0] += len(self._storing)
            self._since[1] += sum(map(len, self._storing))
            if self._is_compaction_due():
                self._compact(batch)
        replies = []
        synced = list(self.synced)
        (author, sent), self._last = self._last, NOBODY
        if author in self.synced and changes.updates == [sent] and self._can_spare(author):
            synced.remove(author)
        for client, state_vector in self._asked.items():
            self.synced.add(client)
            replies.append((client, step_2(self.document.difference(state_vector))))
        self._asked = {}
        # One that does not read would have them pile up.
        told = self._acknowledge - self._behind.keys()
        replies += [(client, acknowledgement(self._sent[client])) for client in told]
        self._acknowledge -= told
        awareness, present = None, []
        if self._moved:
            present = [client for client in self.clients if client not in self._behind]
            # The sender too: y-websocket's client hangs up when it hears nothing for 30 seconds, and in a
            # room of its own the echo of its own awareness is all there is to hear.
            awareness = awareness_message(self.awareness.encode(self._moved))
            self._moved = set()
        renewals = [(owner, update) for owner, update in self.awareness.renewals() if owner not in self._behind]
        replies += [(owner, awareness_message(update)) for owner, update in renewals]
        for client in self._falling:
            has = self.document.state_vector() if client in self.synced else None
            self.synced.discard(client)
            self._behind[client] = Behind(has, self.awareness.clients())
        self._falling = set()
        return Flush([update_message(update) for update in changes.updates], synced, awareness, present, replies)

    def stored(self) -> None:
        """Go on after a flush: what `take` gave is written."""
        self._storing = []

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
            self._asked[client] = behind.state_vector
        return awareness_message(self.awareness.encode(behind.seen | self.awareness.clients()))

    def rest(self, batch: Batch) -> None:
        """Prepare to leave memory: have `batch` keep what is not stored yet, and few records of it.

        Raises:
            StoreError: the disk failed; nothing was added.
            DamagedError: what is stored is not sound.
        """
        self.take(batch)
        count, size = self._since
        if count > COMPACT_AFTER or (count > REST_AFTER and size >= self._base // 4):
            self._compact(batch)

    def close(self) -> None:
        """Let the document go."""
        self.document.close()

    def _can_spare(self, author: Hashable) -> bool:
        """Return whether a client need not be sent what it sent: a write costs more than all else for a small update.

        It has it; but y-websocket's client hangs up when it hears nothing for 30 seconds.
        """
        now, last = monotonic(), self._echoed.get(author)
        if last is not None and now < last + ECHO_INTERVAL:
            return True
        self._echoed[author] = now
        return False

    def _stored(self) -> list[bytes]:
        """Return what is stored, and what a batch is about to store."""
        updates = [*self._store.updates(), *self._storing]
        sizes = [len(update) for update in updates]
        self._base = max(sizes, default=0)
        self._since, self._excess = [len(sizes), sum(sizes) - self._base], 0
        return updates

    def _ask(self, client: Hashable, state_vector: bytes) -> None:
        if len(state_vector) > MAX_VECTOR:
            raise MalformedError(f"a state vector may have {MAX_VECTOR} bytes")
        decode_state_vector(state_vector)
        if client in self._behind:
            # It does not read what it asks for; it gets the latest answer when it does.
            self._behind[client] = Behind(state_vector, self._behind[client].seen)
        else:
            self._asked[client] = state_vector

    def _make_room(self, update: bytes, *, patient: bool) -> None:
        """See whether the document may grow by `update`; one that only deletes is always welcome.

        Raises:
            FullError: it may not.
            TakesLongError: it takes long to say.
        """
        here = self._base + self._since[1] + self.document.pending_size
        size = here - self._excess + len(update)
        if not self._max_size or size <= self._max_size or update[:1] in (b"", b"\0"):
            return
        if self._since[0] or self.document.changed:
            if not patient and size >= LARGE:
                raise TakesLongError
            began = monotonic()
            if began >= self._measure_again:
                measured = len(self.document.state())
                self._excess, self._must_compact = here - measured, True
                size = measured + len(update)
                if size >= COMPACT_SIZE:  # whoever stays at the brink is not to be given all the time there is
                    self._measure_again = began + MEASURE_PAUSE * (monotonic() - began)
        if size > self._max_size:
            raise FullError(f"This document is full: {self._max_size} bytes are allowed.")

    def _is_compaction_due(self) -> bool:
        """Return whether there are many updates, and as much again as the compacted document.

        What is stored is then never more than twice the document when it was last compacted, and one window.
        """
        count, size = self._since
        if self._must_compact or count > COMPACT_ANYWAY:
            return True
        return (count > COMPACT_AFTER or size > COMPACT_SIZE) and size >= self._base

    def _compact(self, batch: Batch) -> None:
        """Merge what is stored."""
        self._base = compact(self.document, self._store, batch)
        self._since, self._excess = [0, 0], 0
        self._must_compact = False
