"""Acknowledgements: a client that asks for them learns how many of its updates are stored."""

from __future__ import annotations

import pytest
from opennoodl_sync.rooms.room import Room
from opennoodl_sync.storage.interface import StoreError
from opennoodl_sync.storage.leveldb.database import RecordBatch
from opennoodl_sync.yjs.lib0 import MalformedError, read_varuint
from opennoodl_sync.yjs.update import NOTHING

from ..editor import Editor
from ..memory_records import MemoryRecords
from ..turns import Disk, ask, flush, here, open_room, receive, send
from ..wire import QUERY, step_2, update_message


@pytest.fixture
def disk() -> Disk:
    """Return where the room is kept."""
    return Disk()


@pytest.fixture
def room(disk: Disk) -> Room:
    """Return a room with ann, who wants acknowledgements, and bob, who has not heard of them."""
    room = open_room(disk)
    room.join("ann", acknowledge=True)
    room.join("bob")
    return room


def acknowledged(room: Room) -> dict[object, int]:
    """Flush; return what was acknowledged to whom."""
    counts = {}
    for client, message in flush(room).replies:
        number, at = read_varuint(message, 0)
        if number == 100:
            assert client not in counts
            counts[client], end = read_varuint(message, at)
            assert end == len(message)
    return counts


def test_updates_are_counted(room: Room) -> None:
    """An acknowledgement says how many of a client's updates are stored, all from the first on."""
    ann = Editor(1)
    send(room, "ann", ann.write("one "))
    assert acknowledged(room) == {"ann": 1}
    send(room, "ann", ann.write("two "), ann.write("three "))
    assert acknowledged(room) == {"ann": 3}


def test_step_2_counts_as_well(room: Room) -> None:
    """Step 2 and update both bring updates."""
    ann = Editor(1)
    receive(room, "ann", step_2(ann.write("one ")))
    send(room, "ann", ann.write("two"))
    assert acknowledged(room) == {"ann": 2}


def test_other_messages_do_not_count(room: Room) -> None:
    """Step 1 and awareness are not stored, and nobody waits for them to be."""
    ask(room, "ann")
    here(room, "ann", (1, 1, {}))
    receive(room, "ann", QUERY)
    assert acknowledged(room) == {}
    send(room, "ann", Editor(1).write("one"))
    assert acknowledged(room) == {"ann": 1}


def test_a_stock_client_gets_no_acknowledgement(room: Room) -> None:
    """A stock client, which would not know what they are, is sent no acknowledgements."""
    send(room, "bob", Editor(1).write("one"))
    assert acknowledged(room) == {}


def test_everybody_is_told_of_their_own(room: Room) -> None:
    """Each client's updates are counted by themselves."""
    room.join("carol", acknowledge=True)
    ann, carol = Editor(1), Editor(3)
    send(room, "ann", ann.write("a"), ann.write("b"))
    send(room, "carol", carol.write("c"))
    assert acknowledged(room) == {"ann": 2, "carol": 1}
    send(room, "carol", carol.write("d"))
    assert acknowledged(room) == {"carol": 2}


def test_updates_that_wait_are_acknowledged(room: Room, disk: Disk) -> None:
    """An update that builds upon one that has not come is stored, and acknowledged."""
    ann = Editor(1)
    ann.write("lost")
    send(room, "ann", ann.write("waits"))
    assert acknowledged(room) == {"ann": 1}
    assert len(disk.records()) == 1


def test_updates_that_are_known_are_acknowledged(room: Room) -> None:
    """A repeated update and an empty one need not be stored again: they are acknowledged like any."""
    first = Editor(1).write("one")
    send(room, "bob", first)
    flush(room)
    send(room, "ann", first)
    assert room.dirty
    assert acknowledged(room) == {"ann": 1}
    send(room, "ann", NOTHING)
    receive(room, "ann", step_2(NOTHING))
    assert acknowledged(room) == {"ann": 3}


def test_repeated_updates_that_wait_are_acknowledged(room: Room) -> None:
    """Neither needs what waits already to be stored again."""
    ann = Editor(1)
    ann.write("lost")
    send(room, "ann", ann.write("waits"))
    flush(room)
    send(room, "ann", ann.updates[-1])
    assert acknowledged(room) == {"ann": 2}


def test_nothing_is_acknowledged_that_is_not_stored(room: Room, disk: Disk) -> None:
    """A disk that fails acknowledges nothing."""
    disk.fails = True
    send(room, "ann", Editor(1).write("one"))
    with pytest.raises(StoreError):
        flush(room)


def test_updates_during_a_batch_are_acknowledged_later(room: Room) -> None:
    """The count is that of the batch, not that of the moment when it is written."""
    ann = Editor(1)
    send(room, "ann", ann.write("one "))
    replies = room.flush(RecordBatch()).replies
    send(room, "ann", ann.write("two"))
    assert replies == [("ann", b"\x64\x01")]
    assert acknowledged(room) == {"ann": 2}


def test_a_repeated_update_of_a_batch_under_way_is_acknowledged_after_it(room: Room) -> None:
    """A repeated update is acknowledged only after the batch under way is stored."""
    first = Editor(1).write("one")
    send(room, "bob", first)
    assert room.flush(RecordBatch()).replies == []
    send(room, "ann", first)
    assert acknowledged(room) == {"ann": 1}


def test_a_malformed_update_is_not_counted(room: Room) -> None:
    """An update that was refused is not stored, and not acknowledged."""
    with pytest.raises(MalformedError):
        receive(room, "ann", update_message(b"junk"))
    assert acknowledged(room) == {}


def test_counts_begin_with_each_connection(room: Room) -> None:
    """Counts are those of a connection."""
    ann = Editor(1)
    send(room, "ann", ann.write("one "), ann.write("two "))
    assert acknowledged(room) == {"ann": 2}
    room.leave("ann")
    room.join("ann", acknowledge=True)
    send(room, "ann", ann.write("three"))
    assert acknowledged(room) == {"ann": 1}


def test_acknowledgements_come_behind_updates_and_answers(room: Room) -> None:
    """A client that is told that something is stored was shown it before."""
    send(room, "ann", Editor(1).write("one"))
    ask(room, "ann")
    assert [message[:1] for _, message in flush(room).replies] == [b"\x00", b"\x64"]


def test_a_slow_reader_is_acknowledged_when_it_reads(room: Room) -> None:
    """A client that is left out of the updates may go on writing; acknowledgements do not pile up for it."""
    ask(room, "ann")
    room.put_behind("ann")
    flush(room)
    ann = Editor(1)
    for word in ("one ", "two "):
        send(room, "ann", ann.write(word))
        assert acknowledged(room) == {}
    room.catch_up("ann")
    assert room.dirty
    assert acknowledged(room) == {"ann": 2}


def test_a_client_that_falls_behind_is_acknowledged_its_earlier_updates(room: Room) -> None:
    """The turn in which a client is found not to read is told to it still."""
    send(room, "ann", Editor(1).write("one"))
    room.put_behind("ann")
    assert acknowledged(room) == {"ann": 1}


def test_without_a_disk_there_is_nothing_to_wait_for() -> None:
    """A room in memory counts as well; the server does not offer it."""
    room = open_room(MemoryRecords())
    room.join("ann", acknowledge=True)
    send(room, "ann", Editor(1).write("one"))
    assert acknowledged(room) == {"ann": 1}
