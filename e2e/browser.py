"""Pages in one Chromium for all tests of a process."""

from __future__ import annotations

import asyncio

from harness import LONGEST_LINE, Client


class Connection:
    """A connection to chromium.mjs, used like a process.

    Attributes:
        stdin: for commands.
        stdout: for events.
        returncode: 0 after the end.
    """

    pid = 0

    def __init__(self, stdout: asyncio.StreamReader, stdin: asyncio.StreamWriter) -> None:
        self.stdout = stdout
        self.stdin = stdin
        self.returncode: int | None = None

    def send_signal(self, _: int, /) -> None:
        """Close the pages, then the connection."""
        self.stdin.write_eof()

    def kill(self) -> None:
        """Close the connection at once."""
        self.stdin.transport.abort()

    async def wait(self) -> int:
        """Wait for the end."""
        self.stdin.close()
        await self.stdin.wait_closed()
        self.returncode = 0
        return self.returncode


class Browser(Client):
    """The pages of one test; `port` is the port of chromium.mjs."""

    def __init__(self, port: int) -> None:
        super().__init__("chromium.mjs", [], {})
        self._port = port

    async def start(self) -> None:
        """Connect."""
        self._follow(Connection(*await asyncio.open_connection("127.0.0.1", self._port, limit=LONGEST_LINE)))
