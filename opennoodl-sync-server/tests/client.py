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
"""Seconds after which a test that waits for something has failed."""


class Client(Editor):
    """An editor at the end of a socket.

    Attributes:
        socket: the connection.
        messages: every message that came, in order.
        states: who is here, as y-protocols' awareness sees it: clock and state of every client that was told of.
        synced: whether step 2 has come.
        sent: how many of its updates it has sent.
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
        """Ask for what is missing."""
        await self.socket.send(step_1(self.doc.get_state()))

    async def push_edits(self) -> None:
        """Send every edit that was not sent yet, each in a message of its own."""
        while self.sent < len(self.updates):
            self.sent += 1
            await self.socket.send(update_message(self.updates[self.sent - 1]))

    async def type(self, *texts: str) -> None:
        """Append to the text and send that."""
        for text in texts:
            self.write(text)
        await self.push_edits()

    async def point(self, clock: int, state: object) -> None:
        """Send the awareness state of this client."""
        await self.socket.send(awareness_message((self.number, clock, state)))

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until a message has made `condition` true."""
        async with asyncio.timeout(TIMEOUT):
            while not condition():
                assert not self._task.done(), f"the connection ended with {self.code}"
                self._changed.clear()
                await self._changed.wait()

    async def shows(self, text: str) -> None:
        """Wait until the text of the document ends with `text`."""
        await self.until(lambda: self.text.endswith(text))

    async def has(self, words: int) -> None:
        """Wait until the text of the document has so many words."""
        await self.until(lambda: len(self.text.split()) == words)

    async def knows(self, states: dict[int, tuple[int, object]]) -> None:
        """Wait until these awareness states are known, and no others."""
        await self.until(lambda: self.states == states)

    async def hears(self, message: int) -> None:
        """Wait until there are more messages than `message`."""
        await self.until(lambda: len(self.messages) > message)

    async def agrees(self, other: Editor) -> None:
        """Wait until this document is the same as that of another editor."""
        await self.until(lambda: self.same(other))

    async def ended(self) -> int:
        """Wait until the server has closed the connection; return the code."""
        async with asyncio.timeout(TIMEOUT):
            await asyncio.shield(self._task)
            await self.socket.wait_closed()
        assert self.code is not None
        return self.code

    @property
    def code(self) -> int | None:
        """The code that the connection was closed with."""
        return self.socket.close_code

    async def abort(self) -> None:
        """Vanish without a closing handshake."""
        self.socket.transport.abort()
        await self._task

    async def close(self) -> None:
        """Leave."""
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
    """A running server, in this process.

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
        """Return the address of a room."""
        return f"ws://127.0.0.1:{self.service.port}/{name}"

    async def join(self, name: str, number: int, *known: bytes, sync: bool = True) -> Client:
        """Connect a client; wait until it is up to date unless told not to."""
        client = await join(self.service.port, name, number, *known, sync=sync)
        self.clients.append(client)
        return client

    def members(self, name: str) -> set[Connection]:
        """Return the server's side of everybody who is in a room."""
        room = self.app.rooms.rooms.get(name)
        clients = () if room is None else room.clients
        return {client.connection for client in clients if isinstance(client, Session)}

    async def health(self) -> tuple[int, dict[str, Any]]:
        """Return status and body of ``/health``."""
        answer = await get(self.service.port, "/health")
        return answer.status, json.loads(answer.body)


async def join(port: int, name: str, number: int, *known: bytes, sync: bool = True) -> Client:
    """Connect a client to a room; wait until it is up to date unless told not to."""
    url = f"ws://127.0.0.1:{port}/{name}"
    client = Client(await connect(url, compression=None, max_size=None, ping_interval=None), number, *known)
    if sync:
        await client.step_1()
        await client.until(lambda: client.synced)
    return client


@asynccontextmanager
async def running(path: Path, **settings: Any) -> AsyncIterator[Server]:
    """Run a server; when it ends, its clients have been told to go and have gone."""
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
    """An HTTP answer."""

    status: int
    body: bytes


async def get(port: int, path: str, *headers: str) -> Answer:
    """Send a GET and return the answer."""
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
"""Does what ``python -m opennoodl_sync`` does, but for how long refused clients are kept."""


class Process:
    """A server in a process of its own, as it is deployed.

    Attributes:
        port: what it listens on.
        child: the process.
    """

    def __init__(self, child: asyncio.subprocess.Process) -> None:
        self.child = child
        self.port = 0

    @classmethod
    async def spawn(cls, path: Path, *, before: str = "", **environment: str) -> Process:
        """Start it; the process executes the code `before` first."""
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
        """Start it and wait until it listens; see `spawn`."""
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
        """Ask it to end, and return its exit code."""
        self.child.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PROCESS_TIMEOUT):
            await self.child.communicate()
        assert self.child.returncode is not None
        return self.child.returncode

    async def kill(self) -> None:
        """End it without a chance to do anything more."""
        if self.child.returncode is None:
            self.child.kill()
        await self.child.communicate()
