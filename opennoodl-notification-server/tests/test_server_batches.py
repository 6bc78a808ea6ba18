"""Batches are bounded by the notifications that they touch, not by the messages that ask for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from opennoodl_notification.queue import SHARE

from .desk import SILENT, Desk, Device

HALF = 120
"""Notifications; two inboxes with so many are more than a batch."""


@pytest.fixture
async def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Desk]:
    """Open a server."""
    desk = Desk(str(tmp_path / "notifications.json"), sends_per_hour=0, send_bytes_per_hour=0)
    desk.clock(monkeypatch)
    await desk.open()
    yield desk
    await desk.app.store.close()


async def filled(desk: Desk, *users: str) -> list[Device]:
    """Return devices of users with many notifications, who have joined before these came or after."""
    first = await desk.join(users[0])
    sender = await desk.join("sender")
    for _ in range(HALF):
        desk.ask(sender, "send-notification", targetUserIds=list(users), notificationType="invite")
    await desk.work()
    return [first, *[await desk.join(user) for user in users[1:]]]


@pytest.mark.parametrize("change", ["mark-all-read", "delete-all"])
async def test_all_of_an_inbox(desk: Desk, change: str) -> None:
    """A request about a whole inbox takes as much of a batch as the inbox has notifications."""
    for device in await filled(desk, "a", "b", "c"):
        desk.ask(device, change)
    await desk.app.worker.step()
    assert desk.app.worker.queued == 1


async def test_all_of_an_inbox_that_is_empty_by_now(desk: Desk) -> None:
    """Notifications that were deleted since the device connected take no part of a batch."""
    devices = await filled(desk, "a", "b", "c")
    for device in devices:
        desk.ask(device, "delete-all")
    await desk.work()
    for device in devices:
        desk.ask(device, "mark-all-read")
    await desk.app.worker.step()
    assert desk.app.worker.queued == 0


async def test_inbox_size_is_remembered_while_a_device_is_connected(desk: Desk) -> None:
    """How much is in an inbox is remembered for as long as a device of its user is there."""
    devices = await filled(desk, "a", "b")
    for device in devices:
        desk.leave(device)
    assert set(desk.app.devices.sizes) == {"sender"}


@pytest.mark.parametrize("stored", [True, False])
async def test_unknown_outcome_of_a_commit_closes_devices(desk: Desk, stored: bool) -> None:
    """When nobody knows whether a commit was made, the devices of its inboxes are closed, and all is counted again."""
    sender, receiver, other = await desk.join("s"), await desk.join("u"), await desk.join("v")
    desk.failing, desk.stored = SILENT, stored
    asked = {"targetUserId": "u", "data": {}, "idempotencyKey": "k"}
    desk.ask(sender, "invite", **asked)
    await desk.work()
    assert sender.take()[-1]["code"] == "storage-unavailable"
    assert (sender.closed, receiver.closed, other.closed) == (None, 1013, None)

    desk.failing = None
    again = await desk.join("u", receiver.sequence)
    assert len(again.inbox()) == stored
    desk.ask(sender, "invite", **asked)
    await desk.work()
    assert sender.take()[-1]["type"] == "notification-sent"
    assert (len(again.inbox()), again.unread) == (1, 1)
    desk.app.cleanup.schedule()
    await desk.app.worker.step()
    assert desk.app.totals.notifications == 1


async def test_a_job_that_fails_costs_no_other_one(desk: Desk) -> None:
    """A defect in a job between two batches is a failure of the store, and the next job and the batch are done."""
    done = asyncio.Event()

    async def fail() -> None:
        raise ValueError("a defect")

    async def succeed() -> None:
        assert desk.app.worker.failure == "a defect"
        done.set()

    device = await desk.join("u")
    desk.app.worker.schedule(fail)
    desk.app.worker.schedule(succeed)
    desk.ask(device, "invite", targetUserId="u", data={})
    await desk.app.worker.step()
    assert done.is_set()
    assert len(device.inbox()) == 1
    assert desk.app.worker.failure is None


async def test_expired_while_the_store_fails(desk: Desk) -> None:
    """An expired notification that cannot be deleted is not shown, and not counted as unread."""
    sender = await desk.join("s")
    for day in (0, 20):
        desk.now += day * 86_400_000
        desk.ask(sender, "invite", targetUserId="u", data={})
        await desk.work()
    desk.failing = SILENT
    desk.now += 15 * 86_400_000
    device = await desk.join("u")
    assert (len(device.inbox()), device.unread) == (1, 1)


async def test_batches_without_a_change_let_others_go_on(desk: Desk) -> None:
    """Between two batches that wait for no disk, the event loop has a turn: what has come is read."""
    stranger = Device()
    for _ in range(3 * SHARE):
        desk.ask(stranger, "get-notifications")
    working = asyncio.create_task(desk.app.worker.run())
    await asyncio.sleep(0)
    assert desk.app.worker.queued == 2 * SHARE
    desk.app.worker.stop()
    await working
    assert len(stranger.take()) == 3 * SHARE


async def test_small_answers_are_sent_at_once(desk: Desk) -> None:
    """A batch of small reads does not wait for the event loop, in whose turns more may come than is handled."""
    device = await desk.join("u")
    device.take()
    for _ in range(SHARE):
        desk.ask(device, "get-notifications")
    step = asyncio.create_task(desk.app.worker.step())
    await asyncio.sleep(0)
    assert step.done()
    assert len(device.take()) == SHARE


async def test_connection_that_has_ended_is_not_read_for(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a connection asked for before it ended is done, but nothing is read for answers that nobody gets."""
    gone, other = Device(), await desk.join("u")
    desk.ask(other, "invite", targetUserId="u", data={})
    await desk.work()
    assert other.unread == 1
    monkeypatch.setattr(desk.app.store, "page", None)
    for type_, fields in (("authenticate", {"userId": "u"}), ("get-notifications", {}), ("mark-all-read", {})):
        desk.ask(gone, type_, **fields)
    desk.leave(gone)
    await desk.work()
    assert other.unread == 0
    assert desk.app.worker.errors == 0
    assert desk.app.devices.of("u") == (other,)
