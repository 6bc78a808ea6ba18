"""An HTTP server with scripted responses, and changing documents, for the tests of the webhook."""

from __future__ import annotations

import asyncio
import base64
import json
from collections import deque
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

from opennoodl_sync.edge.metrics import Counts
from opennoodl_sync.webhook import Webhook

from .edge.servers import TcpServer

SECRET = "sixteen or more characters"
LONG = 3600.0
"""A time in seconds that no test reaches."""
SHORT = 0.02
"""A time in seconds that a test may wait."""
TIMEOUT = 30.0
"""Time limit of a wait for a request, in seconds."""

Make = Callable[..., Webhook]
"""Makes a webhook without a delay before a request, by default."""


class Post(NamedTuple):
    """One request.

    Attributes:
        line: method, path and query, version.
        headers: by name in lower case.
        body: the raw body.
        at: the time of its arrival, by the event loop's clock.
    """

    line: str
    headers: dict[str, str]
    body: bytes
    at: float

    @property
    def json(self) -> Any:
        """The decoded body."""
        return json.loads(self.body)


def answer(status: int, *headers: str) -> bytes:
    """Return a response without a body."""
    return "\r\n".join([f"HTTP/1.1 {status} Status", "Content-Length: 0", *headers, "", ""]).encode()


class Receiver:
    """Records every request. It responds with the next one of `answers`, or 204.

    Attributes:
        answers: raw responses; after one without a complete head, the connection is closed.
        may_answer: an event that responses wait for; set at the start.
        open: rooms of requests without a response.
        peak: the largest number of requests without a response.
        connections: the number of connections.
    """

    def __init__(self) -> None:
        self.answers: deque[bytes] = deque()
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.open: list[str] = []
        self.peak = 0
        self.connections = 0
        self._posts: asyncio.Queue[Post] = asyncio.Queue()
        self._server = TcpServer(self._handle)

    @property
    def port(self) -> int:
        """The port of the receiver."""
        return self._server.port

    async def start(self) -> None:
        """Listen; after `stop`, on the same port as before."""
        await self._server.start()

    async def stop(self) -> None:
        """Stop listening, and close every connection."""
        await self._server.stop()

    @property
    def quiet(self) -> bool:
        """Whether `post` has returned every request."""
        return self._posts.empty()

    async def post(self) -> Post:
        """Return the next request."""
        return await asyncio.wait_for(self._posts.get(), TIMEOUT)

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while await self._one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.transport.abort()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        line, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()[:-1]
        headers = {name.lower(): value for name, value in (each.split(": ", 1) for each in lines)}
        post = Post(
            line, headers, await reader.readexactly(int(headers["content-length"])), asyncio.get_running_loop().time()
        )
        self.open.append(post.json["room"])
        self.peak = max(self.peak, len(self.open))
        self._posts.put_nowait(post)
        try:
            await self.may_answer.wait()
        finally:
            self.open.remove(post.json["room"])
        reply = self.answers.popleft() if self.answers else answer(204)
        writer.write(reply)
        await writer.drain()
        return b"\r\n\r\n" in reply


class Document:
    """A document that changes with every call of `write`.

    Attributes:
        asked: the time of the last request for its state vector, by the event loop's clock.
    """

    def __init__(self, webhook: Webhook, room: str = "room") -> None:
        self.webhook = webhook
        self.room = room
        self.changes: list[float] = []
        self.asked: list[float] = []

    def write(self) -> None:
        """Change the document, and notify the webhook."""
        self.changes.append(asyncio.get_running_loop().time())
        self.webhook.changed(self.room, self.state_vector)

    def state_vector(self) -> bytes:
        """Return the number of changes."""
        self.asked.append(asyncio.get_running_loop().time())
        return b"%d" % len(self.changes)

    def rest(self) -> float:
        """Return the longest time without a change, in seconds, before the last request for its state vector."""
        times = [*(change for change in self.changes if change <= self.asked[-1]), self.asked[-1]]
        return max(later - earlier for earlier, later in pairwise(times))


def vector(post: Post) -> bytes:
    """Return the state vector of a request."""
    return base64.b64decode(post.json["stateVector"], validate=True)


class Outcomes(Counts):
    """Counts outcomes like a webhook's `posts`, and notifies waiting tests."""

    def __init__(self, counts: Counts) -> None:
        super().__init__(counts)
        self.counted = asyncio.Event()

    def __setitem__(self, outcome: str, count: int) -> None:
        super().__setitem__(outcome, count)
        self.counted.set()


async def counted(webhook: Webhook, outcome: str, count: int) -> None:
    """Wait until an outcome has this count."""
    assert isinstance(webhook.posts, Outcomes)
    async with asyncio.timeout(TIMEOUT):
        while webhook.posts[outcome] < count:
            webhook.posts.counted.clear()
            await webhook.posts.counted.wait()
