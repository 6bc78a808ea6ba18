"""The resources of a server, as its operating system and its metrics report them."""

from __future__ import annotations

import asyncio
import re
import ssl
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

PATIENCE = 30.0
_observers = cycle(f"127.2.{number // 250}.{number % 250 + 1}" for number in range(50_000))
"""Addresses of the monitoring clients: one for each, so that no limit applies."""
PIPES = 2
"""Open files of a server for each of its child processes: two pipes."""


class ResourceUsage(NamedTuple):
    """The resources of a server at one moment."""

    memory: float
    """Resident memory in MiB, without mapped files of a store."""
    files: int
    """Open files and sockets, without those of a store and those to child processes."""
    connections: int
    tasks: int


async def connected(
    port: int, tls: ssl.SSLContext | None, address: str = ""
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to a server over TCP, or over TLS with a context, from an address of this machine."""
    name = None if tls is None else "localhost"
    local = (address, 0) if address else None
    return await asyncio.open_connection("127.0.0.1", port, ssl=tls, server_hostname=name, local_addr=local)


async def metrics(port: int, tls: ssl.SSLContext | None = None) -> dict[str, float]:
    """Return the samples of ``/metrics`` by name and labels."""
    reader, writer = await connected(port, tls, next(_observers))
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
    async with asyncio.timeout(PATIENCE):
        answer = await reader.read()
    writer.close()
    lines = answer.partition(b"\r\n\r\n")[2].decode().splitlines()
    parts = [line.rsplit(" ", 1) for line in lines if not line.startswith("#")]
    return {name: float(value) for name, value in parts}


async def resource_usage(pid: int, port: int, tls: ssl.SSLContext | None = None) -> ResourceUsage:
    """Measure a server."""
    found = await metrics(port, tls)
    process = Path(f"/proc/{pid}")
    memory = int(re.findall(r"RssAnon:\s+(\d+) kB", (process / "status").read_text())[0]) / 1024
    children = (process / "task" / str(pid) / "children").read_text().split()
    files = sum(not _of_store(file) for file in (process / "fd").iterdir()) - PIPES * len(children)
    return ResourceUsage(memory, files, int(found["opennoodl_open_connections"]), int(found["opennoodl_tasks"]))


def _of_store(file: Path) -> bool:
    try:
        return file.readlink().suffix in (".ldb", ".log")
    except FileNotFoundError:  # closed since it was listed
        return True
