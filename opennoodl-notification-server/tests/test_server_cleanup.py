"""What has expired goes by itself, from the file too."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from opennoodl_notification import cleanup
from opennoodl_notification.inbox.store import Needs, StoreError

from .conftest import Device, Serve
from .harness import DAY, NOW, TIMEOUT, Clock, Gate, health, ids, record, stored, write


async def test_start_removes_expired_notifications(serve: Serve, device: Device, file: Path, clock: Clock) -> None:
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
async def test_running_server_removes_expired_notifications(
    serve: Serve, device: Device, file: Path, clock: Clock
) -> None:
    """Expired notifications are deleted from the file without a request."""
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
    """The cleanup also deletes from the file while a commit is under way."""
    write(file, record("old", created=NOW - 30 * DAY + 1), record("late", "x"))
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
    await cleaned(service.port, 2)
    assert await client.inbox() == await client.inbox()
    await service.stop()
    assert set(stored(file)) == {"late", new}


async def test_large_cleanup_continues_without_a_pause(
    serve: Serve, file: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than is cleaned up at once goes piece by piece, without a pause."""
    monkeypatch.setattr(cleanup, "INTERVAL", 3600)
    monkeypatch.setattr(cleanup, "SIZE", 4)
    old = [record(f"old {number}", f"u{number}", created=NOW - 31 * DAY) for number in range(9)]
    write(file, *old, record("late", "x"))
    service = await serve()
    await cleaned(service.port, 1)
    assert service.app.worker.commits > 3


@pytest.mark.usefixtures("clock")
async def test_cleanup_is_not_tried_again_at_once(
    serve: Serve, device: Device, gate: Gate, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cleanup that cannot be stored waits for its next time, however much is due."""
    monkeypatch.setattr(cleanup, "RETRY_INTERVAL", 3600)
    monkeypatch.setattr(cleanup, "INTERVAL", 3600)
    monkeypatch.setattr(cleanup, "SIZE", 1)
    old = [record(f"old {number}", f"u{number}", created=NOW - 31 * DAY) for number in range(3)]
    write(file, *old, record("late", "x"))
    gate.failure = OSError("the disk is full")
    client = await device(await serve(), "s")
    while not gate.asked:
        await client.heard()
    for _ in range(20):
        await client.heard()
    assert gate.asked == 1


async def test_failing_cleanup_blocks_no_other_inbox(serve: Serve, device: Device, file: Path, clock: Clock) -> None:
    """An inbox that cannot be cleaned up keeps nobody from sending to another."""
    write(file, record("old", created=NOW - 31 * DAY), record("late", "x"))
    service = await serve()
    await cleaned(service.port, 1)
    real = service.app.store.transaction

    def transaction(needs: Needs) -> Any:
        if "poison" in needs.users:
            raise StoreError("this one cannot be read")
        return real(needs)

    async def due(_now: str, _size: int) -> list[str]:
        return ["poison"]

    service.app.store.transaction, service.app.store.due = transaction, due
    client = await device(service, "s")
    for _ in range(3):
        service.app.cleanup.schedule()
        await client.notify("u")


@pytest.mark.usefixtures("busy_cleanup")
async def test_keys_expire_after_a_day(serve: Serve, device: Device, clock: Clock) -> None:
    """An idempotency key is forgotten after a day without anybody asking."""
    service = await serve()
    await (await device(service, "s")).notify("u", idempotencyKey="k")
    assert (await service.app.store.counts()).sendings == 1
    clock.now += DAY
    async with asyncio.timeout(TIMEOUT):
        while (await service.app.store.counts()).sendings:
            await health(service.port)
