"""Sessions: clients in rooms. Passes their messages to the rooms in order, and what rooms have for clients to these."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from functools import partial, wraps
from typing import Concatenate, ParamSpec, cast

import structlog

from .edge.errors import CloseConnection
from .edge.limits import Over
from .edge.metrics import Metrics
from .edge.websocket.connection import Connection
from .edge.websocket.flow_control import ReadPause
from .edge.websocket.frames import encode_frame
from .edge.websocket.handler import Handler
from .memory.budget import MemoryBudget
from .memory.unread_output import INTERVAL, Reader, UnreadOutput
from .rooms.answers import LargeAnswer
from .rooms.flusher import Flusher
from .rooms.keepalive import KeepAlive
from .rooms.lost_clients import LostClients
from .rooms.registry import Rooms
from .rooms.room import Flush, FullError, NoMemoryError, Room
from .rooms.timeslicer import Outcome
from .rooms.transfer import Transfer, Transfers
from .storage.interface import Store
from .y_protocol import KEEPALIVE, NO_TEXT, Kind, denial, parse, update_head
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
TURN_AWAY_AFTER = 5.0
"""Seconds until a client is closed whose change does not fit into memory: y-websocket reconnects at once."""

SENT = ("update", "awareness", "reply", "keepalive")
"""The types of messages to clients, as metrics count them."""
KEEPALIVE_FRAME = encode_frame(KEEPALIVE, text=False)

P = ParamSpec("P")

log = structlog.get_logger()

Act = Callable[Concatenate["Session", P], None]


class SyncPause(ReadPause):
    """The reasons of this server not to read from a client."""

    ROOM_BUSY = True
    """Its room works on a long message, or waits for a compaction."""
    STORAGE = False
    """It has sent much in one turn, and this is being stored."""


def in_order(act: Act[P]) -> Act[P]:
    """Delay calls of a method while the session's room is busy; they keep their order."""

    @wraps(act)
    def post(self: Session, /, *args: P.args, **options: P.kwargs) -> None:
        self._sessions.slicer.when_free(self.room, partial(act, self, *args, **options))

    return post


class Session(Handler):
    """One client in one room.

    Args:
        sessions: all sessions.
        connection: the client's.
        room: the room.

    Attributes:
        connection: the client's.
        room: the room.
        write: sends a frame.
        address: the client's.
        too_large: a message that waits until the room is compacted.
    """

    def __init__(self, sessions: Sessions, connection: Connection, room: Room) -> None:
        self._sessions = sessions
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

    # Events of the connection

    def receive(self, message: bytes, text: bool) -> None:
        """Handle a message of y-websocket's protocol, at once or when the room is not busy any more."""
        if text:
            raise CloseConnection(1003, NO_TEXT)
        connection, room = self.connection, self.room
        if connection.paused:
            connection.check_slow()  # the answer may be large, and the client may ask again
        if len(message) > LONG_MESSAGE and room.dirty and not room.busy:
            self._sessions.flusher.flush(room)
            if not self._sessions.rooms.holds(room):  # it could not be stored, and its clients were disconnected
                return
        if room.busy:
            connection.pause_reading(SyncPause.ROOM_BUSY)
            connection.count_handling(len(message))
            self._handle_late(message)
        else:
            self._handle(message)

    def limited(self, message: bytes, over: Over) -> bool:
        """Read more slowly from a client over its rate: dropping an update would lose work."""
        self.connection.pause_reading_for(over.seconds)
        return True

    @in_order
    def slow(self) -> None:
        """Stop the updates to the client, which does not read, at a known state of the document."""
        if self.connection.is_open:
            self.room.put_behind(self)
            self._sessions.flusher.flush(self.room)

    @in_order
    def drained(self) -> None:
        """Bring the client up to date, since it reads again."""
        if self.connection.is_open:
            present = self.room.catch_up(self)
            if present is not None:
                self.reply(present)
            self._sessions.flusher.schedule(self.room)

    @in_order
    def close(self, *, lost: bool) -> None:
        """Take the client out of its room.

        If either side has closed the connection, the others are told at once. If it is `lost`, the client may reconnect
        soon, so its awareness states are kept for a while.
        """
        room = self.room
        self._sessions.transfers.end(self)
        self._sessions.keepalive.remove(self)
        self._sessions.held.discard(self)
        if lost:
            self._sessions.lost.leave(room, self)
        else:
            room.leave(self)
        if self._sessions.rooms.holds(room):
            self._sessions.flusher.schedule(room)
            if not room.clients:
                self._sessions.rooms.mark_idle(room)

    # Called by the server

    def enter(self, *, acknowledge: bool, reader: str | None) -> None:
        """Let the client into its room; see `Room.join`."""
        for message in self.room.join(self, acknowledge=acknowledge, reader=reader):
            self.reply(message)
        self._sessions.keepalive.add(self)
        self._sessions.unread.add(self)

    @in_order
    def permit(self, reader: str | None) -> None:
        """Let the client change the document, or only read it as the user `reader`."""
        if self in self.room.clients:
            self.room.permit(self, reader=reader)

    def reply(self, message: bytes) -> None:
        """Send a message."""
        self._sessions.metrics.sent["reply"] += 1
        self.write(encode_frame(message, text=False))

    def answer(self, message: bytes) -> None:
        """Send an answer. A few bytes can ask for megabytes, so a large answer read-pauses the client."""
        self.reply(message)
        if len(message) > LARGE_ANSWER:
            self.connection.pause_reading_for(len(message) / ANSWER_RATE)

    @in_order
    def transferred(self, transfer: Transfer) -> None:
        """Bring the client up to date, which has been sent a large answer."""
        if self in self.room.clients:
            self.room.transferred(self, transfer.answer.state_vector, transfer.answer.version)
            self._sessions.flusher.schedule(self.room)

    @in_order
    def ask_again(self, state_vector: bytes) -> None:
        """Answer the client again, since its large answer could not begin."""
        if self in self.room.clients:
            self.room.ask_again(self, state_vector)
            self._sessions.flusher.schedule(self.room)

    def handle_too_large(self) -> None:
        """Handle the message again that waited for a compaction."""
        message, self.too_large = self.too_large, None
        if message is not None:
            self._handle_late(message)

    # Inside

    def _handle(self, message: bytes) -> bool:
        """Handle a message of a room that is not busy: at once if it takes one step, as nearly all do, else in slices.

        Returns:
            whether the message is kept, or `_handled` takes over.
        """
        room, connection = self.room, self.connection
        try:
            kind, content = parse(message)
            steps = room.receive(self, kind, content)
            next(steps)
        except StopIteration as end:
            return self._accept(message, kind, end.value)
        except Exception as error:
            return self._refuse(message, error)
        if not self._sessions.slicer.do(room, steps, partial(self._handled, message, kind), self.address):
            connection.pause_reading(SyncPause.ROOM_BUSY)
            connection.count_handling(len(message))
            self._go_on()
        return True

    @in_order
    def _handle_late(self, message: bytes) -> None:
        """Handle a message that had to wait, also of a connection that has ended since: its `close` waits too."""
        kept = False
        if self._sessions.rooms.holds(self.room) and self in self.room.clients:  # it was not refused meanwhile
            try:
                kept = self._handle(message)
            except Exception as error:
                self.connection.fail(error)
        if not kept:
            self.connection.count_handling(0)
        if not self.room.busy:
            self._go_on()

    def _handled(self, message: bytes, kind: Kind, handled: Outcome[bytes | None]) -> None:
        """Finish a message that took several steps."""
        kept = False
        try:
            if not self._sessions.rooms.holds(self.room):
                return
            try:
                reply = handled()
            except Exception as error:
                kept = self._refuse(message, error)
            else:
                kept = self._accept(message, kind, reply)
        finally:
            if not kept:
                self.connection.count_handling(0)

    def _accept(self, message: bytes, kind: Kind, reply: bytes | None) -> bool:
        """Do what a handled message asks for; return whether it is kept until it is stored."""
        room, connection = self.room, self.connection
        self._sessions.metrics.received[kind.label] += 1
        if kind is Kind.TOKEN:
            if self._sessions.renew is not None and connection.is_open:
                connection.work(partial(self._sessions.renew, self, parse(message)[1]))
            return False
        if reply is None and (kind is Kind.UPDATE or kind is Kind.STEP_2):
            self._sessions.updates += 1
        if reply is not None:
            self.answer(reply)
        if kind is Kind.AWARENESS and len(message) > FEW_STATES:
            connection.pause_reading_for(len(message) / STATES_RATE)
        self._sessions.flusher.schedule(room)
        document = room.document
        if document.turn_updates >= MAX_TURN + MORE_TURN * len(room.clients) or document.turn_size >= MAX_TURN_SIZE:
            self._sessions.flusher.flush(room)
            if document.turn_size >= MAX_TURN_SIZE:
                self._sessions.held.add(self)
                connection.pause_reading(SyncPause.STORAGE)
                connection.count_handling(len(message))
                return True
        return False

    def _refuse(self, message: bytes, refusal: Exception) -> bool:
        """Answer a message that a room has refused, or failed on; return whether it is kept, to be handled again."""
        room, connection = self.room, self.connection
        if not isinstance(refusal, MalformedError | FullError | NoMemoryError):
            connection.fail(refusal)
            return False
        refusal.__traceback__ = None  # it refers to frames that have the message, and so keeps the message
        match refusal:
            case MalformedError():
                self._sessions.metrics.received["invalid"] += 1
                log.debug("refused", error=str(refusal))
                connection.disconnect(1003, f"Not a valid message: {refusal}")
            case NoMemoryError():
                connection.pause_reading_for(2 * TURN_AWAY_AFTER)
                asyncio.get_running_loop().call_later(TURN_AWAY_AFTER, self._turn_away, str(refusal))
            case FullError():
                self._sessions.rooms.compact_if_due(room)  # compaction may make it smaller
                if room.records.compacting or room.busy:
                    connection.pause_reading(SyncPause.ROOM_BUSY)
                    self.too_large = message
                    return True
                connection.disconnect(1009, str(refusal), "document-too-large")
        return False

    def _turn_away(self, reason: str) -> None:
        if self.connection.is_open:
            self.connection.disconnect(1013, reason, "memory-full")

    @in_order
    def _go_on(self) -> None:
        """Read from the client again, after the messages that waited and the flush of this turn."""
        asyncio.get_running_loop().call_soon(self._read_on)

    def _read_on(self) -> None:
        if self.too_large is None:
            self.connection.resume_reading(SyncPause.ROOM_BUSY)


class Sessions:
    """All sessions.

    Args:
        rooms: the rooms.
        store: keeps the documents.
        metrics: counts messages.
        budget: counts memory.
        renew: checks a token that a client sends; None to ignore tokens.
        changed: is called with the name of a document that has changed; None if nobody needs it.
        post: is called with a room whose document has changed; None if nobody needs it.

    Attributes:
        updates: how many updates came from clients.
        rooms: the rooms.
        slicer: knows the rooms that are busy.
        metrics: counts messages.
        renew: checks a token that a client sends; None to ignore tokens.
        flusher: stores the changes at the end of a turn.
        transfers: the large answers that are being sent.
        unread: the clients whose unread output counts.
        keepalive: the clients that need a message at intervals.
        held: the clients that are read-paused until the store has written.
        lost: the clients whose awareness states are kept, since their connections were lost.
    """

    def __init__(
        self,
        rooms: Rooms,
        store: Store,
        metrics: Metrics,
        budget: MemoryBudget,
        *,
        renew: Callable[[Session, bytes], Awaitable[None]] | None,
        changed: Callable[[str], None] | None,
        post: Callable[[Room], None] | None,
    ) -> None:
        self.updates = 0
        self.slicer = rooms.slicer
        self.rooms = rooms
        self.metrics = metrics
        self.renew = renew
        self._budget = budget
        self._changed = changed
        self._post = post
        self.flusher = Flusher(store.writer, self.slicer, self._tell, self._fail, self._release)
        store.when_lost(self._lose)
        self.transfers = Transfers[Session](budget, self.slicer, Session.reply, Session.transferred, Session.ask_again)
        self.unread = UnreadOutput[Reader](budget)
        self.keepalive = KeepAlive[Session](self._keep_alive)
        self.held: set[Session] = set()
        self.lost = LostClients(rooms, self.flusher)

    # In the background

    async def keep_alive(self) -> None:
        """Send a message without effect to idle clients; runs until it is cancelled."""
        await self.keepalive.run()

    async def count_memory(self) -> None:
        """Count the memory of documents and clients, and act where it is too much; runs until it is cancelled."""
        while True:
            await asyncio.sleep(INTERVAL)
            self._budget.recount()
            self.unread.count(cast("dict[Reader, int]", self.transfers.memory()))

    def stop(self) -> None:
        """Cancel the timers of lost connections."""
        self.lost.stop()

    # Rooms

    def disconnect(self, room: Room, reason: str, refusal: str) -> int:
        """Disconnect the clients of a room; return how many there were."""
        clients = cast("tuple[Session, ...]", tuple(room.clients))
        for session in clients:
            session.reply(denial(reason))
            session.connection.disconnect(1013, reason, refusal)
        return len(clients)

    def compacted(self, room: Room) -> None:
        """Store a compacted room, and handle the messages that waited for that."""
        self.flusher.schedule(room)
        for session in cast("set[Session]", room.clients.copy()):
            session.handle_too_large()

    def _tell(self, room: Room, flush: Flush) -> None:
        """Send the messages of a flush that is stored."""
        if flush.synced:
            self.metrics.sent["update"] += len(flush.updates) * len(flush.synced)
            for update in flush.updates:
                frame = encode_frame(update, text=False, head=update_head(len(update)))
                for session in cast("list[Session]", flush.synced):
                    session.write(frame)
        if flush.updates:
            if self._changed is not None:
                self._changed(room.name)
            if self._post is not None:
                self._post(room)
        if flush.awareness is not None:
            self.metrics.sent["awareness"] += len(flush.present)
            frame = encode_frame(flush.awareness, text=False)
            for session in cast("list[Session]", flush.present):
                session.write(frame)
        for session, message in cast("list[tuple[Session, bytes]]", flush.replies):
            session.answer(message)
        for session, answer in cast("list[tuple[Session, LargeAnswer]]", flush.large):
            self.transfers.begin(session, room, answer)
        if room.records.is_compaction_due():
            self.rooms.compact_if_due(room)

    def _keep_alive(self, session: Session) -> None:
        """Send a client a message without effect, unless earlier messages still wait for it."""
        if not session.buffered:
            self.metrics.sent["keepalive"] += 1
            session.write(KEEPALIVE_FRAME)

    def _release(self) -> None:
        """Read again from clients that waited for the store."""
        held, self.held = self.held, set()
        for session in held:
            session.connection.count_handling(0)
            session.connection.resume_reading(SyncPause.STORAGE)

    def _fail(self, room: Room, error: Exception) -> None:
        """Drop a room that cannot be stored. Its clients have their changes, reconnect, and send them again."""
        log.error("a document could not be stored", error=str(error), clients=len(room.clients))
        self._drop(room, 1011, "This document cannot be stored now. Connect again.", "storage-failed")

    def _lose(self, name: str) -> None:
        """Drop a room that another instance may open from now on."""
        room = self.rooms.rooms.get(name)
        if room is not None and room.records.lost:
            self._drop(room, 1013, "This document moves to another server. Connect again.", "document-elsewhere")

    def _drop(self, room: Room, code: int, reason: str, refusal: str) -> None:
        self.rooms.discard(room)
        self.flusher.discard(room)
        for session in cast("Iterable[Session]", tuple(room.clients)):
            session.connection.disconnect(code, reason, refusal)
