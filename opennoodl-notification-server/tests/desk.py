"""A server without sockets: devices that are told what a real one would write to them, one batch at a time."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from opennoodl_notification import clock
from opennoodl_notification.devices import Device as ServerDevice
from opennoodl_notification.edge.auth.identity import Identity
from opennoodl_notification.edge.errors import BadMessage
from opennoodl_notification.edge.websocket.flow_control import ReadPause
from opennoodl_notification.inbox.store import Changes, Needs, StoreError, Transaction, UnsettledError
from opennoodl_notification.messages import ClientForm, decode
from opennoodl_notification.server import NotificationServer
from opennoodl_notification.settings import Settings

from .harness import Json


class Device(ServerDevice):
    """One device: what it has been told, and the inbox that this makes.

    Attributes:
        notifications: by id, as the device knows them.
        unread: how many of them are, by the server's count.
        sequence: the last number that it knows.
        told: every message since it was last looked at.
        hears: how many messages more come through before its connection is cut, if it is.
        app: the server that it has asked something.
        read_pauses: why it is not read from.
    """

    def __init__(self) -> None:
        self.app: NotificationServer | None = None
        self.address = "192.0.2.1"
        self.session: str | None = None
        self.identity = None
        self.closed: int | None = None
        self.notifications: dict[str, Json] = {}
        self.unread = 0
        self.sequence = 0
        self.told: list[Json] = []
        self.hears: int | None = None
        self.read_pauses: set[ReadPause] = set()
        self._open = True

    # What the server does with a connection

    def write_soon(self, frame: bytes) -> None:
        """Take a frame."""
        start = {126: 4, 127: 10}.get(frame[1], 2)
        message = json.loads(frame[start:])
        if self.hears is not None:
            if not self.hears:
                return
            self.hears -= 1
        self.told.append(message)
        if self.is_open:
            self.apply(message)

    @property
    def is_open(self) -> bool:
        """Whether it can still be told anything."""
        return self._open

    def disconnect(self, code: int, reason: str, refusal: str = "") -> None:
        """Be closed, and forgotten at once."""
        self.closed = code
        self.lose()

    def lose(self) -> None:
        """Lose the connection, which the server notices at once."""
        self._open = False
        if self.app is not None:
            self.app.close(self)

    def reconnect(self) -> None:
        """Be connected again, as nobody yet."""
        self._open, self.session, self.hears, self.closed = True, None, None, None

    def set_identity(self, identity: Identity) -> None:
        """Fail: these devices show no token."""
        raise AssertionError

    def set_deadline(self, seconds: None) -> None:
        """Do nothing: these devices have no deadline."""

    def pause_reading(self, reason: ReadPause) -> None:
        """Send nothing more."""
        self.read_pauses.add(reason)

    def resume_reading(self, reason: ReadPause) -> None:
        """Send again."""
        self.read_pauses.remove(reason)

    def note_error(self, bad: BadMessage) -> None:
        """Be refused: this is counted and logged by a connection."""

    # What a client does with its messages

    def apply(self, message: Json) -> None:
        """Change the inbox as a message says."""
        kind = message["type"]
        if kind == "notifications":
            self.notifications = {one["id"]: one for one in message["notifications"]}
        elif kind in ("notification", "notification-updated"):
            self.notifications[message["notification"]["id"]] = message["notification"]
        elif kind == "notification-deleted":
            self.notifications.pop(message["notificationId"], None)
        elif kind == "notifications-cleared":
            self.notifications.clear()
        elif kind == "notifications-read":
            for one in self.notifications.values():
                if not one["read"]:
                    one |= {"read": True, "readAt": message["readAt"]}
        else:
            return
        # An inbox that has been forgotten has no number, and one that is made anew has a greater one.
        rises = message["sequence"] >= self.sequence or not message["sequence"] or kind == "notifications"
        assert rises, f"{kind} has number {message['sequence']} after {self.sequence}"
        self.unread, self.sequence = message["unreadCount"], message["sequence"]

    def take(self) -> list[Json]:
        """Return what came since the last time."""
        told, self.told = self.told, []
        return told

    def inbox(self) -> list[Json]:
        """Return the inbox as the device knows it, the newest first."""
        return sorted(self.notifications.values(), key=lambda one: str(one["createdAt"]), reverse=True)


class Unlucky(Transaction):
    """A batch that sees all there is and cannot be stored, or is, and nobody is told.

    Args:
        one: what it would be otherwise.
        stored: whether it is stored.
        error: what is raised all the same.
    """

    def __init__(self, one: Transaction, stored: bool, error: StoreError) -> None:
        self.loaded = one.loaded
        self._one, self._stored, self._error = one, stored, error

    async def commit(self, changes: Changes) -> int:
        """Fail, before or after."""
        if self._stored:
            await self._one.commit(changes)
        raise self._error


FULL = StoreError("the disk is full")
SILENT = UnsettledError("the connection was lost")


class Desk:
    """A server that handles what it was asked when it is told to.

    Args:
        at: where it stores.
        settings: other than the defaults.

    Attributes:
        at: where it stores.
        now: the time, in milliseconds, for as long as the clock is in its place.
        failing: what the store says to every commit, if it fails.
        stored: whether it stores them all the same.
    """

    def __init__(self, at: str, **settings: Any) -> None:
        self.at = at
        name = "database_url" if "://" in at else "db_file"
        self._settings = Settings(**{name: at, **settings})
        self.app = NotificationServer(self._settings)
        self.now = 1_700_000_000_000
        self.failing: StoreError | None = None
        self.stored = False

    def clock(self, patch: pytest.MonkeyPatch) -> None:
        """Put this desk's time in place of the server's."""
        patch.setattr(clock, "time", lambda: self.now / 1000)
        patch.setattr(clock, "monotonic", lambda: self.now / 1000)
        self.app = NotificationServer(self._settings)

    async def open(self) -> None:
        """Start as the server does, but let nothing happen by itself."""
        store = self.app.store
        real = store.transaction

        @asynccontextmanager
        async def transaction(needs: Needs) -> AsyncIterator[Transaction]:
            async with real(needs) as one:
                yield one if self.failing is None else Unlucky(one, self.stored, self.failing)

        setattr(store, "transaction", transaction)  # noqa: B010
        await store.open()
        await self.app.totals.count(store)

    async def close(self) -> None:
        """Stop; what opens next is another server."""
        await self.app.store.close()
        self.app = NotificationServer(self._settings)

    def ask(self, device: Device, type_: str, **fields: Any) -> None:
        """Let a device send a message."""
        device.app = self.app
        message = json.dumps({"type": type_, **fields}).encode()
        incoming = decode(message)
        self.app.enqueue(device, incoming.as_send() if isinstance(incoming, ClientForm) else incoming, message)

    async def work(self) -> None:
        """Handle everything that was asked."""
        while self.app.worker.queued:
            await self.app.worker.step()

    async def join(self, user: str, since: int | None = None, device: Device | None = None) -> Device:
        """Return a device of `user` that has been answered."""
        device = device or Device()
        self.ask(device, "authenticate", userId=user, **({} if since is None else {"since": since}))
        await self.work()
        return device

    def leave(self, device: Device) -> None:
        """Let a device lose its connection."""
        device.lose()
