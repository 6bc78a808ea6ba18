"""The server's bounds over sockets: what one user may have, and for how long."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from opennoodl_notification import server
from websockets.exceptions import ConnectionClosed

from .conftest import Device, Serve
from .harness import DAY, NOW, Clock, Json, health, ids
from .places import place


async def test_sends_have_an_hourly_quota(serve: Serve, device: Device, clock: Clock) -> None:
    """A user may send so many an hour over all devices; then only that user has to wait."""
    service = await serve(sends_per_hour=2)
    one, two, other = await device(service, "s"), await device(service, "s"), await device(service, "other")
    await one.notify("u")
    await two.notify("u")
    assert await one.refused("invite", targetUserId="u", data={}) == "rate-limited"
    await other.notify("u")
    clock.now += 3600
    await one.notify("u")


async def test_full_inbox_loses_its_oldest_read(serve: Serve, device: Device) -> None:
    """A full inbox loses the oldest read one, and every device is told before the new one comes."""
    service = await serve(max_per_user=2)
    sender, client = await device(service, "s"), await device(service, "u")
    unread, read = [await sender.notify("u") for _ in range(2)]
    await client.waiting()
    await client.ask("mark-read", notificationId=read)
    new = await sender.notify("u")
    assert (await client.expect("notification-deleted"))["notificationId"] == read
    assert (await client.expect("notification"))["unreadCount"] == 2
    assert ids(await client.inbox()) == [new, unread]


async def test_same_key_delivers_once(serve: Serve, device: Device) -> None:
    """The same again under its key is answered the same and delivered once."""
    service = await serve()
    sender, client = await device(service, "s"), await device(service, "u")
    id_ = await sender.notify("u", idempotencyKey="k")
    assert await (await device(service, "s")).notify("u", idempotencyKey="k") == id_
    assert len(await client.waiting()) == 1
    again: dict[str, Any] = {"targetUserId": "v", "data": {}, "idempotencyKey": "k"}
    assert await sender.refused("invite", **again) == "idempotency-conflict"


async def test_expired_is_not_shown(serve: Serve, device: Device, clock: Clock) -> None:
    """An expired notification is in no answer and not found, before any cleanup has run."""
    service = await serve(ttl_days=1)
    client = await device(service, "u")
    old = await (await device(service, "s")).notify("u")
    shown = (await client.expect("notification"))["notification"]
    assert (shown["createdAt"], shown["expiresAt"]) == ("2023-11-14T22:13:20.000Z", "2023-11-15T22:13:20.000Z")
    clock.now = NOW + DAY - 0.001
    assert ids(await client.inbox()) == [old]
    clock.now = NOW + DAY
    await client.send("mark-read", notificationId=old)
    assert (await client.expect("notification-deleted"))["notificationId"] == old
    assert (await client.expect("error"))["code"] == "not-found"
    assert await client.inbox() == await client.authenticate("u")
    page = await client.inbox()
    assert (page["notifications"], page["unreadCount"], page["hasMore"]) == ([], 0, False)


async def test_key_after_a_day(serve: Serve, device: Device, clock: Clock) -> None:
    """A key is forgotten after 24 hours, also when its notification is still there, and not before."""
    service = await serve()
    sender = await device(service, "s")
    first = await sender.notify("u", idempotencyKey="k")
    clock.now += DAY - 1
    assert await sender.notify("u", idempotencyKey="k") == first
    clock.now += 1
    assert await sender.notify("u", idempotencyKey="k") != first


async def test_key_of_what_is_gone(serve: Serve, device: Device) -> None:
    """A repeated send does not bring a deleted notification back."""
    service = await serve()
    sender, client = await device(service, "s"), await device(service, "u")
    id_ = await sender.notify("u", idempotencyKey="k")
    await client.expect("notification")
    await client.ask("delete-notification", notificationId=id_)
    assert await sender.notify("u", idempotencyKey="k") == id_
    assert await client.waiting() == []


async def test_same_key_needs_the_same_users_in_order(serve: Serve, device: Device) -> None:
    """A sending to several is the same again with the same users in the same order, in which the ids come."""
    sender = await device(await serve(), "s")
    fields: dict[str, Any] = {"notificationType": "thread", "data": {}, "idempotencyKey": "k"}
    sent = await sender.ask("send-notification", targetUserIds=["a", "b"], **fields)
    assert await sender.ask("send-notification", targetUserIds=["a", "b"], **fields) == sent
    for others in (["b", "a"], ["a", "b", "c"]):
        code = await sender.refused("send-notification", targetUserIds=others, **fields)
        assert code == "idempotency-conflict"


async def test_sends_to_several_count_each(serve: Serve, device: Device) -> None:
    """A sending to more users than one may still send to is refused as a whole."""
    service = await serve(sends_per_hour=3)
    sender, client = await device(service, "s"), await device(service, "a")
    fields: dict[str, Any] = {"notificationType": "thread", "data": {}}
    await sender.ask("send-notification", targetUserIds=["a", "b"], **fields)
    await client.expect("notification")
    assert await sender.refused("send-notification", targetUserIds=["a", "b"], **fields) == "rate-limited"
    assert await client.waiting() == []
    await sender.notify("a")


async def test_refused_sendings_need_no_inboxes(serve: Serve, device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """The quota comes first: for a sending that is over it, no inbox is loaded, locked or made."""
    service = await serve(sends_per_hour=2)
    store, needed = service.app.store, list[set[str]]()
    transaction = store.transaction

    def transaction_(needs: Any) -> Any:
        needed.append(set(needs.users))
        return transaction(needs)

    monkeypatch.setattr(store, "transaction", transaction_)
    sender = await device(service, "s")
    fields: dict[str, Any] = {"notificationType": "thread", "data": {}}
    await sender.ask("send-notification", targetUserIds=["a", "b"], **fields, idempotencyKey="k")
    assert {"a", "b"} in needed
    needed.clear()
    assert await sender.refused("send-notification", targetUserIds=["c", "d"], **fields) == "rate-limited"
    again = await sender.ask("send-notification", targetUserIds=["a", "b"], **fields, idempotencyKey="k")
    assert again["type"] == "notification-sent"
    assert set().union(*needed) == set()


async def test_connections_of_a_user(serve: Serve, device: Device) -> None:
    """One connection too many is told so and is nobody's; it may come again when another has gone."""
    service = await serve(max_connections_per_user=2)
    one, two, three = await device(service, "u"), await device(service, "u"), await device(service)
    assert await three.refused("authenticate", userId="u") == "too-many-connections"
    assert await three.refused("get-notifications") == "unauthorized"
    await one.authenticate("u")
    await (await device(service, "other")).notify("u")
    await one.expect("notification")
    await two.ws.close()
    await three.authenticate("u")


async def test_silent_client_is_closed_in_time(serve: Serve, device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that does not authenticate in time is closed with 1008; one that does may be silent."""
    monkeypatch.setattr(server, "AUTHENTICATION_TIMEOUT", 1.0)
    service = await serve()
    known, stranger = await device(service, "u"), await device(service)
    assert await stranger.refused("get-notifications") == "unauthorized"
    assert await stranger.closed() == 1008
    assert ids(await known.inbox()) == []


@pytest.mark.usefixtures("busy_cleanup")
async def test_expiry_on_an_open_device(serve: Serve, device: Device, clock: Clock) -> None:
    """An expired notification is removed from open devices without a request."""
    service = await serve(ttl_days=1)
    client = await device(service, "u")
    id_ = await (await device(service, "s")).notify("u")
    await client.expect("notification")
    clock.now += DAY
    told = await client.expect("notification-deleted")
    assert (told["notificationId"], told["unreadCount"]) == (id_, 0)


async def test_pages_to_a_device_that_does_not_read_are_bounded(serve: Serve, device: Device) -> None:
    """Of a device that asks for page after page and reads none, few are made before it is closed with 1013."""
    service = await serve(max_per_user=0, sends_per_hour=0, send_bytes_per_hour=0, slow_client_buffer=100_000)
    sender, slow = await device(service, "s"), await device(service, "u")
    for _ in range(40):
        await sender.notify("u", data="x" * 16_000)
        await slow.expect("notification")
    slow.ws.transport.pause_reading()
    before = service.app.metrics.sent["notifications"]
    for _ in range(100):
        await slow.send("get-notifications", limit=200)
    while (await health(service.port))[1]["connectedUsers"] == 2:
        await sender.inbox()
    assert service.app.metrics.sent["notifications"] - before < 50
    slow.ws.transport.resume_reading()
    with suppress(ConnectionClosed):
        while True:
            await slow.get()
    assert slow.ws.close_code == 1013


async def test_slow_device_is_closed_and_resumes(serve: Serve, device: Device) -> None:
    """A device that does not read is closed with 1013, others are not held up, and it resumes without a gap."""
    service = await serve(slow_client_buffer=20_000, max_per_user=0, sends_per_hour=0, send_bytes_per_hour=0)
    sender, slow, other = await device(service, "s"), await device(service, "u"), await device(service, "v")
    slow.ws.transport.pause_reading()
    sent = []
    while (await health(service.port))[1]["connectedUsers"] == 3:
        sent.append(await sender.notify("u", data="x" * 16_000))
        await sender.notify("v")
        await other.expect("notification")
    slow.ws.transport.resume_reading()
    seen: list[Json] = []
    with suppress(ConnectionClosed):
        while True:
            seen.append(await slow.expect("notification"))
    assert slow.ws.close_code == 1013
    again = await device(service)
    since = max([one["sequence"] for one in seen], default=0)
    if (await again.resume("u", since))["complete"]:
        missed = [await again.expect("notification") for _ in range(len(sent) - len(seen))]
        assert [one["notification"]["id"] for one in [*seen, *missed]] == sent
    else:
        page = ids(await again.expect("notifications"))
        assert page == sent[: -len(page) - 1 : -1]


async def test_sends_of_an_address(serve: Serve, device: Device) -> None:
    """From one address come ten times as many as one user may send, whatever the users call themselves."""
    service = await serve(sends_per_hour=1)
    client = await device(service)
    for number in range(10):
        await client.authenticate(f"user {number}")
        await client.notify("u")
    await client.authenticate("another")
    assert await client.refused("invite", targetUserId="u", data={}, idempotencyKey="k") == "rate-limited"
    assert (await service.app.store.counts()).sendings == 0


async def test_sent_bytes_have_an_hourly_quota(serve: Serve, device: Device, clock: Clock) -> None:
    """A user may send so many bytes an hour, counted for each receiver; then only that user has to wait."""
    service = await serve(send_bytes_per_hour=10_000)
    sender, other = await device(service, "s"), await device(service, "other")
    many: Json = {"notificationType": "thread", "data": "x" * 1500, "targetUserIds": ["a", "b", "c", "d"]}
    await sender.ask("send-notification", **many)
    assert await sender.refused("send-notification", **many) == "rate-limited"
    await other.ask("send-notification", **many)
    clock.now += 3600
    assert (await sender.ask("send-notification", **many))["type"] == "notification-sent"


async def test_stored_size_is_bounded(serve: Serve, device: Device) -> None:
    """When as much is stored as may be, more is refused and named, nothing is lost, and what goes makes room."""
    service = await serve(max_stored_size=20_000)
    sender, client = await device(service, "s"), await device(service, "u")
    sent = []
    while (answer := await sender.ask("invite", targetUserId="u", data="x" * 2000))["type"] == "notification-sent":
        sent.append(answer["notificationId"])
    assert (answer["type"], answer["code"]) == ("error", "storage-full")
    assert "MAX_STORED_SIZE" in answer["error"]
    assert len(sent) in (5, 6)  # of some 2,800 bytes each
    assert await sender.refused("invite", targetUserId="another", data="x" * 2000) == "storage-full"
    for id_ in sent:
        assert (await client.expect("notification"))["notification"]["id"] == id_
    assert ids(await client.inbox()) == sent[::-1]
    await client.ask("mark-read", notificationId=sent[0])
    await client.ask("delete-notification", notificationIds=sent[:2])
    await client.expect("notification-deleted")
    await sender.notify("u", data="x" * 2000)


@pytest.mark.parametrize("kind", ["json", "sqlite"])
async def test_stored_size_after_a_restart(serve: Serve, device: Device, tmp_path: Path, kind: str) -> None:
    """Data from before a restart counts, with keys and records of deletions."""
    at = await asyncio.to_thread(place, kind, tmp_path)
    where = {"database_url" if "://" in at else "db_file": at}
    service = await serve(**where)
    sender, client = await device(service, "s"), await device(service, "u")
    for number in range(5):
        await sender.notify("u", data="x" * 1000, idempotencyKey=str(number))
        await client.expect("notification")
    await client.ask("delete-notification", notificationId=(await client.inbox())["notifications"][0]["id"])
    size = service.app.totals.size  # type: ignore[attr-defined]
    assert size > 4 * 1000 + 5 * 512
    await service.stop()
    service = await serve(**where, max_stored_size=size)
    assert service.app.totals.size == size  # type: ignore[attr-defined]
    assert await (await device(service, "s")).refused("invite", targetUserId="u", data={}) == "storage-full"


async def test_several_receivers_count_data_once(serve: Serve, device: Device) -> None:
    """The data of a sending to several users counts once, for the bound of all that is stored and for the quota."""
    service = await serve(max_stored_size=100_000, send_bytes_per_hour=100_000)
    sender = await device(service, "s")
    users = [str(number) for number in range(20)]
    data = "x" * 10_000
    sent = await sender.ask("send-notification", notificationType="invite", targetUserIds=users, data=data)
    assert sent["type"] == "notification-sent"
    size = service.app.totals.size  # type: ignore[attr-defined]
    assert len(data) < size < 60_000
    for user in users:
        client = await device(service, user)
        assert (await client.inbox())["notifications"][0]["data"] == data
        await client.ask("delete-all")
    assert service.app.totals.size < size - len(data)  # type: ignore[attr-defined]


async def test_full_is_logged_once(serve: Serve, device: Device, capsys: pytest.CaptureFixture[str]) -> None:
    """That the store is full is one line in the log, however often somebody tries."""
    service = await serve(max_stored_size=1000)
    sender = await device(service, "s")
    for _ in range(3):
        assert await sender.refused("invite", targetUserId="u", data={}) == "storage-full"
    assert capsys.readouterr().out.count("MAX_STORED_SIZE is reached") == 1
