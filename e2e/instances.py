"""Two of each server behind a balancer, as `make up INSTANCES=2` starts them."""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILES = ("up.py", "engines.py", "Procfile.instances", "deploy/scale/Caddyfile")
PATIENCE = 120.0
"""Time limit of a wait, in seconds."""


class Instances:
    """Two instances of each server.

    Args:
        directory: the directory for their data.
        settings: the settings of all of them.

    Attributes:
        directory: the directory with their data.
        first_port: the port of the balancer for signaling.
    """

    def __init__(self, directory: Path, **settings: str) -> None:
        for name in FILES:
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, directory / name)
        self.directory = directory
        self.first_port = free_ports()
        self._log = directory / "log"
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        own = {"PATH": path, "INSTANCES": "2", "FIRST_PORT": str(self.first_port), "PLAYGROUND": "off"}
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(directory / "up.py")],
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **own, **settings},
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
        """Return the whole output."""
        return self._log.read_text()

    def pid(self, name: str) -> int:
        """Return the id of the last process that was started under a name."""
        found = [line for line in self.shown().splitlines() if f"{name} started (pid=" in line]
        return int(found[-1].rpartition("=")[2].rstrip(")")) if found else 0

    def ports(self, index: int) -> list[int]:
        """Return the ports of the instances of one server: 0 is signaling, 1 is sync, 2 is notification."""
        return [self.first_port + 10 * number + index for number in (1, 2)]

    def serve(self) -> bool:
        """Return whether all instances accept clients, and the balancer knows it."""
        own = [port for index in range(3) for port in self.ports(index)]
        return all(status(port) == 200 for port in [*own, *(self.first_port + index for index in range(3))])

    def stop(self) -> None:
        """Stop all processes."""
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(PATIENCE)


def free_ports() -> int:
    """Return the first of some consecutive free ports, outside of the range of `free_port` and of that for port 0."""
    while True:
        first = random.randrange(20_000, 26_000)  # noqa: S311
        with suppress(OSError):
            for offset in (0, 1, 2, 4, 10, 11, 12, 20, 21, 22):
                socket.create_server(("127.0.0.1", first + offset)).close()
            return first


def status(port: int) -> int:
    """Return the status of /ready; 0 without a response."""
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/ready")
        return connection.getresponse().status
    except (OSError, HTTPException):
        return 0
    finally:
        connection.close()


def is_open(port: int) -> bool:
    """Return whether a server listens on a port."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 10):
        return True
    return False
