"""A clock that was ahead: what it has dated is found at the next start, and `redate` cures it."""

from __future__ import annotations

from pathlib import Path

import pytest
from opennoodl_notification import commands, wrong_clock
from opennoodl_notification.edge.errors import StartError
from opennoodl_notification.inbox.store import Needs
from opennoodl_notification.records import timestamp
from opennoodl_notification.storage.choose import choose

from .conftest import Device, Serve
from .harness import DAY, NOW, Clock, ids, write
from .places import KINDS, place

YEARS = 5 * 365 * DAY


@pytest.fixture(params=KINDS)
def at(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return where an empty store of each kind is."""
    return place(request.param, tmp_path)


@pytest.fixture
def now(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Give servers and commands one clock."""
    monkeypatch.setattr(wrong_clock, "time", lambda: clock.now + clock.ahead)
    return clock


def settings(at: str) -> dict[str, str]:
    """Return the settings of a server with its notifications there."""
    return {"database_url" if "://" in at else "db_file": at}


async def sent_ahead(at: str, clock: Clock, serve: Serve, device: Device) -> tuple[list[str], int]:
    """Send one notification now and two while the clock is years ahead; return their ids, and the last number."""
    service = await serve(**settings(at), ttl_days=3650)  # so that it has not expired by then
    sent = [await (await device(service, "s")).notify("u")]
    await service.stop()
    clock.ahead = YEARS
    service = await serve(**settings(at))
    sender, client = await device(service, "s"), await device(service, "u")
    sent += [await sender.notify("u", idempotencyKey=f"key {number}") for number in range(2)]
    for _ in range(2):
        number = (await client.expect("notification"))["sequence"]
    await client.ask("mark-read", notificationId=sent[1])
    await service.stop()
    clock.ahead = 0.0
    return sent, number


async def test_start_with_a_late_clock_is_refused(at: str, now: Clock, serve: Serve, device: Device) -> None:
    """A server whose clock is more than a day behind the newest notification does not start, and says what to do."""
    await sent_ahead(at, now, serve, device)
    with pytest.raises(StartError, match=r"2023-11-14.*2028-11-12.*`redate`"):
        await serve(**settings(at))
    now.ahead = YEARS - DAY + 60  # clocks of instances may differ, and summer time is no fault
    await serve(**settings(at))


async def test_redate_dates_everything_today(at: str, now: Clock, serve: Serve, device: Device) -> None:
    """After `redate` all is dated today in the former order and expires in time, and what comes is dated right."""
    sent, number = await sent_ahead(at, now, serve, device)
    store = choose(at)
    await store.open()
    assert await wrong_clock.redate(store, 30) == (2, 1)
    assert await wrong_clock.redate(store, 30) == (0, 0)
    await store.close()
    now.now += 60
    service = await serve(**settings(at))
    client = await device(service)
    page = await client.authenticate("u")
    assert ids(page) == sent[::-1]
    assert page["unreadCount"] == 2
    for one in page["notifications"]:
        assert one["createdAt"] <= timestamp(NOW * 1000 + len(sent))  # no two have the same
        assert one.get("readAt", "") <= timestamp(NOW * 1000)
    for one in page["notifications"][:2]:
        assert one["expiresAt"] <= timestamp((NOW + 30 * DAY) * 1000 + len(sent))
    sender = await device(service, "s")
    new = await sender.notify("u")
    told = (await client.expect("notification"))["notification"]
    assert (told["id"], told["createdAt"]) == (new, timestamp((NOW + 60) * 1000))
    assert (await (await device(service)).resume("u", number))["complete"] is False
    assert await sender.notify("u", idempotencyKey="key 0") == sent[1]
    now.now += 2 * DAY
    assert await sender.notify("u", idempotencyKey="key 0") not in sent


async def test_redate_keeps_what_is_right(at: str, now: Clock, serve: Serve, device: Device) -> None:
    """`redate` leaves alone what no wrong clock has dated."""
    service = await serve(**settings(at))
    sender = await device(service, "s")
    sent = await sender.notify("u")
    page = await (await device(service)).authenticate("u")
    await service.stop()
    store = choose(at)
    await store.open()
    assert await wrong_clock.redate(store, 30) == (0, 0)
    await store.close()
    service = await serve(**settings(at))
    client = await device(service)
    assert (await client.resume("u", page["sequence"]))["complete"] is True
    assert ids(page) == [sent]


async def test_redate_of_an_empty_inbox(at: str, now: Clock, serve: Serve, device: Device) -> None:
    """An inbox that is empty, and was marked by the wrong clock, takes notifications of today."""
    service = await serve(**settings(at))
    await service.stop()
    now.ahead = YEARS
    service = await serve(**settings(at))
    sender = await device(service, "s")
    await sender.ask("revoke-notification", notificationId=await sender.notify("u"))
    await service.stop()
    now.ahead = 0.0
    store = choose(at)
    await store.open()
    assert await wrong_clock.redate(store, 30) == (0, 1)
    needs = Needs("", 0)
    needs.users["u"] = 0
    async with store.transaction(needs) as transaction:
        assert transaction.loaded.inboxes["u"].due <= timestamp((NOW + 30 * DAY) * 1000)
    await store.close()
    service = await serve(**settings(at))
    client = await device(service, "u")
    await (await device(service, "s")).notify("u")
    assert (await client.expect("notification"))["notification"]["createdAt"] == timestamp(NOW * 1000)


async def test_clock_that_is_ahead_at_the_start_deletes_nothing(
    at: str, now: Clock, serve: Serve, device: Device
) -> None:
    """A server whose clock is years ahead for less than an hour after the start shows and keeps all notifications."""
    service = await serve(**settings(at))
    sent = await (await device(service, "s")).notify("u", idempotencyKey="key")
    await service.stop()
    now.ahead = YEARS
    service = await serve(**settings(at))
    service.app.cleanup.schedule()
    client = await device(service, "s")
    assert await client.notify("u", idempotencyKey="key") == sent
    reader = await device(service, "u")
    await reader.ask("mark-read", notificationId=sent)
    assert ids(await reader.inbox()) == [sent]
    await service.stop()
    now.ahead = 0.0
    service = await serve(**settings(at))
    assert ids(await (await device(service, "u")).inbox()) == [sent]


def test_redate_command_reports_its_changes(tmp_path: Path) -> None:
    """The command says how much it has changed."""
    write(tmp_path / "notifications.json")
    assert commands.redate(place("json", tmp_path), 30) == "redated: 0 notifications in 0 inboxes"
