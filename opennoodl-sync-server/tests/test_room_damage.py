"""A room whose clients send updates that wait, and updates that were made to do harm."""

from __future__ import annotations

import sys
from contextlib import suppress
from itertools import permutations
from pathlib import Path
from subprocess import run

import pytest
from opennoodl_sync import room as module
from opennoodl_sync.room import Room
from opennoodl_sync.store import MemoryYStore
from opennoodl_sync.yjs.lib0 import MalformedError

from .editor import BASE, CRASHING, DAMAGING, POISON, UNSOUND, WAITING, Editor, content
from .turns import end_turn, keep, kept, open_room, receive, shown
from .wire import step_1, update_message

unsound = pytest.mark.parametrize("update", UNSOUND.values(), ids=UNSOUND.keys())
SERIES = {**POISON, "ended the process": CRASHING}
series = pytest.mark.parametrize("updates", SERIES.values(), ids=SERIES.keys())


@pytest.fixture
def disk() -> MemoryYStore:
    """Return where the room is kept."""
    return MemoryYStore()


@pytest.fixture
def room(disk: MemoryYStore) -> Room:
    """Return an empty room."""
    return open_room(disk)


def send(room: Room, disk: MemoryYStore, *updates: bytes) -> None:
    """Let a client send updates, each in a turn of its own."""
    for update in updates:
        receive(room, "somebody", update_message(update))
        end_turn(room, disk)


def attack(room: Room, disk: MemoryYStore, *updates: bytes, at_once: bool = False) -> None:
    """Let a client send updates that may be refused."""
    for update in updates:
        with suppress(MalformedError):
            receive(room, "eve", update_message(update))
        if not at_once:
            end_turn(room, disk)
    end_turn(room, disk)


@unsound
def test_an_unsound_update_harms_nobody(room: Room, disk: MemoryYStore, update: bytes) -> None:
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
    eyewitness.hear(*flush.updates)
    assert content(eyewitness.doc) == content(bob.doc)
    assert shown(room.document) == content(bob.doc)
    assert kept(disk) == content(bob.doc)


@unsound
def test_an_unsound_update_is_not_stored(room: Room, disk: MemoryYStore, update: bytes) -> None:
    """What is refused leaves nothing behind, and there is nothing to tell."""
    send(room, disk, BASE)
    attack(room, disk, update)
    assert disk.updates() == [BASE]
    assert list(room.document.waiting) == []


@unsound
def test_an_unsound_update_does_no_harm_when_records_are_many(
    room: Room, disk: MemoryYStore, update: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A damaged document is never what a compaction writes."""
    monkeypatch.setattr(module, "COMPACT_AFTER", 2)
    bob = Editor(5, BASE)
    send(room, disk, BASE, bob.write(" one", 3))
    receive(room, "bob", update_message(bob.write(" two", 7)))
    attack(room, disk, update)
    send(room, disk, bob.write(" three", 11))
    assert len(disk.records()) < 4
    assert shown(room.document) == content(bob.doc)
    assert kept(disk) == content(bob.doc)


@series
@pytest.mark.parametrize("at_once", [False, True], ids=["one a turn", "all in one turn"])
def test_a_room_that_lives_can_be_opened_again(
    room: Room, disk: MemoryYStore, updates: list[bytes], at_once: bool
) -> None:
    """Whatever a room has accepted, it can be loaded from disk with everybody's edits in it, and what waits."""
    bob = Editor(5)
    send(room, disk, bob.put("bob", "was here"))
    attack(room, disk, *updates, at_once=at_once)
    room.close()
    again = open_room(disk)
    _, entries, _ = shown(again.document)
    assert isinstance(entries, dict)
    assert entries["bob"] == "was here"
    assert shown(again.document) == shown(room.document)
    assert set(again.document.waiting) == set(room.document.waiting)


@series
def test_a_room_goes_on_whatever_it_was_sent(room: Room, disk: MemoryYStore, updates: list[bytes]) -> None:
    """After any number of mutated updates the room still takes, tells and stores what others write."""
    attack(room, disk, *updates, *UNSOUND.values(), *WAITING.values())
    bob = Editor(5)
    receive(room, "bob", update_message(bob.put("bob", "was here")))
    flush = end_turn(room, disk)
    assert len(flush.updates) == 1
    room.close()
    _, entries, _ = kept(disk)
    assert isinstance(entries, dict)
    assert entries["bob"] == "was here"


@pytest.mark.parametrize("update", WAITING.values(), ids=WAITING.keys())
def test_a_mutated_update_may_wait(room: Room, disk: MemoryYStore, update: bytes) -> None:
    """What builds on what is not there waits, whether it ever comes or not, and touches nothing."""
    bob = Editor(5, BASE)
    send(room, disk, BASE, update, bob.write(" and more", 3))
    assert len(room.document.waiting) == 1
    assert shown(room.document) == content(bob.doc)
    assert kept(disk) == content(bob.doc)


def test_a_series_that_ended_the_process_does_no_more(room: Room, disk: MemoryYStore) -> None:
    """Updates that yrs cannot bear together wait outside of it: live, loaded again, and after a compaction."""
    for _ in range(3):
        attack(room, disk, *CRASHING)
        batch = room.document.whole()
        assert shown(room.document) == ("abc", {}, [])
        disk = MemoryYStore()
        keep(disk, *batch)
        room = open_room(disk)
    assert len(room.document.waiting) == len(CRASHING) - 1


def test_a_store_that_holds_such_a_series_can_be_opened() -> None:
    """What ended the process may have been stored, without marks, by another server: it is opened nevertheless."""
    script = f"""
import sys
sys.path.insert(0, {str(Path(module.__file__).parents[1])!r})
from opennoodl_sync.yjs.document import Document
for _ in range(200):
    document = Document(lambda: [bytes.fromhex(update) for update in {[update.hex() for update in CRASHING]!r}])
print(len(document.waiting))
"""
    child = run([sys.executable, "-c", script], capture_output=True, check=False, timeout=60)
    assert (child.returncode, child.stdout.strip()) == (0, str(len(CRASHING) - 1).encode())


def test_what_waits_is_there_when_its_turn_comes(room: Room, disk: MemoryYStore) -> None:
    """An update that comes before the one that it builds on is integrated, and told, when that comes."""
    ann = Editor(1)
    first, second = ann.write("one "), ann.write("two")
    receive(room, "ann", update_message(second))
    assert end_turn(room, disk).updates == []
    receive(room, "ann", update_message(first))
    (told,) = end_turn(room, disk).updates
    bob = Editor(2)
    bob.hear(told)
    assert bob.text == "one two"


@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
def test_several_that_wait_are_all_there_when_their_turn_comes(
    room: Room, disk: MemoryYStore, order: tuple[int, ...]
) -> None:
    """Updates of one editor may come in any order: when all have come, all are in the document and in answers."""
    ann = Editor(1)
    updates = [ann.write("one "), ann.put("k", 1), ann.write("two")]
    send(room, disk, *(updates[number] for number in order))
    assert shown(room.document) == content(ann.doc)
    assert kept(disk) == content(ann.doc)


def test_what_waits_survives_on_disk(room: Room, disk: MemoryYStore) -> None:
    """Content and deletions that wait are stored before they are integrated: after a restart they still come in."""
    ann = Editor(1)
    first, second = ann.write("one "), ann.write("two")
    deletion = Editor(2, first).delete(0, 2)
    send(room, disk, second, deletion)
    room = open_room(disk)
    assert shown(room.document)[0] == ""
    send(room, disk, first)
    assert shown(room.document)[0] == "e two"
    assert kept(disk)[0] == "e two"


def test_what_waits_survives_many_compactions(room: Room, disk: MemoryYStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting updates outlive compactions, and do not keep the records from being few."""
    monkeypatch.setattr(module, "COMPACT_AFTER", 5)
    ann, bob = Editor(1), Editor(2)
    first, second = ann.write("one "), ann.write("two")
    send(room, disk, second, *(bob.put("k", number) for number in range(30)))
    assert len(disk.records()) <= 10
    room = open_room(disk)
    send(room, disk, first)
    assert shown(room.document) == ("one two", {"k": 29.0}, [])


def test_what_waits_is_stored_once(room: Room, disk: MemoryYStore) -> None:
    """A waiting update that is sent again, by its sender or by others that have it, is not stored again."""
    ann = Editor(1)
    ann.write("lost")
    waits = ann.write("waits")
    send(room, disk, waits, waits, waits)
    assert len(disk.records()) == 1


@pytest.mark.parametrize("update", DAMAGING.values(), ids=DAMAGING.keys())
def test_an_unsound_update_that_waited_is_dropped(
    room: Room, disk: MemoryYStore, update: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When what an unsound update waited for comes, that is accepted, and the unsound one goes with a compaction."""
    monkeypatch.setattr(module, "COMPACT_AFTER", 2)
    bob = Editor(5, BASE)
    send(room, disk, update, BASE, bob.write(" and more", 3), bob.write(" yet", 12))
    assert shown(room.document) == content(bob.doc)
    assert kept(disk) == content(bob.doc)
    assert not any(record.startswith(update) for record in disk.updates())


def test_an_unsound_update_takes_nobody_with_it(room: Room, disk: MemoryYStore) -> None:
    """What others wait for is kept when an unsound update that waited as well is dropped."""
    ann = Editor(9)
    first, second = ann.put("first", 1), ann.put("second", 2)
    send(room, disk, second, *DAMAGING.values(), BASE, first)
    assert shown(room.document) == content(Editor(3, BASE, first, second).doc)
    assert kept(disk) == shown(room.document)
