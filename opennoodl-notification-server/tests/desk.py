"""A server without sockets: fake devices record its messages, and batches run when the test says so."""

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
    """A fake connection that builds its inbox from the server's messages.

    Attributes:
        notifications: the known notifications by id.
        unread: the number of unread ones, as sent by the server.
        sequence: the last known sequence number.
        told: the messages since the last `take`.
        hears: the number of messages until its connection is cut; None if it is not.
        app: the server of its requests.
        read_pauses: the reasons of its read-pause.
    """

    def __init__(self) -> None:
        self.app: NotificationServer | None = None
        self.address = "192.0.2.1"
        self.user = None
        self.identity = None
        self.closed: int | None = None
        self.notifications: dict[str, Json] = {}
        self.unread = 0
        self.sequence = 0
        self.told: list[Json] = []
        self.hears: int | None = None
        self.read_pauses: set[ReadPause] = set()
        self._open = True

    # Calls of the server

    def write_soon(self, frame: bytes) -> None:
        """Receive a frame."""
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
        """Whether messages can still be sent to it."""
        return self._open

    def disconnect(self, code: int, reason: str, refusal: str = "") -> None:
        """Close the connection; the server removes the device at once."""
        self.closed = code
        self.lose()

    def lose(self) -> None:
        """Lose the connection; the server notices at once."""
        self._open = False
        if self.app is not None:
            self.app.devices.remove(self)

    def reconnect(self) -> None:
        """Connect again, without authentication."""
        self._open, self.user, self.hears, self.closed = True, None, None, None

    def set_identity(self, identity: Identity) -> None:
        """Fail: fake devices have no tokens."""
        raise AssertionError

    def set_deadline(self, seconds: None) -> None:
        """Do nothing: fake devices have no deadline."""

    def pause_reading(self, reason: ReadPause) -> None:
        """Add a reason; the device sends nothing while there is one."""
        self.read_pauses.add(reason)

    def resume_reading(self, reason: ReadPause) -> None:
        """Remove a reason."""
        self.read_pauses.remove(reason)

    def note_error(self, bad: BadMessage) -> None:
        """Do nothing: a real connection counts and logs errors."""

    # The client's handling of messages

    def apply(self, message: Json) -> None:
        """Apply a message to the inbox."""
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
        # A deleted inbox has number 0, and a new one has a higher number than before.
        rises = message["sequence"] >= self.sequence or not message["sequence"] or kind == "notifications"
        assert rises, f"{kind} has number {message['sequence']} after {self.sequence}"
        self.unread, self.sequence = message["unreadCount"], message["sequence"]

    def take(self) -> list[Json]:
        """Return the messages since the last call."""
        told, self.told = self.told, []
        return told

    def inbox(self) -> list[Json]:
        """Return the inbox as the device knows it, newest first."""
        return sorted(self.notifications.values(), key=lambda one: str(one["createdAt"]), reverse=True)


class Unlucky(Transaction):
    """A transaction whose commit fails, before or after it was stored.

    Args:
        one: the real transaction.
        stored: whether it is stored.
        error: the error to raise.
    """

    def __init__(self, one: Transaction, stored: bool, error: StoreError) -> None:
        self.loaded = one.loaded
        self._one, self._stored, self._error = one, stored, error

    async def commit(self, changes: Changes) -> int:
        """Commit if `stored`, then raise the error."""
        if self._stored:
            await self._one.commit(changes)
        raise self._error


FULL = StoreError("the disk is full")
SILENT = UnsettledError("the connection was lost")


class Desk:
    """A server that handles requests when the test says so.

    Args:
        at: the place of its store.
        settings: settings that differ from the defaults.

    Attributes:
        at: the place of its store.
        now: the time, in milliseconds, after `clock`.
        failing: the error of every commit, or None.
        stored: whether failing commits are stored nevertheless.
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
        """Replace the server's clocks by `now`."""
        patch.setattr(clock, "time", lambda: self.now / 1000)
        patch.setattr(clock, "monotonic", lambda: self.now / 1000)
        self.app = NotificationServer(self._settings)

    async def open(self) -> None:
        """Open the store and the parts of the server, without background tasks."""
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
        """Close the store; the next `open` makes another server."""
        await self.app.store.close()
        self.app = NotificationServer(self._settings)

    def ask(self, device: Device, type_: str, **fields: Any) -> None:
        """Make a device send a message."""
        device.app = self.app
        message = json.dumps({"type": type_, **fields}).encode()
        incoming = decode(message)
        self.app.enqueue(device, incoming.as_send() if isinstance(incoming, ClientForm) else incoming, message)

    async def work(self) -> None:
        """Handle all queued requests."""
        while self.app.worker.queued:
            await self.app.worker.step()

    async def join(self, user: str, since: int | None = None, device: Device | None = None) -> Device:
        """Return a device of `user` after the answer to `authenticate`."""
        device = device or Device()
        self.ask(device, "authenticate", userId=user, **({} if since is None else {"since": since}))
        await self.work()
        return device

    def leave(self, device: Device) -> None:
        """Make a device lose its connection."""
        device.lose()
