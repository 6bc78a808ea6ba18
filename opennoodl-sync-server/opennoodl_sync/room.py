"""A room: one live document, its clients, and what they are to be told. Knows no socket.

Within one turn of the event loop everything that clients send is applied at once but told later: `flush`
writes it to the store as one update and returns one message for all. Nobody is shown what is not stored.

pycrdt-websocket's `YRoom` was the start of this class and is its reference in the tests. Of a subclass
nothing of the parent was left: its five tasks and memory streams a room are what merging replaces, its
`serve` shows a joining client updates before step 2, and its awareness keeps a state of the server's own.
"""

from collections.abc import Hashable
from typing import Any

from pycrdt import Doc

from .awareness import Awareness
from .protocol import Kind, MalformedError, awareness_message, parse, step_1, step_2, update_message
from .store import DocumentStore
from .yjs import NOTHING, DamagedError, apply, build, difference, merge, observe, waiting

COMPACT_AFTER = 500
"""Stored updates of a document before they are merged into one; y-leveldb's own number."""


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
        self._behind: dict[Hashable, bytes] = {}  # clients that do not read, and the state they have
        self._applied: list[bytes] = []  # changes in the document that are in the store not yet
        self._held: list[bytes] = []  # the same, of what the document could not integrate yet
        self._unsent: list[bytes] = []  # changes in the store that clients were not sent yet
        self._moved: set[int] = set()  # awareness clients that changed since the last flush
        records = store.records()
        doc = build(update for _, update in records)
        self._waiting = waiting((update for _, update in records), doc)
        self._stored = len(records)
        self._take(doc)
        self._compact()

    @property
    def dirty(self) -> bool:
        """Whether `flush` has something to do."""
        return bool(self._applied or self._held or self._unsent or self._moved)

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
            reply = awareness_message(self.awareness.encode())
        elif content != NOTHING:
            self._change(content)
        return kind, reply

    def flush(self) -> tuple[bytes | None, bytes | None]:
        """Store what was applied; return the messages for `synced` and for all `clients`, if any.

        Raises:
            StoreError: it could not be stored; nobody may be told of it, and the room cannot go on.
        """
        self._persist()
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
        """Send a client that does not read no more updates; call it when nothing waits for a flush."""
        if client in self.synced:
            self.synced.discard(client)
            self._behind[client] = self.doc.get_state()

    def catch_up(self, client: Hashable) -> list[bytes]:
        """Return what a client missed since `put_behind`, for now that it reads again."""
        messages = [awareness_message(self.awareness.encode())]
        if client in self._behind:
            messages.append(self._answer(client, self._behind.pop(client)))
        return messages

    def close(self) -> None:
        """Store what is not stored yet and let the document go.

        Raises:
            StoreError: the disk failed.
        """
        self._persist()
        self._unobserve()

    def _answer(self, client: Hashable, state_vector: bytes) -> bytes:
        self._persist()
        update = difference(self.doc, state_vector)
        self.synced.add(client)
        return step_2(update)

    def _change(self, update: bytes) -> None:
        before = len(self._applied)
        try:
            apply(self.doc, update)
        except DamagedError:
            del self._applied[before:]
            before = len(self._applied)
            self._rebuild(update)
        if self._applied[before:] == [update]:
            return
        # Not what came in: it was known in part, or part of it waits for an update that is not here yet.
        if update not in self._waiting and waiting([update], self.doc):
            self._waiting = waiting(self._waiting, self.doc)
            self._waiting.append(update)
            self._held.append(update)

    def _rebuild(self, update: bytes) -> None:
        """Build the document again after `update` damaged it, and find out whose fault it was.

        An update that waited may have been the unsound one, and this one only what it waited for; then it
        is dropped for good. Otherwise this one is refused.
        """
        self._persist()
        records = self._store.records()
        self._unobserve()
        try:
            apply(build(update for _, update in records), update)
        except DamagedError:
            sound = [record for record in records if record[1] not in self._waiting]
            try:
                apply(build(update for _, update in sound), update)
            except DamagedError as error:
                self._take(build(update for _, update in records))
                raise MalformedError(f"not a sound Yjs update: {error}") from None
            unsound = [number for number, update in records if update in self._waiting]
            doc = build(update for _, update in sound)
            self._store.replace(unsound, [doc.get_update()], doc.get_state())
            self._waiting = []
            records = sound
        self._take(build(update for _, update in records))
        apply(self.doc, update)

    def _take(self, doc: Doc[Any]) -> None:
        self.doc = doc
        self._unobserve = observe(doc, self._applied.append)

    def _persist(self) -> None:
        if not self._applied and not self._held:
            return
        merged = [merge(self._applied)] if self._applied else []
        self._store.append([*self._held, *merged], self.doc.get_state)
        self._stored += len(self._held) + len(merged)
        self._unsent += merged
        self._applied.clear()
        self._held.clear()
        self._compact()

    def _compact(self) -> None:
        if self._stored > COMPACT_AFTER:
            self._stored = self._store.compact(self.doc, self._store.records())
