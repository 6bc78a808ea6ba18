"""Any interleaving converges: a room and its clients against plain pycrdt documents."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from opennoodl_sync.rooms import records as module
from opennoodl_sync.rooms.room import Flush
from opennoodl_sync.storage.leveldb.database import RecordBatch
from opennoodl_sync.storage.leveldb.documents import LevelDBDocument
from opennoodl_sync.yjs.lib0 import finish
from pycrdt import Doc

from ..disks import Records
from ..editor import Editor, content
from ..turns import commit, compact_part, kept, loaded, messages, open_room, receive, rest, shown, waiting
from ..wire import step_1, update_message

pytestmark = pytest.mark.slow

NAMES = ("ann", "bob", "carol")
names = st.sampled_from(NAMES)
places = st.integers(0, 30)


class Peer(Editor):
    """An editor with two queues, as of a socket, to and from the room.

    Attributes:
        connection: what the room knows it as; None while it is not connected.
        inbox: messages on their way from the room.
        outbox: messages on their way to the room.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.connection: str | None = None
        self.inbox: list[bytes] = []
        self.outbox: list[bytes] = []

    def lose(self) -> None:
        """Lose the connection, and what was on its way."""
        self.connection = None
        self.inbox.clear()
        self.outbox.clear()


class Interleavings(RuleBasedStateMachine):
    """Editors edit, come and go, and messages travel, in any order; the room is unloaded and dies in between."""

    def __init__(self) -> None:
        super().__init__()
        self.records = Records()
        self.peers = {name: Peer(number) for number, name in enumerate(NAMES, 1)}
        self.model: Doc[Any] = Doc()
        self.connections = 0
        self.batch = RecordBatch()
        self.under_way: Flush | None = None
        self.open()

    def open(self) -> None:
        """Read the room from the disk."""
        self.store = LevelDBDocument("room", database=self.records)
        self.room = open_room(self.store)

    @rule(name=names, at=places, text=st.sampled_from(["a", "bc", "d😀f"]))
    def write(self, name: str, at: int, text: str) -> None:
        """Somebody inserts text."""
        peer = self.peers[name]
        at %= len(peer.text) + 1
        self._edited(peer, peer.write(text, len(peer.text[:at].encode())))

    @rule(name=names, start=places, size=st.integers(1, 5))
    def delete(self, name: str, start: int, size: int) -> None:
        """Somebody deletes text."""
        peer = self.peers[name]
        if peer.text:
            start %= len(peer.text)
            borders = (len(peer.text[:at].encode()) for at in (start, start + size))
            self._edited(peer, peer.delete(*borders))

    @rule(name=names, key=st.sampled_from("xy"), value=st.integers(0, 9))
    def put(self, name: str, key: str, value: int) -> None:
        """Somebody sets an entry of a map."""
        self._edited(self.peers[name], self.peers[name].put(key, value))

    @rule(name=names, value=st.integers(0, 9))
    def push(self, name: str, value: int) -> None:
        """Somebody appends to an array."""
        self._edited(self.peers[name], self.peers[name].push({"value": value}))

    @rule(name=names, other=names)
    def meet(self, name: str, other: str) -> None:
        """Somebody gets another's document by another way, WebRTC say, and passes on what was new to it."""
        peer = self.peers[name]
        update = self.peers[other].doc.get_update(peer.doc.get_state())
        peer.take(update)
        if peer.connection is not None:
            peer.outbox.append(update_message(update))

    @rule(name=names, acknowledge=st.booleans())
    def join(self, name: str, *, acknowledge: bool = False) -> None:
        """Somebody connects, as y-websocket does: it sends step 1 and answers that of the room."""
        peer = self.peers[name]
        if peer.connection is None:
            self.connections += 1
            peer.connection = f"{name} {self.connections}"
            peer.inbox += self.room.join(peer.connection, acknowledge=acknowledge)
            peer.outbox.append(step_1(peer.doc.get_state()))

    @rule(name=names)
    def leave(self, name: str) -> None:
        """Somebody's connection ends."""
        peer = self.peers[name]
        if peer.connection is not None:
            self.room.leave(peer.connection)
            peer.lose()

    @rule(name=names, count=st.integers(1, 4))
    def send(self, name: str, count: int) -> None:
        """Messages of somebody arrive."""
        peer = self.peers[name]
        for message in peer.outbox[:count]:
            assert peer.connection is not None
            _, reply = receive(self.room, peer.connection, message)
            assert reply is None
        del peer.outbox[:count]

    @rule(name=names, count=st.integers(1, 4))
    def read(self, name: str, count: int) -> None:
        """Somebody reads messages, and answers."""
        peer = self.peers[name]
        peer.outbox += peer.hear(*peer.inbox[:count])
        del peer.inbox[:count]

    @rule()
    def take(self) -> None:
        """A turn of the event loop ends, and what it gave is on its way to the disk."""
        if self.under_way is None:
            self.batch = RecordBatch()
            self.under_way = self.room.flush(self.batch)

    @rule()
    def written(self) -> None:
        """The disk has what was on its way; now it is told, and it is all in the records."""
        if self.under_way is None:
            return
        if self.batch:
            commit(self.store, self.batch)
        flush, self.under_way = self.under_way, None
        for peer in self.peers.values():
            if peer.connection is not None:
                peer.inbox += messages(flush, peer.connection)
        told = flush.updates
        if self.room.records.is_compaction_due():
            finish(self.room.begin_compaction())
            assert not compact_part(self.room)
        stored = loaded(self.store.updates())
        stored.commit()
        for update in told:
            finish(stored.integrate(update))
        assert not stored.changed

    @rule()
    def failed(self) -> None:
        """The disk does not take what was on its way: the room ends, and nobody is told of it."""
        if self.under_way is not None:
            self._end()
            self.open()

    @rule(name=names)
    def stop_reading(self, name: str) -> None:
        """Too much waits for somebody."""
        peer = self.peers[name]
        if peer.connection is not None:
            self.room.put_behind(peer.connection)

    @rule(name=names)
    def read_again(self, name: str) -> None:
        """Somebody has read what waited."""
        peer = self.peers[name]
        if peer.connection is not None:
            here = self.room.catch_up(peer.connection)
            peer.inbox += [here] if here is not None else []

    @rule()
    def evict(self) -> None:
        """Everybody leaves, and the room goes from memory with everything on disk."""
        for name in NAMES:
            self.leave(name)
        self.written()
        expected = shown(self.room.document)
        rest(self.room, self.store)
        assert kept(self.store) == expected
        self.open()

    @rule(written=st.booleans())
    def crash(self, *, written: bool) -> None:
        """The process dies without another word, when what was on its way was written, or was not."""
        if written and self.batch and self.under_way is not None:
            commit(self.store, self.batch)
        self._end()
        self.open()

    @precondition(lambda self: all(peer.connection is not None for peer in self.peers.values()))
    @rule()
    def settle(self) -> None:
        """When everything has arrived, everybody has everything that anybody has written."""
        for name in NAMES:
            self.read_again(name)
        self.written()
        while self.room.dirty or any(peer.inbox or peer.outbox for peer in self.peers.values()):
            for name in NAMES:
                self.send(name, 100)
                self.take()
                self.written()
                self.read(name, 100)
        expected = content(self.model)
        assert shown(self.room.document) == expected
        assert kept(self.store) == expected
        assert waiting(self.room) == []
        for peer in self.peers.values():
            assert content(peer.doc) == expected

    def teardown(self) -> None:
        """In the end all meet in a room that was just read from the disk."""
        for dies in (False, True):
            if dies:
                self.crash(written=False)
            else:
                self.evict()
            for name in NAMES:
                self.join(name)
            self.settle()

    def _end(self) -> None:
        self.under_way = None
        for peer in self.peers.values():
            peer.lose()

    def _edited(self, peer: Peer, update: bytes) -> None:
        self.model.apply_update(update)
        if peer.connection is not None:
            peer.outbox.append(update_message(update))


@pytest.mark.parametrize("compact_after", [2, 500])
def test_any_interleaving_converges(compact_after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever happens in whatever order, everybody ends with the document that plain pycrdt makes of all edits."""
    monkeypatch.setattr(module, "COMPACT_AFTER", compact_after)
    monkeypatch.setattr(module, "COMPACT_IDLE_AFTER", compact_after)
    Interleavings.TestCase.settings = settings(deadline=None, max_examples=60, stateful_step_count=50)
    case = Interleavings.TestCase()
    case.runTest()
