"""The server as a separate process, which tests can kill."""

from __future__ import annotations

import asyncio
import json
import os
import sys

from .harness import TIMEOUT

START = 60.0
"""Time limit for a server to listen, in seconds: it may have to read much, on a busy machine."""
SMALL_JOURNAL = "from opennoodl_notification.storage.json_file import store; store.LEAST = 2000; "
RUN = "from opennoodl_notification.__main__ import main; main()"


class Process:
    """A server that listens.

    Attributes:
        child: the process.
        port: the port of the server.
    """

    def __init__(self, child: asyncio.subprocess.Process, port: int) -> None:
        self.child = child
        self.port = port

    @classmethod
    async def start(cls, at: str, *, small_journal: bool = False, **settings: str) -> Process:
        """Start a server with its store at a file or a database, and wait until it listens."""
        limits = dict.fromkeys(
            ("RATE_LIMIT", "BYTE_RATE_LIMIT", "SENDS_PER_HOUR", "SEND_BYTES_PER_HOUR", "MAX_PER_USER"), "0"
        )
        place = {"DATABASE_URL": at} if "://" in at else {"DB_FILE": at}
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", SMALL_JOURNAL * small_journal + RUN),
            env={**os.environ, **limits, **place, "HOST": "127.0.0.1", "PORT": "0", "LOG_FORMAT": "json", **settings},
            stdout=asyncio.subprocess.PIPE,
        )
        assert child.stdout is not None
        lines: list[str] = []
        try:
            async with asyncio.timeout(START):
                while line := await child.stdout.readline():
                    entry = json.loads(line)
                    if entry.get("event") == "listening":
                        return cls(child, int(entry["port"]))
                    lines.append(line.decode())
                why = f"has ended with {await child.wait()}"
        except TimeoutError:
            why = f"does not listen after {START} s"
        await cls(child, 0).kill()
        raise AssertionError(f"the server {why}; its log: {''.join(lines)}")

    async def kill(self) -> str:
        """Kill it if it still runs; return its log."""
        if self.child.returncode is None:
            self.child.kill()
        async with asyncio.timeout(TIMEOUT):
            output, _ = await self.child.communicate()
        return output.decode()
