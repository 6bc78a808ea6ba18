"""Coming back over sockets: a device is told what it missed, and nothing between is lost or doubled."""

from __future__ import annotations

import asyncio

import pytest
from opennoodl_notification.inbox import reading

from .conftest import Device, Serve
from .harness import Client, Json, ids


async def missed(client: Client, user: str, since: int) -> tuple[Json, list[Json]]:
    """Resume; return the answer and all that follows it, but for the word that this is all."""
    answer = await client.resume(user, since)
    told = []
    while (message := await client.get())["type"] != "up-to-date":
        told.append(message)
    assert message == {"type": "up-to-date", "sequence": answer["sequence"], "unreadCount": answer["unreadCount"]}
    return answer, told


async def test_device_that_missed_nothing_gets_no_list(serve: Serve, device: Device) -> None:
    """A device that missed nothing is told so, and gets no list."""
    service = await serve()
    await (await device(service, "s")).notify("u")
    page = await (await device(service)).authenticate("u")
    answer, told = await missed(await device(service), "u", page["sequence"])
    assert answer == {
        "type": "authenticated",
        "userId": "u",
        "sequence": page["sequence"],
        "unreadCount": 1,
        "complete": True,
    }
    assert told == []


async def test_missed_changes_are_told_in_order(serve: Serve, device: Device) -> None:
    """Missed changes are sent in order with their present state and one count, except for what came and went."""
    service = await serve()
    sender, other = await device(service, "s"), await device(service)
    read, gone, unread = [await sender.notify("u") for _ in range(3)]
    page = await other.authenticate("u")
    await other.send("mark-read", notificationIds=[read, unread])
    await other.send("mark-unread", notificationId=unread)
    await other.send("delete-notification", notificationId=gone)
    brief = await sender.notify("u")
    await other.send("delete-notification", notificationId=brief)
    new = await sender.notify("u")
    await other.waiting()
    answer, told = await missed(await device(service), "u", page["sequence"])
    assert [(one["type"], one.get("notificationId") or one["notification"]["id"]) for one in told] == [
        ("notification-updated", read),
        ("notification-updated", unread),
        ("notification-deleted", gone),
        ("notification", new),
    ]
    assert {one["replayed"] for one in told} == {True}
    assert {one["unreadCount"] for one in told} == {answer["unreadCount"]} == {2}
    assert [one["sequence"] for one in told] == sorted(one["sequence"] for one in told)
    assert [one["notification"]["read"] for one in told if "notification" in one] == [True, False, False]


async def test_missed_mark_all_read_is_told(serve: Serve, device: Device) -> None:
    """After `mark-all-read` each that was unread is told as it is now."""
    service = await serve()
    sender, other = await device(service, "s"), await device(service)
    sent = [await sender.notify("u") for _ in range(3)]
    page = await other.authenticate("u")
    read_at = (await other.ask("mark-all-read"))["readAt"]
    _, told = await missed(await device(service), "u", page["sequence"])
    assert [one["notification"]["id"] for one in told] == sent
    assert {one["notification"]["readAt"] for one in told} == {read_at}


async def test_missed_delete_all_is_told_first(serve: Serve, device: Device) -> None:
    """After `delete-all`, that is told first, and then what came later."""
    service = await serve()
    sender, other = await device(service, "s"), await device(service)
    for _ in range(3):
        await sender.notify("u")
    page = await other.authenticate("u")
    await other.ask("delete-all")
    new = await sender.notify("u")
    _, told = await missed(await device(service), "u", page["sequence"])
    assert [one["type"] for one in told] == ["notifications-cleared", "notification"]
    assert told[1]["notification"]["id"] == new


@pytest.mark.parametrize("since", [1, 2**53])
async def test_unknown_number_gets_the_list(serve: Serve, device: Device, since: int) -> None:
    """A number too old, or one that was never told, is answered with the list."""
    service = await serve()
    id_ = await (await device(service, "s")).notify("u")
    client = await device(service)
    assert (await client.resume("u", since))["complete"] is False
    assert ids(await client.expect("notifications")) == [id_]


async def test_many_missed_changes_get_the_list(serve: Serve, device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many missed changes are replaced by the list, which is sent in pages."""
    monkeypatch.setattr(reading, "PAGE_SIZE", 300)
    service = await serve()
    sender = await device(service, "s")
    first = await sender.notify("u")
    since = (await (await device(service)).authenticate("u"))["sequence"]
    sent = [await sender.notify("u", data="x" * 60) for _ in range(3)]
    client = await device(service)
    assert (await client.resume("u", since))["complete"] is False
    page = await client.expect("notifications")
    assert (ids(page), page["hasMore"]) == ([sent[2], sent[1]], True)
    page = await client.inbox(before=page["notifications"][-1]["createdAt"])
    assert (ids(page), page["hasMore"]) == ([sent[0], first], False)


async def test_end_of_the_list(serve: Serve, device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that is given the list is told when it has all of it, and that number is good for coming back."""
    monkeypatch.setattr(reading, "PAGE_SIZE", 300)
    service = await serve()
    sender, client = await device(service, "s"), await device(service)
    sent = [await sender.notify("u") for _ in range(5)]
    assert (await client.resume("u", 0))["complete"] is False
    seen = [page := await client.expect("notifications")]
    new = await sender.notify("u")
    assert (await client.expect("notification"))["notification"]["id"] == new
    while page["hasMore"]:
        assert await client.waiting() == []  # it is not up to date yet
        seen.append(page := await client.inbox(before=page["notifications"][-1]["createdAt"]))
    assert len(seen) > 2
    assert [id_ for page in seen for id_ in ids(page)] == sent[::-1]
    end = await client.expect("up-to-date")
    assert end == {"type": "up-to-date", "sequence": page["sequence"], "unreadCount": 6}
    await client.inbox(before=page["notifications"][-1]["createdAt"])
    assert await client.waiting() == []  # it was told
    assert (await missed(await device(service), "u", end["sequence"]))[0]["complete"] is True


async def test_end_of_the_list_at_once(serve: Serve, device: Device) -> None:
    """A list on one page is followed by the word that this is all, for a device that gave a number."""
    service = await serve()
    await (await device(service, "s")).notify("u")
    client = await device(service)
    answer = await client.resume("u", 0)
    assert answer["complete"] is False
    assert len(ids(await client.expect("notifications"))) == 1
    assert await client.get() == {"type": "up-to-date", "sequence": answer["sequence"], "unreadCount": 1}


async def test_device_without_a_number_gets_no_numbers(
    serve: Serve, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device that gives no number, as the editor does not, is told nothing of numbers, and forgets a former one."""
    monkeypatch.setattr(reading, "PAGE_SIZE", 300)
    service = await serve()
    sender, client = await device(service, "s"), await device(service)
    for _ in range(3):
        await sender.notify("u")
    await client.resume("u", 0)
    assert (await client.expect("notifications"))["hasMore"] is True
    page = await client.authenticate("u")
    assert (await client.inbox(before=page["notifications"][-1]["createdAt"]))["hasMore"] is False
    assert await client.waiting() == []
    assert service.app.devices._behind == set()  # type: ignore[attr-defined]


async def test_gone_before_the_end_of_the_list(serve: Serve, device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that goes before it has all of the list is forgotten."""
    monkeypatch.setattr(reading, "PAGE_SIZE", 300)
    service = await serve()
    sender, client = await device(service, "s"), await device(service)
    for _ in range(3):
        await sender.notify("u")
    await client.resume("u", 0)
    assert len(service.app.devices._behind) == 1  # type: ignore[attr-defined]
    await client.ws.close()
    await sender.heard()
    assert service.app.devices._behind == set()  # type: ignore[attr-defined]


async def test_empty_inbox_resumes_from_zero(serve: Serve, device: Device) -> None:
    """A user who never had a notification resumes from zero."""
    service = await serve()
    answer, told = await missed(await device(service), "u", 0)
    assert (answer["sequence"], answer["complete"], told) == (0, True, [])


async def test_numbers_continue_after_a_restart(serve: Serve, device: Device) -> None:
    """Numbers go on after a restart, and what went before it is still told."""
    service = await serve()
    sender, other = await device(service, "s"), await device(service)
    gone = await sender.notify("u")
    since = (await other.authenticate("u"))["sequence"]
    await other.ask("delete-notification", notificationId=gone)
    await service.stop()
    service = await serve()
    new = await (await device(service, "s")).notify("u")
    _, told = await missed(await device(service), "u", since)
    assert [one.get("notificationId") or one["notification"]["id"] for one in told] == [gone, new]


async def test_in_the_middle_of_it(serve: Serve, device: Device) -> None:
    """A device that connects and disconnects while others send misses nothing and gets nothing twice."""
    service = await serve(sends_per_hour=0)
    sender = await device(service, "s")
    first = await device(service)
    since = (await first.authenticate("u"))["sequence"]
    await first.ws.close()  # one that does not read what comes would not see its end, either
    sent: list[str] = []

    async def send() -> None:
        while len(sent) < 300:
            sent.append(await sender.notify("u"))

    sending = asyncio.create_task(send())
    seen: list[str] = []
    last = False
    while not last:
        last = sending.done()  # all that was sent is stored, so one look more shows it
        client = await device(service)
        answer = await client.resume("u", since)
        assert answer["complete"] or not since
        if not answer["complete"]:
            page = await client.expect("notifications")
            seen, since = ids(page)[::-1], page["sequence"]
        for message in await client.waiting():
            if message["type"] != "up-to-date":
                seen.append(message["notification"]["id"])
            since = message["sequence"]
        client.ws.transport.abort()
    await sending
    assert seen == sent


async def test_sender_revokes_its_notification(serve: Serve, device: Device) -> None:
    """A revoked notification is deleted on the receivers' devices; only its sender can revoke it."""
    service = await serve()
    sender, other = await device(service, "s"), await device(service, "other")
    fields: Json = {"notificationType": "invite", "targetUserIds": ["u", "v"], "data": {}}
    sent = (await sender.ask("send-notification", **fields))["notificationIds"]
    client = await device(service, "u")
    assert await other.refused("revoke-notification", notificationId=sent[0]) == "not-found"
    assert await client.refused("revoke-notification", notificationId=sent[0]) == "not-found"
    answer = await sender.ask("revoke-notification", notificationIds=[*sent, "nothing"])
    assert answer == {"type": "notification-revoked", "notificationIds": sent}
    told = await client.expect("notification-deleted")
    assert (told["notificationId"], told["unreadCount"]) == (sent[0], 0)
    assert ids(await (await device(service)).authenticate("v")) == []
    assert await sender.refused("revoke-notification", notificationId=sent[0]) == "not-found"


async def test_sending_to_several_users_answers_their_ids(serve: Serve, device: Device) -> None:
    """One sending reaches each user that it names once, and is answered with an id for each in their order."""
    service = await serve()
    sender, ann, bob = await device(service, "s"), await device(service, "ann"), await device(service, "bob")
    fields: Json = {"notificationType": "invite", "targetUserIds": ["bob", "ann", "bob"], "data": {}}
    sent = await sender.ask("send-notification", **fields)
    told = [(await client.expect("notification"))["notification"]["id"] for client in (bob, ann)]
    assert sent["notificationIds"] == told
    assert sent["notificationId"] == told[0]
    assert await bob.waiting() == []


async def test_page_may_be_of_some_types(serve: Serve, device: Device) -> None:
    """A page may be of some types only; the count is of all."""
    service = await serve()
    sender, client = await device(service, "s"), await device(service)
    sent = {kind: await sender.notify("u", kind) for kind in ("invite", "mention", "thread")}
    await client.authenticate("u")
    page = await client.inbox(types=["invite", "thread"])
    assert (ids(page), page["unreadCount"]) == ([sent["thread"], sent["invite"]], 3)
