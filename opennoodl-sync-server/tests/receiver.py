"""What the webhook's tests share: an HTTP server that answers as it is told, and documents that change."""

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
"""Seconds that no test waits for."""
SHORT = 0.02
"""Seconds that a test may wait for."""
TIMEOUT = 30.0
"""Seconds after which a test that waits for a post has failed."""

Make = Callable[..., Webhook]
"""Makes a webhook that posts to the receiver at once, unless it is told otherwise."""


class Post(NamedTuple):
    """One request as it came.

    Attributes:
        line: method, path and query, version.
        headers: by their names in lower case.
        body: not decoded.
        at: when it was there, by the loop's clock.
    """

    line: str
    headers: dict[str, str]
    body: bytes
    at: float

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)


def answer(status: int, *headers: str) -> bytes:
    """Return an answer without a body."""
    return "\r\n".join([f"HTTP/1.1 {status} Status", "Content-Length: 0", *headers, "", ""]).encode()


class Receiver:
    """Notes every post, and answers with what is next in `answers`, or else with 204.

    Attributes:
        answers: raw ones; after one without a whole head the connection ends.
        may_answer: answers wait for it; set at the start.
        open: posts that wait for their answer, by their rooms.
        peak: the most that waited at once.
        connections: how many there were.
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
        """Where it listens on loopback."""
        return self._server.port

    async def start(self) -> None:
        """Listen, on the same port as before if it has been stopped."""
        await self._server.start()

    async def stop(self) -> None:
        """Stop listening, and end every connection."""
        await self._server.stop()

    @property
    def quiet(self) -> bool:
        """Whether every post that came was taken with `post`."""
        return self._posts.empty()

    async def post(self) -> Post:
        """Return the next post."""
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
    """Changes with every call of `write`.

    Attributes:
        asked: when its state vector was asked for, by the loop's clock.
    """

    def __init__(self, webhook: Webhook, room: str = "room") -> None:
        self.webhook = webhook
        self.room = room
        self.changes: list[float] = []
        self.asked: list[float] = []

    def write(self) -> None:
        """Change, and tell the webhook."""
        self.changes.append(asyncio.get_running_loop().time())
        self.webhook.changed(self.room, self.state_vector)

    def state_vector(self) -> bytes:
        """Return how often it changed."""
        self.asked.append(asyncio.get_running_loop().time())
        return b"%d" % len(self.changes)

    def rest(self) -> float:
        """Return the longest time in seconds that it did not change before its state vector was last asked for."""
        times = [*(change for change in self.changes if change <= self.asked[-1]), self.asked[-1]]
        return max(later - earlier for earlier, later in pairwise(times))


def vector(post: Post) -> bytes:
    """Return the state vector in a post."""
    return base64.b64decode(post.json["stateVector"], validate=True)


class Outcomes(Counts):
    """Counts like a webhook's `posts`, and tells that it did."""

    def __init__(self, counts: Counts) -> None:
        super().__init__(counts)
        self.counted = asyncio.Event()

    def __setitem__(self, outcome: str, count: int) -> None:
        super().__setitem__(outcome, count)
        self.counted.set()


async def counted(webhook: Webhook, outcome: str, count: int) -> None:
    """Wait until so many attempts had this outcome."""
    assert isinstance(webhook.posts, Outcomes)
    async with asyncio.timeout(TIMEOUT):
        while webhook.posts[outcome] < count:
            webhook.posts.counted.clear()
            await webhook.posts.counted.wait()
