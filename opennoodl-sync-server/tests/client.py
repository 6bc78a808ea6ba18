"""A y-websocket client, and servers to connect it to."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from opennoodl_sync.edge.service import Service
from opennoodl_sync.edge.websocket.connection import Connection
from opennoodl_sync.server import Sync, create
from opennoodl_sync.sessions import Session
from opennoodl_sync.settings import Settings
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from .edge.harness import PROCESS_TIMEOUT
from .editor import Editor
from .wire import awareness_message, awareness_of, step_1, update_message

TIMEOUT = 30.0
"""Time limit of a wait in a test, in seconds."""


class Client(Editor):
    """A client with a document and a WebSocket.

    Attributes:
        socket: the connection.
        messages: every message that was received, in order.
        states: clock and awareness state of every known client, by the rules of y-protocols.
        synced: whether step 2 was received.
        sent: the number of its updates that were sent.
    """

    def __init__(self, socket: ClientConnection, number: int, *known: bytes) -> None:
        super().__init__(number, *known)
        self.socket = socket
        self.number = number
        self.messages: list[bytes] = []
        self.states: dict[int, tuple[int, object]] = {}
        self.synced = False
        self.sent = 0
        self._changed = asyncio.Event()
        self._task = asyncio.create_task(self._read())

    async def step_1(self) -> None:
        """Send step 1."""
        await self.socket.send(step_1(self.doc.get_state()))

    async def push_edits(self) -> None:
        """Send every unsent edit, each in its own message."""
        while self.sent < len(self.updates):
            self.sent += 1
            await self.socket.send(update_message(self.updates[self.sent - 1]))

    async def type(self, *texts: str) -> None:
        """Append to the text, and send the updates."""
        for text in texts:
            self.write(text)
        await self.push_edits()

    async def point(self, clock: int, state: object) -> None:
        """Send the awareness state of this client."""
        await self.socket.send(awareness_message((self.number, clock, state)))

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until a message makes `condition` true."""
        async with asyncio.timeout(TIMEOUT):
            while not condition():
                assert not self._task.done(), f"the connection ended with {self.code}"
                self._changed.clear()
                await self._changed.wait()

    async def shows(self, text: str) -> None:
        """Wait until the text of the document ends with `text`."""
        await self.until(lambda: self.text.endswith(text))

    async def has(self, words: int) -> None:
        """Wait until the text of the document has this number of words."""
        await self.until(lambda: len(self.text.split()) == words)

    async def knows(self, states: dict[int, tuple[int, object]]) -> None:
        """Wait until exactly these awareness states are known."""
        await self.until(lambda: self.states == states)

    async def hears(self, message: int) -> None:
        """Wait until more than `message` messages were received."""
        await self.until(lambda: len(self.messages) > message)

    async def agrees(self, other: Editor) -> None:
        """Wait until this document equals that of another editor."""
        await self.until(lambda: self.same(other))

    async def ended(self) -> int:
        """Wait until the server has closed the connection; return the close code."""
        async with asyncio.timeout(TIMEOUT):
            await asyncio.shield(self._task)
            await self.socket.wait_closed()
        assert self.code is not None
        return self.code

    @property
    def code(self) -> int | None:
        """The close code of the connection."""
        return self.socket.close_code

    async def abort(self) -> None:
        """Abort the connection, without a closing handshake."""
        self.socket.transport.abort()
        await self._task

    async def close(self) -> None:
        """Close the connection."""
        await self.socket.close()
        await self._task

    async def _read(self) -> None:
        try:
            async for message in self.socket:
                assert isinstance(message, bytes)
                self.messages.append(message)
                if message[0] == 1:
                    for client, clock, state in awareness_of(message):
                        known = self.states.get(client)
                        if known is None or clock > known[0] or (clock == known[0] and state is None):
                            self.states[client] = clock, state
                for reply in self.hear(message):
                    await self.socket.send(reply)
                self.synced = self.synced or message[:2] == b"\x00\x01"
                self._changed.set()
        except ConnectionClosed:
            pass
        finally:
            self._changed.set()


class Server:
    """A server in this process.

    Attributes:
        service: the server.
        path: its data directory.
    """

    def __init__(self, service: Service, path: Path) -> None:
        assert isinstance(service.app, Sync)
        self.service = service
        self.app = service.app
        self.path = path
        self.clients: list[Client] = []

    def url(self, name: str) -> str:
        """Return the URL of a room."""
        return f"ws://127.0.0.1:{self.service.port}/{name}"

    async def join(self, name: str, number: int, *known: bytes, sync: bool = True) -> Client:
        """Connect a client; wait until it is synced, unless `sync` is false."""
        client = await join(self.service.port, name, number, *known, sync=sync)
        self.clients.append(client)
        return client

    def members(self, name: str) -> set[Connection]:
        """Return the server's connections of a room."""
        room = self.app.rooms.rooms.get(name)
        clients = () if room is None else room.clients
        return {client.connection for client in clients if isinstance(client, Session)}

    async def health(self) -> tuple[int, dict[str, Any]]:
        """Return status and body of ``/health``."""
        answer = await get(self.service.port, "/health")
        return answer.status, json.loads(answer.body)


async def join(port: int, name: str, number: int, *known: bytes, sync: bool = True) -> Client:
    """Connect a client to a room; wait until it is synced, unless `sync` is false."""
    url = f"ws://127.0.0.1:{port}/{name}"
    client = Client(await connect(url, compression=None, max_size=None, ping_interval=None), number, *known)
    if sync:
        await client.step_1()
        await client.until(lambda: client.synced)
    return client


@asynccontextmanager
async def running(path: Path, **settings: Any) -> AsyncIterator[Server]:
    """Run a server; at the end, its clients get a close frame and are gone."""
    service = create(Settings(**{"host": "127.0.0.1", "port": 0, "persist_dir": str(path), **settings}))
    await service.start()
    server = Server(service, path)
    try:
        yield server
    finally:
        await service.stop()
        for client in server.clients:
            await client.close()


class Answer(NamedTuple):
    """An HTTP response."""

    status: int
    body: bytes


async def get(port: int, path: str, *headers: str) -> Answer:
    """Send a GET request; return the response."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    lines = [f"GET {path} HTTP/1.1", "Host: localhost", *headers, "", ""]
    writer.write("\r\n".join(lines).encode())
    async with asyncio.timeout(TIMEOUT):
        answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    head, _, body = answer.partition(b"\r\n\r\n")
    return Answer(int(head.split()[1]), body)


SERVE = """
from opennoodl_sync.__main__ import main
from opennoodl_sync.edge.admission import refusal_delay
refusal_delay.FIRST, refusal_delay.LONGEST = 0.01, 0.05  # a client that comes back at once is to be refused again
main()
"""
"""Runs ``python -m opennoodl_sync`` with a shorter delay before refused connections are closed."""


class Process:
    """A server in a process of its own.

    Attributes:
        port: the port of the server.
        child: the process.
    """

    def __init__(self, child: asyncio.subprocess.Process) -> None:
        self.child = child
        self.port = 0

    @classmethod
    async def spawn(cls, path: Path, *, before: str = "", **environment: str) -> Process:
        """Start the process; it executes the code `before` first."""
        own = {"HOST": "127.0.0.1", "PORT": "0", "PERSIST_DIR": str(path), "LOG_FORMAT": "json", **environment}
        return cls(
            await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                before + SERVE,
                env={**os.environ, **own},
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
        )

    @classmethod
    async def start(cls, path: Path, *, before: str = "", **environment: str) -> Process:
        """Start the process, and wait until it listens; see `spawn`."""
        process = await cls.spawn(path, before=before, **environment)
        try:
            await process._listens()
        except BaseException:
            await process.kill()
            raise
        return process

    async def _listens(self) -> None:
        assert self.child.stdout is not None
        async with asyncio.timeout(PROCESS_TIMEOUT):
            async for line in self.child.stdout:
                event = json.loads(line)
                if event["event"] == "listening":
                    break
            self.port = event["port"]

    async def terminate(self) -> int:
        """Send SIGTERM; return the exit code."""
        self.child.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PROCESS_TIMEOUT):
            await self.child.communicate()
        assert self.child.returncode is not None
        return self.child.returncode

    async def kill(self) -> None:
        """Send SIGKILL, and wait for the end."""
        if self.child.returncode is None:
            self.child.kill()
        await self.child.communicate()
