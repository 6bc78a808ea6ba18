"""Sessions: clients in rooms. Their messages go to the rooms in order, what rooms tell goes to their connections."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from functools import partial, wraps
from time import perf_counter
from typing import Concatenate, ParamSpec, TypeAlias, cast

import structlog

from .edge.metrics import Histogram, Metrics
from .edge.websocket.connection import Connection
from .edge.websocket.flow import ReadPause
from .edge.websocket.frames import encode_frame
from .memory.budget import MemoryBudget
from .memory.unread_output import INTERVAL, Reader, UnreadOutput
from .rooms.flusher import Flusher
from .rooms.keepalive import KeepAlive
from .rooms.registry import LoadError, Rooms
from .rooms.room import Flush, FullError, NoMemoryError, Room
from .rooms.timeslicer import Outcome
from .rooms.transfer import Transfer, Transfers
from .storage.interface import Store, StoreError
from .y_protocol import KEEPALIVE, Kind, denial, parse, update_head, update_message
from .yjs.lib0 import MalformedError

MAX_TURN = 100
"""Changes of one document that wait for the end of a turn: the others are not kept waiting for more."""
MORE_TURN = 4
"""Changes more for each client: a turn's end is a write to each, and must not cost more time than the changes."""
MAX_TURN_SIZE = 1_048_576
"""Bytes of them; while the disk is at work on others, who sends more is not read from."""
FEW_STATES = 4096
"""Bytes of an awareness message, after a larger one of which its client is not read from for a while."""
STATES_RATE = 262_144
"""Bytes of these a second: each entry takes longer than other bytes."""
LARGE_ANSWER = 65_536
"""Bytes of an answer after which the client that asked is not read from for a while."""
ANSWER_RATE = 33_554_432
"""Bytes of these a second."""
LOST_GRACE = 5.0
"""Seconds for which the awareness states of a lost connection are kept; y-websocket tries again every 2.5 s."""
MAX_LOST = 1000
"""Lost connections whose awareness states are kept at once."""
TURN_AWAY_AFTER = 5.0
"""Seconds after which a client is closed whose change there is no memory for: y-websocket comes back at once."""

ROOM_CLOSED = "An operator has closed this room. Connect again later."
"""What clients of a closed room are told."""
SENT = ("update", "awareness", "reply", "keepalive")
"""The types of messages to clients, as metrics count them."""
KEEPALIVE_FRAME = encode_frame(KEEPALIVE, text=False)

Handled: TypeAlias = Outcome[tuple[Kind, bytes | None]]
"""Returns what a room made of a message."""

P = ParamSpec("P")

log = structlog.get_logger()


class SyncPause(ReadPause):
    """The reasons of this server not to read from a client."""

    ROOM_BUSY = True
    """Its room works on a message that takes long, or waits for a compaction."""
    STORAGE = False
    """It has sent much in one turn, which is being stored."""


class Session:
    """One client in one room.

    Attributes:
        connection: the client's.
        room: the room.
        write: sends a frame.
        address: where the client is.
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

    def abort(self) -> None:
        """Cut the TCP connection."""
        self.connection.abort("slow-client")


Act = Callable[Concatenate["Sessions", Session, P], None]


def in_order(act: Act[P]) -> Act[P]:
    """Have a method wait while something long is done with the session's room, in the order of the calls."""

    @wraps(act)
    def post(self: Sessions, session: Session, /, *args: P.args, **options: P.kwargs) -> None:
        self.slicer.when_free(session.room, partial(act, self, session, *args, **options))

    return post


class Sessions:
    """All sessions.

    Args:
        rooms: the rooms.
        store: where the documents are kept.
        metrics: counts messages.
        budget: counts memory.
        renew: works on a token that a client shows; None to ignore tokens.
        changed: is called with a room whose document has changed; None if nobody wants to know.

    Attributes:
        updates: how many updates came from clients.
        slicer: knows the rooms that are busy.
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
        self._flusher = Flusher(store, self.slicer, self._tell, self._fail, self._release)
        store.when_lost(self._lose)
        self._transfers = Transfers[Session](budget, self.slicer, self.reply, self._transferred)
        self._unread = UnreadOutput[Reader](budget)
        self._keepalive = KeepAlive[Session](self._keep_alive)
        self._held: set[Session] = set()  # those that are not read from until the disk has done its work
        self._lost: dict[Session, asyncio.TimerHandle] = {}  # when the awareness states of lost connections end
        self._changes: set[asyncio.Task[None]] = set()  # that are made for no client

    @property
    def store_seconds(self) -> Histogram:
        """The seconds that the batches of turns took."""
        return self._flusher.seconds

    @property
    def store_errors(self) -> int:
        """How many batches of turns could not be written."""
        return self._flusher.errors

    @property
    def store_waits(self) -> float:
        """For how many seconds the batch under way has been with the store; 0 while there is none."""
        began = self._flusher.began
        return 0.0 if began is None else perf_counter() - began

    # What goes on beside the messages

    async def keep_alive(self) -> None:
        """Let every client hear something now and then, for ever."""
        await self._keepalive.run()

    async def count_memory(self) -> None:
        """Count what documents and clients take, and act where that is too much, for ever."""
        while True:
            await asyncio.sleep(INTERVAL)
            self._budget.recount()
            self._unread.count(cast("dict[Reader, int]", self._transfers.memory()))

    def count_output(self, reader: Reader) -> None:
        """Count what waits for a client that is in no room here."""
        self._unread.add(reader)

    async def stop(self) -> None:
        """Wait for no lost connection, and for no change that is not taken in yet; `Rooms.close` stores the others."""
        for timer in self._lost.values():
            timer.cancel()
        for task in self._changes:
            task.cancel()
        if self._changes:
            await asyncio.wait(self._changes)

    # From clients

    def enter(self, session: Session, *, acknowledge: bool, reader: str | None) -> None:
        """Let a client into its room; see `Room.join`."""
        for message in session.room.join(session, acknowledge=acknowledge, reader=reader):
            self.reply(session, message)
        self._keepalive.add(session)
        self._unread.add(session)

    def receive(self, session: Session, message: bytes) -> None:
        """Handle a message, when the room is not busy."""
        session.connection.check_slow()  # what it asks for may be large, and it may ask again and again
        if session.room.busy:
            session.connection.pause_reading(SyncPause.ROOM_BUSY)
            session.connection.count_handling(len(message))
            self._handle_late(session, message)
        else:
            self._handle(session, message)

    def _handle(self, session: Session, message: bytes) -> None:
        room = session.room
        then = partial(self._handled, session, message)
        if not self.slicer.do(room, room.receive(session, message), then, session.address):
            session.connection.pause_reading(SyncPause.ROOM_BUSY)
            session.connection.count_handling(len(message))
            self._go_on(session)

    @in_order
    def _handle_late(self, session: Session, message: bytes) -> None:
        """Handle a message that had to wait, also if its sender has left since."""
        if self._rooms.holds(session.room) and session in session.room.clients:  # and was not refused meanwhile
            try:
                self._handle(session, message)
            except Exception as error:
                session.connection.fail(error)
        if not session.room.busy:
            self._go_on(session)

    def _handled(self, session: Session, message: bytes, handled: Handled) -> None:
        """Go on when a room has handled a message."""
        kept = False
        try:
            kept = self._take(session, message, handled)
        finally:
            if not kept:
                session.connection.count_handling(0)

    def _take(self, session: Session, message: bytes, handled: Handled) -> bool:
        """Do what a handled message asks for; return whether it takes memory until it is stored or tried again."""
        room, connection = session.room, session.connection
        if not self._rooms.holds(room):
            return False
        try:
            kind, reply = handled()
        except (MalformedError, FullError, NoMemoryError) as refusal:
            refusal.__traceback__ = None  # it leads back here in a circle, with the message
            return self._refuse(session, message, refusal)
        except Exception as error:
            connection.fail(error)
            return False
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
        self._flusher.schedule(room)
        document = room.document
        if document.turn_updates >= MAX_TURN + MORE_TURN * len(room.clients) or document.turn_size >= MAX_TURN_SIZE:
            self._flusher.flush(room)
            if document.turn_size >= MAX_TURN_SIZE:
                self._held.add(session)
                connection.pause_reading(SyncPause.STORAGE)
                connection.count_handling(len(message))
                return True
        return False

    def _refuse(self, session: Session, message: bytes, refusal: MalformedError | FullError | NoMemoryError) -> bool:
        """Deal with a message that a room did not take; return whether it is to be tried again."""
        room, connection = session.room, session.connection
        match refusal:
            case MalformedError():
                self._metrics.received["invalid"] += 1
                log.debug("refused", error=str(refusal))
                connection.disconnect(1003, f"Not a valid message: {refusal}")
            case NoMemoryError():
                connection.pause_reading_for(2 * TURN_AWAY_AFTER)
                asyncio.get_running_loop().call_later(TURN_AWAY_AFTER, self._turn_away, session, str(refusal))
            case FullError():
                self._rooms.settle(room)  # there may be less of it when it is compacted
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
        """Read on from a client, when what has waited is done and this turn has been told."""
        asyncio.get_running_loop().call_soon(self._read_on, session)

    def _read_on(self, session: Session) -> None:
        if session.too_large is None:
            session.connection.resume_reading(SyncPause.ROOM_BUSY)

    async def change(self, name: str, address: str, update: bytes) -> None:
        """Change a document as a client does; return when the update is stored.

        A caller that is cancelled, since nobody waits for the answer any more, cancels no change that has begun.

        Raises:
            LoadError, ElsewhereError, UnavailableError: the document cannot be opened.
            FullError, NoMemoryError: it may not grow.
            MalformedError: the update is none.
            StoreError: it could not be stored.
        """
        task = asyncio.create_task(self._do_change(name, address, update))
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)
        await asyncio.shield(task)

    async def _do_change(self, name: str, address: str, update: bytes) -> None:
        room = await self._rooms.open(name, address)
        handled = asyncio.get_running_loop().create_future()
        self.slicer.do(room, room.receive(self, update_message(update)), handled.set_result, address)
        try:
            outcome: Handled = await handled
            outcome()
            if self._rooms.holds(room):
                await self._flusher.stored(room)
            if not self._rooms.holds(room):
                raise StoreError("the document left memory meanwhile; look whether it has changed")
        finally:
            if self._rooms.holds(room) and not room.clients:
                self._rooms.leave(room)

    async def set_closed(self, name: str, address: str, closed: bool) -> int:
        """Let nobody into a room from now on, or anybody again; return how many clients were disconnected.

        The store has been told before.

        Raises:
            ElsewhereError, UnavailableError: another instance has it, or may have it.
        """
        room = self._rooms.rooms.get(name)
        if room is None:
            try:
                room = await self._rooms.open(name, address)  # waits for a load that is under way
            except (LoadError, FullError, NoMemoryError):
                return 0  # it is not in memory, so nobody is in it
            if not room.clients:
                self._rooms.leave(room)
        room.closed = closed
        return self.kick(name, ROOM_CLOSED, "room-closed") if closed else 0

    def kick(self, name: str, reason: str, refusal: str) -> int:
        """Disconnect the clients of a room, if it is in memory; return how many there are."""
        room = self._rooms.rooms.get(name)
        clients = cast("tuple[Session, ...]", () if room is None else tuple(room.clients))
        for session in clients:
            self.reply(session, denial(reason))
            session.connection.disconnect(1013, reason, refusal)
        return len(clients)

    def compacted(self, room: Room) -> None:
        """Go on with a room that was compacted."""
        self._flusher.schedule(room)
        for session in cast("set[Session]", room.clients.copy()):
            message, session.too_large = session.too_large, None
            if message is not None:
                self._handle_late(session, message)

    @in_order
    def permit(self, session: Session, reader: str | None) -> None:
        """Let a client change the document from now on, or only see it as the user `reader`."""
        if session in session.room.clients:
            session.room.permit(session, reader=reader)

    @in_order
    def put_behind(self, session: Session) -> None:
        """Leave a client that does not read out of the updates, from a state on that is known."""
        if session.connection.is_open:
            session.room.put_behind(session)
            self._flusher.flush(session.room)

    @in_order
    def catch_up(self, session: Session) -> None:
        """Bring a client that was left out up to date."""
        if session.connection.is_open:
            present = session.room.catch_up(session)
            if present is not None:
                self.reply(session, present)
            self._flusher.schedule(session.room)

    @in_order
    def _transferred(self, session: Session, transfer: Transfer) -> None:
        """Bring a client up to date that was sent a large answer."""
        if session in session.room.clients:
            session.room.transferred(session, transfer.state_vector, transfer.version)
            self._flusher.schedule(session.room)

    @in_order
    def leave(self, session: Session, *, lost: bool) -> None:
        """Take a client out of its room.

        The others learn at once that it is gone if either side has closed the connection. Where it is `lost`, the
        client may come back within moments, and its awareness states are kept for as long.
        """
        room = session.room
        self._transfers.end(session)
        self._keepalive.remove(session)
        if room.leave(session, lost=lost and len(self._lost) < MAX_LOST):
            loop = asyncio.get_running_loop()
            self._lost[session] = loop.call_later(LOST_GRACE, self._forget, session)
        self._held.discard(session)
        if self._rooms.holds(room):
            self._flusher.schedule(room)
            if not room.clients:
                self._rooms.leave(room)

    def _forget(self, session: Session) -> None:
        del self._lost[session]
        self._end_states(session)

    @in_order
    def _end_states(self, session: Session) -> None:
        if self._rooms.holds(session.room):
            session.room.forget(session)
            self._flusher.schedule(session.room)

    # To clients

    def _tell(self, room: Room, flush: Flush) -> None:
        """Send what a flush gave, now that it is stored."""
        for update in flush.updates if flush.synced else ():
            frame = encode_frame(update, text=False, head=update_head(len(update)))
            self._send(cast("list[Session]", flush.synced), frame, "update")
        if flush.updates and self._changed is not None:
            self._changed(room)
        if flush.awareness is not None:
            frame = encode_frame(flush.awareness, text=False)
            self._send(cast("list[Session]", flush.present), frame, "awareness")
        for session, message in cast("list[tuple[Session, bytes]]", flush.replies):
            self._answer(session, message)
        for session, state_vector in cast("list[tuple[Session, bytes]]", flush.large):
            self._transfers.begin(session, room, state_vector)
        self._rooms.settle(room)

    def _send(self, to: list[Session], frame: bytes, name: str) -> None:
        self._metrics.sent[name] += len(to)
        self._keepalive.told(to)
        for session in to:
            session.write(frame)

    def _answer(self, session: Session, message: bytes) -> None:
        """Give a client what it asked for; a few bytes can ask for megabytes, so it may not ask again at once."""
        self.reply(session, message)
        if len(message) > LARGE_ANSWER:
            session.connection.pause_reading_for(len(message) / ANSWER_RATE)

    def reply(self, session: Session, message: bytes) -> None:
        """Send a message to one client."""
        self._metrics.sent["reply"] += 1
        self._keepalive.told((session,))
        session.write(encode_frame(message, text=False))

    def _keep_alive(self, session: Session) -> None:
        """Let a client hear something, unless it has not read yet what it was sent before."""
        if not session.buffered:
            self._metrics.sent["keepalive"] += 1
            session.write(KEEPALIVE_FRAME)

    def _release(self) -> None:
        """Read on from those that were kept waiting for the disk."""
        held, self._held = self._held, set()
        for session in held:
            session.connection.count_handling(0)
            session.connection.resume_reading(SyncPause.STORAGE)

    def _fail(self, room: Room, error: Exception) -> None:
        """Drop a room that cannot be stored: its clients keep their work, come back, and bring it again."""
        log.error("a document could not be stored", error=str(error), clients=len(room.clients))
        self._drop(room, 1011, "This document cannot be stored now. Connect again.", "storage-failed")

    def _lose(self, name: str) -> None:
        """Drop a room that another server may open from now on."""
        room = self._rooms.rooms.get(name)
        if room is not None and room.records.lost:
            self._drop(room, 1013, "This document moves to another server. Connect again.", "document-elsewhere")

    def _drop(self, room: Room, code: int, reason: str, refusal: str) -> None:
        self._rooms.discard(room)
        self._flusher.discard(room)
        for session in cast("Iterable[Session]", tuple(room.clients)):
            session.connection.disconnect(code, reason, refusal)
