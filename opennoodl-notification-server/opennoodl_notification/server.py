"""The server: wires connections to inboxes, and makes changes last before anybody hears of them.

Every message waits its turn in one queue. What is queued is handled as a batch: the changes of all of it
become one commit, and only when that is on disk are answers and events sent, in order. So an answer is a
promise, no read shows what may yet be lost, and a busy server brings many messages to disk at once.
"""

import asyncio
from functools import partial
from time import time
from typing import Any

import structlog
from msgspec import UNSET, structs
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from . import __version__
from .edge.auth.identity import Identity
from .edge.errors import BadMessage
from .edge.json_application import AUTHENTICATION_TIMEOUT, JsonApplication
from .edge.service import Service
from .edge.websocket.connection import Connection
from .inbox.batch import Batch, Outcome
from .inbox.requests import change, need, normal, read
from .inbox.send_quota import SendQuota
from .inbox.state import Inbox
from .inbox.store import Changes, Needs, Store, StoreError, UnsettledError
from .messages import (
    Answer,
    Authenticate,
    Event,
    GetNotifications,
    Incoming,
    SendNotification,
    UpToDate,
    decode,
)
from .queue import Queue, Request
from .records import timestamp
from .settings import Settings
from .storage.choose import choose

CLEANUP_INTERVAL = 10.0
"""Seconds between two searches for what has expired."""
CLEANUP_SIZE = 1000
"""Notifications in the inboxes that are cleaned up at once, or more where a single inbox has more."""
RETRY_INTERVAL = 5.0
"""Seconds after which it is tried whether a store that failed works again."""
MAX_QUEUED = 67_108_864
"""Bytes of messages that wait for the store; more are refused."""
FULL = 0.9
"""The part of `MAX_STORED_SIZE` below which a store that was full is no longer said to be."""
MAX_REQUEST_ID = 1024
"""Bytes of a `requestId`: a message about many notifications has many answers, and all of them have it."""

WAITS = "Send `authenticate` within ten seconds of connecting."
UNSETTLED = "It is not known what was stored: connect again to be told."
UNAUTHORIZED = BadMessage("unauthorized", "Send `authenticate` with your userId first.")
UNAVAILABLE = BadMessage("storage-unavailable", "The store failed; send this again later.")

log = structlog.get_logger()


class Notifying(JsonApplication[Any]):
    """Inboxes for users with any number of devices."""

    title = "OpenNoodl notification server"
    about = (
        "It keeps invites, mentions and community events until they are deleted or expire.\n"
        "Connect an editor to this address as ws:// or wss://."
    )
    decode = decode

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, __version__, settings.max_message_size)
        self.devices: dict[str, set[Connection]] = {}
        self._users: dict[Connection, str] = {}
        self._behind: set[Connection] = set()  # devices that have given `since` and not all pages of the list
        self.commits = 0
        self.stored = 0
        self.stored_size = 0
        self._config = settings
        self.store: Store = choose(settings.place)
        self._sends = SendQuota(settings.sends_per_hour, settings.send_bytes_per_hour)
        self._sizes: dict[str, int] = {}  # how many notifications users have who have a device
        self._queue = Queue(self._sizes)
        self._wake = asyncio.Event()
        self._cleanup = False
        self._stopping = False
        self._failure: str | None = None
        self._miscounted = False
        self._full = False

    async def start(self) -> None:
        """Open the store and begin to work."""
        await self.store.open()
        await self.count()
        self._worker = asyncio.create_task(self._work())
        self._cleaner = asyncio.create_task(self._clean())

    async def count(self) -> None:
        """Find out how much is stored."""
        self.stored = (await self.store.counts()).notifications
        self.stored_size = await self.store.size()

    async def stop(self) -> None:
        """Handle what is queued, and close the store."""
        self._stopping = True
        self._wake.set()
        await self._worker
        self._cleaner.cancel()
        await self.store.close()

    async def open(self, connection: Connection) -> None:
        """A connection is nobody's until it authenticates, which it has to do soon."""
        connection.session = None
        connection.set_deadline(AUTHENTICATION_TIMEOUT, WAITS)
        await super().open(connection)
        if connection.identity is not None:  # a token alone makes nobody a device
            connection.set_deadline(AUTHENTICATION_TIMEOUT, WAITS)

    def dispatch(self, connection: Connection, incoming: Incoming, message: bytes) -> None:
        """Queue one message, if its sender may send it."""
        incoming = normal(incoming)
        if self.auth.required:
            if isinstance(incoming, Authenticate):
                connection.work(partial(self._prove, connection, incoming, message))
                return
            if isinstance(incoming, SendNotification) and incoming.notification_type == "system":
                _permit_system(connection.identity)
        self._enqueue(connection, incoming, message)

    async def _prove(self, connection: Connection, incoming: Authenticate, message: bytes) -> None:
        """Let a user in who has proven to be that user, when it is their turn and they may have one device more."""
        try:
            identity = await self.prove(connection, incoming.token, incoming.user_id)
            if connection.session is None:
                connection.identity = identity  # what is sent right behind this is looked at as theirs
            else:
                connection.set_identity(identity)
            self._enqueue(connection, incoming, message)
        except BadMessage as bad:
            self.refuse(connection, Request(connection, incoming, message).refuse(bad))

    def _enqueue(self, connection: Connection, incoming: Incoming, message: bytes) -> None:
        if isinstance(incoming, SendNotification):
            size, most = memoryview(incoming.data).nbytes, self._config.max_data_size
            if most and size > most:
                raise BadMessage("data-too-large", f"`data` has {size} bytes; at most {most} are accepted.")
        request = Request(connection, incoming, message)
        if request.id is not UNSET and (size := memoryview(request.id).nbytes) > MAX_REQUEST_ID:
            raise BadMessage("invalid-field", f"`requestId` has {size} bytes; at most {MAX_REQUEST_ID} are accepted.")
        if self._queue.bytes + len(message) > MAX_QUEUED:
            raise BadMessage("storage-unavailable", "The store's queue is full; send this again later.")
        self._queue.add(request)
        self._wake.set()

    def close(self, connection: Connection) -> None:
        """Forget a device."""
        self._identify(connection, None)

    def failure(self) -> str | None:
        """Return why changes cannot be stored, if the last attempt failed."""
        return None if self._failure is None else "Notifications cannot be stored."

    def health(self) -> dict[str, Any]:
        """Return the counts that monitors of the seed read."""
        return {"notificationCount": self.stored, "connectedUsers": len(self.devices)}

    async def _work(self) -> None:
        # When the store fails, who waited for an answer has gone by now, and the process must go, too.
        while not self._stopping or (self._queue and self._failure is None):
            if not self._queue:
                await self._wake.wait()
            self._wake.clear()
            try:
                await self.step()
            except Exception:  # a defect; it costs the answers of one batch, and not those of all that follow
                log.exception("a batch could not be handled")

    @property
    def queued(self) -> int:
        """How many messages have not been handled yet."""
        return len(self._queue)

    async def step(self) -> None:
        """Clean up if it is time for that, and handle one batch of what is queued."""
        if self._cleanup:
            self._cleanup = False
            await self._clean_up()
        if self._queue:
            await self._handle(self._queue.take())

    def clean(self) -> None:
        """Clean up before the next batch: nobody but the one who commits changes anything."""
        self._cleanup = True
        self._wake.set()

    async def _clean(self) -> None:
        while True:
            self.clean()
            await asyncio.sleep(RETRY_INTERVAL if self._failure else CLEANUP_INTERVAL)

    async def _clean_up(self) -> None:
        """Delete what has expired, in some inboxes; find out whether a store that failed works again."""
        now = int(time() * 1000)
        needs = Needs(timestamp(now), self._config.max_per_user)
        try:
            if self._failure is not None:
                await self.store.recover()
                self._works()
            if self._miscounted:
                await self.count()
                self._miscounted = False
            self.stored_size -= await self.store.clean(needs.now)
            due = await self.store.due(needs.now, CLEANUP_SIZE)
        except Exception as error:  # whatever it is, nothing was changed
            self._failed(error)
            return
        needs.users.update(dict.fromkeys(due, 0))
        commits = self.commits
        if due:
            await self._change([], needs, now)
        if self.commits > commits:  # else the same would be tried again without an end
            self.clean()

    async def _handle(self, requests: list[Request]) -> None:
        """Change what is to be changed, in one commit, and tell; then answer what is to be read."""
        now = int(time() * 1000)
        needs = Needs(timestamp(now), self._config.max_per_user)
        for request in requests:
            if request.user is not None:
                need(needs, request.user, request.incoming, may_send=self._may_send(request, now))
        writing = [request for request in requests if not request.reads]
        batch = await self._change(writing, needs, now)
        try:
            await self._answer([request for request in requests if request.reads], batch, timestamp(now))
        except Exception as error:
            self._failed(error)

    def _may_send(self, request: Request, now: int) -> bool:
        if not isinstance(request.incoming, SendNotification) or request.user is None:
            return True
        send, address = request.incoming, request.connection.address
        return self._sends.has(request.user, address, len(send.targets), send.size(request.user), now / 1000)

    async def _change(self, requests: list[Request], needs: Needs, now: int) -> Batch | None:
        """Do what changes inboxes, store it, and tell of it; return the batch, or None if it could not be stored."""
        config, batch, changes, freed = self._config, None, Changes(), 0
        try:
            async with self.store.transaction(needs) as transaction:
                free = config.max_stored_size - self.stored_size if config.max_stored_size else None
                batch = Batch(transaction.loaded, now, config.ttl_days, config.max_per_user, self._sends, free=free)
                outcomes = [self._outcome(batch, request) for request in requests]
                changes = batch.changes()
                if changes:
                    freed = await transaction.commit(changes)
                    self.commits += 1
                    self._works()
        except Exception as error:  # whatever it is but one, nothing was stored
            self._failed(error)
            if batch is not None:
                batch.drop()
            for request in requests:
                bad = UNAVAILABLE if request.user is not None else UNAUTHORIZED
                self.refuse(request.connection, request.refuse(bad))
            if isinstance(error, UnsettledError):
                self._doubt(changes)
            return None
        self.stored += batch.growth
        self.stored_size += batch.grown - freed
        if batch.grown < freed and self.stored_size < FULL * config.max_stored_size:
            self._full = False
        for user in batch.users & self.devices.keys():
            self._sizes[user] = batch.inbox(user).total
        self._tell(Outcome(events=batch.expired))
        for request, outcome in zip(requests, outcomes, strict=True):
            if isinstance(outcome, BadMessage):
                self.refuse(request.connection, request.refuse(outcome))
            else:
                self._tell(outcome, request)
        return batch

    def _outcome(self, batch: Batch, request: Request) -> Outcome | BadMessage:
        if request.user is None:
            return UNAUTHORIZED
        try:
            return change(batch, request.user, request.incoming, request.connection.address)
        except BadMessage as bad:
            if bad.code == "storage-full":
                self._note_full()
            return bad
        except Exception:
            # One message that this server fails on must not stop the queue for everybody.
            log.exception("a message could not be handled")
            request.connection.disconnect(1011, "The server failed on this message.")
            return Outcome()

    async def _answer(self, requests: list[Request], batch: Batch | None, now: str) -> None:
        for request in requests:
            user, connection = request.user, request.connection
            if user is None:
                self.refuse(connection, request.refuse(UNAUTHORIZED))
                continue
            if not connection.is_open and isinstance(request.incoming, GetNotifications):
                continue
            devices = self.devices.get(user, set())
            most = self._config.max_connections_per_user
            if most and len(devices) >= most and connection not in devices:
                text = f"This user has {most} connections already; close one of them and authenticate again."
                self.refuse(connection, request.refuse(BadMessage("too-many-connections", text)))
                continue
            try:
                inbox = batch.inbox(user) if batch is not None else await self._inbox(user, now)
                behind = connection in self._behind
                answers = await read(self.store, inbox, request.incoming, now, behind=behind)
            except Exception as error:
                self._failed(error)
                self.refuse(connection, request.refuse(UNAVAILABLE))
                continue
            if isinstance(request.incoming, Authenticate):
                # Also of a connection that has ended: what it has asked for after this is still done.
                connection.session = user
                if connection.identity is None:
                    connection.set_deadline(None)
                else:
                    connection.set_identity(connection.identity)
                if connection.is_open:
                    self._identify(connection, user)
                    self._sizes[user] = inbox.total
                    if request.incoming.since is not None:
                        self._behind.add(connection)
            if isinstance(answers[-1], UpToDate):
                self._behind.discard(connection)
            for answer in answers:
                if isinstance(answer, Event):  # what is replayed is told as it was at first
                    self.send((connection,), answer)
                else:
                    self._reply(request, answer)
            # An answer may have half a megabyte: who asks for many and does not read is noticed before the next one.
            await asyncio.sleep(0)

    async def _inbox(self, user: str, now: str) -> Inbox:
        """Return the state of an inbox, without what has expired in it and cannot be deleted just now."""
        needs = Needs(now, 0)
        needs.users[user] = 0
        async with self.store.transaction(needs) as transaction:
            loaded = transaction.loaded
        inbox = loaded.inboxes.get(user) or Inbox(user_id=user, sequence=0)
        inbox.unread -= sum(record.expires_at <= now and not record.read for record in loaded.records)
        return inbox

    def _doubt(self, changes: Changes) -> None:
        """Let devices come again whose inboxes may have changed or not, and count again what is stored."""
        self._miscounted = True
        for user in (*(inbox.user_id for inbox in changes.inboxes), *changes.forgotten):
            for connection in tuple(self.devices.get(user, ())):
                connection.disconnect(1013, UNSETTLED)

    def _failed(self, error: Exception) -> None:
        if self._failure != str(error):  # else it was said, and would be for every batch until the store works again
            unforeseen = None if isinstance(error, StoreError) else error
            log.error("the store failed", error=str(error), exc_info=unforeseen)
        self._failure = str(error)

    def _note_full(self) -> None:
        """Say once that the store is full, and again only after a tenth of it was free meanwhile."""
        if not self._full:
            most = self._config.max_stored_size
            log.error("notifications are refused: MAX_STORED_SIZE is reached", stored=self.stored_size, most=most)
        self._full = True

    def _works(self) -> None:
        if self._failure is not None:
            log.info("notifications can be stored again")
            self._failure = None

    def _tell(self, outcome: Outcome, request: Request | None = None) -> None:
        """Send events to the devices of their users, and the answer to the connection that asked, if any did."""
        for user, event in outcome.events:
            if devices := self.devices.get(user):
                if request is not None and outcome.answered and request.id is not UNSET:
                    self.send(tuple(devices - {request.connection}), event)
                    self._reply(request, event)
                else:
                    self.send(tuple(devices), event)
        if request is not None:
            for reply in outcome.replies:
                self._reply(request, reply)

    def _reply(self, request: Request, answer: Answer) -> None:
        if request.id is not UNSET:
            answer = structs.replace(answer, request_id=request.id)
        self.send((request.connection,), answer)

    def _identify(self, connection: Connection, user: str | None) -> None:
        """Make the connection a device of `user`, and of nobody else."""
        self._behind.discard(connection)
        former = self._users.pop(connection, None)
        if former is not None:
            self.devices[former].discard(connection)
            if not self.devices[former]:
                del self.devices[former]
                self._sizes.pop(former, None)
        if user is not None:
            self._users[connection] = user
            self.devices.setdefault(user, set()).add(connection)

    def metric_families(self) -> list[Metric]:
        """Return what only this server counts."""
        return [
            GaugeMetricFamily("opennoodl_notification_stored", "Notifications kept now.", self.stored),
            GaugeMetricFamily("opennoodl_notification_stored_bytes", "Bytes for which all counts.", self.stored_size),
            GaugeMetricFamily("opennoodl_notification_users", "Users with a device connected.", len(self.devices)),
            CounterMetricFamily("opennoodl_notification_commits", "Commits to the store.", self.commits),
        ]


def create(settings: Settings) -> Service:
    """Return the server, not started yet."""
    return Service(Notifying(settings), settings.port)


def _permit_system(identity: Identity | None) -> None:
    """See whether somebody may speak for the community.

    Raises:
        BadMessage: they may not.
    """
    if identity is not None and not identity.services:
        raise BadMessage("forbidden", "Only a token with the claim `services` may send `system` notifications.")
