"""`make up INSTANCES=2`: two of each server, with the engines and the balancer that they need."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = ("up.py", "engines.py", "Procfile.instances", "deploy/scale/Caddyfile")
PATIENCE = 120.0
"""Seconds after which what is waited for never happens."""


class Up:
    """Two of each server.

    Attributes:
        first_port: of the balancer, for signaling.
    """

    def __init__(self, directory: Path) -> None:
        for name in FILES:
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, directory / name)
        self.first_port = free_ports()
        self._log = directory / "log"
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        settings = {"PATH": path, "INSTANCES": "2", "FIRST_PORT": str(self.first_port), "PLAYGROUND": "off"}
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(directory / "up.py")],
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **settings},
                start_new_session=True,
            )

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition holds."""
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, self.shown()
            assert self.process.poll() is None, self.shown()
            time.sleep(0.05)

    def shown(self) -> str:
        """Return all that was shown."""
        return self._log.read_text()

    def pid(self, name: str) -> int:
        """Return the process id of what was last started under a name."""
        found = [line for line in self.shown().splitlines() if f"{name} started (pid=" in line]
        return int(found[-1].rpartition("=")[2].rstrip(")")) if found else 0

    def serve(self) -> bool:
        """Return whether the balancer finds an instance of each server that takes clients."""
        return all(status(self.first_port + index) == 200 for index in range(3))


def free_ports() -> int:
    """Return a port after which there are free ones too, all of which the system gives to nobody."""
    while True:
        first = random.randrange(20_000, 32_000)  # noqa: S311
        with suppress(OSError):
            for offset in (0, 1, 2, 4, 10, 11, 12, 20, 21, 22):
                socket.create_server(("127.0.0.1", first + offset)).close()
            return first


def status(port: int) -> int:
    """Return the status with which /ready is answered; 0 if it is not."""
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/ready")
        return connection.getresponse().status
    except (OSError, HTTPException):
        return 0
    finally:
        connection.close()


def is_open(port: int) -> bool:
    """Return whether something listens at a port."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 10):
        return True
    return False


@pytest.fixture
def up() -> Iterator[Up]:
    """Start two of each server; their directory is outside of those of pytest, which PostgreSQL's user cannot enter."""
    directory = Path(tempfile.mkdtemp(prefix="opennoodl-up-"))
    started = Up(directory)
    yield started
    if started.process.poll() is None:
        started.process.terminate()
        started.process.wait(30)
    shutil.rmtree(directory)


def test_two_of_each_serve_and_end(up: Up) -> None:
    """Two of each serve at one address; what is killed starts again, while the others serve; a stop ends everything."""
    up.until(up.serve)
    ports = [up.first_port + 10 * number + index for number in (1, 2) for index in range(3)]
    up.until(lambda: all(status(port) == 200 for port in ports))
    former = {name: up.pid(name) for name in ("sync.1", "signaling.2", "redis", "balancer")}
    for pid in former.values():
        os.kill(pid, signal.SIGKILL)
    up.until(lambda: all(up.pid(name) not in {0, pid} for name, pid in former.items()))
    up.until(up.serve)
    up.until(lambda: all(status(port) == 200 for port in ports))
    up.process.terminate()
    assert up.process.wait(30) == 0, up.shown()
    assert "Traceback" not in up.shown()
    assert [port for port in (up.first_port, up.first_port + 4, *ports) if is_open(port)] == []
    assert "postgresql stopped (rc=0)" in up.shown()
