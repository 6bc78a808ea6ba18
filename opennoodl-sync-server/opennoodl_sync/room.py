"""A room: one live document, its clients, and what they are to be told. Knows no socket.

Within one turn of the event loop everything that clients send is applied at once but told later: `flush`
stores it in one batch and returns one message for all. Nobody is shown what is not stored.

pycrdt-websocket's `YRoom` was the start of this class and is its reference in the tests. Of a subclass
nothing of the parent was left: its five tasks and memory streams a room are what merging replaces, its
`serve` shows a joining client updates before step 2, and its awareness keeps a state of the server's own.
"""

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

from pycrdt import Doc

from .awareness import Awareness
from .protocol import Kind, MalformedError, awareness_message, parse, step_1, step_2, update_message
from .store import DocumentStore
from .yjs import NOTHING, DamagedError, apply, apply_again, build, difference, load, merge, observe, waiting

COMPACT_AFTER = 500
"""Stored updates of a document before they are merged into one; y-leveldb's own number."""

REVIEW_WAITING_AT = 64
"""Updates that wait for others before it is looked whether they still do."""
MAX_WAITING_SIZE = 4_194_304
"""Bytes of updates that wait for others; a client that goes on sending more is refused."""
MAX_UNSOUND = 10
"""Updates that are found unsound one by one."""


class Behind(NamedTuple):
    """What a client that does not read has: the document's state, if it asked for it, and who it saw."""

    state_vector: bytes | None
    seen: frozenset[int]


class Room:
    """One live document. Making it reads the whole document: do that off the event loop.

    Args:
        name: the room's name.
        store: where the document is kept.

    Attributes:
        clients: everybody in the room; any hashable objects.
        synced: those of them whose step 1 was answered: they are sent updates.

    Raises:
        StoreError: the disk failed.
        DamagedError: what is stored is not sound.
    """

    def __init__(self, name: str, store: DocumentStore) -> None:
        self.name = name
        self.awareness = Awareness()
        self.clients: set[Hashable] = set()
        self.synced: set[Hashable] = set()
        self._store = store
        self._behind: dict[Hashable, Behind] = {}
        self._fresh: list[bytes] = []  # what the document was given and the store was not yet, in its order
        self._applied: list[bytes] = []  # the changes of the document among that
        self._unsent: list[bytes] = []  # changes that are stored, and that clients were not sent yet
        self._moved: set[int] = set()  # awareness clients that changed since the last flush
        records = store.records()
        doc, held = load(update for _, update in records)
        self._waiting = set(held)  # stored updates that wait for others
        self._review_at = REVIEW_WAITING_AT
        sizes = [len(update) for _, update in records]
        self._base = max(sizes, default=0)  # bytes of the compacted document
        self._since = [len(sizes), sum(sizes) - self._base]  # updates, and their bytes, since it was compacted
        self._take(doc)
        self._compact()

    @property
    def dirty(self) -> bool:
        """Whether `flush` has something to do."""
        return bool(self._fresh or self._unsent or self._moved)

    @property
    def unflushed(self) -> int:
        """How many changes `flush` would store and tell."""
        return len(self._fresh)

    def join(self, client: Hashable) -> list[bytes]:
        """Let a client in; return what it is greeted with: step 1, and who is here."""
        self.clients.add(client)
        greeting = [step_1(self.doc.get_state())]
        if len(self.awareness):
            greeting.append(awareness_message(self.awareness.encode()))
        return greeting

    def leave(self, client: Hashable) -> None:
        """Let a client go; its awareness states end with the next flush."""
        self.clients.discard(client)
        self.synced.discard(client)
        self._behind.pop(client, None)
        self._moved.update(self.awareness.remove(client))

    def receive(self, client: Hashable, message: bytes) -> tuple[Kind, bytes | None]:
        """Handle one message; return its kind and the reply for its sender, if it gets one.

        Raises:
            MalformedError: the message is not one; the room goes on without it.
            StoreError: what the reply would show could not be stored.
        """
        kind, content = parse(message)
        reply = None
        if kind is Kind.STEP_1:
            reply = self._answer(client, content)
        elif kind is Kind.AWARENESS:
            self._moved.update(self.awareness.apply(content, client))
        elif kind is Kind.QUERY_AWARENESS:
            reply = None if client in self._behind else awareness_message(self.awareness.encode())
        elif content != NOTHING:
            self._change(content)
        return kind, reply

    def flush(self) -> tuple[bytes | None, bytes | None]:
        """Store what was applied; return the messages for `synced` and for all `clients`, if any.

        Raises:
            StoreError: it could not be stored; nobody may be told of it, and the room cannot go on.
            DamagedError: it is not sound, and the room cannot go on either.
        """
        self._persist()
        self._compact()
        update = awareness = None
        if self._unsent:
            update = update_message(merge(self._unsent))
            self._unsent = []
        if self._moved:
            # The sender too: y-websocket's client hangs up when it hears nothing for 30 seconds, and in a
            # room of its own the echo of its own awareness is all there is to hear.
            awareness = awareness_message(self.awareness.encode(self._moved))
            self._moved = set()
        return update, awareness

    def put_behind(self, client: Hashable) -> None:
        """Send a client that does not read no more; call it when nothing waits for a flush."""
        if client in self._behind:
            return
        state_vector = self.doc.get_state() if client in self.synced else None
        self.synced.discard(client)
        self._behind[client] = Behind(state_vector, self.awareness.clients())

    def catch_up(self, client: Hashable) -> list[bytes]:
        """Return what a client missed since `put_behind`, for now that it reads again."""
        state_vector, seen = self._behind.pop(client, Behind(None, frozenset()))
        messages = [awareness_message(self.awareness.encode(seen | self.awareness.clients()))]
        if state_vector is not None:
            self._persist()
            self.synced.add(client)
            messages.append(step_2(difference(self.doc, state_vector)))
        return messages

    def close(self) -> None:
        """Store what is not stored yet and let the document go.

        Raises:
            StoreError: the disk failed.
            DamagedError: what is not stored is not sound.
        """
        self._persist()
        self._unobserve()

    def _answer(self, client: Hashable, state_vector: bytes) -> bytes | None:
        if client in self._behind:
            # It does not read what it asks for; it gets the latest answer when it does.
            difference(self.doc, state_vector)
            self._behind[client] = Behind(state_vector, self._behind[client].seen)
            return None
        self._persist()
        update = difference(self.doc, state_vector)
        self.synced.add(client)
        return step_2(update)

    def _change(self, update: bytes) -> None:
        fresh, applied = len(self._fresh), len(self._applied)
        try:
            apply(self.doc, update)
        except DamagedError:
            del self._fresh[fresh:], self._applied[applied:]
            self._rebuild(update)
            fresh, applied = len(self._fresh), len(self._applied)
            apply(self.doc, update)
        if self._applied[applied:] == [update]:
            return
        # Not what came in: it was known in part, or part of it waits for an update that is not here yet.
        if update not in self._waiting and waiting([update], self.doc):
            self._hold(update)

    def _hold(self, update: bytes) -> None:
        """Keep an update that waits: it is in no state, so nothing else would keep it."""
        self._waiting.add(update)
        self._fresh.append(update)
        if len(self._waiting) < self._review_at and len(update) < MAX_WAITING_SIZE:
            return
        self._waiting = set(waiting(self._waiting, self.doc))
        # At twice as many again, so that the work for each stays the same however many wait.
        self._review_at = max(REVIEW_WAITING_AT, 2 * len(self._waiting))
        if sum(map(len, self._waiting)) > MAX_WAITING_SIZE:
            self._waiting.discard(update)
            self._fresh.remove(update)
            self._rebuild(None)  # without it
            raise MalformedError("too much waits for updates that never came")

    def _rebuild(self, update: bytes | None) -> None:
        """Build the document again from its store, after `update` damaged it, and find out whose fault it was.

        An update that waited may have been the unsound one, and this one only what it waited for; then that
        one is dropped for good.

        Raises:
            MalformedError: it is this one; the document is as it was before.
        """
        self._unobserve()
        self._store_fresh(lambda: build(self._fresh).get_state())
        records = self._store.records()
        stored = [record for _, record in records]
        given = [] if update is None else [update]
        try:
            doc = build([*stored, *given])
        except DamagedError:
            sound = [record for record in stored if record not in self._waiting]
            try:
                doc = build([*sound, *given])
            except DamagedError as error:
                self._take(build(stored))
                raise MalformedError(f"not a sound Yjs update: {error}") from None
            unsound = self._unsound(doc, [*sound, *given])
            self._waiting -= unsound
            self._store.replace([number for number, record in records if record in unsound], [], b"\x00")
            stored = [record for record in stored if record not in unsound]
        self._take(build(stored))

    def _unsound(self, doc: Doc[Any], sound: list[bytes]) -> set[bytes]:
        """Return those of the waiting updates that damage `doc`, the merge of `sound`."""
        unsound: set[bytes] = set()
        for held in self._waiting:
            try:
                apply(doc, held)
                sound.append(held)
            except DamagedError:
                unsound.add(held)
                doc = build(sound)
            if len(unsound) > MAX_UNSOUND:
                return set(self._waiting)  # whoever sends so many is not to be given more time
        return unsound

    def _take(self, doc: Doc[Any]) -> None:
        self.doc = doc
        self._unobserve = observe(doc, self._observed)

    def _observed(self, update: bytes) -> None:
        self._fresh.append(update)
        self._applied.append(update)

    def _persist(self) -> None:
        """Store what is fresh; from then on it may be shown."""
        if self._applied and self._waiting:
            self._give_again()
        if self._fresh:
            self._store_fresh(self.doc.get_state)

    def _give_again(self) -> None:
        """Let the document integrate what it can of what waits, now that something came."""
        try:
            if apply_again(self.doc, list(self._waiting)):
                self._waiting = set(waiting(self._waiting, self.doc))
        except DamagedError:
            self._rebuild(None)

    def _store_fresh(self, state_vector: Callable[[], bytes]) -> None:
        # One by one, in their order: merged, a deletion and what was sound after it could not be loaded again.
        self._store.append(self._fresh, state_vector)
        self._since[0] += len(self._fresh)
        self._since[1] += sum(map(len, self._fresh))
        self._unsent += self._applied
        self._fresh.clear()
        self._applied.clear()

    def _compact(self) -> None:
        """Merge what is stored, once it is many updates and as much again as the merged document."""
        count, size = self._since
        if count > COMPACT_AFTER and size >= self._base:
            records = self._store.records()
            state = self.doc.get_update()
            self._store.replace([number for number, _ in records], [*self._waiting, state], self.doc.get_state())
            self._base = len(state)
            self._since = [0, 0]
