"""The server: wires connections to inboxes, and makes changes last before anybody hears of them.

Every message waits its turn in one queue. What is queued is handled as a batch: the changes of all of it
become one commit, and only when that is on disk are answers and events sent, in order. So an answer is a
promise, no read shows what may yet be lost, and a busy server writes its file once for many messages.
"""

import asyncio
from time import time
from typing import Any, NamedTuple

import structlog
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from . import __version__
from .edge.connection import Connection
from .edge.json_messages import BadMessage, JsonApplication, request_id
from .edge.metrics import Metrics
from .edge.service import Service
from .inbox import Inboxes, Outcome
from .messages import (
    Authenticate,
    Authenticated,
    ClientForm,
    DeleteAll,
    DeleteNotification,
    GetNotifications,
    Incoming,
    MarkAllRead,
    MarkRead,
    SendNotification,
    decode,
)
from .settings import Settings
from .store import Store, StoreError
from .store_json import JsonStore

CLEANUP_INTERVAL = 3600.0
"""Seconds between two searches for what has expired."""

RETRY_INTERVAL = 5.0
"""Seconds after which it is tried whether a store that failed works again."""

log = structlog.get_logger()


class Request(NamedTuple):
    """One message in the queue."""

    connection: Connection
    incoming: Incoming
    message: bytes


class Notifying(JsonApplication[Any]):
    """Inboxes for users with any number of devices."""

    title = "OpenNoodl notification server"
    about = (
        "It keeps invites, mentions and community events until they are read or expire.\n"
        "Connect an editor to this address as ws:// or wss://."
    )
    decode = decode

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.max_message_size = settings.max_message_size
        self.metrics = Metrics(__version__, self._families)
        self.devices: dict[str, set[Connection]] = {}
        self.commits = 0
        self._users: dict[Connection, str] = {}
        self._config = settings
        self._queue: list[Request] = []
        self._wake = asyncio.Event()
        self._cleanup = False
        self._stopping = False
        self._failure: str | None = None

    async def start(self) -> None:
        """Open the store, read everything, and begin to work."""
        config = self._config
        self._store: Store = JsonStore(config.db_file)
        self.inboxes = Inboxes(self._store.load(), config.ttl_days, config.max_per_user, config.sends_per_hour)
        self._worker = asyncio.create_task(self._work())
        self._cleaner = asyncio.create_task(self._clean())

    async def stop(self) -> None:
        """Handle what is queued, and close the store."""
        self._stopping = True
        self._wake.set()
        await self._worker
        self._cleaner.cancel()
        self._store.close()

    async def open(self, connection: Connection) -> None:
        """A connection is nobody's until it authenticates."""
        connection.client = None

    def dispatch(self, connection: Connection, incoming: Incoming, message: bytes) -> None:
        """Queue one message."""
        self._queue.append(Request(connection, incoming, message))
        self._wake.set()

    def close(self, connection: Connection) -> None:
        """Forget a device."""
        self._identify(connection, None)

    def failure(self) -> str | None:
        """Return why changes cannot be stored, if the last attempt failed."""
        return self._failure

    def health(self) -> dict[str, Any]:
        """Return the counts that monitors of the seed read."""
        return {"notificationCount": len(self.inboxes), "connectedUsers": len(self.devices)}

    async def _work(self) -> None:
        while not self._stopping or self._queue:
            await self._wake.wait()
            self._wake.clear()
            await self._handle_batch()

    async def _clean(self) -> None:
        while True:
            # By the one who also commits: what changes while a commit is under way would not be part of it.
            self._cleanup = True
            self._wake.set()
            await asyncio.sleep(CLEANUP_INTERVAL)

    async def _handle_batch(self) -> None:
        batch, self._queue = self._queue, []
        if self._cleanup:
            self._cleanup = False
            self.inboxes.expire(time())
        users = [self._user(request) for request in batch]
        outcomes = [self._outcome(user, request) for user, request in zip(users, batch, strict=True)]
        if not await self._commit():
            # Reads can still be answered, from the state that is stored.
            outcomes = [
                self._outcome(user, request)
                if user is None or isinstance(request.incoming, Authenticate | GetNotifications)
                else BadMessage("storage-unavailable", "This could not be stored, and was not done; try again later.")
                for user, request in zip(users, batch, strict=True)
            ]
            self.inboxes.rollback()
        for request, outcome in zip(batch, outcomes, strict=True):
            self._tell(request, outcome)

    async def _commit(self) -> bool:
        changes = self.inboxes.changes()
        if not changes and self._failure is None:
            return True
        try:
            await asyncio.to_thread(self._store.commit, changes)
        except Exception as error:  # whatever it is, nothing was stored
            unforeseen = None if isinstance(error, StoreError) else error
            log.error("notifications could not be stored", error=str(error), exc_info=unforeseen, changes=len(changes))
            self._failure = "Notifications cannot be written to disk."
            self.inboxes.rollback()
            asyncio.get_running_loop().call_later(RETRY_INTERVAL, self._wake.set)
            return False
        self._failure = None
        self.commits += 1
        self.inboxes.commit()
        return True

    def _user(self, request: Request) -> str | None:
        """Return who asks; from `authenticate` on, the connection is the user that it names."""
        if isinstance(request.incoming, Authenticate):
            request.connection.client = request.incoming.user_id
        user: str | None = request.connection.client
        return user

    def _outcome(self, user: str | None, request: Request) -> Outcome | BadMessage:
        if user is None:
            return BadMessage("unauthorized", "Send `authenticate` with your userId first.")
        try:
            return self._ask(user, request.incoming, time())
        except BadMessage as bad:
            return bad
        except Exception:
            # One message that this server fails on must not stop the queue for everybody.
            log.exception("a message could not be handled")
            request.connection.end(1011, "The server failed on this message.")
            return Outcome()

    def _ask(self, user: str, incoming: Incoming, now: float) -> Outcome:
        inboxes = self.inboxes
        match incoming:
            case Authenticate():
                return inboxes.get(user, GetNotifications(), now)
            case GetNotifications():
                return inboxes.get(user, incoming, now)
            case SendNotification():
                return inboxes.send(user, incoming, now)
            case ClientForm(target_user_id=target, data=data, idempotency_key=key):
                kind = decode.names[type(incoming)]
                return inboxes.send(user, SendNotification(target, kind, data, key), now)  # type: ignore[arg-type]
            case MarkRead(notification_id=id_):
                return inboxes.mark_read(user, id_, now)
            case MarkAllRead():
                return inboxes.mark_all_read(user, now)
            case DeleteNotification(notification_id=id_):
                return inboxes.delete(user, id_, now)
            case DeleteAll():
                return inboxes.delete_all(user)
        raise AssertionError(incoming)

    def _tell(self, request: Request, outcome: Outcome | BadMessage) -> None:
        connection = request.connection
        if isinstance(outcome, BadMessage):
            outcome.request_id = request_id(request.message)
            self.refuse(connection, outcome)
            return
        if isinstance(request.incoming, Authenticate) and connection.alive:
            self._identify(connection, request.incoming.user_id)
            self.send((connection,), Authenticated(request.incoming.user_id))
        for user, event in outcome.events:
            self.send(tuple(self.devices.get(user, ())), event)
        if outcome.reply is not None:
            self.send((connection,), outcome.reply)

    def _identify(self, connection: Connection, user: str | None) -> None:
        """Make the connection a device of `user`, and of nobody else."""
        former = self._users.pop(connection, None)
        if former is not None:
            self.devices[former].discard(connection)
            if not self.devices[former]:
                del self.devices[former]
        if user is not None:
            self._users[connection] = user
            self.devices.setdefault(user, set()).add(connection)

    def _families(self) -> list[Metric]:
        return [
            GaugeMetricFamily("opennoodl_notification_stored", "Notifications kept now.", len(self.inboxes)),
            GaugeMetricFamily("opennoodl_notification_users", "Users with a device connected.", len(self.devices)),
            CounterMetricFamily("opennoodl_notification_commits", "Commits to the store.", self.commits),
        ]


def create(settings: Settings) -> Service:
    """Return the server, not started yet."""
    return Service(Notifying(settings), __version__, settings.port)
