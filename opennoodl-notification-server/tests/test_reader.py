"""What devices are answered that read, while another instance changes the same inbox."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from opennoodl_notification.inbox.batch import Batch

from .desk import Desk, Device
from .places import place


@pytest.fixture
def at(tmp_path: Path) -> str:
    """Return where an empty PostgreSQL is."""
    return place("postgresql", tmp_path)


async def test_devices_of_one_batch_know_the_same_number(at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that is caught up beyond its batch does not leave the next device of the user behind."""
    here, elsewhere = Desk(at), Desk(at)
    for desk in (here, elsewhere):
        await desk.open()
    first, sender = await here.join("u"), await elsewhere.join("s")

    async def send() -> None:
        elsewhere.ask(sender, "invite", targetUserId="u", data={})
        await elsewhere.work()

    numbers = []
    for _ in range(2):
        await send()
        here.ask(first, "get-notifications")
        await here.work()
        numbers.append(first.sequence)
    change = here.app.worker.change

    async def change_and_wait(*args: Any) -> Batch | None:
        batch = await change(*args)
        await send()  # after the batch, and before what it reads is answered
        return batch

    monkeypatch.setattr(here.app.worker, "change", change_and_wait)
    others = [Device(), Device()]
    for device, since in zip(others, numbers, strict=True):
        here.ask(device, "authenticate", userId="u", since=since)
    await here.work()
    assert {device.sequence for device in (first, *others)} == {here.app.devices.sequences["u"]}
    assert len(first.inbox()) == 3
    for desk in (here, elsewhere):
        await desk.app.store.close()
