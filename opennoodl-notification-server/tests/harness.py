"""What the tests share: times, records, a device that waits no longer than it must, and a gate before the disk."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw
from opennoodl_notification import clock
from opennoodl_notification.records import Record, timestamp
from opennoodl_notification.storage.json_file.contents import Snapshot
from opennoodl_notification.storage.json_file.journal import Journal
from opennoodl_notification.storage.json_file.snapshot import SnapshotFile
from opennoodl_notification.storage.json_file.store import JsonStore
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

TIMEOUT = 30.0
"""Seconds after which a test that waits for something has failed."""
TYPES = ("invite", "mention", "thread", "session", "component", "system")
NOW = 1_700_000_000
"""Some time, in seconds."""
DAY = 86_400
"""Seconds."""
DATA = b'{\n\t"room": "x",\r\n\t"lines": "\\n"\n}'
"""What a notification says, as somebody may write it."""

Json = dict[str, Any]


def record(id_: str, user: str = "u", created: int = NOW, data: bytes = DATA, **fields: Any) -> Record:
    """Return a stored notification, created at `created` seconds."""
    times = {"created_at": timestamp(created * 1000), "expires_at": timestamp((created + 30 * DAY) * 1000)}
    defaults = {"from_user_id": "sender", "type": "invite", "read": False, **times}
    return Record(id=id_, user_id=user, data=Raw(data), **{**defaults, **fields})


def stored(path: Path) -> dict[str, Record]:
    """Return what is in the file, as the next start will find it."""
    store = JsonStore(str(path), read_only=True)
    store._read()
    return {record.id: record for records in store.contents.records.values() for record in records.values()}


def content(path: Path) -> bytes | None:
    """Return the bytes of the file and its journals, if there are any."""
    files = [path, *sorted(path.parent.glob(f"{path.name}.journal.*"))]
    return b"".join(file.read_bytes() for file in files if file.exists()) or None


def write(path: Path, *records: Record) -> None:
    """Put notifications into a file, as somebody with TinyDB would."""
    SnapshotFile(path).write(Snapshot([], list(records), [], []), 0)


def ids(page: Json) -> list[str]:
    """Return the ids on a page, in order."""
    assert page["type"] == "notifications", page
    return [notification["id"] for notification in page["notifications"]]


class Client:
    """One device of a user."""

    def __init__(self, ws: ClientConnection) -> None:
        self.ws = ws

    @classmethod
    async def connect(cls, port: int) -> Client:
        """Connect, as nobody yet."""
        uri = f"ws://127.0.0.1:{port}/"
        options: Json = {"compression": None, "max_size": None, "ping_interval": None, "proxy": None}
        return cls(await connect(uri, open_timeout=TIMEOUT, **options))

    async def text(self, message: str | bytes) -> None:
        """Send a text frame as it is."""
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
        """Return the next message, which is of this type."""
        message = await self.get()
        assert message["type"] == type_, message
        return message

    async def ask(self, type_: str, **fields: Any) -> Json:
        """Send a message and return the next one."""
        await self.send(type_, **fields)
        return await self.get()

    async def authenticate(self, user: str) -> Json:
        """Become a device of `user`; return its inbox."""
        answer, page = await self.ask("authenticate", userId=user), await self.expect("notifications")
        numbers = {"sequence": page["sequence"], "unreadCount": page["unreadCount"]}
        assert answer == {"type": "authenticated", "userId": user, **numbers}
        return page

    async def resume(self, user: str, since: int) -> Json:
        """Become a device of `user` that was there before; return the answer, before what was missed."""
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
        """Return a page of the inbox; nothing else may have come before it."""
        await self.send("get-notifications", **fields)
        return await self.expect("notifications")

    async def refused(self, type_: str, **fields: Any) -> str:
        """Send a message that is answered with an error; return its code."""
        error = await self.ask(type_, **fields)
        assert error["type"] == "error", error
        return str(error["code"])

    async def heard(self) -> None:
        """Return when the server has read everything sent so far, and had time to answer it."""
        async with asyncio.timeout(TIMEOUT):
            for _ in range(3):
                await (await self.ws.ping())

    async def waiting(self) -> list[Json]:
        """Return what has come and was not asked for, by when the server has read everything sent so far."""
        await self.heard()
        messages: list[Json] = []
        try:
            while True:
                async with asyncio.timeout(0):  # takes what is there, waits for nothing
                    messages.append(json.loads(await self.ws.recv()))
        except TimeoutError:
            return messages

    async def closed(self) -> int | None:
        """Return the code with which the server ends the connection; nothing else may come before."""
        try:
            message = await self.get()
        except ConnectionClosed as closed:
            return None if closed.rcvd is None else int(closed.rcvd.code)
        raise AssertionError(message)


class Gate:
    """Takes the place of `Journal.append`: it can hold commits up and let them fail."""

    real = staticmethod(Journal.append)

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.asked = 0
        self.commits = 0
        self._open = threading.Event()
        self._entered = threading.Event()
        self.open()

    def open(self) -> None:
        """Let commits through."""
        self._open.set()

    def shut(self) -> None:
        """Hold up every commit from now on."""
        self._entered.clear()
        self._open.clear()

    async def holds(self) -> None:
        """Wait until a commit is held up."""
        assert await asyncio.to_thread(self._entered.wait, TIMEOUT)

    def append(self, journal: Journal, line: bytes) -> None:
        """Commit, when that is allowed."""
        self.asked += 1
        self._entered.set()
        assert self._open.wait(TIMEOUT)
        if self.failure is not None:
            raise self.failure
        self.real(journal, line)
        self.commits += 1


class Clock:
    """Takes the place of the machine's clocks.

    Attributes:
        now: the time of day in seconds; the monotonic clock goes with it.
        ahead: seconds by which the time of day is wrong.
    """

    def __init__(self) -> None:
        self.now = float(NOW)
        self.ahead = 0.0

    def use(self, patch: pytest.MonkeyPatch) -> None:
        """Take the place of the clocks."""
        patch.setattr(clock, "time", lambda: self.now + self.ahead)
        patch.setattr(clock, "monotonic", lambda: self.now)


async def http(port: int, path: str) -> tuple[int, bytes]:
    """Return status and body of a GET."""
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
