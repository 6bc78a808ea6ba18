"""The server with a database: it serves from it, says when it is away, and goes on when it is back."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from opennoodl_notification import cleanup, server
from opennoodl_notification.storage.sql import engines

from .conftest import Device, Serve
from .database import Database, signal_all
from .harness import TIMEOUT, health, http, ids
from .places import place


async def ready(port: int) -> int:
    """Return the status of ``/ready``."""
    return (await http(port, "/ready"))[0]


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


async def test_restart_keeps_everything(at: str, serve: Serve, device: Device) -> None:
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
    """While the database is away all is refused and /ready is 503; when it is back the server finds out by itself."""
    monkeypatch.setattr(cleanup, "RETRY_INTERVAL", 0.05)
    monkeypatch.setattr(cleanup, "INTERVAL", 0.05)
    service = await serve(database_url=database.url)
    client = await device(service, "u")
    before = await client.notify("v")
    await asyncio.to_thread(database.stop)
    assert await client.refused("invite", targetUserId="v", data={}) == "storage-unavailable"
    assert await client.refused("get-notifications") == "storage-unavailable"
    assert await (await device(service)).refused("authenticate", userId="v") == "storage-unavailable"
    status, told = await health(service.port)
    assert (status, told["status"], told["reason"]) == (200, "degraded", server.NOT_STORED)
    assert await ready(service.port) == 503
    await asyncio.to_thread(database.start)
    async with asyncio.timeout(TIMEOUT):
        while await ready(service.port) != 200:
            pass
    assert (await health(service.port))[1]["status"] == "healthy"
    after = await client.notify("v")
    assert ids(await (await device(service)).authenticate("v")) == [after, before]


async def test_hanging_database_fails_and_recovers(
    serve: Serve, device: Device, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that says nothing has failed after a while; when it speaks again the server finds out by itself."""
    monkeypatch.setattr(cleanup, "RETRY_INTERVAL", 0.05)
    monkeypatch.setattr(cleanup, "INTERVAL", 0.05)
    monkeypatch.setattr(engines, "TIMEOUT", 2.0)
    service = await serve(database_url=database.url)
    client = await device(service, "u")
    before = await client.notify("v")
    processes = await database.processes()
    signal_all(processes, signal.SIGSTOP)
    try:
        assert await client.refused("invite", targetUserId="v", data={}) == "storage-unavailable"
        assert await ready(service.port) == 503
    finally:
        signal_all(processes, signal.SIGCONT)
    async with asyncio.timeout(TIMEOUT):
        while await ready(service.port) != 200:
            pass
    after = await client.notify("v")
    shown = ids(await (await device(service)).authenticate("v"))
    assert (shown[0], shown[-1]) == (after, before)
