"""Honest clients: pairs of clients that exchange messages, and measure the round trips."""

from __future__ import annotations

import asyncio
import json
from abc import ABC, abstractmethod
from time import perf_counter
from typing import Any, ClassVar, Self

from pycrdt import Doc, Map, create_sync_message, create_update_message, handle_sync_message
from websockets.asyncio.client import ClientConnection, connect

from .setups import OPEN, Setup

PATIENCE = 30.0
"""Time limit of a wait, in seconds."""
KEEPALIVE = b"\x01\x01\x00"
"""The keepalive message of the sync server: an awareness update without states."""
PAUSE = 0.02
"""Seconds between two round trips, so that honest clients stay below the rate limit."""


class Pair(ABC):
    """Two clients. A round trip is complete when the first one has the answer of the second one.

    Attributes:
        times: start and duration in seconds of every round trip.
    """

    first: ClientConnection
    second: ClientConnection
    numbers: ClassVar[int] = 0
    setup = OPEN

    def __init__(self) -> None:
        self.times: list[tuple[float, float]] = []
        self._working: asyncio.Task[None] | None = None
        self._news = asyncio.Condition()
        Pair.numbers += 1
        self.number = Pair.numbers

    @classmethod
    async def open(cls, port: int, setup: Setup = OPEN) -> Self:
        """Connect both clients, through a setup."""
        pair = cls()
        pair.setup = setup
        url = f"{'wss' if setup.tls else 'ws'}://localhost:{port}{pair.path}"
        options: dict[str, Any] = {"host": "127.0.0.1", "ssl": setup.tls, "compression": None, "max_size": None}
        pair.first, pair.second = [await connect(url, **options) for _ in range(2)]
        async with asyncio.timeout(PATIENCE):
            await pair.introduce()
        return pair

    @property
    def path(self) -> str:
        """The path of both connections."""
        return "/"

    def token(self, user: str) -> str | None:
        """Return the token of a user; None without authentication."""
        return self.setup.token(user) if self.setup.token else None

    @abstractmethod
    async def introduce(self) -> None:
        """Do the exchange before the first round trip."""

    @abstractmethod
    async def exchange(self, number: int) -> None:
        """Make a round trip; all messages must belong to this number."""

    async def trip(self) -> None:
        """Make a round trip, and measure it."""
        began = perf_counter()
        async with asyncio.timeout(PATIENCE):
            await self.exchange(len(self.times))
        self.times.append((began, perf_counter() - began))

    def work(self, pause: float = PAUSE) -> None:
        """Make round trips in a task, with a pause after each."""
        self._working = asyncio.create_task(self._work(pause))

    async def _work(self, pause: float) -> None:
        try:
            while True:
                await self.trip()
                async with self._news:
                    self._news.notify_all()
                await asyncio.sleep(pause)
        finally:
            async with self._news:
                self._news.notify_all()

    async def more(self, trips: int) -> None:
        """Wait for this number of further round trips; raise their error."""
        assert self._working is not None
        aim = len(self.times) + trips
        async with self._news:
            await self._news.wait_for(lambda: len(self.times) >= aim or self._working_ended())

    def _working_ended(self) -> bool:
        assert self._working is not None
        if self._working.done():
            self._working.result()
        return False

    async def close(self) -> None:
        """Close the connections; raise an error of the round trips."""
        if self._working is not None:
            self._working.cancel()
            await asyncio.wait([self._working])
            if not self._working.cancelled():
                self._working.result()
        for socket in (self.first, self.second):
            await socket.close()


async def _take(socket: ClientConnection, kind: str) -> dict[str, Any]:
    """Return the next message, which must have this type."""
    message: dict[str, Any] = json.loads(await socket.recv())
    assert message["type"] == kind, f"{message} came in place of {kind}"
    return message


async def _say(socket: ClientConnection, **message: object) -> None:
    await socket.send(json.dumps(message))


class Signalers(Pair):
    """Two peers of a room that send each other signals."""

    async def introduce(self) -> None:
        """Join the room."""
        room = f"honest-{self.number}"
        for socket, name in ((self.first, "first"), (self.second, "second")):
            user = f"{name}-{self.number}"
            await _say(socket, type="join", room=room, peerId=name, userId=user, token=self.token(user))
            await _take(socket, "joined")
        await _take(self.first, "peer-joined")

    async def exchange(self, number: int) -> None:
        """Send a signal and receive the answer."""
        for sender, receiver, to in ((self.first, self.second, "second"), (self.second, self.first, "first")):
            await _say(sender, type="signal", to=to, signal={"number": number})
            assert (await _take(receiver, "signal"))["signal"] == {"number": number}


class Editors(Pair):
    """Two editors of a document that receive each other's changes."""

    def __init__(self) -> None:
        super().__init__()
        self._docs: tuple[Doc[Any], Doc[Any]] = (Doc(), Doc())

    @property
    def path(self) -> str:
        """The path of their room."""
        token = self.token("editor")
        return f"/honest-{self.number}" + (f"?token={token}" if token else "")

    async def introduce(self) -> None:
        """Sync both documents."""
        for socket, doc in zip((self.first, self.second), self._docs, strict=True):
            await socket.send(create_sync_message(doc))
            while await self._hear(socket, doc) != 1:
                pass

    async def exchange(self, number: int) -> None:
        """Write, wait for the change at the other editor, and do the same in the other direction."""
        for writer, reader in ((0, 1), (1, 0)):
            sockets, entries = (self.first, self.second), self._docs[reader].get("entries", type=Map)
            before = self._docs[writer].get_state()
            self._docs[writer].get("entries", type=Map)[str(writer)] = number
            await sockets[writer].send(create_update_message(self._docs[writer].get_update(before)))
            while entries.get(str(writer)) != number:
                assert entries.get(str(writer), -1) <= number
                await self._hear(sockets[reader], self._docs[reader])

    async def _hear(self, socket: ClientConnection, doc: Doc[Any]) -> int:
        """Receive the next message; return the kind of its sync message."""
        while (message := await socket.recv()) == KEEPALIVE:
            pass
        assert isinstance(message, bytes)
        assert message[0] == 0, f"{message!r} is no sync message"
        reply = handle_sync_message(message[1:], doc)
        if reply is not None:
            await socket.send(reply)
        return message[1]


class Devices(Pair):
    """Two devices of a user that receive each other's marks."""

    async def introduce(self) -> None:
        """Authenticate both, and send a notification to the same user."""
        user = f"honest-{self.number}"
        for socket in (self.first, self.second):
            await _say(socket, type="authenticate", userId=user, token=self.token(user))
            await _take(socket, "authenticated")
            await _take(socket, "notifications")
        await _say(self.first, type="send-notification", targetUserId=user, notificationType="mention")
        self._id = (await _take(self.first, "notification"))["notification"]["id"]
        await _take(self.first, "notification-sent")
        await _take(self.second, "notification")

    async def exchange(self, number: int) -> None:
        """Mark it as read on one device, wait for the event on the other, and undo it there."""
        for sender, kind, read in ((self.first, "mark-read", True), (self.second, "mark-unread", False)):
            await _say(sender, type=kind, notificationId=self._id)
            for device in (self.first, self.second):
                assert (await _take(device, "notification-updated"))["notification"]["read"] is read


PAIRS: dict[str, type[Pair]] = {"signaling": Signalers, "sync": Editors, "notification": Devices}
