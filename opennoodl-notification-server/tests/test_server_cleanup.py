"""What has expired goes by itself, from the file too."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from .conftest import Device, Serve
from .harness import DAY, NOW, TIMEOUT, Clock, Gate, health, ids, record, stored, write


async def test_cleanup_at_start(serve: Serve, device: Device, file: Path, clock: Clock) -> None:
    """At the start, what has expired goes from the file too."""
    expired = [record(f"old {user}", user, created=NOW - 31 * DAY) for user in ("u", "v")]
    write(file, *expired, record("new", created=NOW - DAY))
    service = await serve()
    client = await device(service)
    assert ids(await client.authenticate("u")) == ["new"]
    assert (await health(service.port))[1]["notificationCount"] == 1
    await service.stop()
    assert set(stored(file)) == {"new"}


async def cleaned(port: int, count: int) -> None:
    """Wait until the cleanup has left `count` notifications."""
    async with asyncio.timeout(TIMEOUT):
        while (await health(port))[1]["notificationCount"] != count:
            pass


@pytest.mark.usefixtures("busy_cleanup")
async def test_cleanup_while_running(serve: Serve, device: Device, file: Path, clock: Clock) -> None:
    """What expires goes from the file without anybody asking."""
    service = await serve(ttl_days=1)
    client = await device(service, "s")
    old = await client.notify("u")
    clock.now += DAY - 1
    new = await client.notify("v")
    clock.now += 1
    await cleaned(service.port, 1)
    await client.inbox()
    await service.stop()
    assert set(stored(file)) == {new} != {old}


@pytest.mark.usefixtures("busy_cleanup")
async def test_cleanup_during_a_commit(serve: Serve, device: Device, gate: Gate, file: Path, clock: Clock) -> None:
    """What the cleanup removes while the disk works goes from the file too."""
    write(file, record("old", created=NOW - 30 * DAY + 1))
    service = await serve()
    client = await device(service, "s")
    gate.shut()
    await client.send("invite", targetUserId="v", data={})
    await gate.holds()
    clock.now += 1
    for _ in range(20):  # each gives the cleanup its turn
        await client.heard()
    gate.open()
    new = (await client.expect("notification-sent"))["notificationId"]
    await cleaned(service.port, 1)
    assert await client.inbox() == await client.inbox()
    await service.stop()
    assert set(stored(file)) == {new}
