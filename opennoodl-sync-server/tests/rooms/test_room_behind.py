"""A room with clients that do not read: they are left out, and catch up with one message."""

from __future__ import annotations

import pytest
from opennoodl_sync.rooms.room import Room

from ..editor import Editor
from ..memory_records import MemoryRecords
from ..turns import answer, ask, flush, here, joined, messages, open_room, receive, send, told
from ..wire import QUERY, awareness_of, sync_content


@pytest.fixture
def room() -> Room:
    """Return an empty room."""
    return open_room(MemoryRecords())


def caught_up(room: Room, client: str) -> list[bytes]:
    """Let a client read again; return what it is sent."""
    present = room.catch_up(client)
    return [*([] if present is None else [present]), *messages(flush(room), client)]


def behind(room: Room, client: str) -> None:
    """Let a client not read from the next flush on, and flush."""
    room.put_behind(client)
    assert room.dirty
    flush(room)


def test_a_slow_client_catches_up_in_one_message(room: Room) -> None:
    """A client that did not read is left out, and gets in one message what it missed, and then everything."""
    ann = joined(room, "ann", 1)
    bob = joined(room, "bob", 2)
    send(room, "ann", ann.write("before "))
    bob.hear(told(room))
    behind(room, "bob")
    for word in ("missed ", "too "):
        send(room, "ann", ann.write(word))
        flush(room)
    assert room.synced == {"ann"}
    here(room, "ann", (1, 1, {}))
    states, awareness, missed = caught_up(room, "bob")
    assert awareness_of(states) == awareness_of(awareness) == [(1, 1, {})]
    assert b"before" not in sync_content(missed, 1)
    bob.hear(missed)
    assert room.synced == {"ann", "bob"}
    send(room, "ann", ann.write("after"))
    bob.hear(told(room))
    assert bob.text == "before missed too after"


def test_a_client_that_falls_behind_gets_the_updates_of_that_turn(room: Room) -> None:
    """A client found slow still gets the updates of that turn, so that its state is known."""
    ann, bob = joined(room, "ann", 1), joined(room, "bob", 2)
    send(room, "ann", ann.write("one "))
    room.put_behind("bob")
    bob.hear(*messages(flush(room), "bob"))
    assert bob.text == "one "
    send(room, "ann", ann.write("two"))
    assert messages(flush(room), "bob") == []
    bob.hear(*caught_up(room, "bob"))
    assert bob.text == "one two"


def test_a_client_that_reads_before_the_flush_is_not_behind(room: Room) -> None:
    """A client that read what waited for it at once is not left out."""
    ann = joined(room, "ann", 1)
    bob = joined(room, "bob", 2)
    room.put_behind("bob")
    assert room.catch_up("bob") is None
    send(room, "ann", ann.write("one"))
    bob.hear(*messages(flush(room), "bob"))
    assert bob.text == "one"


def test_an_unsynced_client_is_not_behind(room: Room) -> None:
    """A client that has not sent step 1 is brought up to date by step 2, not before."""
    room.join("ann")
    send(room, "bob", Editor(2).write("one"))
    behind(room, "ann")
    assert [message[0] for message in caught_up(room, "ann")] == [1]
    assert room.synced == set()


def test_a_client_that_was_behind_learns_which_clients_left(room: Room) -> None:
    """A client that reads again sees no ghosts of those that left while it did not."""
    for name in ("ann", "bob"):
        joined(room, name, ord(name[0]))
    here(room, "ann", (1, 4, {}))
    behind(room, "bob")
    room.leave("ann")
    assert messages(flush(room), "bob") == []
    assert awareness_of(caught_up(room, "bob")[0]) == [(1, 4, None)]


def test_a_client_that_falls_behind_learns_of_clients_that_leave_then(room: Room) -> None:
    """A state that ended in the turn in which a client fell behind, or shortly before it, leaves no ghost."""
    for name in ("ann", "bob"):
        joined(room, name, ord(name[0]))
    here(room, "ann", (1, 4, {}))
    flush(room)
    room.leave("ann")
    behind(room, "bob")
    flush(room)
    assert awareness_of(caught_up(room, "bob")[0]) == [(1, 4, None)]


def test_a_client_found_slow_twice_misses_nothing(room: Room) -> None:
    """A client that is found slow twice misses nothing that came in between."""
    ann, bob = joined(room, "ann", 1), joined(room, "bob", 2)
    behind(room, "bob")
    send(room, "ann", ann.write("missed"))
    flush(room)
    room.put_behind("bob")
    bob.hear(*caught_up(room, "bob"))
    assert bob.text == "missed"
    assert "bob" in room.synced


def test_a_step_1_while_behind_is_answered_on_reading(room: Room) -> None:
    """A step 1 of a client that does not read is answered when it reads again, once."""
    ann = joined(room, "ann", 1)
    send(room, "ann", ann.write("one"))
    joined(room, "bob", 2)
    behind(room, "bob")
    for _ in range(3):
        ask(room, "bob")
    assert receive(room, "bob", QUERY)[1] is None
    assert messages(flush(room), "bob") == []
    states, missed = caught_up(room, "bob")
    assert awareness_of(states) == []
    assert Editor(3, sync_content(missed, 1)).text == "one"


def test_a_step_1_in_the_turn_of_falling_behind_is_answered(room: Room) -> None:
    """The answer of that turn is sent still, and what comes later is behind it."""
    ann = joined(room, "ann", 1)
    send(room, "ann", ann.write("one "))
    room.join("bob")
    bob = Editor(2)
    ask(room, "bob", bob)
    room.put_behind("bob")
    bob.hear(*messages(flush(room), "bob"))
    assert bob.text == "one "
    send(room, "ann", ann.write("two"))
    flush(room)
    bob.hear(*caught_up(room, "bob"))
    assert bob.text == "one two"


def test_a_client_that_leaves_while_behind_is_forgotten(room: Room) -> None:
    """A client that leaves while it is behind is forgotten, also when it comes back."""
    joined(room, "ann", 1)
    behind(room, "ann")
    room.leave("ann")
    send(room, "bob", Editor(2).write("one"))
    flush(room)
    assert room.synced == set()
    assert room.catch_up("ann") is None
    room.join("ann")
    assert Editor(3, sync_content(answer(room, "ann"), 1)).text == "one"
