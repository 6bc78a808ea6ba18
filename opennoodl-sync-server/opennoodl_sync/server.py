"""The server: wires connections to rooms."""

from __future__ import annotations

import asyncio
from functools import partial
from http import HTTPStatus
from pathlib import Path
from time import monotonic
from typing import Any

import structlog
from prometheus_client.metrics_core import Metric
from websockets.http11 import Request
from websockets.protocol import CLOSED

from . import __version__
from .cluster.address import own_host
from .cluster.peers import Peers
from .cluster.relay import GONE, Relay, RelayError, RelayPause
from .cluster.signature import HEADER
from .edge.application import Application, Trouble
from .edge.auth.credential import credential
from .edge.auth.identity import AuthError, Identity
from .edge.data_files import DataFiles
from .edge.errors import CloseConnection
from .edge.http.query import value
from .edge.http.request import HttpRequest
from .edge.limits import Over
from .edge.metrics import Labels
from .edge.service import Service
from .edge.websocket.connection import Connection
from .edge.websocket.flow_control import EdgePause
from .edge.websocket.frames import encode_frame
from .memory.available import available_memory
from .memory.bounds import LARGE_MESSAGES_SHARE, default_limit, message_bound
from .memory.budget import MemoryBudget
from .metrics import Sources, metric_families
from .pages.rooms import RoomPages
from .pages.routes import Pages
from .pages.versions import Bounds, VersionPages
from .refusals import REFUSAL_OF, REFUSALS
from .rooms.direct_changes import DirectChanges
from .rooms.registry import COMPACTION_FACTOR, LoadError, Rooms
from .rooms.room import ROOM_CLOSED, FullError, NoMemoryError, Room
from .sessions import SENT, Session, Sessions, SyncPause
from .settings import Settings
from .storage.choose import open_store
from .storage.interface import ElsewhereError, PersistentStore, Store, UnavailableError
from .storage.memory import MemoryStore
from .versions.scheduler import VersionScheduler
from .webhook import Webhook
from .y_protocol import MAX_NAME, Kind, denial, is_name

PATIENCE = 3.0
"""Seconds for which it is tried to pass a connection on, until its client is to come again."""
RETRY_INTERVAL = 0.25
"""Seconds between two attempts."""
log = structlog.get_logger()


class Sync(Application):
    """y-websocket's protocol, with the documents in LevelDB or PostgreSQL."""

    title = "OpenNoodl sync server"
    about = (
        "It keeps documents in sync where WebRTC fails: a Yjs server with persistence.\n"
        "Connect y-websocket's WebsocketProvider to this address as ws:// or wss://; the path names the room."
    )

    pages = (
        *("/", "/health", "/ready", "/metrics", "/rooms", "/rooms/<room>/versions"),
        *("/rooms/<room>/kick", "/rooms/<room>/close", "/rooms/<room>/open"),
    )

    settings: Settings
    own_refusals = REFUSALS
    labels = Labels(received=(*(kind.label for kind in Kind), "invalid"), sent=SENT)
    read_pauses = (EdgePause, SyncPause, RelayPause)

    def __init__(self, settings: Settings) -> None:
        max_memory = settings.max_memory or default_limit(available_memory())
        share = max_memory // LARGE_MESSAGES_SHARE
        super().__init__(settings, __version__, message_bound(settings.max_message_size, share), share)
        self._prefix = settings.path_prefix + "/"  # what stands before the name of a room
        self._store: Store = MemoryStore()
        self._own_host: str | None = None
        self._budget = MemoryBudget(max_memory)
        self._versions: VersionScheduler | None = None
        self._pages: Pages | None = None
        self._webhook: Webhook | None = None
        if settings.webhook_url:
            self._webhook = Webhook(settings.webhook_url, settings.webhook_secret, settings.webhook_debounce / 1000)

    async def start(self) -> None:
        """Open the store."""
        if self.settings.enable_persistence:
            self._store = await open_store(self.settings)
            if not self.settings.database_url:
                self.data_files = DataFiles(Path(self.settings.persist_dir))
            self._own_host = await own_host(self.settings, self._store)
        self._peers = Peers(self.settings.cluster_secret, self._store)
        self.rooms = Rooms(
            self._store,
            idle_timeout=self.settings.room_idle_timeout / 1000,
            max_rooms=self.settings.max_rooms,
            max_size=self.settings.max_document_size,
            budget=self._budget,
            compacted=self._compacted,
            loaded=self._loaded,
        )
        making = asyncio.Lock()
        if isinstance(self._store, PersistentStore) and self.settings.schedule is not None:
            self._versions = VersionScheduler(
                self._store,
                self.settings.schedule,
                self.settings.max_versions_size,
                self._budget.limit // COMPACTION_FACTOR,
                self.rooms.rooms.__contains__,
                making=making,
            )
        self._sessions = Sessions(
            self.rooms,
            self._store,
            self.metrics,
            self._budget,
            renew=self._renew if self.auth.required else None,
            changed=None if self._webhook is None and self._versions is None else self._changed,
        )
        self._direct_changes = DirectChanges(self.rooms, self._sessions.flusher)
        if isinstance(self._store, PersistentStore) and self.auth.required:
            bounds = Bounds(
                document=self._budget.limit // COMPACTION_FACTOR,
                versions=self.settings.max_document_versions_size,
                answer=self.max_message_size,
            )
            versions = VersionPages(self._store, self._direct_changes.change, bounds, making)
            self._pages = Pages(self.auth, self._peers, versions, RoomPages(self._store, self.rooms, self._sessions))
        services = [self.rooms.tidy, self._sessions.keep_alive, self._sessions.count_memory, self._peers.watch]
        if self._versions is not None:
            services.append(self._versions.run)
        self._services = [asyncio.create_task(run()) for run in services]

    async def stop(self) -> None:
        """Store what is not stored yet, and close the store."""
        for task in self._services:
            task.cancel()
        await asyncio.wait(self._services)  # one may use the store, or a process
        if self._pages is not None:
            await self._pages.close()
        await self._direct_changes.close()
        self._sessions.stop()
        await self.rooms.close()
        await self._store.close()
        if self._webhook is not None:
            await self._webhook.close()

    def listening(self, port: int) -> None:
        """Tell other instances where this one is reached, and the operator if memory is short for large messages."""
        if self.max_message_size != self.settings.max_message_size:
            log.info(
                f"messages may have {self.max_message_size} bytes, a sixteenth of MAX_MEMORY",
                max_message_size=self.settings.max_message_size,
                max_memory=self._budget.limit,
            )
        if self._own_host:
            self._store.announce(self.settings.instance_url or f"ws://{self._own_host}:{port}")

    def client_address(self, request: Request) -> str | None:
        """Return the address of a client whose connection another instance passes on."""
        return self._peers.client_address(request)

    def refusal(self, path: str) -> str | None:
        """Refuse what cannot be a room's name; it is taken from the path as it stands, not decoded."""
        if not path.startswith(self._prefix):
            return f"The path does not begin with the PATH_PREFIX of this server: {self._prefix}<room>."
        if is_name(self._room(path)):
            return None
        return f"The path names the room: one to {MAX_NAME} printable characters after the slash."

    def _room(self, path: str) -> str:
        """Return the name of the room that an accepted path names."""
        return path.removeprefix(self._prefix)

    async def open(self, connection: Connection) -> None:
        """Load the room if need be, and let the client in, if it may come in; if not, tell it why by message 2."""
        try:
            await self._enter(connection)
        except CloseConnection as refused:
            self.metrics.sent["reply"] += 1
            connection.write(encode_frame(denial(refused.reason), text=False))
            raise

    async def _enter(self, connection: Connection) -> None:
        assert connection.request is not None
        if self.auth.required:
            await self._prove(connection, credential(connection.request))
        acknowledge = value(connection.request.path, "ack") == "true"
        if acknowledge and not self._store.durable:
            text = "This server stores nothing, so it cannot acknowledge: leave out ack=true."
            raise CloseConnection(1008, text, "not-durable")
        found = await self._find(connection)
        if isinstance(found, Relay):
            connection.session = found
            connection.set_deadline(None)  # the other instance has been shown the token, and may be shown others
            self._sessions.count_output(found)
            return
        room = found
        if room.closed:
            if not room.clients:
                self.rooms.mark_idle(room)
            raise CloseConnection(1013, ROOM_CLOSED, "room-closed")
        most = self.settings.max_room_size
        if most and len(room.clients) >= most:
            raise CloseConnection(1013, f"This room is full: {most} clients are allowed.", "room-full")
        connection.session = session = Session(connection, room)
        self._sessions.enter(session, acknowledge=acknowledge, reader=_reader(connection.identity))

    async def _find(self, connection: Connection) -> Room | Relay:
        """Return the room, or a relay to the instance that has it.

        An instance that stops gives its rooms back within moments, so this is tried for a while.
        """
        until = monotonic() + PATIENCE
        while True:
            try:
                return await self.rooms.open(self._room(connection.path), connection.address)
            except LoadError:
                raise CloseConnection(1011, "This document could not be loaded.", "document-damaged") from None
            except (FullError, NoMemoryError, UnavailableError) as refusal:
                raise CloseConnection(1013, str(refusal), REFUSAL_OF[type(refusal)]) from None
            except ElsewhereError as owner:
                if _is_passed_on(connection):
                    text = "This document moves to another server. Connect again."
                    raise CloseConnection(1013, text, "document-elsewhere") from None
                try:
                    return await self._peers.pass_on(connection, owner)
                except RelayError:
                    if monotonic() > until or connection.is_closing:
                        raise CloseConnection(1013, GONE, "document-elsewhere") from None
            await asyncio.sleep(RETRY_INTERVAL)

    def receive(self, connection: Connection, message: bytes, text: bool) -> None:
        """Handle one message of y-websocket's protocol."""
        if text:
            raise CloseConnection(1003, "Text frames are not supported: send y-protocols messages in binary frames.")
        session = connection.session
        if isinstance(session, Relay):
            session.send(message)
        else:
            self._sessions.receive(session, message)

    async def _prove(self, connection: Connection, token: str | None) -> None:
        """Let in who may read the room's document.

        Raises:
            CloseConnection: the client may not.
        """
        try:
            if token is None:
                raise AuthError("This server requires authentication: connect with a token.", "token-missing")
            self._admit(connection, await self.identify(connection, token))
        except AuthError as error:
            code = 1008 if error.code == "unauthorized" else 1013
            raise CloseConnection(code, str(error), error.refusal) from None

    def _admit(self, connection: Connection, identity: Identity) -> None:
        if not identity.allows(self._room(connection.path)):
            raise AuthError("Your token is not for this room.", "token-room")
        connection.set_identity(identity)

    async def _renew(self, session: Session, token: bytes) -> None:
        """Let a client stay for as long as a new token says; with a wrong one nothing changes."""
        connection = session.connection
        try:
            self._admit(connection, identity := await self.identify(connection, token.decode(errors="replace")))
        except AuthError as error:
            connection.note_refusal(error.refusal)
            self._sessions.reply(session, denial(str(error)))
        else:
            self._sessions.permit(session, _reader(identity))

    def limited(self, connection: Connection, message: bytes, over: Over) -> bool:
        """Read more slowly from a client over the rate: dropping an update would lose work."""
        connection.pause_reading_for(over.seconds)
        return True

    def slow(self, connection: Connection) -> None:
        """Leave a client that does not read out of the updates."""
        if isinstance(connection.session, Relay):
            connection.session.pause()  # the other instance leaves it out then
        else:
            self._sessions.put_behind(connection.session)

    def drained(self, connection: Connection) -> None:
        """Bring a client that was left out up to date."""
        if isinstance(connection.session, Relay):
            connection.session.resume()
        else:
            self._sessions.catch_up(connection.session)

    def close(self, connection: Connection) -> None:
        """Take the client out of its room; its connection is lost if neither side has closed it."""
        session, connection.session = connection.session, None  # a document is not to stay until the socket is closed
        lost = connection.protocol.state is CLOSED
        if isinstance(session, Relay):
            self._peers.end(session, lost=lost)
        else:
            self._sessions.leave(session, lost=lost)

    def accepts_post(self, path: str) -> bool:
        """Return whether a path may be asked for something that changes a room."""
        return self._pages is not None and self._pages.accepts_post(path)

    async def page(self, request: HttpRequest) -> tuple[HTTPStatus, dict[str, Any]] | None:
        """Answer requests about rooms; without AUTH there are no such pages."""
        return None if self._pages is None else await self._pages.answer(request)

    def trouble(self) -> Trouble | None:
        """Return why documents cannot be stored, if the last attempt failed; the database may be away."""
        reason = self._store.failure
        return None if reason is None else Trouble(reason, outside=bool(self.settings.database_url))

    def health(self) -> dict[str, Any]:
        """Return the counts that ``/health`` shows."""
        return {
            "metrics": {
                "activeConnections": self.metrics.open_connections,
                "activeDocuments": len(self.rooms.rooms),
                "totalUpdates": self._sessions.updates,
            }
        }

    def _compacted(self, room: Room) -> None:
        self._sessions.compacted(room)

    def _loaded(self, room: Room, last: int) -> None:
        if self._versions is not None:
            self._versions.loaded(room.name, last)

    def _changed(self, room: Room) -> None:
        if self._versions is not None:
            self._versions.changed(room.name)
        if self._webhook is not None:
            self._webhook.changed(room.name, lambda: self._state_vector(room))

    def _state_vector(self, room: Room) -> bytes | None:
        """Return what a webhook is told, or None for a room that is to be asked later."""
        if room.busy:
            self.rooms.slicer.when_free(room, partial(self._changed, room))
            return None
        return room.document.state_vector()

    def metric_families(self) -> list[Metric]:
        """Return the metrics that only this server has."""
        return metric_families(
            Sources(
                self._store,
                self._budget,
                self.rooms,
                self._sessions,
                self._peers,
                self._versions,
                self._webhook,
            )
        )


def _is_passed_on(connection: Connection) -> bool:
    """Return whether another instance passes a connection on, with the right secret or not."""
    return connection.request is not None and HEADER in connection.request.headers


def _reader(identity: Identity | None) -> str | None:
    """Return the user that somebody is who may only read."""
    return identity.user if identity is not None and identity.access == "read" else None


def create(settings: Settings) -> Service:
    """Return the server, not started yet."""
    return Service(Sync(settings), settings.port)
