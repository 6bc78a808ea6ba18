"""The server: wires connections to rooms."""

import asyncio
from typing import Any, cast

import structlog
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from . import __version__
from .edge.application import Application
from .edge.connection import CloseConnection, Connection, encode_frame
from .edge.metrics import Metrics
from .edge.service import Service
from .protocol import NAMES, Kind, MalformedError
from .room import Room
from .rooms import LoadError, Rooms
from .settings import Settings
from .store import StoreError
from .store_level import Database
from .yjs import DamagedError

MAX_NAME = 256
"""Characters of a room's name, as it stands in the path."""

MAX_TURN = 100
"""Changes of one document that wait for the end of a turn: the others are not kept waiting for more."""
RETRY_INTERVAL = 5.0
"""Seconds after which it is tried whether a disk that failed works again."""

log = structlog.get_logger()


class Sync(Application):
    """y-websocket's protocol, with the documents in LevelDB."""

    title = "OpenNoodl sync server"
    about = (
        "It keeps documents in sync where WebRTC fails: a Yjs server with persistence.\n"
        "Connect y-websocket's WebsocketProvider to this address as ws:// or wss://; the path names the room."
    )

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.max_message_size = settings.max_message_size
        self.metrics = Metrics(__version__, self._families)
        self.updates = 0
        self._idle = settings.room_idle_timeout / 1000
        self._directory = settings.persist_dir if settings.enable_persistence else None
        self._database: Database | None = None
        self._scheduled: set[Room] = set()
        self._retrying = False

    async def start(self) -> None:
        """Open the data directory."""
        if self._directory is not None:
            self._database = Database(self._directory)
        self.rooms = Rooms(self._database)

    async def stop(self) -> None:
        """Store what is not stored yet, and close the data directory."""
        self.rooms.close()

    def refusal(self, path: str) -> str | None:
        """Refuse what cannot be a room's name; it is taken from the path as it stands, not decoded."""
        if 1 < len(path) <= MAX_NAME + 1:
            return None
        return f"The path names the room: one to {MAX_NAME} characters after the slash."

    async def open(self, connection: Connection) -> None:
        """Load the room if need be, and let the client in."""
        try:
            room = await self.rooms.open(connection.path[1:])
        except LoadError:
            raise CloseConnection(1011, "This document could not be loaded.") from None
        connection.client = room
        for message in room.join(connection):
            self._reply(connection, message)

    def receive(self, connection: Connection, message: bytes, text: bool) -> None:
        """Handle one message of y-websocket's protocol."""
        if text:
            raise CloseConnection(1003, "Messages are y-protocols in binary frames.")
        room: Room = connection.client
        connection.overflow()  # what it asks for may be large, and it may ask again and again
        try:
            kind, reply = room.receive(connection, message)
        except MalformedError as error:
            self.metrics.received["invalid"] += 1
            log.debug("refused", error=str(error))
            raise CloseConnection(1003, f"Not a valid message: {error}") from None
        except (StoreError, DamagedError) as error:
            self._fail(room, error)
            return
        self.metrics.received[NAMES[kind]] += 1
        self.updates += kind in (Kind.STEP_2, Kind.UPDATE)
        if reply is not None:
            self._reply(connection, reply)
        if room.unflushed >= MAX_TURN:
            self._flush(room)
        else:
            self._schedule(room)

    def limited(self, connection: Connection, message: bytes, seconds: float) -> bool:
        """Read more slowly from a client over the rate: dropping an update would lose work."""
        self.metrics.rate_limited["messages"] += 1
        connection.hold(seconds)
        return True

    def slow(self, connection: Connection) -> None:
        """Leave a client that does not read out of the updates, from a state on that is known."""
        room: Room = connection.client
        self._flush(room)
        room.put_behind(connection)

    def drained(self, connection: Connection) -> None:
        """Bring a client that was left out up to date."""
        room: Room = connection.client
        try:
            for message in room.catch_up(connection):
                self._reply(connection, message)
        except (StoreError, DamagedError) as error:
            self._fail(room, error)

    def close(self, connection: Connection) -> None:
        """Take the client out of its room; the others learn at once that it is gone."""
        room: Room = connection.client
        room.leave(connection)
        self._schedule(room)
        if not room.clients:
            asyncio.get_running_loop().call_later(self._idle, self._unload, room)

    def failure(self) -> str | None:
        """Return why documents cannot be stored, if the last attempt failed."""
        return self._database.failure if self._database is not None else None

    def health(self) -> dict[str, Any]:
        """Return the counts that monitors of the seed read."""
        return {
            "metrics": {
                "activeConnections": self.metrics.open_connections,
                "activeDocuments": len(self.rooms.rooms),
                "totalUpdates": self.updates,
            }
        }

    def _schedule(self, room: Room) -> None:
        """Flush at the end of this turn of the event loop, once for all that happens in it."""
        if room.dirty and room not in self._scheduled and self.rooms.holds(room):
            self._scheduled.add(room)
            asyncio.get_running_loop().call_soon(self._flush, room)

    def _flush(self, room: Room) -> None:
        self._scheduled.discard(room)
        if not self.rooms.holds(room):
            return
        try:
            update, awareness = room.flush()
        except (StoreError, DamagedError) as error:
            self._fail(room, error)
            return
        if update is not None:
            self._send(room.synced, update, "update")
        if awareness is not None:
            everybody = cast("set[Connection]", room.clients)
            self._send({connection for connection in everybody if not connection.slow}, awareness, "awareness")

    def _send(self, to: set[Any], message: bytes, name: str) -> None:
        frame = encode_frame(message, text=False)
        self.metrics.sent[name] += len(to)
        for connection in tuple(to):
            connection.write(frame)

    def _reply(self, connection: Connection, message: bytes) -> None:
        self.metrics.sent["reply"] += 1
        connection.write(encode_frame(message, text=False))

    def _fail(self, room: Room, error: Exception) -> None:
        """Drop a room that cannot be stored: its clients keep their work, come back, and bring it again."""
        log.error("a document could not be kept", error=str(error), clients=len(room.clients))
        self.rooms.discard(room)
        for connection in tuple(cast("set[Connection]", room.clients)):
            connection.end(1011, "This document cannot be kept right now. Connect again.")
        if self._database is not None and self._database.failure and not self._retrying:
            self._retrying = True
            asyncio.get_running_loop().call_later(RETRY_INTERVAL, self._retry, self._database)

    def _retry(self, database: Database) -> None:
        """Find out whether a disk that failed works again, also when nobody writes."""
        self._retrying = False
        try:
            database.write(())
        except StoreError:
            self._retrying = True
            asyncio.get_running_loop().call_later(RETRY_INTERVAL, self._retry, database)

    def _unload(self, room: Room) -> None:
        try:
            self.rooms.unload(room)
        except (StoreError, DamagedError) as error:
            self._fail(room, error)

    def _families(self) -> list[Metric]:
        return [
            GaugeMetricFamily("opennoodl_sync_documents", "Documents in memory now.", len(self.rooms.rooms)),
            CounterMetricFamily("opennoodl_sync_updates", "Updates received from clients.", self.updates),
        ]


def create(settings: Settings) -> Service:
    """Return the server, not started yet."""
    return Service(Sync(settings), __version__, settings.port)
