"""A room whose clients send updates that wait, and updates that were made to do harm."""

from __future__ import annotations

from contextlib import suppress

import pytest
from opennoodl_sync import room as module
from opennoodl_sync.protocol import MalformedError
from opennoodl_sync.room import Room
from opennoodl_sync.store import DocumentStore, MemoryYStore

from .editor import BASE, POISON, UNSOUND, Editor, content
from .wire import update_message

unsound = pytest.mark.parametrize("update", UNSOUND.values(), ids=UNSOUND.keys())


@pytest.fixture
def disk() -> DocumentStore:
    """Return where the room is kept."""
    return MemoryYStore()


@pytest.fixture
def room(disk: DocumentStore) -> Room:
    """Return an empty room."""
    return Room("room", disk)


def send(room: Room, *updates: bytes) -> None:
    """Let a client send updates, each in a turn of its own."""
    for update in updates:
        room.receive("somebody", update_message(update))
        room.flush()


@unsound
def test_an_unsound_update_harms_nobody(room: Room, disk: DocumentStore, update: bytes) -> None:
    """The sender is refused; what was written before, stored or not yet, and what comes later is all there."""
    send(room, BASE)
    bob = Editor(2, BASE)
    room.receive("bob", update_message(bob.write(" stored", 3)))
    room.flush()
    room.receive("bob", update_message(bob.put("k", "not stored yet")))
    with pytest.raises(MalformedError):
        room.receive("eve", update_message(update))
    room.receive("bob", update_message(bob.push("later")))
    message, _ = room.flush()
    assert message is not None
    eyewitness = Editor(3, *bob.updates[:1], BASE)
    eyewitness.hear(message)
    assert content(eyewitness.doc) == content(bob.doc)
    assert content(room.doc) == content(bob.doc)
    assert content(Room("room", disk).doc) == content(bob.doc)


@unsound
def test_an_unsound_update_does_no_harm_when_records_are_many(
    room: Room, disk: DocumentStore, update: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A damaged document is never what a compaction writes."""
    monkeypatch.setattr(module, "COMPACT_AFTER", 2)
    bob = Editor(2, BASE)
    send(room, BASE, bob.write(" one", 3))
    room.receive("bob", update_message(bob.write(" two", 7)))
    with pytest.raises(MalformedError):
        room.receive("eve", update_message(update))
    room.flush()
    assert content(room.doc) == content(bob.doc)
    assert content(Room("room", disk).doc) == content(bob.doc)


@pytest.mark.parametrize("updates", POISON.values(), ids=POISON.keys())
@pytest.mark.parametrize("at_once", [False, True], ids=["one a turn", "all in one turn"])
def test_a_room_that_lives_can_be_opened_again(
    room: Room, disk: DocumentStore, updates: list[bytes], at_once: bool
) -> None:
    """Whatever a room has accepted, it can be loaded from disk with everybody's edits in it."""
    bob = Editor(2)
    send(room, bob.put("bob", "was here"))
    for update in updates:
        with suppress(MalformedError):
            room.receive("eve", update_message(update))
        if not at_once:
            room.flush()
    room.close()
    _, entries, _ = content(Room("room", disk).doc)
    assert isinstance(entries, dict)
    assert entries["bob"] == "was here"


@pytest.mark.parametrize("updates", POISON.values(), ids=POISON.keys())
def test_a_room_goes_on_whatever_it_was_sent(room: Room, disk: DocumentStore, updates: list[bytes]) -> None:
    """After any number of mutated updates the room still takes, tells and stores what others write."""
    for update in [*updates, *UNSOUND.values()]:
        with suppress(MalformedError):
            room.receive("eve", update_message(update))
        room.flush()
    bob = Editor(2)
    room.receive("bob", update_message(bob.put("bob", "was here")))
    message, _ = room.flush()
    assert message is not None
    room.close()
    _, entries, _ = content(Room("room", disk).doc)
    assert isinstance(entries, dict)
    assert entries["bob"] == "was here"


def test_what_waits_is_there_when_its_turn_comes(room: Room) -> None:
    """An update that comes before the one that it builds on is integrated when that comes."""
    ann = Editor(1)
    first, second = ann.write("one "), ann.write("two")
    send(room, second)
    assert content(room.doc)[0] == ""
    send(room, first)
    assert content(room.doc)[0] == "one two"


@pytest.mark.parametrize("order", [(1, 2, 0), (2, 1, 0), (2, 0, 1), (0, 2, 1)], ids=str)
def test_several_that_wait_are_all_there_when_their_turn_comes(
    room: Room, disk: DocumentStore, order: tuple[int, ...]
) -> None:
    """Updates of one editor may come in any order: when all have come, all are in the document and in answers."""
    ann = Editor(1)
    updates = [ann.write("one "), ann.put("k", 1), ann.write("two")]
    send(room, *(updates[number] for number in order))
    assert content(room.doc) == content(ann.doc)
    assert content(Room("room", disk).doc) == content(ann.doc)


def test_what_waits_survives_on_disk(room: Room, disk: DocumentStore) -> None:
    """Content and deletions that wait are stored before they are integrated: after a restart they still come in."""
    ann = Editor(1)
    first, second = ann.write("one "), ann.write("two")
    deletion = Editor(2, first).delete(0, 2)
    send(room, second, deletion)
    room = Room("room", disk)
    assert content(room.doc)[0] == ""
    send(room, first)
    assert content(room.doc)[0] == "e two"
    assert content(Room("room", disk).doc)[0] == "e two"


def test_what_waits_survives_many_compactions(room: Room, disk: DocumentStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting updates outlive compactions, and do not keep the records from being few."""
    monkeypatch.setattr(module, "COMPACT_AFTER", 5)
    ann, bob = Editor(1), Editor(2)
    first, second = ann.write("one "), ann.write("two")
    send(room, second, *(bob.put("k", number) for number in range(20)))
    assert len(disk.records()) <= 6
    room = Room("room", disk)
    send(room, first)
    assert content(room.doc) == ("one two", {"k": 19.0}, [])


def test_what_waits_is_stored_once(room: Room, disk: DocumentStore) -> None:
    """A waiting update that is sent again, by its sender or by others that have it, is not stored again."""
    ann = Editor(1)
    ann.write("lost")
    waits = ann.write("waits")
    send(room, waits, waits, waits)
    assert [update for _, update in disk.records()] == [waits]


def test_an_unsound_update_that_waited_is_dropped(room: Room, disk: DocumentStore) -> None:
    """When what an unsound update waited for comes, that is accepted and the unsound update goes for good."""
    send(room, UNSOUND["error"])
    send(room, BASE)
    bob = Editor(2, BASE)
    send(room, bob.write(" and more", 3))
    assert content(room.doc) == content(bob.doc)
    assert content(Room("room", disk).doc) == content(bob.doc)
    assert UNSOUND["error"] not in [update for _, update in disk.records()]


def test_an_unsound_update_takes_nobody_with_it(room: Room, disk: DocumentStore) -> None:
    """What others wait for with is kept when an unsound update that waited as well is dropped."""
    ann = Editor(9)
    first, second = ann.put("first", 1), ann.put("second", 2)
    send(room, second, UNSOUND["error"], BASE)
    send(room, first)
    assert content(room.doc) == content(Editor(3, BASE, first, second).doc)
    assert content(Room("room", disk).doc) == content(room.doc)
