"""A server makes versions of the documents that it serves."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from opennoodl_sync.storage.interface import PersistentStore, Version
from opennoodl_sync.versions import scheduler

from .client import Server, running
from .disks import until
from .raw import item, section, update


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the scheduler look all the time."""
    monkeypatch.setattr(scheduler, "INTERVAL", 0.02)
    monkeypatch.setattr(scheduler, "CHECK_INTERVAL", 0.0)


async def versions(server: Server, name: str) -> list[Version]:
    """Return the versions of a document."""
    store = server.app._store
    assert isinstance(store, PersistentStore)
    return (await store.history(name)).versions


async def test_a_served_document_gets_a_version(tmp_path: Path) -> None:
    """A document has a version of what it was when it was opened, and of what it became; metrics count them."""
    async with running(tmp_path, versions="100x1m") as server:
        ann = await server.join("room", 1)
        await ann.type("hello")
        ben = await server.join("room", 2)
        await ben.shows("hello")
    async with running(tmp_path, versions="100x1m") as server:
        await server.join("room", 3)
        assert server.app._versions is not None
        outcomes = server.app._versions.outcomes
        await until(lambda: outcomes["made"])
        assert len(await versions(server, "room")) == 1
        metrics = server.app.metrics.text(tasks=0).decode()
        assert 'opennoodl_sync_versions_total{outcome="made"} 1.0' in metrics
        assert f"opennoodl_sync_version_bytes {(await versions(server, 'room'))[0].size}.0" in metrics


async def test_off_makes_no_versions(tmp_path: Path) -> None:
    """`off` makes none."""
    async with running(tmp_path, versions="off") as server:
        assert server.app._versions is None
        await (await server.join("room", 1)).type("hello")


async def test_no_versions_without_persistence(tmp_path: Path) -> None:
    """A server that stores nothing keeps no versions."""
    async with running(tmp_path, enable_persistence=False) as server:
        assert server.app._versions is None
        await (await server.join("room", 1)).type("hello")


async def test_a_change_that_has_begun_is_stored_without_its_caller(tmp_path: Path) -> None:
    """A service that leaves while its large change is worked on does not keep the change from being stored and told."""
    async with running(tmp_path, versions="off") as server:
        ann = await server.join("room", 1)
        room = server.app.rooms.rooms["room"]
        before = room.document.version
        large = update(section(7, 0, *[item(b"\x04\x01x", origin=(7, n - 1) if n else None) for n in range(30_000)]))
        caller = asyncio.create_task(server.app._direct_changes.change("room", "", large))
        await until(lambda: room.busy)
        caller.cancel()
        await until(lambda: room.document.version > before and not server.app._sessions.flusher.waits)
        await ann.shows("x" * 30_000)
