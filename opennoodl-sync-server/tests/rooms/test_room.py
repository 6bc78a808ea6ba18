"""A room without sockets: what is merged, what is told to whom, and what is never told before it is stored."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from opennoodl_sync.rooms.room import Room
from opennoodl_sync.storage.interface import StoreError
from opennoodl_sync.storage.leveldb.database import RecordBatch
from opennoodl_sync.y_protocol import Kind
from opennoodl_sync.yjs.lib0 import MalformedError
from opennoodl_sync.yjs.update import NOTHING

from ..editor import Editor
from ..turns import (
    Disk,
    answer,
    ask,
    end_turn,
    flush,
    here,
    is_quiet,
    joined,
    keep,
    kept,
    messages,
    open_room,
    receive,
    send,
    shown,
    told,
)
from ..wire import QUERY, awareness_message, awareness_of, step_1, step_2, sync_content, update_message


@pytest.fixture
def disk() -> Disk:
    """Return where the room is kept."""
    return Disk()


@pytest.fixture
def room(disk: Disk) -> Room:
    """Return an empty room."""
    return open_room(disk)


def test_greets_with_step_1(room: Room) -> None:
    """A new client gets step 1 with the room's state vector, and no states if nobody is there."""
    send(room, "ann", Editor(1).write("one"))
    (greeting,) = room.join("bob")
    assert sync_content(greeting, 0) == room.document.state_vector()


def test_a_client_is_greeted_with_the_states_of_others(room: Room) -> None:
    """A new client gets the awareness states of the others at once."""
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
    reply = answer(room, "bob", bob)
    bob.hear(reply)
    assert bob.text == "old words, new"
    assert b"old words" not in sync_content(reply, 1)


def test_step_1_is_answered_with_the_flush(room: Room) -> None:
    """An answer makes a room dirty, is given once, and to a client that asked twice once too."""
    ask(room, "ann")
    ask(room, "ann")
    assert room.dirty
    assert len(flush(room).replies) == 1
    assert not room.dirty
    assert is_quiet(flush(room))


def test_a_repeated_step_1_is_answered_again(room: Room) -> None:
    """A client that is up to date may ask for everything once more."""
    ann = joined(room, "ann", 1)
    send(room, "ann", ann.write("one"))
    flush(room)
    assert Editor(2, sync_content(answer(room, "ann"), 1)).text == "one"
    assert room.synced == {"ann"}


def test_step_2_brings_what_a_client_has(room: Room) -> None:
    """The offline changes of a client arrive with its step 2, and are sent as any update."""
    ann = Editor(1)
    ann.write("offline")
    (reply,) = ann.hear(*room.join("ann"))
    assert receive(room, "ann", reply) == (Kind.STEP_2, None)
    assert Editor(2, sync_content(told(room), 2)).text == "offline"


def test_a_query_is_answered_with_all_states(room: Room) -> None:
    """An awareness query is answered at once with every state, also if there is none."""
    assert awareness_of(receive(room, "ann", QUERY)[1]) == []
    here(room, "ann", (1, 1, {}), (2, 1, {}))
    assert awareness_of(receive(room, "bob", QUERY)[1]) == [(1, 1, {}), (2, 1, {})]


def test_updates_of_one_turn_are_one_message(room: Room, disk: Disk) -> None:
    """Updates of several clients within a turn are stored and told as one."""
    ann, bob = Editor(1), Editor(2)
    send(room, "ann", ann.write("one "), ann.write("two"))
    send(room, "bob", bob.put("k", 1))
    assert room.dirty
    update = sync_content(told(room), 2)
    assert not room.dirty
    assert Editor(3, update).text == "one two"
    assert disk.updates() == [update]
    assert kept(disk) == ("one two", {"k": 1.0}, [])
    assert is_quiet(flush(room))


def test_a_known_update_is_not_told_again(room: Room, disk: Disk) -> None:
    """A repeated update, an empty one and an empty step 2 are no news, and cost no record."""
    first = Editor(1).write("one")
    send(room, "ann", first)
    flush(room)
    send(room, "bob", first, NOTHING)
    receive(room, "bob", step_2(NOTHING))
    assert is_quiet(flush(room))
    assert len(disk.records()) == 1


def test_a_client_is_told_updates_from_its_step_1_on(room: Room) -> None:
    """Updates go to those whose step 1 was answered: an update before step 2 could not be integrated."""
    room.join("ann")
    ask(room, "ann")
    assert room.synced == set()
    flush(room)
    assert room.synced == {"ann"}
    assert room.clients == {"ann"}
    room.leave("ann")
    assert room.synced == set()
    assert room.clients == set()


SIZE = 300_000


def test_a_large_document_is_there_for_all(disk: Disk) -> None:
    """A client that opens a large document gets all of it, and so does the next one, with the changes in between."""
    ann = Editor(1)
    keep(disk, ann.write("x" * SIZE))
    room = open_room(disk)
    assert len(str(joined(room, "bob", 2).text)) == SIZE
    send(room, "ann", ann.write("and on"))
    assert str(joined(room, "carol", 3).text) == str(ann.text)


def test_an_answered_client_gets_no_update_with_the_same_contents(room: Room) -> None:
    """Step 2 has what came in its turn; the message with that goes to the others."""
    ann = joined(room, "ann", 1)
    joined(room, "carol", 3)
    room.join("bob")
    send(room, "ann", ann.write("one"))
    ask(room, "bob")
    given = flush(room)
    assert [message[:2] for message in messages(given, "bob")] == [b"\x00\x01"]
    assert [message[:2] for message in messages(given, "carol")] == [b"\x00\x02"]


def test_a_client_is_not_sent_what_it_sent(room: Room) -> None:
    """An update that is alone in its turn goes to all but its sender, who has it and hears of the next one."""
    ann, bob = joined(room, "ann", 1), joined(room, "bob", 2)
    send(room, "ann", ann.write("one"))
    given = flush(room)
    assert not messages(given, "ann")
    bob.hear(*messages(given, "bob"))
    send(room, "bob", bob.write("two"))
    given = flush(room)
    assert not messages(given, "bob")
    ann.hear(*messages(given, "ann"))
    assert str(ann.text) == str(bob.text)


def test_a_client_is_sent_what_came_with_its_own(room: Room) -> None:
    """The merged update of a turn goes to everybody who wrote in it, whoever was the last one."""
    ann, bob = joined(room, "ann", 1), joined(room, "bob", 2)
    send(room, "ann", ann.write("one"))
    send(room, "bob", bob.write("two"))
    given = flush(room)
    ann.hear(*messages(given, "ann"))
    bob.hear(*messages(given, "bob"))
    assert str(ann.text) == str(bob.text)
    assert len(str(ann.text)) == 6


def test_an_author_is_sent_what_waited_for_its_update(room: Room) -> None:
    """Pending changes that build on an update are sent before it, also to its author."""
    ann, bob, carol = joined(room, "ann", 1), joined(room, "bob", 2), joined(room, "carol", 3)
    first = ann.write("one")
    bob.hear(update_message(first))
    send(room, "bob", bob.write("two"))
    early = flush(room)
    send(room, "ann", first)
    late = flush(room)
    for name, editor in ("ann", ann), ("carol", carol):
        editor.hear(*messages(early, name), *messages(late, name))
    assert str(ann.text) == str(bob.text) == str(carol.text)


@pytest.mark.parametrize("step", range(4))
def test_a_client_misses_nothing_while_it_joins(room: Room, step: int) -> None:
    """Whatever happens between joining, asking and the next flush, the newcomer has all of it in the end."""
    ann, bob = joined(room, "ann", 1), Editor(2)
    steps: list[Callable[[], object]] = [
        lambda: bob.hear(*room.join("bob")),
        lambda: ask(room, "bob", bob),
        lambda: bob.hear(*messages(flush(room), "bob")),
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
    given = flush(room)
    assert given.updates == []
    assert awareness_of(given.awareness) == [(1, 2, {"x": 2}), (5, 1, {})]
    assert given.present == ["ann"]
    assert is_quiet(flush(room))


def test_a_client_that_leaves_ends_its_states_at_the_next_flush(room: Room) -> None:
    """The end of a connection ends the states it brought, and the others are told so."""
    room.join("ann")
    room.join("bob")
    here(room, "ann", (1, 4, {}))
    flush(room)
    room.leave("ann")
    assert room.dirty
    assert awareness_of(flush(room).awareness) == [(1, 4, None)]
    assert len(room.join("eve")) == 1


def test_the_states_of_a_lost_client_end_when_they_are_forgotten(room: Room) -> None:
    """A client whose connection is lost leaves the room; its states stay until they are forgotten."""
    room.join("ann")
    here(room, "ann", (1, 4, {}))
    flush(room)
    assert room.leave("ann", lost=True)
    assert room.clients == set()
    assert not room.dirty
    assert awareness_of(room.join("bob")[1]) == [(1, 4, {})]
    room.forget("ann")
    assert awareness_of(flush(room).awareness) == [(1, 4, None)]


def test_a_client_is_told_to_renew_its_state(room: Room) -> None:
    """A client that comes back with a state that has ended is answered that, by the next flush."""
    room.join("ann")
    here(room, "ann", (1, 4, {}))
    flush(room)
    room.leave("ann")
    flush(room)
    room.join("ann again")
    here(room, "ann again", (1, 4, {}))
    assert room.dirty
    assert flush(room).replies == [("ann again", awareness_message((1, 4, None)))]
    assert not room.dirty


def test_a_client_that_does_not_read_is_not_told_to_renew_its_state(room: Room) -> None:
    """Requests of a client that does not read are bounded."""
    room.join("ann")
    here(room, "ann", (1, 4, {}))
    room.leave("ann")
    room.join("ann again")
    room.put_behind("ann again")
    flush(room)
    here(room, "ann again", (1, 4, {}))
    assert flush(room).replies == []


def test_a_client_that_left_gets_no_answer(room: Room) -> None:
    """A client that asked and left before the flush is forgotten."""
    room.join("ann", acknowledge=True)
    ask(room, "ann")
    send(room, "ann", Editor(1).write("one"))
    room.leave("ann")
    assert flush(room).replies == []
    assert room.synced == set()


def test_nothing_is_told_that_is_not_stored(room: Room, disk: Disk) -> None:
    """While the disk fails, no flush and no answer shows what could not be stored."""
    ann = joined(room, "ann", 1)
    send(room, "ann", ann.write("stored "))
    flush(room)
    disk.fails = True
    send(room, "ann", ann.write("unstored"))
    ask(room, "bob")
    with pytest.raises(StoreError):
        flush(room)
    assert "bob" not in room.synced
    assert kept(disk)[0] == "stored "


def test_says_whether_something_is_being_stored(room: Room) -> None:
    """A flush says whether it has added changes to the batch; awareness and answers are none."""
    send(room, "ann", Editor(1).write("one"))
    assert room.flush(RecordBatch()).stores
    here(room, "ann", (1, 1, {}))
    ask(room, "ann")
    assert not room.flush(RecordBatch()).stores


def test_a_pending_update_counts_as_unsaved(room: Room) -> None:
    """An update that waits is being stored too."""
    ann = Editor(1)
    ann.write("lost")
    send(room, "ann", ann.write("waits"))
    assert room.flush(RecordBatch()).stores


def test_updates_during_a_batch_are_in_the_next_batch(room: Room, disk: Disk) -> None:
    """While a batch is being written, the room handles messages."""
    ann = Editor(1)
    send(room, "ann", ann.write("one "))
    first = room.flush(RecordBatch())
    send(room, "ann", ann.write("two"))
    ask(room, "bob")
    assert Editor(2, first.updates[0]).text == "one "
    bob = Editor(3)
    bob.hear(*messages(flush(room), "bob"))
    assert bob.text == "one two"


def test_the_last_turn_stores_what_is_not_stored_yet(room: Room, disk: Disk) -> None:
    """A room that leaves memory before its flush loses nothing."""
    send(room, "ann", Editor(1).write("one"))
    end_turn(room, disk)
    assert shown(open_room(disk).document)[0] == "one"


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\x00\x00\x01\x05", id="not a state vector"),
        pytest.param(step_1(b"\x01\x01"), id="a state vector that ends early"),
        pytest.param(update_message(b"junk"), id="not an update"),
        pytest.param(step_2(b""), id="an empty step 2"),
        pytest.param(awareness_message((9, 1, b"{")), id="not JSON"),
        pytest.param(b"\x07", id="unknown type"),
    ],
)
def test_a_malformed_message_changes_nothing(room: Room, disk: Disk, message: bytes) -> None:
    """A message that is not one is refused, and the room goes on as if it had never come."""
    ann = joined(room, "ann", 1)
    send(room, "ann", ann.write("one "))
    with pytest.raises(MalformedError):
        receive(room, "eve", message)
    send(room, "ann", ann.write("two"))
    assert Editor(2, sync_content(told(room), 2)).text == "one two"
    assert is_quiet(flush(room))
    assert kept(disk) == ("one two", {}, [])
