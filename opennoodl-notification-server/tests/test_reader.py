"""What devices are told when another instance changes the same inbox while it is read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from opennoodl_notification.inbox.batch import Batch
from opennoodl_notification.inbox.store import Needs, Transaction

from .desk import Desk, Device
from .places import place


@pytest.fixture
def at(tmp_path: Path) -> str:
    """Return where an empty PostgreSQL is."""
    return place("postgresql", tmp_path)


@pytest.fixture
async def desks(at: str) -> AsyncIterator[tuple[Desk, Desk]]:
    """Open two servers on one database."""
    here, elsewhere = Desk(at), Desk(at)
    for desk in (here, elsewhere):
        await desk.open()
    yield here, elsewhere
    for desk in (here, elsewhere):
        await desk.app.store.close()


async def send(desk: Desk) -> None:
    """Send a notification to `u`."""
    sender = await desk.join("s")
    desk.ask(sender, "invite", targetUserId="u", data={})
    await desk.work()
    desk.leave(sender)


async def test_devices_of_one_batch_know_the_same_number(
    desks: tuple[Desk, Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device that is caught up beyond its batch does not leave the next device of the user behind."""
    here, elsewhere = desks
    first = await here.join("u")
    numbers = []
    for _ in range(2):
        await send(elsewhere)
        here.ask(first, "get-notifications")
        await here.work()
        numbers.append(first.sequence)
    change = here.app.worker.change

    async def change_and_wait(*args: Any) -> Batch | None:
        batch = await change(*args)
        await send(elsewhere)  # after the batch, and before what it reads is answered
        return batch

    monkeypatch.setattr(here.app.worker, "change", change_and_wait)
    others = [Device(), Device()]
    for device, since in zip(others, numbers, strict=True):
        here.ask(device, "authenticate", userId="u", since=since)
    await here.work()
    assert {device.sequence for device in (first, *others)} == {here.app.devices.sequences["u"]}
    assert len(first.inbox()) == 3


async def test_busy_instance_starves_no_reader(desks: tuple[Desk, Desk], monkeypatch: pytest.MonkeyPatch) -> None:
    """A device is answered although another instance changes the inbox in each read that has not locked it."""
    here, elsewhere = desks
    reading = await here.join("u")
    page = here.app.store.page

    async def change_and_page(*args: Any) -> Any:
        if asked:
            asked.pop()
            await send(elsewhere)
        return await page(*args)

    monkeypatch.setattr(here.app.store, "page", change_and_page)
    asked = list[bool]()
    await send(elsewhere)
    for number in range(2, 5):
        asked.append(True)
        here.ask(reading, "get-notifications", requestId=number)
        await here.work()
        last = reading.take()[-1]
        assert (last["type"], last["requestId"], len(last["notifications"])) == ("notifications", number, number)
        assert reading.sequence == here.app.devices.sequences["u"]


async def test_a_lost_lock_is_a_failure_of_the_store(
    desks: tuple[Desk, Desk], at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What another instance stores after the lock of a batch was lost is told once, with the next batch."""
    here, elsewhere = desks
    first = await here.join("u")
    await send(elsewhere)
    real = here.app.store.transaction

    @asynccontextmanager
    async def transaction(needs: Needs) -> AsyncIterator[Transaction]:
        async with real(needs) as one:
            monkeypatch.undo()
            database = await asyncpg.connect(at)
            # As PostgreSQL does with an instance that does not answer for a while.
            idle = "state = 'idle in transaction' AND datname = current_database()"
            await database.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {idle}")  # noqa: S608
            await database.close()
            await send(elsewhere)
            yield one

    monkeypatch.setattr(here.app.store, "transaction", transaction)
    here.ask(first, "mark-all-read")
    await here.work()
    assert first.take()[-1]["code"] == "storage-unavailable"
    here.ask(first, "mark-all-read")
    await here.work()
    assert [message["type"] for message in first.take()] == ["notification", "notification", "notifications-read"]
    assert first.sequence == here.app.devices.sequences["u"]
