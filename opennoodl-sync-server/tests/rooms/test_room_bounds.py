"""A document may not grow for ever: what is refused, what is always welcome, and what makes place again."""

from __future__ import annotations

from contextlib import suppress

import pytest
from opennoodl_sync.rooms.room import FullError, Room
from opennoodl_sync.yjs.lib0 import MalformedError
from opennoodl_sync.yjs.update import NOTHING

from ..editor import Editor, content
from ..memory_records import MemoryRecords
from ..raw import gc, section, update
from ..turns import end_turn, flush, is_quiet, keep, kept, open_room, receive, send, shown, told, waiting, whole
from ..wire import step_2, sync_content, update_message

MOST = 1_000


@pytest.fixture
def disk() -> MemoryRecords:
    """Return where the room is kept."""
    return MemoryRecords()


@pytest.fixture
def room(disk: MemoryRecords) -> Room:
    """Return an empty room that may have a thousand bytes."""
    return open_room(disk, MOST)


def refused(room: Room, client: str, written: bytes) -> None:
    """Send an update that is too much."""
    with pytest.raises(FullError, match=r"MAX_DOCUMENT_SIZE: 1000 bytes"):
        receive(room, client, update_message(written))


def filled(room: Room) -> Editor:
    """Fill a room nearly."""
    ann = Editor(1)
    send(room, "ann", ann.write("x" * (MOST - 50)))
    flush(room)
    return ann


@pytest.mark.parametrize("spare", [0, -1])
def test_the_bound_is_that_of_the_whole_document(spare: int) -> None:
    """A document of as many bytes as are allowed is taken, one that has a byte more is not."""
    update = Editor(1).write("x" * 300)
    room = open_room(MemoryRecords(), len(update) + spare)
    if spare < 0:
        with pytest.raises(FullError):
            receive(room, "ann", update_message(update))
    else:
        send(room, "ann", update)
        assert told(room)


def test_without_a_bound_everything_is_welcome() -> None:
    """Zero means no limit."""
    room = open_room(MemoryRecords(), 0)
    send(room, "ann", Editor(1).write("x" * 100_000))
    assert len(shown(room.document)[0]) == 100_000


@pytest.mark.parametrize("stored", [False, True], ids=["in one turn", "in the next turn"])
def test_an_update_that_makes_a_document_too_large_is_refused(room: Room, disk: MemoryRecords, stored: bool) -> None:
    """Nothing of a refused update is applied, told or stored; what others sent in that turn is."""
    ann, eve = Editor(1), Editor(3)
    send(room, "ann", ann.write("x" * 900))
    if stored:
        flush(room)
    before = whole(room.document)
    refused(room, "eve", eve.write("y" * 200))
    assert whole(room.document) == before
    assert waiting(room) == []
    send(room, "bob", Editor(2).put("k", 1))
    assert b"yy" not in b"".join(flush(room).updates)
    assert kept(disk) == ("x" * 900, {"k": 1.0}, [])


def test_a_refusal_alone_is_no_news(room: Room) -> None:
    """There is nothing to flush when nothing was taken."""
    filled(room)
    refused(room, "eve", Editor(2).write("y" * 200))
    assert is_quiet(flush(room))


def test_a_pending_update_that_is_too_large_is_refused(room: Room, disk: MemoryRecords) -> None:
    """An update that is too large is not kept waiting either."""
    ann = Editor(1)
    ann.write("lost")
    refused(room, "ann", ann.write("x" * MOST))
    assert waiting(room) == []
    flush(room)
    assert disk.updates() == []


def test_many_small_updates_are_bounded_together(room: Room) -> None:
    """A document is full at last, however small the steps, and however many of them come in a turn."""
    ann = Editor(1)
    taken = 0
    with suppress(FullError):
        for taken in range(MOST):
            send(room, "ann", ann.write("ten bytes "))
            if taken % 7 == 0:
                flush(room)
    assert taken < MOST / 10
    size = len(whole(room.document))
    assert MOST - 50 < size <= MOST


def test_the_bound_is_not_on_the_updates(room: Room, disk: MemoryRecords) -> None:
    """A document that stays small may change as often as it likes, and its records stay few."""
    ann = Editor(1)
    for number in range(500):
        send(room, "ann", ann.put("k", number))
        flush(room)
        assert sum(map(len, disk.updates())) < 2 * MOST + 100
    assert kept(disk) == content(ann.doc)


def test_deletions_are_always_welcome(room: Room, disk: MemoryRecords) -> None:
    """A full document takes what only deletes."""
    ann = filled(room)
    for _ in range(100):
        send(room, "ann", ann.delete(0, 1))
        flush(room)
    assert kept(disk) == content(ann.doc)


def test_deleted_contents_make_room(room: Room, disk: MemoryRecords) -> None:
    """A document that was full is compacted when much of it is deleted, and may grow again then."""
    ann = filled(room)
    refused(room, "eve", Editor(3).write("y" * 500))
    send(room, "ann", ann.delete(0, 900))
    end_turn(room, disk)
    send(room, "ann", ann.write("z" * 500))
    end_turn(room, disk)
    assert kept(disk) == content(ann.doc)
    assert sum(map(len, disk.updates())) < 700


def holes(client: int, number: int) -> bytes:
    """Return an update that deletes every second element of a client."""
    return update(deletes={client: [(2 * at + 1, 1) for at in range(number)]})


def test_deletions_are_bounded_too(room: Room) -> None:
    """An element that takes the place of millions can be deleted in holes: these take as much as a document may."""
    send(room, "ann", update(section(2, 0, gc(2**31)), section(1, 0, gc(2**31))))
    for client in (1, 2):
        send(room, "ann", holes(client, 120))
        flush(room)
    with pytest.raises(FullError, match="too many deletions: 1000 bytes of them are allowed"):
        receive(room, "ann", update_message(holes(1, 250)))
    send(room, "ann", holes(1, 120))


@pytest.mark.parametrize("large", [False, True])
def test_deletions_that_are_known_are_no_more_of_them(
    room: Room, monkeypatch: pytest.MonkeyPatch, *, large: bool
) -> None:
    """A client that comes back repeats all deletions that it knows, and is not locked out for that."""
    if large:
        monkeypatch.setattr("opennoodl_sync.yjs.document.LARGE_UPDATE", 10)
    send(room, "ann", update(section(1, 0, gc(2**31))))
    send(room, "ann", holes(1, 240))
    flush(room)
    assert receive(room, "bob", step_2(holes(1, 240)))[1] is None
    assert is_quiet(flush(room))
    with pytest.raises(FullError):
        receive(room, "eve", step_2(holes(1, 260)))


def test_a_deletion_that_comes_with_content_is_no_deletion(room: Room) -> None:
    """An update that deletes a little and brings content does not count as a deletion."""
    ann = filled(room)
    with ann.doc.transaction():
        ann.delete(0, 1)
        ann._text.insert(0, "y" * 200)
    refused(room, "ann", ann.updates[-1])


def test_a_full_document_greets_those_that_bring_nothing(room: Room) -> None:
    """A client with nothing new may enter the room of a full document."""
    ann = filled(room)
    send(room, "bob", NOTHING)
    assert receive(room, "bob", step_2(Editor(2, *ann.updates).doc.get_update(ann.doc.get_state())))[1] is None
    bob = Editor(2)
    room.join("bob")
    bob.hear(*(message for _, message in flush(room).replies))


def test_a_document_that_is_too_large_already_is_served(disk: MemoryRecords) -> None:
    """A bound that was lowered closes no document: it may only not grow before it has shrunk."""
    ann = Editor(1)
    keep(disk, ann.write("x" * 2 * MOST))
    room = open_room(disk, MOST)
    assert shown(room.document)[0] == "x" * 2 * MOST
    refused(room, "bob", Editor(2, *ann.updates).write("y"))
    send(room, "ann", ann.delete(0, 1500))
    end_turn(room, disk)
    send(room, "ann", ann.write("y"))
    end_turn(room, disk)
    assert kept(disk) == content(ann.doc)


def test_an_empty_update_is_malformed_in_a_full_document_too(disk: MemoryRecords) -> None:
    """An invalid update is refused as malformed, also in a full document."""
    keep(disk, Editor(1).write("x" * 2 * MOST))
    room = open_room(disk, MOST)
    with pytest.raises(MalformedError):
        receive(room, "eve", step_2(b""))


def test_a_malformed_update_to_a_full_document_is_refused(room: Room) -> None:
    """Junk does no harm to a document that is full."""
    ann = filled(room)
    with pytest.raises((FullError, MalformedError)):
        receive(room, "eve", update_message(b"\x01" * 200))
    send(room, "ann", ann.delete(0, 1))
    assert len(sync_content(told(room), 2)) < 20
