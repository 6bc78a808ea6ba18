"""Any interleaving converges: a room and its clients against plain pycrdt documents."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from opennoodl_sync import room as module
from opennoodl_sync.room import Room
from opennoodl_sync.store import MemoryYStore
from pycrdt import Doc

from .editor import Editor, content
from .wire import step_1, update_message

NAMES = ("ann", "bob", "carol")
names = st.sampled_from(NAMES)
places = st.integers(0, 30)


class Peer(Editor):
    """An editor with two queues, as of a socket, to and from the room.

    Attributes:
        joined: whether it is in the room.
        inbox: messages on their way from the room.
        outbox: messages on their way to the room.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.joined = False
        self.inbox: list[bytes] = []
        self.outbox: list[bytes] = []

    def leave(self) -> None:
        """Lose the connection, and what was on its way."""
        self.joined = False
        self.inbox.clear()
        self.outbox.clear()


class Interleavings(RuleBasedStateMachine):
    """Editors edit, come and go, and messages travel, in any order; the room is unloaded and dies in between."""

    def __init__(self) -> None:
        super().__init__()
        self.store = MemoryYStore()
        self.room = Room("room", self.store)
        self.peers = {name: Peer(number) for number, name in enumerate(NAMES, 1)}
        self.model: Doc[Any] = Doc()

    @rule(name=names, at=places, text=st.sampled_from(["a", "bc", "def"]))
    def write(self, name: str, at: int, text: str) -> None:
        """Somebody inserts text."""
        peer = self.peers[name]
        self._edited(peer, peer.write(text, at % (len(peer.text) + 1)))

    @rule(name=names, start=places, size=st.integers(1, 5))
    def delete(self, name: str, start: int, size: int) -> None:
        """Somebody deletes text."""
        peer = self.peers[name]
        if peer.text:
            start %= len(peer.text)
            self._edited(peer, peer.delete(start, min(start + size, len(peer.text))))

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
        if peer.joined:
            peer.outbox.append(update_message(update))

    @rule(name=names)
    def join(self, name: str) -> None:
        """Somebody connects, as y-websocket does: it sends step 1 and answers that of the room."""
        peer = self.peers[name]
        if not peer.joined:
            peer.joined = True
            peer.inbox += self.room.join(name)
            peer.outbox.append(step_1(peer.doc.get_state()))

    @rule(name=names)
    def leave(self, name: str) -> None:
        """Somebody's connection ends."""
        if self.peers[name].joined:
            self.peers[name].leave()
            self.room.leave(name)

    @rule(name=names, count=st.integers(1, 4))
    def send(self, name: str, count: int) -> None:
        """Messages of somebody arrive."""
        peer = self.peers[name]
        for message in peer.outbox[:count]:
            _, reply = self.room.receive(name, message)
            if reply is not None:
                peer.inbox.append(reply)
        del peer.outbox[:count]

    @rule(name=names, count=st.integers(1, 4))
    def read(self, name: str, count: int) -> None:
        """Somebody reads messages, and answers."""
        peer = self.peers[name]
        peer.outbox += peer.hear(*peer.inbox[:count])
        del peer.inbox[:count]

    @rule()
    def flush(self) -> None:
        """A turn of the event loop ends."""
        update, _ = self.room.flush()
        if update is not None:
            for name in self.room.synced:
                self.peers[str(name)].inbox.append(update)

    @rule(name=names)
    def stop_reading(self, name: str) -> None:
        """Too much waits for somebody."""
        self.flush()
        if self.peers[name].joined:
            self.room.put_behind(name)

    @rule(name=names)
    def read_again(self, name: str) -> None:
        """Somebody has read what waited."""
        self.flush()
        if self.peers[name].joined:
            self.peers[name].inbox += self.room.catch_up(name)

    @rule(kill=st.booleans())
    def restart(self, kill: bool) -> None:
        """The room is unloaded, or dies without another word, and is read from the store again."""
        for name in NAMES:
            self.leave(name)
        if not kill:
            self.room.close()
        self.room = Room("room", self.store)

    @precondition(lambda self: all(peer.joined for peer in self.peers.values()))
    @rule()
    def settle(self) -> None:
        """When everything has arrived, everybody has everything that anybody has written."""
        for name in NAMES:
            self.read_again(name)
        while any(peer.inbox or peer.outbox for peer in self.peers.values()) or self.room.dirty:
            for name in NAMES:
                self.send(name, 100)
                self.flush()
                self.read(name, 100)
        expected = content(self.model)
        assert content(self.room.doc) == expected
        for peer in self.peers.values():
            assert content(peer.doc) == expected

    def teardown(self) -> None:
        """In the end all meet in a room that was just read from the store."""
        for kill in (False, True):
            self.restart(kill)
            for name in NAMES:
                self.join(name)
            self.settle()

    def _edited(self, peer: Peer, update: bytes) -> None:
        self.model.apply_update(update)
        if peer.joined:
            peer.outbox.append(update_message(update))


@pytest.mark.parametrize("compact_after", [2, 500])
def test_any_interleaving_converges(compact_after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever happens in whatever order, everybody ends with the document that plain pycrdt makes of all edits."""
    monkeypatch.setattr(module, "COMPACT_AFTER", compact_after)
    Interleavings.TestCase.settings = settings(deadline=None, max_examples=60, stateful_step_count=40)
    case = Interleavings.TestCase()
    case.runTest()
