"""The server as a process of its own, to be ended by whatever ends servers."""

from __future__ import annotations

import asyncio
import json
import os
import sys

from .harness import TIMEOUT

START = 60.0
"""Seconds after which a server that does not listen has failed: it may have much to read, on a busy machine."""
SMALL_JOURNAL = "from opennoodl_notification.storage.json_file import store; store.LEAST = 2000; "
RUN = "from opennoodl_notification.__main__ import main; main()"


class Process:
    """A server that listens.

    Attributes:
        child: the process.
        port: where it listens.
    """

    def __init__(self, child: asyncio.subprocess.Process, port: int) -> None:
        self.child = child
        self.port = port

    @classmethod
    async def start(cls, at: str, *, small_journal: bool = False, **settings: str) -> Process:
        """Start a server with its notifications in a file or a database, and wait until it listens."""
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
        """End it at once, if it has not ended; return what it has logged."""
        if self.child.returncode is None:
            self.child.kill()
        async with asyncio.timeout(TIMEOUT):
            output, _ = await self.child.communicate()
        return output.decode()
