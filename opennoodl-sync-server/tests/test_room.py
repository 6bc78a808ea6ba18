"""A room without sockets: what is merged, what is told to whom, and what is never told before it is stored."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from opennoodl_sync import room as module
from opennoodl_sync.protocol import Kind, MalformedError
from opennoodl_sync.room import Room
from opennoodl_sync.store import MemoryYStore, StoreError
from opennoodl_sync.yjs import NOTHING

from .editor import Editor, content
from .wire import (
    QUERY,
    awareness_message,
    awareness_of,
    step_1,
    step_2,
    sync_content,
    update_message,
)


class Disk(MemoryYStore):
    """A store that can be made to fail."""

    fails = False

    def append(self, updates: Sequence[bytes], state_vector: Callable[[], bytes]) -> None:
        """Keep `updates`, or fail."""
        if self.fails:
            raise StoreError("the disk is full")
        super().append(updates, state_vector)


@pytest.fixture
def disk() -> Disk:
    """Return where the room is kept."""
    return Disk()


@pytest.fixture
def room(disk: Disk) -> Room:
    """Return an empty room."""
    return Room("room", disk)


def send(room: Room, client: str, *updates: bytes) -> None:
    """Let a client send updates."""
    for update in updates:
        assert room.receive(client, update_message(update)) == (Kind.UPDATE, None)


def here(room: Room, client: str, *entries: tuple[int, int, object]) -> None:
    """Let a client bring awareness states."""
    message = awareness_message(*entries)
    assert room.receive(client, message) == (Kind.AWARENESS, None)


def ask(room: Room, client: str, editor: Editor | None = None) -> bytes:
    """Let a client send step 1, and return the answer."""
    state = editor.doc.get_state() if editor is not None else b"\x00"
    kind, reply = room.receive(client, step_1(state))
    assert kind is Kind.STEP_1
    assert reply is not None
    return reply


def told(room: Room) -> bytes:
    """Flush, and return the message for those that are synced."""
    message, _ = room.flush()
    assert message is not None
    return message


def joined(room: Room, name: str, number: int) -> Editor:
    """Let an editor join and do its part of the handshake."""
    editor = Editor(number)
    for reply in editor.hear(*room.join(name), ask(room, name, editor)):
        room.receive(name, reply)
    return editor


def test_greets_with_step_1(room: Room) -> None:
    """Who joins is asked for what the room lacks; where nobody is here, there is no more to say."""
    send(room, "ann", Editor(1).write("one"))
    (greeting,) = room.join("bob")
    assert sync_content(greeting, 0) == room.doc.get_state()


def test_greets_with_who_is_here(room: Room) -> None:
    """Who joins learns at once who is here."""
    room.join("ann")
    here(room, "ann", (1, 1, {"name": "Ann"}))
    _, states = room.join("bob")
    assert awareness_of(states) == [(1, 1, {"name": "Ann"})]


def test_step_1_is_answered_with_what_is_missing(room: Room) -> None:
    """The answer to step 1 brings a client up to date, and repeats nothing that it has."""
    ann = Editor(1)
    send(room, "ann", ann.write("old words, "))
    bob = Editor(2, *ann.updates)
    send(room, "ann", ann.write("new"))
    reply = ask(room, "bob", bob)
    bob.hear(reply)
    assert bob.text == "old words, new"
    assert b"old words" not in sync_content(reply, 1)


def test_step_2_brings_what_a_client_has(room: Room) -> None:
    """What a client wrote while it was offline comes with its step 2, and is told like any update."""
    ann = Editor(1)
    ann.write("offline")
    (reply,) = ann.hear(*room.join("ann"))
    assert room.receive("ann", reply) == (Kind.STEP_2, None)
    assert Editor(2, sync_content(told(room), 2)).text == "offline"


def test_a_query_is_answered_with_all_states(room: Room) -> None:
    """Who asks for awareness gets every state, the empty answer too."""
    assert awareness_of(room.receive("ann", QUERY)[1]) == []
    here(room, "ann", (1, 1, {}), (2, 1, {}))
    assert awareness_of(room.receive("bob", QUERY)[1]) == [(1, 1, {}), (2, 1, {})]


def test_what_comes_in_one_turn_is_one_message(room: Room, disk: Disk) -> None:
    """Updates of several clients within a turn are stored in their order and told as one."""
    ann, bob = Editor(1), Editor(2)
    send(room, "ann", ann.write("one "), ann.write("two"))
    send(room, "bob", bob.put("k", 1))
    assert room.dirty
    update = sync_content(told(room), 2)
    assert not room.dirty
    assert content(Editor(3, update).doc) == ("one two", {"k": 1.0}, [])
    assert [stored for _, stored in disk.records()] == [*ann.updates, *bob.updates]
    assert room.flush() == (None, None)


def test_what_is_known_already_is_not_told_again(room: Room, disk: Disk) -> None:
    """A repeated update, an empty one and an empty step 2 are no news, and cost no record."""
    first = Editor(1).write("one")
    send(room, "ann", first)
    room.flush()
    send(room, "bob", first, NOTHING)
    room.receive("bob", step_2(NOTHING))
    assert room.flush() == (None, None)
    assert len(disk.records()) == 1


def test_a_client_is_told_updates_from_its_step_1_on(room: Room) -> None:
    """Updates go to those whose step 1 was answered: an update before step 2 could not be integrated."""
    room.join("ann")
    assert room.synced == set()
    ask(room, "ann")
    assert room.synced == {"ann"}
    assert room.clients == {"ann"}
    room.leave("ann")
    assert room.synced == set()
    assert room.clients == set()


@pytest.mark.parametrize("step", range(4))
def test_a_client_misses_nothing_while_it_joins(room: Room, step: int) -> None:
    """Whatever happens between joining, asking and the next flush, the newcomer has all of it in the end."""
    ann, bob = joined(room, "ann", 1), Editor(2)
    steps: list[Callable[[], object]] = [
        lambda: bob.hear(*room.join("bob")),
        lambda: bob.hear(ask(room, "bob", bob)),
        lambda: [bob.hear(message) for message in room.flush() if message is not None and "bob" in room.synced],
    ]
    for number, do in enumerate(steps):
        if number == step:
            send(room, "ann", ann.write("meanwhile"))
        do()
    if step == 3:
        send(room, "ann", ann.write("meanwhile"))
    steps[-1]()
    assert bob.text == "meanwhile"


def test_awareness_is_told_to_the_sender_too(room: Room) -> None:
    """News of who is here go to everybody, once a turn; a lonely client hears that the server is there."""
    room.join("ann")
    here(room, "ann", (1, 1, {"x": 1}))
    here(room, "ann", (1, 2, {"x": 2}), (5, 1, {}))
    update, awareness = room.flush()
    assert update is None
    assert awareness_of(awareness) == [(1, 2, {"x": 2}), (5, 1, {})]
    assert room.clients == {"ann"}
    assert room.flush() == (None, None)


def test_who_leaves_is_gone_with_the_next_flush(room: Room) -> None:
    """The end of a connection ends the states it brought, and the others are told so."""
    room.join("ann")
    here(room, "ann", (1, 4, {}))
    room.flush()
    room.leave("ann")
    assert room.dirty
    assert awareness_of(room.flush()[1]) == [(1, 4, None)]
    assert len(room.join("bob")) == 1


def test_nothing_is_told_that_is_not_stored(room: Room, disk: Disk) -> None:
    """While the disk fails, no flush and no answer shows what could not be stored."""
    ann = joined(room, "ann", 1)
    send(room, "ann", ann.write("stored "))
    room.flush()
    disk.fails = True
    send(room, "ann", ann.write("unstored"))
    with pytest.raises(StoreError):
        room.flush()
    with pytest.raises(StoreError):
        ask(room, "bob")
    assert "bob" not in room.synced
    with pytest.raises(StoreError):
        room.close()
    assert Editor(3, *(update for _, update in disk.records())).text == "stored "


def test_an_answer_shows_only_what_is_stored(room: Room, disk: Disk) -> None:
    """What step 2 shows is on disk when it is sent, even before the turn's flush."""
    send(room, "ann", Editor(1).write("one"))
    bob = Editor(2)
    bob.hear(ask(room, "bob", bob))
    assert bob.text == "one"
    assert Editor(3, *(update for _, update in disk.records())).text == "one"


def test_closing_stores_what_is_not_stored_yet(room: Room, disk: Disk) -> None:
    """A room that is closed before its flush loses nothing."""
    send(room, "ann", Editor(1).write("one"))
    room.close()
    assert content(Room("room", disk).doc)[0] == "one"


def test_who_was_behind_catches_up(room: Room) -> None:
    """A client that did not read is left out, and gets in one message what it missed, and then everything."""
    ann = joined(room, "ann", 1)
    bob = joined(room, "bob", 2)
    send(room, "ann", ann.write("before "))
    bob.hear(told(room))
    room.put_behind("bob")
    for word in ("missed ", "too "):
        send(room, "ann", ann.write(word))
        room.flush()
    assert room.synced == {"ann"}
    here(room, "ann", (1, 1, {}))
    states, missed = room.catch_up("bob")
    assert awareness_of(states) == [(1, 1, {})]
    assert b"before" not in sync_content(missed, 1)
    bob.hear(missed)
    assert room.synced == {"ann", "bob"}
    send(room, "ann", ann.write("after"))
    bob.hear(told(room))
    assert bob.text == "before missed too after"


def test_who_was_not_synced_is_not_behind(room: Room) -> None:
    """A client that has not sent step 1 is brought up to date by step 2, not before."""
    room.join("ann")
    send(room, "bob", Editor(2).write("one"))
    room.put_behind("ann")
    assert [message[0] for message in room.catch_up("ann")] == [1]
    assert room.synced == set()


def test_who_was_behind_learns_who_has_left_meanwhile(room: Room) -> None:
    """A client that reads again sees no ghosts of those that left while it did not."""
    for name in ("ann", "bob"):
        joined(room, name, ord(name[0]))
    here(room, "ann", (1, 4, {}))
    room.flush()
    room.put_behind("bob")
    room.leave("ann")
    room.flush()
    assert (1, 4, None) in [
        entry for message in room.catch_up("bob") if message[0] == 1 for entry in awareness_of(message)
    ]


def test_who_is_behind_already_stays_where_it_was(room: Room) -> None:
    """A client that is found slow twice misses nothing that came in between."""
    ann, bob = joined(room, "ann", 1), joined(room, "bob", 2)
    room.put_behind("bob")
    send(room, "ann", ann.write("missed"))
    room.flush()
    room.put_behind("bob")
    bob.hear(*room.catch_up("bob"))
    assert bob.text == "missed"
    assert "bob" in room.synced


def test_who_was_behind_may_leave(room: Room) -> None:
    """A client that leaves while it is behind is forgotten."""
    joined(room, "ann", 1)
    room.put_behind("ann")
    room.leave("ann")
    send(room, "bob", Editor(2).write("one"))
    room.flush()
    assert room.synced == set()


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\x00\x00\x01\x05", id="not a state vector"),
        pytest.param(update_message(b"junk"), id="not an update"),
        pytest.param(step_2(b""), id="an empty step 2"),
        pytest.param(awareness_message((9, 1, b"{")), id="not JSON"),
        pytest.param(b"\x07", id="unknown type"),
    ],
)
def test_what_is_malformed_changes_nothing(room: Room, disk: Disk, message: bytes) -> None:
    """A message that is not one is refused, and the room goes on as if it had never come."""
    ann = joined(room, "ann", 1)
    send(room, "ann", ann.write("one "))
    with pytest.raises(MalformedError):
        room.receive("eve", message)
    send(room, "ann", ann.write("two"))
    assert Editor(2, sync_content(told(room), 2)).text == "one two"
    assert room.flush() == (None, None)
    assert content(Room("room", disk).doc) == ("one two", {}, [])


def test_many_records_become_one(room: Room, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A document is compacted while it is open, so that it can be opened quickly, and keeps its content."""
    monkeypatch.setattr(module, "COMPACT_AFTER", 5)
    ann = Editor(1)
    for number in range(18):
        send(room, "ann", ann.write(f"{number} "))
        room.flush()
        assert len(disk.records()) <= 7
    assert content(Room("room", disk).doc) == content(ann.doc)


def test_many_records_become_one_when_a_room_is_opened(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A document that others left with many records is compacted when it is opened."""
    monkeypatch.setattr(module, "COMPACT_AFTER", 5)
    ann = Editor(1)
    disk.append([ann.write(f"{number} ") for number in range(20)], ann.doc.get_state)
    assert content(Room("room", disk).doc) == content(ann.doc)
    assert len(disk.records()) == 1
