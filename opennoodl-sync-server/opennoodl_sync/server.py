"""The server: wires connections to rooms."""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import partial
from typing import Any, TypeAlias, cast

import structlog
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from websockets.protocol import CLOSED

from . import __version__
from .edge.application import Application
from .edge.auth.credential import credential
from .edge.auth.identity import AuthError, Identity
from .edge.errors import CloseConnection
from .edge.http.query import value
from .edge.limits import Over
from .edge.metrics import counters
from .edge.service import Service
from .edge.websocket.connection import Connection
from .edge.websocket.flow import ReadPause
from .edge.websocket.frames import encode_frame
from .memory.available import available_memory
from .memory.budget import MemoryBudget
from .memory.unread_output import INTERVAL, UnreadOutput
from .rooms.flusher import Flusher
from .rooms.keepalive import KeepAlive
from .rooms.registry import LoadError, Rooms
from .rooms.room import Flush, FullError, NoMemoryError, Room
from .rooms.timeslicer import Outcome
from .rooms.transfer import Transfer
from .settings import Settings
from .storage.interface import Store
from .storage.leveldb.store import LevelDBStore
from .storage.memory import MemoryStore
from .webhook import Webhook
from .y_protocol import KEEPALIVE, MAX_NAME, NAMES, Kind, denial, is_name, parse
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
MAX_AHEAD = 262_144
"""Bytes that may wait for a client when the next part of a large answer is sent."""
LOOK_AGAIN = 0.05
"""Seconds after which it is seen again whether they do."""
OWN_MEMORY = 100_663_296
"""Bytes that a server takes by itself, with LevelDB and the process that compacts."""
TURN_AWAY_AFTER = 5.0
"""Seconds after which a client is closed whose change there is no memory for: y-websocket comes back at once."""

KEEPALIVE_FRAME = encode_frame(KEEPALIVE, text=False)

Handled: TypeAlias = Outcome[tuple[Kind, bytes | None]]
"""Returns what a room made of a message."""

log = structlog.get_logger()


class SyncPause(ReadPause):
    """The reasons of this server not to read from a client."""

    ROOM_BUSY = True
    """Its room works on a message that takes long, or waits for a compaction."""
    STORAGE = False
    """It has sent much in one turn, which is being stored."""


class Sync(Application):
    """y-websocket's protocol, with the documents in LevelDB."""

    title = "OpenNoodl sync server"
    about = (
        "It keeps documents in sync where WebRTC fails: a Yjs server with persistence.\n"
        "Connect y-websocket's WebsocketProvider to this address as ws:// or wss://; the path names the room."
    )

    settings: Settings

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, __version__, settings.max_message_size)
        self.updates = 0
        self._store: Store = MemoryStore()
        self._held: set[Connection] = set()  # those that are not read from until the disk has done its work
        self._full: dict[Room, dict[Connection, bytes]] = {}  # messages that wait until a room is compacted
        self._transfers: dict[Connection, Transfer] = {}
        self._budget = MemoryBudget(settings.max_memory or _default_limit(available_memory()))
        self._unread = UnreadOutput[Connection](self._budget)
        self._keepalive = KeepAlive(self._keep_alive)
        self._lost: dict[Connection, asyncio.TimerHandle] = {}  # by connection, when its awareness states end
        self._webhook: Webhook | None = None
        if settings.webhook_url:
            self._webhook = Webhook(settings.webhook_url, settings.webhook_secret, settings.webhook_debounce / 1000)

    async def start(self) -> None:
        """Open the data directory."""
        if self.settings.enable_persistence:
            self._store = LevelDBStore(self.settings.persist_dir, fsync=self.settings.fsync)
        self.rooms = Rooms(
            self._store,
            idle_timeout=self.settings.room_idle_timeout / 1000,
            max_rooms=self.settings.max_rooms,
            max_size=self.settings.max_document_size,
            budget=self._budget,
            compacted=self._compacted,
        )
        self._slicer = self.rooms.slicer
        self._flusher = Flusher(self._store, self._slicer, self._tell, self._fail, self._release)
        runs = self.rooms.tidy(), self._keepalive.run(), self._count_memory()
        self._background = [asyncio.create_task(run) for run in runs]

    async def _count_memory(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL)
            self._budget.recount()
            self._unread.count(self._transfer_memory())

    def _transfer_memory(self) -> dict[Connection, int]:
        """Return the bytes that large answers keep, by connection; several may keep the same part of a document."""
        memory = {}
        seen = set[int]()
        for connection, transfer in self._transfers.items():
            room: Room = connection.session
            old = [segment for segment in transfer.superseded(room.document) if id(segment) not in seen]
            seen.update(map(id, old))
            memory[connection] = transfer.memory + sum(segment.memory for segment in old)
        return memory

    def _compacted(self, room: Room) -> None:
        """Go on with a room that was compacted."""
        self._flusher.schedule(room)
        for connection, message in self._full.pop(room, {}).items():
            self._receive_late(connection, message)

    async def stop(self) -> None:
        """Store what is not stored yet, and close the data directory."""
        for task in self._background:
            task.cancel()
        for timer in self._lost.values():
            timer.cancel()
        await self.rooms.close()
        await self._store.close()
        if self._webhook is not None:
            await self._webhook.close()

    def refusal(self, path: str) -> str | None:
        """Refuse what cannot be a room's name; it is taken from the path as it stands, not decoded."""
        if is_name(path[1:]):
            return None
        return f"The path names the room: one to {MAX_NAME} printable characters after the slash."

    async def open(self, connection: Connection) -> None:
        """Load the room if need be, and let the client in, if it may come in; if not, tell it why by message 2."""
        try:
            await self._enter(connection)
        except CloseConnection as refused:
            self._reply(connection, denial(refused.reason))
            raise

    async def _enter(self, connection: Connection) -> None:
        assert connection.request is not None
        if self.auth.required:
            await self._prove(connection, credential(connection.request))
        acknowledge = value(connection.request.path, "ack") == "true"
        if acknowledge and not self._store.durable:
            raise CloseConnection(1008, "This server stores nothing, so it cannot acknowledge: leave out ack=true.")
        try:
            room = await self.rooms.open(connection.path[1:], connection.address)
        except LoadError:
            raise CloseConnection(1011, "This document could not be loaded.") from None
        except (FullError, NoMemoryError) as full:
            raise CloseConnection(1013, str(full)) from None
        most = self.settings.max_room_size
        if most and len(room.clients) >= most:
            raise CloseConnection(1013, f"This room is full: {most} clients are allowed.")
        connection.session = room
        for message in room.join(connection, acknowledge=acknowledge, reader=_reader(connection.identity)):
            self._reply(connection, message)
        self._keepalive.add(connection)
        self._unread.add(connection)

    def receive(self, connection: Connection, message: bytes, text: bool) -> None:
        """Handle one message of y-websocket's protocol."""
        if text:
            raise CloseConnection(1003, "Text frames are not supported: send y-protocols messages in binary frames.")
        room: Room = connection.session
        connection.check_slow()  # what it asks for may be large, and it may ask again and again
        if room.busy:
            connection.pause_reading(SyncPause.ROOM_BUSY)
            self._slicer.when_free(room, partial(self._receive_late, connection, message))
            return
        then = partial(self._received, connection, message)
        if not self._slicer.do(room, room.receive(connection, message), then, connection.address):
            connection.pause_reading(SyncPause.ROOM_BUSY)
            self._slicer.when_free(room, partial(self._go_on, connection))

    def _receive_late(self, connection: Connection, message: bytes) -> None:
        """Handle a message that came while the room was busy, also if its sender has left since."""
        room: Room = connection.session
        if self.rooms.holds(room) and connection in room.clients:  # and was not refused meanwhile
            try:
                self.receive(connection, message, text=False)
            except Exception as error:
                connection.fail(error)
        if not room.busy:
            self._go_on(connection)

    def _received(self, connection: Connection, message: bytes, handled: Handled) -> None:
        """Go on when a room has handled a message."""
        room: Room = connection.session
        if not self.rooms.holds(room):
            return
        try:
            kind, reply = handled()
        except MalformedError as error:
            self.metrics.received["invalid"] += 1
            log.debug("refused", error=str(error))
            connection.disconnect(1003, f"Not a valid message: {error}")
            return
        except FullError as full:
            self.rooms.settle(room)  # there may be less of it when it is compacted
            if room.compacting or room.busy:
                connection.pause_reading(SyncPause.ROOM_BUSY)
                self._full.setdefault(room, {})[connection] = message
            else:
                connection.disconnect(1009, str(full))
            return
        except NoMemoryError as error:
            connection.pause_reading_for(2 * TURN_AWAY_AFTER)
            asyncio.get_running_loop().call_later(TURN_AWAY_AFTER, self._turn_away, connection, str(error))
            return
        except Exception as error:
            connection.fail(error)
            return
        self.metrics.received[NAMES[kind]] += 1
        if kind is Kind.TOKEN:
            if self.auth.required and connection.is_open:
                connection.work(partial(self._renew, connection, parse(message)[1]))
            return
        self.updates += kind in (Kind.STEP_2, Kind.UPDATE) and reply is None
        if reply is not None:
            self._answer(connection, reply)
        if kind is Kind.AWARENESS and len(message) > FEW_STATES:
            connection.pause_reading_for(len(message) / STATES_RATE)
        self._flusher.schedule(room)
        document = room.document
        if document.turn_updates >= MAX_TURN + MORE_TURN * len(room.clients) or document.turn_size >= MAX_TURN_SIZE:
            self._flusher.flush(room)
            if document.turn_size >= MAX_TURN_SIZE:
                self._held.add(connection)
                connection.pause_reading(SyncPause.STORAGE)

    def _turn_away(self, connection: Connection, reason: str) -> None:
        if connection.is_open:
            connection.disconnect(1013, reason)

    def _go_on(self, connection: Connection) -> None:
        """Read on from a client, when what has waited is done and this turn has been told."""
        asyncio.get_running_loop().call_soon(self._read_on, connection)

    def _read_on(self, connection: Connection) -> None:
        if connection not in self._full.get(connection.session, ()):
            connection.resume_reading(SyncPause.ROOM_BUSY)

    async def _prove(self, connection: Connection, token: str | None) -> None:
        """Let in who may read the room's document.

        Raises:
            CloseConnection: the client may not.
        """
        try:
            if token is None:
                raise AuthError("This server requires authentication: connect with a token.")
            self._admit(connection, await self.identify(connection, token))
        except AuthError as error:
            raise CloseConnection(1008 if error.code == "unauthorized" else 1013, str(error)) from None

    def _admit(self, connection: Connection, identity: Identity) -> None:
        if not identity.allows(connection.path[1:]):
            raise AuthError("Your token is not for this room.")
        connection.set_identity(identity)

    async def _renew(self, connection: Connection, token: bytes) -> None:
        """Let a client stay for as long as a new token says; with a wrong one nothing changes."""
        room: Room = connection.session
        try:
            self._admit(connection, identity := await self.identify(connection, token.decode(errors="replace")))
        except AuthError as error:
            self._reply(connection, denial(str(error)))
        else:
            self._slicer.when_free(room, partial(self._permit, connection, reader=_reader(identity)))

    def _permit(self, connection: Connection, *, reader: str | None) -> None:
        room: Room = connection.session
        if connection in room.clients:
            room.permit(connection, reader=reader)

    def limited(self, connection: Connection, message: bytes, over: Over) -> bool:
        """Read more slowly from a client over the rate: dropping an update would lose work."""
        connection.pause_reading_for(over.seconds)
        return True

    def slow(self, connection: Connection) -> None:
        """Leave a client that does not read out of the updates, from a state on that is known."""
        room: Room = connection.session
        self._slicer.when_free(room, partial(self._put_behind, connection))

    def _put_behind(self, connection: Connection) -> None:
        room: Room = connection.session
        if connection.is_open:
            room.put_behind(connection)
            self._flusher.flush(room)

    def drained(self, connection: Connection) -> None:
        """Bring a client that was left out up to date."""
        self._slicer.when_free(connection.session, partial(self._catch_up, connection))

    def _catch_up(self, connection: Connection) -> None:
        room: Room = connection.session
        if connection.is_open:
            present = room.catch_up(connection)
            if present is not None:
                self._reply(connection, present)
            self._flusher.schedule(room)

    def close(self, connection: Connection) -> None:
        """Take the client out of its room.

        The others learn at once that it is gone if either side has closed the connection. Where it is lost, the
        client may come back within moments, and its awareness states are kept for as long.
        """
        lost = connection.protocol.state is CLOSED
        self._slicer.when_free(connection.session, partial(self._leave, connection, lost=lost))

    def _leave(self, connection: Connection, *, lost: bool) -> None:
        room: Room = connection.session
        self._end_transfer(connection)
        self._keepalive.remove(connection)
        if room.leave(connection, lost=lost and len(self._lost) < MAX_LOST):
            loop = asyncio.get_running_loop()
            self._lost[connection] = loop.call_later(LOST_GRACE, self._forget, connection)
        self._held.discard(connection)
        if self.rooms.holds(room):
            self._flusher.schedule(room)
            if not room.clients:
                self.rooms.leave(room)

    def _forget(self, connection: Connection) -> None:
        del self._lost[connection]
        self._slicer.when_free(connection.session, partial(self._end_states, connection.session, connection))

    def _end_states(self, room: Room, connection: Connection) -> None:
        if self.rooms.holds(room):
            room.forget(connection)
            self._flusher.schedule(room)

    def failure(self) -> str | None:
        """Return why documents cannot be stored, if the last attempt failed."""
        return self._store.failure

    def health(self) -> dict[str, Any]:
        """Return the counts that monitors of the seed read."""
        return {
            "metrics": {
                "activeConnections": self.metrics.open_connections,
                "activeDocuments": len(self.rooms.rooms),
                "totalUpdates": self.updates,
            }
        }

    def _tell(self, room: Room, flush: Flush) -> None:
        """Send what a flush gave, now that it is stored."""
        for update in flush.updates:
            self._send(flush.synced, update, "update")
        if flush.updates:
            self._changed(room)
        if flush.awareness is not None:
            self._send(flush.present, flush.awareness, "awareness")
        for connection, message in cast("list[tuple[Connection, bytes]]", flush.replies):
            self._answer(connection, message)
        for connection, state_vector in cast("list[tuple[Connection, bytes]]", flush.large):
            self._end_transfer(connection)
            self._transfers[connection] = transfer = Transfer(state_vector)
            self._begin_transfer(connection, transfer)
        self.rooms.settle(room)

    def _begin_transfer(self, connection: Connection, transfer: Transfer) -> None:
        """Begin a large answer when there is memory for it, and its room is not busy."""
        if self._transfers.get(connection) is not transfer:  # it has left, or asked again
            return
        room: Room = connection.session
        if not self._budget.may_transfer:
            asyncio.get_running_loop().call_later(LOOK_AGAIN, self._begin_transfer, connection, transfer)
        elif room.busy:
            self._slicer.when_free(room, partial(self._begin_transfer, connection, transfer))
        else:
            transfer.begin(room.document)
            self._budget.begin_transfer()
            self._send_part(connection, transfer)

    def _end_transfer(self, connection: Connection) -> None:
        transfer = self._transfers.pop(connection, None)
        if transfer is not None and transfer.begun:
            self._budget.end_transfer()

    def _send_part(self, connection: Connection, transfer: Transfer) -> None:
        """Make the next part of a large answer, and send it; wait for a client that reads slowly."""
        if self._transfers.get(connection) is not transfer:
            return
        if connection.buffered > MAX_AHEAD:
            asyncio.get_running_loop().call_later(LOOK_AGAIN, self._send_part, connection, transfer)
        else:
            then = partial(self._send_made, connection, transfer)
            self._slicer.do_beside(transfer.next_message(), then, connection.address)

    def _send_made(self, connection: Connection, transfer: Transfer, made: Outcome[bytes]) -> None:
        if self._transfers.get(connection) is not transfer:
            return
        self._reply(connection, made())
        if transfer.ended:
            self._end_transfer(connection)
        else:
            self._send_part(connection, transfer)

    def _changed(self, room: Room) -> None:
        if self._webhook is not None:
            self._webhook.changed(room.name, lambda: self._state_vector(room))

    def _state_vector(self, room: Room) -> bytes | None:
        """Return what a webhook is told, or None for a room that is to be asked later."""
        if room.busy:
            self._slicer.when_free(room, partial(self._changed, room))
            return None
        return room.document.state_vector()

    def _send(self, to: list[Any], message: bytes, name: str) -> None:
        frame = encode_frame(message, text=False)
        self.metrics.sent[name] += len(to)
        self._keepalive.told(to)
        for connection in to:
            connection.write(frame)

    def _release(self) -> None:
        """Read on from those that were kept waiting for the disk."""
        held, self._held = self._held, set()
        for connection in held:
            connection.resume_reading(SyncPause.STORAGE)

    def _answer(self, connection: Connection, message: bytes) -> None:
        """Give a client what it asked for; a few bytes can ask for megabytes, so it may not ask again at once."""
        self._reply(connection, message)
        if len(message) > LARGE_ANSWER:
            connection.pause_reading_for(len(message) / ANSWER_RATE)

    def _reply(self, connection: Connection, message: bytes) -> None:
        self.metrics.sent["reply"] += 1
        self._keepalive.told((connection,))
        connection.write(encode_frame(message, text=False))

    def _keep_alive(self, connection: Connection) -> None:
        """Let a client hear something, unless it has not read yet what it was sent before."""
        if not connection.buffered:
            self.metrics.sent["keepalive"] += 1
            connection.write(KEEPALIVE_FRAME)

    def _fail(self, room: Room, error: Exception) -> None:
        """Drop a room that cannot be stored: its clients keep their work, come back, and bring it again."""
        log.error("a document could not be stored", error=str(error), clients=len(room.clients))
        self.rooms.discard(room)
        self._flusher.discard(room)
        self._full.pop(room, None)
        for connection in tuple(cast("set[Connection]", room.clients)):
            connection.disconnect(1011, "This document cannot be stored now. Connect again.")

    def metric_families(self) -> list[Metric]:
        """Return what only this server counts."""
        posts = self._webhook.posts if self._webhook is not None else Counter[str]()
        return [
            counters("opennoodl_sync_webhook_posts", "Webhook posts by outcome.", "outcome", posts),
            GaugeMetricFamily("opennoodl_sync_documents", "Documents in memory now.", len(self.rooms.rooms)),
            GaugeMetricFamily(
                "opennoodl_sync_document_bytes", "Bytes of memory that documents take.", self._budget.documents
            ),
            GaugeMetricFamily("opennoodl_sync_unread_bytes", "Bytes that wait for all clients.", self._budget.output),
            CounterMetricFamily("opennoodl_sync_updates", "Updates received from clients.", self.updates),
        ]


def _default_limit(available: int | None) -> int:
    """Return what documents and output may take where nobody says; the other half is for work in progress."""
    return 0 if available is None else max((available - OWN_MEMORY) // 2, available // 8)


def _reader(identity: Identity | None) -> str | None:
    """Return the user that somebody is who may only read."""
    return identity.user if identity is not None and identity.access == "read" else None


def create(settings: Settings) -> Service:
    """Return the server, not started yet."""
    return Service(Sync(settings), settings.port)
