"""Functions that do the server's work for rooms and stores: end turns, and return stored contents."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from opennoodl_sync.rooms.room import Flush, Room
from opennoodl_sync.rooms.transfer import Transfer
from opennoodl_sync.storage.interface import Batch, StoreError
from opennoodl_sync.storage.leveldb.database import Database, RecordBatch
from opennoodl_sync.storage.leveldb.documents import LevelDBDocument
from opennoodl_sync.y_protocol import Kind, parse
from opennoodl_sync.yjs.compaction import compact_records
from opennoodl_sync.yjs.document import Document
from opennoodl_sync.yjs.lib0 import finish
from opennoodl_sync.yjs.segment_index import write_index

from .disks import Records
from .editor import Editor, content
from .memory_records import MemoryRecords
from .wire import awareness_message, step_1, update_message

Store = LevelDBDocument | MemoryRecords


class Disk(MemoryRecords):
    """A store that can fail."""

    fails = False

    def append(self, updates: Sequence[bytes], state_vector: Callable[[], bytes], batch: Batch) -> None:
        """Store `updates`, or fail."""
        if self.fails:
            raise StoreError("the disk is full")
        super().append(updates, state_vector, batch)


def open_room(store: Store, max_size: int = 0, *, name: str = "room") -> Room:
    """Return a room with the stored document."""
    room = Room(name, store, max_size)
    finish(room.load(store.stored()))
    return room


def commit(store: Store, batch: RecordBatch) -> None:
    """Write a batch."""
    if isinstance(store, LevelDBDocument):
        assert isinstance(store._database, Database | Records)
        store._database.write(batch)


def receive(room: Room, client: object, message: bytes) -> tuple[Kind, bytes | None]:
    """Make a room handle one message, with all its steps."""
    kind, content = parse(message)
    return kind, finish(room.receive(client, kind, content))


def loaded(updates: Iterable[bytes]) -> Document:
    """Return the document of these updates."""
    document = Document()
    finish(document.load(updates))
    return document


def whole(document: Document) -> bytes:
    """Return a document as one update."""
    return finish(document.write())


def end_turn(room: Room, store: Store) -> Flush:
    """End a turn: store the changes of a room, compact it if that is due; return its messages."""
    flush = write_turn(room, store)
    compact_if_due(room, store)
    return flush


def write_turn(room: Room, store: Store) -> Flush:
    """Store the changes of a room; return its messages."""
    batch = RecordBatch()
    flush = room.flush(batch)
    commit(store, batch)
    return flush


def compact_if_due(room: Room, store: Store, *, idle: bool = False) -> bool:
    """Compact a document if that is due, without a process, and store it; return whether it was."""
    if not room.records.is_compaction_due(idle=idle):
        return False
    finish(room.begin_compaction())
    while compact_part(room):
        pass
    while room.records.parts_left:
        write_turn(room, store)
    return True


def compact_part(room: Room) -> bool:
    """Compact the next part of a document, without a process; return whether there are further ones."""
    part = finish(room.next_part())
    segment, waiting = finish(compact_records(finish(segment.write()) for segment in part.segments))
    assert waiting is None
    update = finish(segment.write())
    room.end_part(part, update, segment, finish(write_index(segment, [update])))
    return bool(part.rest)


def rest(room: Room, store: Store) -> None:
    """Unload a room."""
    end_turn(room, store)
    compact_if_due(room, store, idle=True)


def waiting(room: Room) -> list[bytes]:
    """Return the pending updates."""
    pending = room.document.pending()
    return [] if pending is None else [pending]


def keep(store: Store, *updates: bytes, state_vector: Callable[[], bytes] = lambda: b"\x00") -> None:
    """Append updates, each in its own batch."""
    for update in updates:
        keep_together(store, update, state_vector=state_vector)


def keep_together(store: Store, *updates: bytes, state_vector: Callable[[], bytes] = lambda: b"\x00") -> None:
    """Append updates with one batch."""
    batch = RecordBatch()
    store.append(updates, state_vector, batch)
    commit(store, batch)


def compacted(store: Store) -> int:
    """Compact the stored records; return their remaining number."""
    batch = RecordBatch()
    segment, waiting = finish(compact_records(store.updates()))
    updates = [*([waiting] if waiting is not None else []), finish(segment.write())]
    store.replace(store.last(), updates, loaded(store.updates()).state_vector(), None, batch)
    commit(store, batch)
    return len(store.records())


def shown(document: Document) -> tuple[str, object, object]:
    """Return the contents of a document that editors use, as plain values."""
    return content(Editor(999, whole(document)).doc)


def built(updates: Iterable[bytes]) -> tuple[str, object, object]:
    """Return the contents of the document of these updates."""
    return shown(loaded(updates))


def kept(store: Store) -> tuple[str, object, object]:
    """Return the contents of a stored document."""
    return shown(loaded(store.updates()))


def send(room: Room, client: str, *updates: bytes) -> None:
    """Make a client send updates."""
    for update in updates:
        assert receive(room, client, update_message(update)) == (Kind.UPDATE, None)


def here(room: Room, client: str, *entries: tuple[int, int, object]) -> None:
    """Make a client send awareness states."""
    message = awareness_message(*entries)
    assert receive(room, client, message) == (Kind.AWARENESS, None)


def ask(room: Room, client: str, editor: Editor | None = None) -> None:
    """Make a client send step 1."""
    state = editor.doc.get_state() if editor is not None else b"\x00"
    assert receive(room, client, step_1(state)) == (Kind.STEP_1, None)


def flush(room: Room) -> Flush:
    """End the turn."""
    return end_turn(room, MemoryRecords())


def messages(flush: Flush, client: str, room: Room | None = None) -> list[bytes]:
    """Return a client's messages of a flush, in order; with `room`, also those of its transfer."""
    awareness = [flush.awareness] if flush.awareness is not None and client in flush.present else []
    replies = [message for to, message in flush.replies if to == client]
    for to, answer in flush.large if room is not None else ():
        assert room is not None
        transfer = Transfer(answer)
        while to == client and not transfer.ended:
            replies.append(finish(transfer.next_message()))
        if to == client:
            room.transferred(client, answer.state_vector, answer.version)
    updates = map(update_message, flush.updates if client in flush.synced else ())
    return [*updates, *awareness, *replies]


def told(room: Room) -> bytes:
    """Flush; return the message for the synced clients."""
    (update,) = flush(room).updates
    return update_message(update)


def answer(room: Room, client: str, editor: Editor | None = None) -> bytes:
    """Make a client send step 1, and flush; return the answer."""
    ask(room, client, editor)
    *_, reply = messages(flush(room), client, room)
    return reply


def is_quiet(flush: Flush) -> bool:
    """Return whether a flush has no message for any client."""
    return not (flush.updates or flush.awareness or flush.replies)


def joined(room: Room, name: str, number: int) -> Editor:
    """Make an editor join, and do its part of the handshake."""
    editor = Editor(number)
    for reply in editor.hear(*room.join(name), answer(room, name, editor)):
        receive(room, name, reply)
    return editor
