"""A client gets exactly what another one wrote: every value and every type, live, later, and from a file."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from harness import Client, Server, StartClient, StartServer

PATIENCE = 240
SEEDS = [1, 2, 3, 4]
"""Of documents that several clients made at once."""
AT_ONCE = {"RATE_LIMIT": 0, "BYTE_RATE_LIMIT": 0, "HANDSHAKE_RATE_LIMIT": 0}
WHOLE = "everything"
"""The document that holds all others."""


async def written(server: StartServer, client: StartClient) -> tuple[Server, Client]:
    """Write all documents; return the server that has them, and the clients that know them."""
    clients, sync = await client("roundtrip"), await server("sync", **AT_ONCE)
    assert WHOLE in await clients.call("make", PATIENCE, seeds=SEEDS)
    assert await clients.call("write", PATIENCE, url=sync.url) == {}
    return sync, clients


async def operator(directory: Path, *command: str) -> bytes:
    """Carry out a command of the sync server on a directory; return what it writes."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "opennoodl_sync", *command),
        env={**os.environ, "PERSIST_DIR": str(directory)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, complaints = await process.communicate()
    assert process.returncode == 0, complaints.decode(errors="replace")
    return said


async def test_clients_get_what_was_written(server: StartServer, client: StartClient) -> None:
    """A client that is there, and one that comes later, have what Yjs makes of the same updates without a server."""
    sync, clients = await written(server, client)
    assert await clients.call("read", PATIENCE, url=sync.url) == {}


async def test_a_killed_server_has_what_was_acknowledged(server: StartServer, client: StartClient) -> None:
    """After `kill -9` and a restart a newcomer has the same, and so has a client to which others go on writing."""
    sync, clients = await written(server, client)
    await sync.kill()
    await sync.start()
    assert await clients.call("read", PATIENCE, url=sync.url) == {}
    assert await clients.call("write", PATIENCE, url=sync.url) == {}


async def test_compaction_changes_nothing_that_clients_see(
    server: StartServer, client: StartClient, tmp_path: Path
) -> None:
    """After `compact` a newcomer has the same, and so has a client to which others go on writing."""
    sync, clients = await written(server, client)
    await sync.stop()
    await operator(tmp_path / "sync", "compact")
    await sync.start()
    assert await clients.call("read", PATIENCE, url=sync.url) == {}
    assert await clients.call("write", PATIENCE, url=sync.url) == {}


async def test_an_exported_document_is_imported_as_it_was(
    server: StartServer, client: StartClient, tmp_path: Path
) -> None:
    """`export` writes what Yjs has, and `import` makes a document of it that a newcomer gets."""
    sync, clients = await written(server, client)
    await sync.stop()
    file = tmp_path / "exported"
    file.write_bytes(await operator(tmp_path / "sync", "export", WHOLE))
    assert await clients.call("check", PATIENCE, name=WHOLE, path=str(file)) is None
    await operator(tmp_path / "sync", "import", f"imported-{WHOLE}", str(file))
    await sync.start()
    assert await clients.call("read", PATIENCE, url=sync.url, prefix="imported-", names=[WHOLE]) == {}
