"""Helpers of the tests: times, records, a client, a gate before the disk, and a clock."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw
from opennoodl_notification import clock
from opennoodl_notification.inbox.store import Changes
from opennoodl_notification.records import Record, timestamp
from opennoodl_notification.storage.json_file.contents import Snapshot
from opennoodl_notification.storage.json_file.journal import Journal
from opennoodl_notification.storage.json_file.snapshot import SnapshotFile
from opennoodl_notification.storage.json_file.store import JsonStore
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

TIMEOUT = 30.0
"""Time limit of a wait in a test, in seconds."""
TYPES = ("invite", "mention", "thread", "session", "component", "system")
NOW = 1_700_000_000
"""A time, in seconds since 1970."""
DAY = 86_400
"""Seconds."""
DATA = b'{\n\t"room": "x",\r\n\t"lines": "\\n"\n}'
"""The data of a notification, with unusual white space."""

Json = dict[str, Any]


def record(id_: str, user: str = "u", created: int = NOW, data: bytes = DATA, **fields: Any) -> Record:
    """Return a stored notification, created at `created` seconds."""
    times = {"created_at": timestamp(created * 1000), "expires_at": timestamp((created + 30 * DAY) * 1000)}
    defaults = {"from_user_id": "sender", "type": "invite", "read": False, **times}
    return Record(id=id_, user_id=user, data=Raw(data), **{**defaults, **fields})


def stored(path: Path) -> dict[str, Record]:
    """Return the records in the file, as the next start of a server will read them."""
    store = JsonStore(str(path), read_only=True)
    store._read()
    return {record.id: record for records in store.contents.records.values() for record in records.values()}


def content(path: Path) -> bytes | None:
    """Return the bytes of the file and its journals, if there are any."""
    files = [path, *sorted(path.parent.glob(f"{path.name}.journal.*"))]
    return b"".join(file.read_bytes() for file in files if file.exists()) or None


def write(path: Path, *records: Record) -> None:
    """Write notifications to a file with TinyDB."""
    SnapshotFile(path).write(Snapshot([], list(records), [], []), 0)


def ids(page: Json) -> list[str]:
    """Return the ids of a page, in order."""
    assert page["type"] == "notifications", page
    return [notification["id"] for notification in page["notifications"]]


class Client:
    """One device of a user."""

    def __init__(self, ws: ClientConnection) -> None:
        self.ws = ws

    @classmethod
    async def connect(cls, port: int) -> Client:
        """Connect, without authentication."""
        uri = f"ws://127.0.0.1:{port}/"
        options: Json = {"compression": None, "max_size": None, "ping_interval": None, "proxy": None}
        return cls(await connect(uri, open_timeout=TIMEOUT, **options))

    async def text(self, message: str | bytes) -> None:
        """Send a text frame unchanged."""
        async with asyncio.timeout(TIMEOUT):
            await self.ws.send(message, text=True)

    async def send(self, type_: str, **fields: Any) -> None:
        """Send a message."""
        await self.text(json.dumps({"type": type_, **fields}))

    async def get(self) -> Json:
        """Return the next message."""
        async with asyncio.timeout(TIMEOUT):
            message = json.loads(await self.ws.recv())
        assert isinstance(message, dict)
        return message

    async def expect(self, type_: str) -> Json:
        """Return the next message, which must have this type."""
        message = await self.get()
        assert message["type"] == type_, message
        return message

    async def ask(self, type_: str, **fields: Any) -> Json:
        """Send a message; return the next message."""
        await self.send(type_, **fields)
        return await self.get()

    async def authenticate(self, user: str) -> Json:
        """Authenticate as `user`; return the inbox."""
        answer, page = await self.ask("authenticate", userId=user), await self.expect("notifications")
        numbers = {"sequence": page["sequence"], "unreadCount": page["unreadCount"]}
        assert answer == {"type": "authenticated", "userId": user, **numbers}
        return page

    async def resume(self, user: str, since: int) -> Json:
        """Authenticate as `user` with `since`; return the answer, which precedes the missed events."""
        answer = await self.ask("authenticate", userId=user, since=since)
        assert answer["type"] == "authenticated", answer
        return answer

    async def notify(self, user: str, kind: str = "invite", **fields: Any) -> str:
        """Send a notification to another user; return its id."""
        fields = {"data": {}, **fields}
        sent = await self.ask("send-notification", targetUserId=user, notificationType=kind, **fields)
        assert sent["type"] == "notification-sent", sent
        return str(sent["notificationId"])

    async def inbox(self, **fields: Any) -> Json:
        """Return a page of the inbox; no other message may come before."""
        await self.send("get-notifications", **fields)
        return await self.expect("notifications")

    async def refused(self, type_: str, **fields: Any) -> str:
        """Send a message that must be answered with an error; return its code."""
        error = await self.ask(type_, **fields)
        assert error["type"] == "error", error
        return str(error["code"])

    async def heard(self) -> None:
        """Wait until the server has read all messages so far and had time to answer."""
        async with asyncio.timeout(TIMEOUT):
            for _ in range(3):
                await (await self.ws.ping())

    async def waiting(self) -> list[Json]:
        """Return the messages without a request that the server has sent before it read all messages so far."""
        await self.heard()
        messages: list[Json] = []
        try:
            while True:
                async with asyncio.timeout(0):  # returns received messages only, without waiting
                    messages.append(json.loads(await self.ws.recv()))
        except TimeoutError:
            return messages

    async def closed(self) -> int | None:
        """Return the server's close code; no message may come before."""
        try:
            message = await self.get()
        except ConnectionClosed as closed:
            return None if closed.rcvd is None else int(closed.rcvd.code)
        raise AssertionError(message)


class Gate:
    """Replaces `Journal.append`: it can delay commits and make them fail."""

    real = staticmethod(Journal.append)

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.asked = 0
        self.commits = 0
        self._open = threading.Event()
        self._entered = threading.Event()
        self.open()

    def open(self) -> None:
        """Let commits continue."""
        self._open.set()

    def shut(self) -> None:
        """Delay every commit from now on."""
        self._entered.clear()
        self._open.clear()

    async def holds(self) -> None:
        """Wait until a commit is delayed."""
        assert await asyncio.to_thread(self._entered.wait, TIMEOUT)

    def append(self, journal: Journal, changes: Changes, size: int) -> None:
        """Commit when the gate is open."""
        self.asked += 1
        self._entered.set()
        assert self._open.wait(TIMEOUT)
        if self.failure is not None:
            raise self.failure
        self.real(journal, changes, size)
        self.commits += 1


class Clock:
    """Replaces the machine's clocks.

    Attributes:
        now: the time of day in seconds; the monotonic clock advances with it.
        ahead: seconds by which the time of day is wrong.
    """

    def __init__(self) -> None:
        self.now = float(NOW)
        self.ahead = 0.0

    def use(self, patch: pytest.MonkeyPatch) -> None:
        """Replace the clocks."""
        patch.setattr(clock, "time", lambda: self.now + self.ahead)
        patch.setattr(clock, "monotonic", lambda: self.now)


async def http(port: int, path: str) -> tuple[int, bytes]:
    """Send a GET request; return status and body."""
    async with asyncio.timeout(TIMEOUT):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        finally:
            writer.close()
            await writer.wait_closed()
    return int(head.split()[1]), body


async def health(port: int) -> tuple[int, Json]:
    """Return status and content of ``/health``."""
    status, body = await http(port, "/health")
    content = json.loads(body)
    assert isinstance(content, dict)
    return status, content
