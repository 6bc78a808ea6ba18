"""A room whose clients send updates that wait, and updates that were made to do harm."""

from __future__ import annotations

from contextlib import suppress
from itertools import permutations

import pytest
from opennoodl_sync.rooms import records as module
from opennoodl_sync.rooms.room import Room
from opennoodl_sync.yjs.lib0 import MalformedError

from ..editor import BASE, ODD, UNSOUND, Editor, content
from ..memory_records import MemoryRecords
from ..turns import end_turn, kept, open_room, receive, shown, waiting, whole
from ..wire import step_1, update_message

unsound = pytest.mark.parametrize("update", UNSOUND.values(), ids=UNSOUND.keys())


@pytest.fixture
def disk() -> MemoryRecords:
    """Return where the room is kept."""
    return MemoryRecords()


@pytest.fixture
def room(disk: MemoryRecords) -> Room:
    """Return an empty room."""
    return open_room(disk)


def send(room: Room, disk: MemoryRecords, *updates: bytes) -> None:
    """Let a client send updates, each in a turn of its own."""
    for update in updates:
        receive(room, "somebody", update_message(update))
        end_turn(room, disk)


@unsound
def test_an_unsound_update_harms_nobody(room: Room, disk: MemoryRecords, update: bytes) -> None:
    """The sender is refused; what was written before, stored or not yet, and what comes later is all there."""
    bob = Editor(5, BASE)
    send(room, disk, BASE, bob.write(" stored", 3))
    receive(room, "eyewitness", step_1(b"\x00"))
    end_turn(room, disk)
    receive(room, "bob", update_message(bob.put("k", "not stored yet")))
    with pytest.raises(MalformedError):
        receive(room, "eve", update_message(update))
    receive(room, "bob", update_message(bob.push("later")))
    flush = end_turn(room, disk)
    assert flush.synced == ["eyewitness"]
    eyewitness = Editor(3, *bob.updates[:1], BASE)
    eyewitness.hear(*map(update_message, flush.updates))
    assert content(eyewitness.doc) == content(bob.doc)
    assert shown(room.document) == content(bob.doc)
    assert kept(disk) == content(bob.doc)


@unsound
def test_an_unsound_update_is_not_stored(room: Room, disk: MemoryRecords, update: bytes) -> None:
    """A refused update leaves nothing behind, and there is nothing to tell."""
    send(room, disk, BASE)
    with pytest.raises(MalformedError):
        receive(room, "eve", update_message(update))
    assert end_turn(room, disk).updates == []
    assert disk.updates() == [BASE]
    assert waiting(room) == []


@pytest.mark.parametrize("update", ODD.values(), ids=ODD.keys())
def test_an_odd_update_is_carried(room: Room, disk: MemoryRecords, update: bytes) -> None:
    """An update that makes no sense, and that Yjs accepts, is passed on and kept as it is."""
    send(room, disk, BASE)
    receive(room, "eve", update_message(update))
    assert end_turn(room, disk).updates == [update]
    assert disk.updates() == [BASE, update]


def test_an_update_that_waits_is_handed_on(room: Room, disk: MemoryRecords) -> None:
    """An update that comes before its predecessors is stored and told at once: Yjs clients keep it themselves."""
    ann = Editor(1)
    first, second = ann.write("one "), ann.write("two")
    receive(room, "ann", update_message(second))
    assert end_turn(room, disk).updates == [second]
    assert disk.updates() == [second]
    receive(room, "ann", update_message(first))
    bob = Editor(2)
    bob.hear(*map(update_message, (second, *end_turn(room, disk).updates)))
    assert bob.text == "one two"


@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
def test_several_that_wait_are_all_there_when_their_turn_comes(
    room: Room, disk: MemoryRecords, order: tuple[int, ...]
) -> None:
    """Updates of one editor may come in any order: when all have come, all are in the document and in answers."""
    ann = Editor(1)
    updates = [ann.write("one "), ann.put("k", 1), ann.write("two")]
    send(room, disk, *(updates[number] for number in order))
    assert waiting(room) == []
    assert shown(room.document) == content(ann.doc)
    assert kept(disk) == content(ann.doc)


def test_pending_updates_survive_a_restart(room: Room, disk: MemoryRecords) -> None:
    """Content and deletions that wait are there after a restart, and are applied when their turn comes."""
    ann = Editor(1)
    first, second = ann.write("one "), ann.write("two")
    deletion = Editor(2, first).delete(0, 2)
    send(room, disk, second, deletion)
    room = open_room(disk)
    assert shown(room.document)[0] == ""
    send(room, disk, first)
    assert shown(room.document)[0] == "e two"
    assert kept(disk)[0] == "e two"


def test_pending_updates_are_in_answers(room: Room, disk: MemoryRecords) -> None:
    """A client that was not there when an update came too early gets it as well."""
    ann = Editor(1)
    first, second = ann.write("one "), ann.write("two")
    send(room, disk, second)
    bob = Editor(2, whole(room.document))
    bob.take(first)
    assert bob.text == "one two"


def test_pending_updates_survive_many_compactions(
    room: Room, disk: MemoryRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Waiting updates outlive compactions, and do not keep the records from being few."""
    monkeypatch.setattr(module, "COMPACT_AFTER", 5)
    ann, bob = Editor(1), Editor(2)
    first, second = ann.write("one "), ann.write("two")
    send(room, disk, second, *(bob.put("k", number) for number in range(30)))
    assert len(disk.records()) <= 10
    room = open_room(disk)
    send(room, disk, first)
    assert shown(room.document) == ("one two", {"k": 29.0}, [])


def test_a_repeated_pending_update_is_stored_once(room: Room, disk: MemoryRecords) -> None:
    """A waiting update that is sent again, by its sender or by others that have it, is not stored again."""
    ann = Editor(1)
    ann.write("lost")
    waits = ann.write("waits")
    send(room, disk, waits, waits, waits)
    assert len(disk.records()) == 1


def test_pending_updates_are_bounded(room: Room, disk: MemoryRecords, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that sends ever more that waits is refused at last; what does not wait is welcome as before."""
    monkeypatch.setattr("opennoodl_sync.yjs.document.MAX_PENDING", 50_000)
    ann, bob = Editor(1), Editor(2)
    ann.write("lost")
    early = [ann.write("waits" if number % 2 else "lost too") for number in range(100)][1::2]
    with pytest.raises(MalformedError, match="too many changes wait"):
        send(room, disk, *early)
    assert room.document.pending_size <= 50_000
    with suppress(MalformedError):
        receive(room, "eve", update_message(bytes.fromhex("00010101" + "ff7f" + "01")))
    send(room, disk, bob.write("bob"), bob.delete(0, 1))
    assert Editor(3, *bob.updates).text in shown(room.document)[0]
