"""When records are merged: by count, by bytes, when a room is left; and that a crash loses nothing on the way."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opennoodl_sync.rooms import records as module
from opennoodl_sync.rooms.room import Room
from opennoodl_sync.storage.interface import DocumentRecords
from opennoodl_sync.storage.leveldb.documents import LevelDBDocument
from opennoodl_sync.yjs import document as document_module
from opennoodl_sync.yjs.compaction import compact_records
from opennoodl_sync.yjs.lib0 import finish
from opennoodl_sync.yjs.segment_index import write_index

from ..disks import Records
from ..editor import Editor, content
from ..memory_records import MemoryRecords
from ..turns import (
    compact_if_due,
    end_turn,
    flush,
    keep,
    kept,
    open_room,
    rest,
    send,
    shown,
    waiting,
    whole,
    write_turn,
)


@pytest.fixture
def disk() -> MemoryRecords:
    """Return where the room is kept."""
    return MemoryRecords()


@pytest.fixture
def room(disk: MemoryRecords) -> Room:
    """Return an empty room."""
    return open_room(disk)


def level(records: Records) -> LevelDBDocument:
    """Return the store of a document among records."""
    return LevelDBDocument("room", database=records)


def edit(room: Room, *updates: bytes) -> None:
    """Store updates, each in a turn of its own."""
    for update in updates:
        send(room, "ann", update)
        flush(room)


def test_many_records_become_one(room: Room, disk: MemoryRecords, monkeypatch: pytest.MonkeyPatch) -> None:
    """A document is compacted while it is open, so that it can be opened quickly, and keeps its content."""
    monkeypatch.setattr(module, "COMPACT_AFTER", 5)
    ann = Editor(1)
    for number in range(18):
        edit(room, ann.put("k", f"{number}" * 100))
        assert len(disk.records()) <= 6
    assert kept(disk) == content(ann.doc)


def test_large_records_become_one(room: Room, disk: MemoryRecords, monkeypatch: pytest.MonkeyPatch) -> None:
    """However few they are, records of many bytes are merged."""
    monkeypatch.setattr(module, "COMPACT_SIZE", 5_000)
    ann = Editor(1)
    for number in range(18):
        edit(room, ann.put("k", f"{number % 10}" * 2_000))
        assert sum(map(len, disk.updates())) < 12_000
    assert kept(disk) == content(ann.doc)


@pytest.mark.parametrize("name", ["COMPACT_AFTER", "COMPACT_SIZE"])
def test_a_large_document_is_not_merged_for_a_little(
    disk: MemoryRecords, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A document is written again only when as many bytes have come as it has."""
    monkeypatch.setattr(module, name, 5)
    ann = Editor(1)
    keep(disk, ann.write("x" * 10_000))
    room = open_room(disk)
    edit(room, *(ann.write("y") for _ in range(100)))
    assert len(disk.records()) == 101
    edit(room, ann.write("z" * 10_000))
    assert len(disk.records()) == 1


def test_a_document_that_was_large_is_merged_in_the_end(disk: MemoryRecords, monkeypatch: pytest.MonkeyPatch) -> None:
    """A document that has shrunk is compacted in the end, though fewer bytes than it had came since."""
    monkeypatch.setattr(module, "COMPACT_ANYWAY", 20)
    ann = Editor(1)
    keep(disk, ann.write("x" * 10_000))
    room = open_room(disk)
    edit(room, ann.delete(0, 10_000), *(ann.write("y") for _ in range(20)))
    assert sum(map(len, disk.updates())) < 200
    assert kept(disk) == content(ann.doc)


def test_many_records_are_merged_with_the_next_change(disk: MemoryRecords, monkeypatch: pytest.MonkeyPatch) -> None:
    """A document with many records is opened as it is, and compacted when it changes."""
    monkeypatch.setattr(module, "COMPACT_AFTER", 5)
    ann = Editor(1)
    keep(disk, *(ann.write(f"{number} ") for number in range(20)))
    room = open_room(disk)
    assert shown(room.document) == content(ann.doc)
    assert len(disk.records()) == 20
    edit(room, ann.write("more"))
    assert len(disk.records()) == 1
    assert kept(disk) == content(ann.doc)


def test_compaction_is_one_batch() -> None:
    """A compacted document takes the place of its records in one step."""
    records = Records()
    ann = Editor(1)
    store = level(records)
    keep(store, *(ann.write("word ") for _ in range(600)))
    room = open_room(store)
    send(room, "ann", ann.write("last"))
    count = len(records.before)
    end_turn(room, store)
    assert len(records.before) == count + 2  # the turn's own, and the compaction's
    assert len(store.records()) == 1
    assert kept(level(records)) == content(ann.doc)


def test_compaction_keeps_what_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pending updates outlive every compaction and restart, and all changes in between."""
    monkeypatch.setattr(module, "COMPACT_AFTER", 3)
    records = Records()
    ann, bob = Editor(1), Editor(2)
    first, second = ann.write("one "), ann.write("two")
    deletion = Editor(3, first).delete(0, 2)
    room = open_room(level(records))
    store = level(records)
    for update in (second, deletion, *(bob.put("k", f"{number}" * 50) for number in range(20))):
        send(room, "ann", update)
        end_turn(room, store)
        room = open_room(level(records))
        assert len(waiting(room)) == 1
        assert len(store.records()) <= 6
    send(room, "ann", first)
    end_turn(room, store)
    assert kept(level(records))[0] == "e two"


def rested(room: Room, store: MemoryRecords) -> int:
    """Let a room leave memory; return how many records there are then."""
    rest(room, store)
    return len(store.records())


@pytest.mark.parametrize(("count", "left"), [(20, 20), (21, 1)])
def test_a_room_that_is_left_leaves_few_records(room: Room, disk: MemoryRecords, count: int, left: int) -> None:
    """More than twenty records are merged when a document leaves memory, the last changes with them."""
    ann = Editor(1)
    edit(room, *(ann.write("word ") for _ in range(count - 1)))
    send(room, "ann", ann.write("word "))
    assert rested(room, disk) == left
    assert kept(disk) == content(ann.doc)


def test_a_large_document_is_not_written_again_for_a_little(disk: MemoryRecords) -> None:
    """A large document is not written again for a visit or a small change."""
    ann = Editor(1)
    keep(disk, ann.write("x" * 10_000))
    room = open_room(disk)
    edit(room, *(ann.write("y") for _ in range(100)))
    assert rested(room, disk) == 101


def test_very_many_records_are_merged_when_a_room_is_left(disk: MemoryRecords) -> None:
    """However large a document is, it is not left with more than five hundred records."""
    ann = Editor(1)
    keep(disk, ann.write("x" * 100_000))
    room = open_room(disk)
    edit(room, *(ann.write("y") for _ in range(501)))
    assert len(disk.records()) == 502
    assert rested(room, disk) == 1


def test_a_room_that_was_compacted_is_left_as_it_is(room: Room, disk: MemoryRecords) -> None:
    """A compacted document is not written again."""
    ann = Editor(1)
    edit(room, *(ann.write("word ") for _ in range(30)))
    assert rested(room, disk) == 1
    before = disk.records()
    rest(open_room(disk), disk)
    assert disk.records() == before


class Session:
    """Editors at work on a room, with everything that chance brings.

    Attributes:
        records: what is on disk.
        sent: every update that the room was sent.
    """

    def __init__(self, dice: random.Random) -> None:
        self.records = Records()
        self.sent: list[bytes] = []
        self._dice = dice
        self._store = level(self.records)
        self._room = open_room(self._store)
        self._editors = [Editor(number) for number in range(1, 4)]
        self._late: list[bytes] = []

    def step(self) -> None:
        """Let one thing happen: an edit, late or not, the end of a turn, or of the room."""
        dice, editor = self._dice, self._dice.choice(self._editors)
        match dice.randrange(12):
            case 0 | 1 | 2 | 3:
                self._send(editor.write(chr(dice.randrange(97, 123)) * dice.randrange(1, 80)))
            case 4 | 5:
                self._send(editor.put(dice.choice("kl"), dice.randrange(1000)))
            case 6 if editor.text:
                start = dice.randrange(len(editor.text))
                self._send(editor.delete(start, min(start + dice.randrange(1, 50), len(editor.text))))
            case 7:
                self._late.append(editor.push(dice.randrange(10)))
            case 8 if self._late:
                self._send(self._late.pop(dice.randrange(len(self._late))))
            case 9:
                other = dice.choice(self._editors)
                other.take(editor.doc.get_update(other.doc.get_state()))
            case 10:
                self.end_turn()
            case 11 if not dice.randrange(5):
                rest(self._room, self._store)
                self._store = level(self.records)
                self._room = open_room(self._store)

    def end_turn(self) -> None:
        """Store what came, and compact it if that is due."""
        end_turn(self._room, self._store)

    def bring_the_rest(self) -> None:
        """Send what was to come late."""
        self._send(*self._late)
        self._late = []
        self.end_turn()

    def everything(self) -> tuple[str, object, object]:
        """Return what all editors together wrote."""
        return content(Editor(9, *(editor.doc.get_update() for editor in self._editors)).doc)

    @property
    def state(self) -> bytes:
        """The document as one update."""
        return whole(self._room.document)

    @property
    def waiting(self) -> int:
        """Bytes of what waits."""
        return self._room.document.pending_size

    def _send(self, *updates: bytes) -> None:
        self.sent += updates
        send(self._room, "ann", *updates)


@pytest.mark.slow
@settings(max_examples=15)
@given(st.integers(0, 2**32), st.sampled_from((0, 1, 100)))
def test_a_crash_between_batches_loses_nothing(seed: int, size: int) -> None:
    """After every batch the records are all of what was sent before, whatever was merged and whatever waits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "COMPACT_AFTER", 4)
        patch.setattr(module, "COMPACT_IDLE_AFTER", 2)
        patch.setattr(LevelDBDocument, "part_size", size)
        session = Session(random.Random(seed))  # noqa: S311
        for _ in range(150):
            batches = len(session.records.before)
            session.step()
            if len(session.records.before) > batches:
                everything = open_room(MemoryRecords())
                send(everything, "ann", *session.sent)
                for records in session.records.before[batches:]:
                    assert shown(open_room(level(Records(records))).document) == shown(everything.document)
        session.bring_the_rest()
        assert kept(level(Records(session.records.now))) == session.everything()


@pytest.mark.slow
@settings(max_examples=8)
@given(st.integers(0, 2**32))
def test_records_stay_within_bounds(seed: int) -> None:
    """The stored records never exceed twice the compacted document and one window."""
    window = 2_000
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "COMPACT_AFTER", 10)
        patch.setattr(module, "COMPACT_SIZE", window)
        session = Session(random.Random(seed))  # noqa: S311
        largest = 0
        for _ in range(600):
            session.step()
            session.end_turn()
            largest = max(largest, len(session.state))
            size = sum(map(len, level(session.records).updates()))
            assert size <= 2 * largest + window + 2 * session.waiting


def test_a_compaction_that_failed_is_tried_again_later(
    room: Room, disk: MemoryRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not come again with every change; nothing is lost, and after a minute it is due again."""
    monkeypatch.setattr(module, "COMPACT_AFTER", 2)
    now = [100.0]
    monkeypatch.setattr(module, "monotonic", lambda: now[0])
    ann = Editor(1)
    for _ in range(3):
        send(room, "ann", ann.write("word "))
        write_turn(room, disk)
    assert room.records.is_compaction_due()
    finish(room.begin_compaction())
    room.abandon_compaction()
    send(room, "ann", ann.write("more"))
    write_turn(room, disk)
    assert not room.records.is_compaction_due()
    now[0] += module.FAILURE_PAUSE
    assert room.records.is_compaction_due()
    assert kept(disk) == content(ann.doc)


def test_updates_during_a_compaction_are_kept(room: Room, disk: MemoryRecords, monkeypatch: pytest.MonkeyPatch) -> None:
    """Changes that come while a document is compacted are behind it, on disk and in memory."""
    monkeypatch.setattr(module, "COMPACT_AFTER", 2)
    ann = Editor(1)
    for _ in range(3):
        send(room, "ann", ann.write("word "))
        write_turn(room, disk)
    finish(room.begin_compaction())
    part = finish(room.next_part())
    segment, _ = finish(compact_records(finish(segment.write()) for segment in part.segments))
    send(room, "ann", ann.write("more"), ann.delete(0, 2))
    write_turn(room, disk)
    update = finish(segment.write())
    room.end_part(part, update, segment, finish(write_index(segment, [update])))
    send(room, "ann", ann.write("last"))
    write_turn(room, disk)
    assert len(disk.records()) == 3
    assert shown(room.document) == content(ann.doc)
    assert kept(disk) == content(ann.doc)


def test_a_large_document_is_loaded_by_its_index(disk: MemoryRecords, monkeypatch: pytest.MonkeyPatch) -> None:
    """A compacted document of some size is not read struct by struct; without its index it is."""
    ann = Editor(1)
    keep(disk, *(ann.write("x" * 50_000) for _ in range(3)))
    room = open_room(disk)
    room.records.must_shrink()
    send(room, "ann", ann.write("y"))
    end_turn(room, disk)
    assert disk.stored().indexes
    with monkeypatch.context() as patch:
        patch.setattr(document_module, "read", lambda *_: pytest.fail("it was read"))
        assert open_room(disk).document.state_vector() == room.document.state_vector()
    disk._indexes = dict.fromkeys(disk._indexes, b"not an index")
    assert shown(open_room(disk).document) == content(ann.doc)


def large(disk: DocumentRecords, clients: range) -> Room:
    """Return a room with a text of each client, about to be compacted."""
    keep(disk, *(Editor(client).write("x" * 100) for client in clients))
    room = open_room(disk)
    room.records.must_shrink()
    return room


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Store compacted documents in parts of at least 250 bytes."""
    monkeypatch.setattr(LevelDBDocument, "part_size", 250)


@pytest.mark.usefixtures("parts")
def test_a_large_document_is_stored_in_parts() -> None:
    """Each part is written in a batch, the last one in place of all records; a restart uses all indexes."""
    records = Records()
    room = large(level(records), range(1, 8))
    before, batches = shown(room.document), len(records.before)
    store = level(records)
    compact_if_due(room, store)
    assert len(records.before) == batches + 3
    assert room.records.added == 0
    stored = level(records).stored()
    assert len(stored.updates) == len(stored.indexes) == 3
    assert sum(update.count(b"x" * 100) for update in stored.updates) == 7
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(document_module, "read", lambda *_: pytest.fail("it was read"))
        assert open_room(level(records)).document.memory
    assert shown(open_room(level(records)).document) == shown(room.document) == before


@pytest.mark.usefixtures("parts")
def test_a_document_in_parts_is_compacted_again() -> None:
    """Nothing is left of its former parts and their indexes."""
    records = Records()
    for clients in (range(1, 8), range(8, 15)):
        room = large(level(records), clients)
        compact_if_due(room, level(records))
    stored = level(records).stored()
    assert len(stored.updates) == len(stored.indexes) == 5
    assert sum(b"opennoodl-index" in key for key in records.now) == 5
    assert sum(update.count(b"x" * 100) for update in stored.updates) == 14


@pytest.mark.usefixtures("parts")
def test_a_crash_during_a_compaction_leaves_a_document_that_is_compacted_again() -> None:
    """Parts of two compactions have the same clients then; only some are loaded by their indexes."""
    records = Records()
    room = large(level(records), range(1, 8))
    compact_if_due(room, level(records))
    room = large(level(records), range(8, 15))
    batches = len(records.before)
    compact_if_due(room, level(records))
    assert len(records.before) == batches + 5
    numbers = []
    for crashed in records.before[batches:-1]:
        after = level(Records(crashed))
        again = open_room(after)
        assert shown(again.document) == shown(room.document)
        again.records.must_shrink()
        compact_if_due(again, after)
        numbers.append(len(after.records()))
        assert shown(open_room(after).document) == shown(room.document)
    assert numbers == [5, 5, 1, 1]


@pytest.mark.usefixtures("parts")
def test_interrupted_compactions_do_not_add_parts_again_and_again() -> None:
    """After two of them, the document is compacted in one batch, and in parts after that."""
    records = Records()
    large(level(records), range(1, 8))
    sizes = []
    for _ in range(4):
        room = open_room(level(records))
        room.records.must_shrink()
        batches = len(records.before)
        compact_if_due(room, level(records))
        sizes.append(len(records.before) - batches)
        records = Records(records.before[-2]) if sizes[-1] > 1 else records
    assert sizes[:3] == [3, 3, 1]
    room = large(level(records), range(8, 15))
    compact_if_due(room, level(records))
    assert len(level(records).records()) == 5


@pytest.mark.usefixtures("parts")
def test_a_damaged_state_vector_of_a_document_in_parts_loses_nothing() -> None:
    """The first update of the document is then known from the one that replaced the earlier ones, not from parts."""
    records = Records()
    compact_if_due(large(level(records), range(1, 8)), level(records))
    (key,) = (key for key in records.now if b"v1_sv" in key)
    records.now[key] = b"damaged"
    updates, lost = level(records).salvage()
    assert (len(updates), lost) == (3, [])


@pytest.mark.usefixtures("parts")
def test_parts_count_as_one_record() -> None:
    """Otherwise a document of many parts would be compacted each time it leaves memory."""
    records = Records()
    compact_if_due(large(level(records), range(1, 70)), level(records))
    assert len(level(records).records()) == 23
    room = open_room(level(records))
    assert not room.records.is_compaction_due(idle=True)
    room.records.must_shrink()
    assert not room.records.is_compaction_due()


def test_pending_updates_applied_during_a_compaction_are_kept(room: Room, disk: MemoryRecords) -> None:
    """A run that waited is not in what is compacted: when its predecessors come meanwhile, it is stored again."""
    ann = Editor(1)
    first, second = ann.write("one "), ann.write("two")
    for update in (Editor(2).put("k", 1), second):
        send(room, "ann", update)
        write_turn(room, disk)
    finish(room.begin_compaction())
    part = finish(room.next_part())
    segment, _ = finish(compact_records(finish(segment.write()) for segment in part.segments))
    send(room, "ann", first)
    write_turn(room, disk)
    update = finish(segment.write())
    room.end_part(part, update, segment, finish(write_index(segment, [update])))
    write_turn(room, disk)
    assert kept(disk)[0] == "one two"
