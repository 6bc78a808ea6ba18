"""What a server uses, as its operating system and its own metrics say."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import NamedTuple

PAGE = os.sysconf("SC_PAGE_SIZE")
PATIENCE = 10.0


class Vitals(NamedTuple):
    """What a server uses at one moment."""

    rss: float
    """MiB of memory."""
    files: int
    connections: int
    tasks: int


async def metrics(port: int) -> dict[str, float]:
    """Return every sample of ``/metrics``, by its name and labels."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
    async with asyncio.timeout(PATIENCE):
        answer = await reader.read()
    writer.close()
    lines = answer.partition(b"\r\n\r\n")[2].decode().splitlines()
    parts = [line.rsplit(" ", 1) for line in lines if not line.startswith("#")]
    return {name: float(value) for name, value in parts}


async def vitals(pid: int, port: int) -> Vitals:
    """Measure a server."""
    found = await metrics(port)
    process = Path(f"/proc/{pid}")
    rss = int((process / "statm").read_text().split()[1]) * PAGE / 2**20
    files = len(list((process / "fd").iterdir()))
    return Vitals(rss, files, int(found["opennoodl_open_connections"]), int(found["opennoodl_tasks"]))
