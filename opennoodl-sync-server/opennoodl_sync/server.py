"""The server: wires connections to rooms."""

from __future__ import annotations

import asyncio
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

import structlog
from prometheus_client.metrics_core import Metric
from websockets.http11 import Request

from . import __version__
from .cluster.address import own_host
from .cluster.peers import Peers
from .cluster.relay import RelayPause
from .edge.application import Application, Trouble
from .edge.data_files import DataFiles
from .edge.errors import CloseConnection
from .edge.http.request import HttpRequest
from .edge.metrics import Labels
from .edge.service import Service
from .edge.websocket.connection import Connection
from .edge.websocket.flow_control import EdgePause
from .edge.websocket.frames import encode_frame
from .edge.websocket.handler import Handler
from .entrance import Entrance, renew
from .memory.available import available_memory
from .memory.bounds import LARGE_MESSAGES_SHARE, default_limit, message_bound
from .memory.budget import MemoryBudget
from .metrics import Sources, metric_families
from .pages.rooms import RoomPages
from .pages.routes import Pages
from .pages.versions import Bounds, VersionPages
from .refusals import REFUSALS
from .rooms.compactions import COMPACTION_FACTOR
from .rooms.direct_changes import DirectChanges
from .rooms.registry import Rooms
from .rooms.room import Room
from .sessions import SENT, Sessions, SyncPause
from .settings import Settings
from .storage.choose import open_store
from .storage.interface import PersistentStore, Store
from .storage.memory import MemoryStore
from .versions.scheduler import VersionScheduler
from .webhook import Webhook
from .y_protocol import MAX_NAME, Kind, denial, is_name

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
            stored=self._store_changes,
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
            renew=partial(renew, self.identify) if self.auth.required else None,
            changed=None if self._versions is None else self._versions.changed,
            post=None if self._webhook is None else self._post,
        )
        self._entrance = Entrance(
            self._sessions,
            self._peers,
            self.identify if self.auth.required else None,
            durable=self._store.durable,
            most=self.settings.max_room_size,
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

    async def open(self, connection: Connection) -> Handler:
        """Let the client into its room, if it may come in; if not, tell it why by message 2."""
        try:
            return await self._entrance.enter(connection, self._room(connection.path))
        except CloseConnection as refused:
            self.metrics.sent["reply"] += 1
            connection.write(encode_frame(denial(refused.reason), text=False))
            raise

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

    async def _store_changes(self, room: Room) -> None:
        await self._sessions.flusher.stored(room)

    def _loaded(self, room: Room, last: int) -> None:
        if self._versions is not None:
            self._versions.loaded(room.name, last)

    def _post(self, room: Room) -> None:
        assert self._webhook is not None
        self._webhook.changed(room.name, lambda: self._state_vector(room))

    def _state_vector(self, room: Room) -> bytes | None:
        """Return what a webhook is told, or None for a room that is to be asked later."""
        if room.busy:
            self.rooms.slicer.when_free(room, partial(self._post, room))
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


def create(settings: Settings) -> Service:
    """Return the server, not started yet."""
    return Service(Sync(settings), settings.port)
