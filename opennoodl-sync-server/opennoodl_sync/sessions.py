"""Sessions: clients in rooms. Passes their messages to the rooms in order, and what rooms tell to the connections."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from functools import partial, wraps
from typing import Concatenate, ParamSpec, cast

import structlog

from .edge.metrics import Metrics
from .edge.websocket.connection import Connection
from .edge.websocket.flow_control import ReadPause
from .edge.websocket.frames import encode_frame
from .memory.budget import MemoryBudget
from .memory.unread_output import INTERVAL, Reader, UnreadOutput
from .rooms.flusher import Flusher
from .rooms.keepalive import KeepAlive
from .rooms.registry import Rooms
from .rooms.room import Flush, FullError, LargeAnswer, NoMemoryError, Room
from .rooms.timeslicer import Outcome
from .rooms.transfer import Transfer, Transfers
from .storage.interface import Store
from .y_protocol import KEEPALIVE, Kind, denial, parse, update_head
from .yjs.lib0 import MalformedError

MAX_TURN = 100
"""Changes of one document that wait for the end of a turn; more would keep the other documents waiting."""
MORE_TURN = 4
"""Additional changes for each client: a turn's end is a write to each of them, and must cost less than the changes."""
MAX_TURN_SIZE = 1_048_576
"""Bytes of these changes; while the disk is busy, a client that sends more is read-paused."""
LONG_MESSAGE = 16_384
"""Bytes of a message that may take longer than some ten milliseconds; the changes before it do not wait for that."""
FEW_STATES = 4096
"""Bytes of an awareness message; after a larger one, its client is read-paused for a while."""
STATES_RATE = 262_144
"""Bytes of such messages a second: each entry takes longer than other bytes."""
LARGE_ANSWER = 65_536
"""Bytes of an answer; after a larger one, the client that asked is read-paused for a while."""
ANSWER_RATE = 33_554_432
"""Bytes of such answers a second."""
LOST_GRACE = 5.0
"""Seconds for which the awareness states of a lost connection are kept; y-websocket tries again every 2.5 s."""
MAX_LOST = 1000
"""Lost connections whose awareness states are kept at the same time."""
TURN_AWAY_AFTER = 5.0
"""Seconds until a client is closed whose change does not fit into memory: y-websocket reconnects at once."""

SENT = ("update", "awareness", "reply", "keepalive")
"""The types of messages to clients, as metrics count them."""
KEEPALIVE_FRAME = encode_frame(KEEPALIVE, text=False)

P = ParamSpec("P")

log = structlog.get_logger()


class SyncPause(ReadPause):
    """The reasons of this server not to read from a client."""

    ROOM_BUSY = True
    """Its room works on a long message, or waits for a compaction."""
    STORAGE = False
    """It has sent much in one turn, and this is being stored."""


class Session:
    """One client in one room.

    Attributes:
        connection: the client's.
        room: the room.
        write: sends a frame.
        address: the client's.
        too_large: a message that waits until the room is compacted.
    """

    def __init__(self, connection: Connection, room: Room) -> None:
        self.connection = connection
        self.room = room
        self.write = connection.write
        self.address = connection.address
        self.too_large: bytes | None = None

    @property
    def buffered(self) -> int:
        """Bytes that wait for the client."""
        return self.connection.buffered

    @property
    def is_closing(self) -> bool:
        """Whether the TCP connection is closing or closed."""
        return self.connection.is_closing

    def check_idle(self) -> bool:
        """Return whether nothing was written to the client since the last call."""
        return self.connection.check_idle()

    def abort(self) -> None:
        """Cut the TCP connection."""
        self.connection.abort("slow-client")


Act = Callable[Concatenate["Sessions", Session, P], None]


def in_order(act: Act[P]) -> Act[P]:
    """Delay calls of a method while the session's room is busy; they keep their order."""

    @wraps(act)
    def post(self: Sessions, session: Session, /, *args: P.args, **options: P.kwargs) -> None:
        self.slicer.when_free(session.room, partial(act, self, session, *args, **options))

    return post


class Sessions:
    """All sessions.

    Args:
        rooms: the rooms.
        store: keeps the documents.
        metrics: counts messages.
        budget: counts memory.
        renew: checks a token that a client sends; None to ignore tokens.
        changed: is called with a room whose document has changed; None if nothing needs it.

    Attributes:
        updates: how many updates came from clients.
        slicer: knows the rooms that are busy.
        flusher: stores the changes at the end of a turn.
    """

    def __init__(
        self,
        rooms: Rooms,
        store: Store,
        metrics: Metrics,
        budget: MemoryBudget,
        *,
        renew: Callable[[Session, bytes], Awaitable[None]] | None,
        changed: Callable[[Room], None] | None,
    ) -> None:
        self.updates = 0
        self.slicer = rooms.slicer
        self._rooms = rooms
        self._metrics = metrics
        self._budget = budget
        self._renew = renew
        self._changed = changed
        self.flusher = Flusher(store.writer, self.slicer, self._tell, self._fail, self._release)
        store.when_lost(self._lose)
        self._transfers = Transfers[Session](budget, self.slicer, self.reply, self._transferred, self._ask_again)
        self._unread = UnreadOutput[Reader](budget)
        self._keepalive = KeepAlive[Session](self._keep_alive)
        self._held: set[Session] = set()  # read-paused until the store has written
        self._lost: dict[Session, asyncio.TimerHandle] = {}  # when the awareness states of lost connections end

    # In the background

    async def keep_alive(self) -> None:
        """Send a message without effect to idle clients; runs until it is cancelled."""
        await self._keepalive.run()

    async def count_memory(self) -> None:
        """Count the memory of documents and clients, and act where it is too much; runs until it is cancelled."""
        while True:
            await asyncio.sleep(INTERVAL)
            self._budget.recount()
            self._unread.count(cast("dict[Reader, int]", self._transfers.memory()))

    def count_output(self, reader: Reader) -> None:
        """Count the unread output of a client that is in no room of this instance."""
        self._unread.add(reader)

    def stop(self) -> None:
        """Cancel the timers of lost connections."""
        for timer in self._lost.values():
            timer.cancel()

    # From clients

    def enter(self, session: Session, *, acknowledge: bool, reader: str | None) -> None:
        """Let a client into its room; see `Room.join`."""
        for message in session.room.join(session, acknowledge=acknowledge, reader=reader):
            self.reply(session, message)
        self._keepalive.add(session)
        self._unread.add(session)

    def receive(self, session: Session, message: bytes) -> None:
        """Handle a message, at once or when the room is not busy any more."""
        connection = session.connection
        if connection.paused:
            connection.check_slow()  # the answer may be large, and the client may ask again
        if len(message) > LONG_MESSAGE and session.room.dirty and not session.room.busy:
            self.flusher.flush(session.room)
            if not self._rooms.holds(session.room):  # it could not be stored, and its clients were disconnected
                return
        if session.room.busy:
            connection.pause_reading(SyncPause.ROOM_BUSY)
            connection.count_handling(len(message))
            self._handle_late(session, message)
        else:
            self._handle(session, message)

    def _handle(self, session: Session, message: bytes) -> bool:
        """Handle a message of a room that is not busy: at once if it takes one step, as nearly all do, else in slices.

        Returns:
            whether the message is kept, or `_handled` takes over.
        """
        room, connection = session.room, session.connection
        try:
            kind, content = parse(message)
            steps = room.receive(session, kind, content)
            next(steps)
        except StopIteration as end:
            return self._accept(session, message, kind, end.value)
        except Exception as error:
            return self._refuse(session, message, error)
        if not self.slicer.do(room, steps, partial(self._handled, session, message, kind), session.address):
            connection.pause_reading(SyncPause.ROOM_BUSY)
            connection.count_handling(len(message))
            self._go_on(session)
        return True

    @in_order
    def _handle_late(self, session: Session, message: bytes) -> None:
        """Handle a message that had to wait, also of a connection that has ended since: its `leave` waits too."""
        kept = False
        if self._rooms.holds(session.room) and session in session.room.clients:  # it was not refused meanwhile
            try:
                kept = self._handle(session, message)
            except Exception as error:
                session.connection.fail(error)
        if not kept:
            session.connection.count_handling(0)
        if not session.room.busy:
            self._go_on(session)

    def _handled(self, session: Session, message: bytes, kind: Kind, handled: Outcome[bytes | None]) -> None:
        """Finish a message that took several steps."""
        kept = False
        try:
            if not self._rooms.holds(session.room):
                return
            try:
                reply = handled()
            except Exception as error:
                kept = self._refuse(session, message, error)
            else:
                kept = self._accept(session, message, kind, reply)
        finally:
            if not kept:
                session.connection.count_handling(0)

    def _accept(self, session: Session, message: bytes, kind: Kind, reply: bytes | None) -> bool:
        """Do what a handled message asks for; return whether it is kept until it is stored."""
        room, connection = session.room, session.connection
        self._metrics.received[kind.label] += 1
        if kind is Kind.TOKEN:
            if self._renew is not None and connection.is_open:
                connection.work(partial(self._renew, session, parse(message)[1]))
            return False
        if reply is None and (kind is Kind.UPDATE or kind is Kind.STEP_2):
            self.updates += 1
        if reply is not None:
            self._answer(session, reply)
        if kind is Kind.AWARENESS and len(message) > FEW_STATES:
            connection.pause_reading_for(len(message) / STATES_RATE)
        self.flusher.schedule(room)
        document = room.document
        if document.turn_updates >= MAX_TURN + MORE_TURN * len(room.clients) or document.turn_size >= MAX_TURN_SIZE:
            self.flusher.flush(room)
            if document.turn_size >= MAX_TURN_SIZE:
                self._held.add(session)
                connection.pause_reading(SyncPause.STORAGE)
                connection.count_handling(len(message))
                return True
        return False

    def _refuse(self, session: Session, message: bytes, refusal: Exception) -> bool:
        """Answer a message that a room has refused, or failed on; return whether it is kept, to be handled again."""
        room, connection = session.room, session.connection
        if not isinstance(refusal, MalformedError | FullError | NoMemoryError):
            connection.fail(refusal)
            return False
        refusal.__traceback__ = None  # it refers to frames that have the message, and so keeps the message
        match refusal:
            case MalformedError():
                self._metrics.received["invalid"] += 1
                log.debug("refused", error=str(refusal))
                connection.disconnect(1003, f"Not a valid message: {refusal}")
            case NoMemoryError():
                connection.pause_reading_for(2 * TURN_AWAY_AFTER)
                asyncio.get_running_loop().call_later(TURN_AWAY_AFTER, self._turn_away, session, str(refusal))
            case FullError():
                self._rooms.compact_if_due(room)  # compaction may make it smaller
                if room.records.compacting or room.busy:
                    connection.pause_reading(SyncPause.ROOM_BUSY)
                    session.too_large = message
                    return True
                connection.disconnect(1009, str(refusal), "document-too-large")
        return False

    def _turn_away(self, session: Session, reason: str) -> None:
        if session.connection.is_open:
            session.connection.disconnect(1013, reason, "memory-full")

    @in_order
    def _go_on(self, session: Session) -> None:
        """Read from a client again, after the messages that waited and the flush of this turn."""
        asyncio.get_running_loop().call_soon(self._read_on, session)

    def _read_on(self, session: Session) -> None:
        if session.too_large is None:
            session.connection.resume_reading(SyncPause.ROOM_BUSY)

    def disconnect(self, room: Room, reason: str, refusal: str) -> int:
        """Disconnect the clients of a room; return how many there were."""
        clients = cast("tuple[Session, ...]", tuple(room.clients))
        for session in clients:
            self.reply(session, denial(reason))
            session.connection.disconnect(1013, reason, refusal)
        return len(clients)

    def compacted(self, room: Room) -> None:
        """Store a compacted room, and handle the messages that waited for that."""
        self.flusher.schedule(room)
        for session in cast("set[Session]", room.clients.copy()):
            message, session.too_large = session.too_large, None
            if message is not None:
                self._handle_late(session, message)

    @in_order
    def permit(self, session: Session, reader: str | None) -> None:
        """Let a client change the document, or only read it as the user `reader`."""
        if session in session.room.clients:
            session.room.permit(session, reader=reader)

    @in_order
    def put_behind(self, session: Session) -> None:
        """Stop the updates to a client that does not read, at a known state of the document."""
        if session.connection.is_open:
            session.room.put_behind(session)
            self.flusher.flush(session.room)

    @in_order
    def catch_up(self, session: Session) -> None:
        """Bring a client up to date that reads again."""
        if session.connection.is_open:
            present = session.room.catch_up(session)
            if present is not None:
                self.reply(session, present)
            self.flusher.schedule(session.room)

    @in_order
    def _transferred(self, session: Session, transfer: Transfer) -> None:
        """Bring a client up to date that has been sent a large answer."""
        if session in session.room.clients:
            session.room.transferred(session, transfer.answer.state_vector, transfer.answer.version)
            self.flusher.schedule(session.room)

    @in_order
    def _ask_again(self, session: Session, state_vector: bytes) -> None:
        """Answer a client whose large answer could not begin."""
        if session in session.room.clients:
            session.room.ask_again(session, state_vector)
            self.flusher.schedule(session.room)

    @in_order
    def leave(self, session: Session, *, lost: bool) -> None:
        """Take a client out of its room.

        If either side has closed the connection, the others are told at once. If it is `lost`, the client may reconnect
        soon, so its awareness states are kept for `LOST_GRACE`.
        """
        room = session.room
        self._transfers.end(session)
        self._keepalive.remove(session)
        if room.leave(session, lost=lost and len(self._lost) < MAX_LOST):
            loop = asyncio.get_running_loop()
            self._lost[session] = loop.call_later(LOST_GRACE, self._forget, session)
        self._held.discard(session)
        if self._rooms.holds(room):
            self.flusher.schedule(room)
            if not room.clients:
                self._rooms.mark_idle(room)

    def _forget(self, session: Session) -> None:
        del self._lost[session]
        self._end_states(session)

    @in_order
    def _end_states(self, session: Session) -> None:
        if self._rooms.holds(session.room):
            session.room.forget(session)
            self.flusher.schedule(session.room)

    # To clients

    def _tell(self, room: Room, flush: Flush) -> None:
        """Send the messages of a flush that is stored."""
        if flush.synced:
            self._metrics.sent["update"] += len(flush.updates) * len(flush.synced)
            for update in flush.updates:
                frame = encode_frame(update, text=False, head=update_head(len(update)))
                for session in cast("list[Session]", flush.synced):
                    session.write(frame)
        if flush.updates and self._changed is not None:
            self._changed(room)
        if flush.awareness is not None:
            self._metrics.sent["awareness"] += len(flush.present)
            frame = encode_frame(flush.awareness, text=False)
            for session in cast("list[Session]", flush.present):
                session.write(frame)
        for session, message in cast("list[tuple[Session, bytes]]", flush.replies):
            self._answer(session, message)
        for session, answer in cast("list[tuple[Session, LargeAnswer]]", flush.large):
            self._transfers.begin(session, room, answer)
        if room.records.is_compaction_due():
            self._rooms.compact_if_due(room)

    def _answer(self, session: Session, message: bytes) -> None:
        """Send a client its answer. A few bytes can ask for megabytes, so a large answer read-pauses the client."""
        self.reply(session, message)
        if len(message) > LARGE_ANSWER:
            session.connection.pause_reading_for(len(message) / ANSWER_RATE)

    def reply(self, session: Session, message: bytes) -> None:
        """Send a message to one client."""
        self._metrics.sent["reply"] += 1
        session.write(encode_frame(message, text=False))

    def _keep_alive(self, session: Session) -> None:
        """Send a client a message without effect, unless earlier messages still wait for it."""
        if not session.buffered:
            self._metrics.sent["keepalive"] += 1
            session.write(KEEPALIVE_FRAME)

    def _release(self) -> None:
        """Read again from clients that waited for the store."""
        held, self._held = self._held, set()
        for session in held:
            session.connection.count_handling(0)
            session.connection.resume_reading(SyncPause.STORAGE)

    def _fail(self, room: Room, error: Exception) -> None:
        """Drop a room that cannot be stored. Its clients have their changes, reconnect, and send them again."""
        log.error("a document could not be stored", error=str(error), clients=len(room.clients))
        self._drop(room, 1011, "This document cannot be stored now. Connect again.", "storage-failed")

    def _lose(self, name: str) -> None:
        """Drop a room that another instance may open from now on."""
        room = self._rooms.rooms.get(name)
        if room is not None and room.records.lost:
            self._drop(room, 1013, "This document moves to another server. Connect again.", "document-elsewhere")

    def _drop(self, room: Room, code: int, reason: str, refusal: str) -> None:
        self._rooms.discard(room)
        self.flusher.discard(room)
        for session in cast("Iterable[Session]", tuple(room.clients)):
            session.connection.disconnect(code, reason, refusal)
