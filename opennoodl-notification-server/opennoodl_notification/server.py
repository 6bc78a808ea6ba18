"""The server: connects connections with the queue, and starts and stops background tasks."""

from __future__ import annotations

import asyncio
from functools import partial
from time import monotonic
from typing import Any

import structlog
from msgspec import UNSET
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from . import __version__
from .cleanup import Cleanup
from .clock import Clock
from .devices import Device, Devices
from .edge.application import Trouble
from .edge.auth.identity import Identity
from .edge.data_files import DataFiles
from .edge.errors import BadMessage, StartError
from .edge.json_application import AUTHENTICATION_TIMEOUT, UNREADABLE, JsonApplication, JsonHandler
from .edge.metrics import Labels, counters
from .edge.service import Service
from .edge.websocket.connection import Connection
from .edge.websocket.flow_control import EdgePause
from .follower import Follower
from .inbox.send_quota import SendQuota
from .inbox.store import Store, StoreError
from .instances import Instances
from .messages import ERRORS, SENT, Authenticate, ClientForm, Incoming, SendNotification, decode
from .queue import Queue, QueuePause, Request
from .reader import Reader
from .settings import Settings
from .storage.choose import choose, choose_channel
from .totals import Totals
from .worker import Worker
from .wrong_clock import check_clock

MAX_REQUEST_ID = 1024
"""Largest `requestId` in bytes: a message about many notifications has many answers, which all repeat it."""

LAST_HINTS = 1.0
"""Seconds that a stopping server has to send its last hints to other instances."""

NOT_STORED = "Notifications cannot be stored."
POOLED = "set DATABASE_LISTEN_URL to the database's own address"
WAITS = "Send `authenticate` within ten seconds of connecting."

REFUSALS = {
    "too-many-connections": "the user has MAX_CONNECTIONS_PER_USER connections",
    "storage-full": "a notification was refused, since the store has MAX_STORED_SIZE bytes",
    "storage-unavailable": "the store failed or is too slow, so a message was refused",
    "catch-up": "what the device has missed is not remembered, so it is to connect again",
}
"""The error codes of refusals that only this server has."""

log = structlog.get_logger()


class NotificationServer(JsonApplication[Any]):
    """Inboxes for users with any number of devices.

    Attributes:
        store: stores the inboxes.
        devices: the connections of users.
        totals: counts the stored bytes.
        queue: the messages that have not been handled yet.
        worker: handles the messages.
        cleanup: deletes expired notifications.
        instances: sends hints to other instances of the database, and receives theirs.
        follower: sends devices the changes of other instances.
    """

    title = "OpenNoodl notification server"
    about = (
        "It keeps invites, mentions and community events until they are deleted or expire.\n"
        "Connect an editor to this address as ws:// or wss://."
    )
    own_refusals = REFUSALS
    read_pauses = (EdgePause, QueuePause)
    labels = Labels(received=(*decode.names.values(), *UNREADABLE), sent=SENT, errors=ERRORS)
    decode = decode

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, __version__, settings.max_message_size)
        self._max_data_size = settings.max_data_size
        self._max_stored_size = settings.max_stored_size
        self._listens_apart = bool(settings.database_listen_url)
        clock = self._clock = Clock()
        self.store: Store = choose(settings.place)
        self._channel = choose_channel(settings.place, settings.database_listen_url)
        self.devices = Devices(self, settings.max_connections_per_user)
        self.totals = Totals(settings.max_stored_size)
        quota = SendQuota(settings.sends_per_hour, settings.send_bytes_per_hour)
        self.follower = Follower(self.store, self.devices, clock)
        self.instances = Instances(self.follower, self.devices, self.totals, quota=quota, clock=clock)
        others = None if self.store.exclusive else self.instances
        self.queue = Queue(self.devices.sizes)
        reader = Reader(self.store, self.devices, others)
        self.worker = Worker(
            self.queue,
            self.store,
            self.devices,
            reader,
            self.totals,
            quota=quota,
            instances=others,
            settings=settings,
            clock=clock,
        )
        self.cleanup = Cleanup(self.worker, self.store, self.totals, settings.max_per_user, clock)

    async def start(self) -> None:
        """Open the store, and start the background tasks."""
        await self.store.open()
        if self.store.file is not None:
            self.data_files = DataFiles(self.store.file.parent, self.store.file.name)
        try:
            self._clock.start(await check_clock(self.store, self._clock.now()))
            await self._open_channel()
            await self.totals.count(self.store)
        except (StartError, StoreError):
            await self.store.close()
            raise
        self._working = asyncio.create_task(self.worker.run())
        self._background = [asyncio.create_task(self.cleanup.run())]
        if not self.store.exclusive:
            self._background.append(asyncio.create_task(self.instances.run(self.worker.schedule)))
        if self._channel is not None:
            self.instances.use(self._channel)
            self._exchanging = asyncio.create_task(self._channel.run(self.instances))

    async def stop(self) -> None:
        """Handle the queue, send the last hints, and close the store."""
        self.worker.stop()
        await self._working
        for task in self._background:
            task.cancel()
        if self._channel is not None:
            self._channel.stop()
            await asyncio.wait([self._exchanging], timeout=LAST_HINTS)
            self._exchanging.cancel()
        await self.store.close()

    async def _open_channel(self) -> None:
        """Open the channel to other instances, if there can be one."""
        if self._channel is None or await self._channel.open():
            return
        if self._listens_apart:
            raise StartError(f"DATABASE_LISTEN_URL leads to a pooler; {POOLED}")
        log.warning(f"DATABASE_URL leads to a pooler: other instances' changes are noticed within 10 seconds; {POOLED}")
        self._channel = None

    async def open(self, connection: Connection) -> JsonHandler[Any]:
        """Set a deadline for `authenticate`; until then, the connection has no user."""
        connection.set_deadline(AUTHENTICATION_TIMEOUT, WAITS, refusal="authentication-timeout")
        handler = await super().open(connection)
        if connection.identity is not None:  # a connection with a token also needs `authenticate` to become a device
            connection.set_deadline(AUTHENTICATION_TIMEOUT, WAITS, refusal="authentication-timeout")
        return handler

    def handler(self, connection: Connection) -> DeviceHandler:
        """Return what handles the messages of a new connection."""
        return DeviceHandler(self, connection)

    def enqueue(self, device: Device, incoming: Incoming, message: bytes) -> None:
        """Add a message to the queue.

        Raises:
            BadMessage: it is too large, or the queue is full.
        """
        if isinstance(incoming, SendNotification):
            size, most = memoryview(incoming.data).nbytes, self._max_data_size
            if most and size > most:
                raise BadMessage("data-too-large", f"`data` has {size} bytes; at most {most} are accepted.")
        id_ = incoming.request_id
        if id_ is not UNSET and (size := memoryview(id_).nbytes) > MAX_REQUEST_ID:
            raise BadMessage("invalid-field", f"`requestId` has {size} bytes; at most {MAX_REQUEST_ID} are accepted.")
        self.queue.add(Request(device, incoming, len(message), monotonic()))

    def trouble(self) -> Trouble | None:
        """Return the reason why changes cannot be stored, after a failed attempt; None otherwise."""
        return None if self.worker.failure is None else Trouble(NOT_STORED, outside=not self.store.exclusive)

    def health(self) -> dict[str, Any]:
        """Return the counts of ``/health``."""
        return {"notificationCount": self.totals.notifications, "connectedUsers": len(self.devices)}

    def metric_families(self) -> list[Metric]:
        """Return the metrics that only this server has."""
        totals = self.totals
        return [
            GaugeMetricFamily("opennoodl_notification_stored", "Notifications kept now.", totals.notifications),
            GaugeMetricFamily("opennoodl_notification_stored_bytes", "Bytes for which all counts.", totals.size),
            GaugeMetricFamily(
                "opennoodl_notification_max_stored_bytes",
                "Their limit, MAX_STORED_SIZE.",
                self._max_stored_size,
            ),
            GaugeMetricFamily("opennoodl_notification_users", "Users with a device connected.", len(self.devices)),
            GaugeMetricFamily("opennoodl_notification_queued", "Messages that wait for the store.", self.worker.queued),
            GaugeMetricFamily(
                "opennoodl_notification_oldest_seconds", "How long a message has waited at most.", self.worker.oldest()
            ),
            self.worker.seconds.family("opennoodl_notification_store_seconds", "Time of one commit."),
            CounterMetricFamily("opennoodl_notification_commits", "Commits to the store.", self.worker.commits),
            CounterMetricFamily("opennoodl_notification_store_errors", "Failures of the store.", self.worker.errors),
            *self._instance_metrics(),
        ]

    def _instance_metrics(self) -> list[Metric]:
        """Return the metrics about other instances; empty if there can be none."""
        instances, channel = self.instances, self._channel
        hints = {"sent": instances.sent, "heard": instances.heard, "lost": instances.lost}
        listening = channel is not None and channel.listening
        reconnects = 0 if channel is None else channel.reconnects
        prefix = "opennoodl_notification"
        return [
            GaugeMetricFamily(f"{prefix}_instances", "Other instances.", instances.present),
            GaugeMetricFamily(f"{prefix}_listening", "Whether hints can be heard.", int(listening)),
            CounterMetricFamily(f"{prefix}_listen_reconnects", "New connections for hints.", reconnects),
            counters(f"{prefix}_hints", "Hints to and from other instances.", "kind", hints),
            instances.latency.family(f"{prefix}_hint_seconds", "Time from a commit until its hint is heard."),
            counters(f"{prefix}_gaps", "Changes that were read for devices.", "found", self.follower.gaps),
        ]


class DeviceHandler(JsonHandler[Any]):
    """Adds the messages of one client to the queue."""

    __slots__ = ()
    app: NotificationServer

    def dispatch(self, incoming: Incoming, message: bytes) -> None:
        """Add a message to the queue, if its sender may send it."""
        if isinstance(incoming, ClientForm):
            incoming = incoming.as_send()
        app, connection = self.app, self.connection
        if app.auth.required:
            if isinstance(incoming, Authenticate):
                connection.work(partial(self._prove, incoming, message))
                return
            if isinstance(incoming, SendNotification) and incoming.notification_type == "system":
                _permit_system(connection.identity)
        app.enqueue(connection, incoming, message)

    def close(self, *, lost: bool) -> None:
        """Remove the device."""
        self.app.devices.remove(self.connection)

    async def _prove(self, incoming: Authenticate, message: bytes) -> None:
        """Verify the token of `authenticate`, then add the message to the queue."""
        app, connection = self.app, self.connection
        try:
            identity = await app.prove(connection, incoming.token, incoming.user_id)
            # The next messages already belong to the user. The deadline stays until the user's authentication was
            # handled.
            connection.set_identity(identity, expires=connection.user is not None)
            app.enqueue(connection, incoming, message)
        except BadMessage as bad:
            bad.request_id = incoming.request_id
            app.refuse(connection, bad)


def create(settings: Settings) -> Service:
    """Return the server, not started yet."""
    return Service(NotificationServer(settings), settings.port)


def _permit_system(identity: Identity | None) -> None:
    """Check that a user may send notifications of type `system`.

    Raises:
        BadMessage: the user may not.
    """
    if identity is not None and not identity.services:
        raise BadMessage("forbidden", "Only a token with the claim `services` may send `system` notifications.")
