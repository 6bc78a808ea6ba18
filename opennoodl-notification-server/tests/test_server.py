"""The server over sockets: every message of the protocol, for users with several devices."""

from __future__ import annotations

import pytest

from .conftest import Device, Serve
from .harness import TYPES, Json, health, http, ids

EVERYTHING: list[Json] = [
    {"type": "get-notifications"},
    {"type": "send-notification", "targetUserId": "u", "notificationType": "invite", "data": {}},
    *({"type": kind, "targetUserId": "u", "data": {}} for kind in TYPES),
    {"type": "mark-read", "notificationId": "n"},
    {"type": "mark-all-read"},
    {"type": "delete-notification", "notificationId": "n"},
    {"type": "delete-all"},
    {"type": "mark-unread", "notificationId": "n"},
    {"type": "revoke-notification", "notificationId": "n"},
]
"""Every message but `authenticate`."""


@pytest.mark.parametrize("message", EVERYTHING, ids=[message["type"] for message in EVERYTHING])
async def test_unauthenticated_client_is_refused(serve: Serve, device: Device, message: Json) -> None:
    """Before `authenticate`, everything else is refused and does nothing; after it, one may go on."""
    service = await serve()
    receiver, client = await device(service, "u"), await device(service)
    error = await client.ask(**{"type_": message["type"], **message, "requestId": 7})
    assert (error["code"], error["requestId"]) == ("unauthorized", 7)
    assert (await receiver.inbox())["notifications"] == []
    await client.authenticate("v")


async def test_authenticate_is_answered_and_sends_the_inbox(serve: Serve, device: Device) -> None:
    """`authenticate` is answered, and followed by the inbox."""
    client = await device(await serve())
    numbers = {"unreadCount": 0, "sequence": 0}
    answer = await client.ask("authenticate", userId="ü", token="t")
    assert answer == {"type": "authenticated", "userId": "ü", **numbers}
    assert await client.get() == {"type": "notifications", "notifications": [], "hasMore": False, **numbers}


async def test_offline_user_finds_notifications_later(serve: Serve, device: Device) -> None:
    """A user who was offline gets the notifications after connecting, newest first."""
    service = await serve()
    sender = await device(service, "s")
    sent = [await sender.notify("u", data={"number": number}) for number in range(3)]
    page = await (await device(service)).authenticate("u")
    assert ids(page) == sent[::-1]
    assert [one["data"] for one in page["notifications"]] == [{"number": 2}, {"number": 1}, {"number": 0}]
    assert (page["unreadCount"], page["hasMore"]) == (3, False)


async def test_first_page_has_everything(serve: Serve, device: Device) -> None:
    """A client that gives no `limit` gets the whole inbox, at first and later, as the editor does."""
    service = await serve()
    sender, client = await device(service, "s"), await device(service)
    sent = [await sender.notify("u") for _ in range(60)]
    page = await client.authenticate("u")
    assert ids(page) == sent[::-1]
    assert (page["unreadCount"], page["hasMore"]) == (60, False)
    assert await client.inbox() == page


async def test_pages_go_back_by_time(serve: Serve, device: Device) -> None:
    """`get-notifications` pages back by the time of the last one shown, and can leave out what was read."""
    service = await serve()
    sender, client = await device(service, "s"), await device(service, "u")
    sent = [await sender.notify("u") for _ in range(5)]
    await client.waiting()
    first = await client.inbox(limit=2)
    second = await client.inbox(limit=2, before=first["notifications"][-1]["createdAt"])
    third = await client.inbox(limit=2, before=second["notifications"][-1]["createdAt"])
    assert [ids(page) for page in (first, second, third)] == [sent[:2:-1], sent[2:0:-1], sent[:1]]
    assert [page["hasMore"] for page in (first, second, third)] == [True, True, False]
    assert (await client.ask("mark-read", notificationId=sent[3]))["type"] == "notification-updated"
    page = await client.inbox(unreadOnly=True, limit=3)
    assert (ids(page), page["unreadCount"], page["hasMore"]) == ([sent[4], sent[2], sent[1]], 4, True)


async def test_send_reaches_every_device_of_the_target(serve: Serve, device: Device) -> None:
    """Every device of the target gets the notification as it is read later; only the sending device gets an answer."""
    service = await serve()
    sender, other = await device(service, "s"), await device(service, "s")
    devices = [await device(service, "u") for _ in range(2)]
    id_ = await sender.notify("u", "mention", data={"a": [1]})
    first, second = [await each.expect("notification") for each in devices]
    assert first == second
    shown = first["notification"]
    assert shown == {
        "id": id_,
        "userId": "u",
        "fromUserId": "s",
        "type": "mention",
        "data": {"a": [1]},
        "read": False,
        "createdAt": shown["createdAt"],
        "expiresAt": shown["expiresAt"],
    }
    assert (await devices[0].inbox())["notifications"] == [shown]
    assert await sender.waiting() == await other.waiting() == []


@pytest.mark.parametrize("kind", TYPES)
async def test_editors_form_is_delivered(serve: Serve, device: Device, kind: str) -> None:
    """The editor's form of `send-notification` is delivered as a notification of the type that it names."""
    service = await serve()
    sender, receiver = await device(service, "s"), await device(service, "u")
    sent = await sender.ask(kind, targetUserId="u", data={"roomId": "r"})
    shown = (await receiver.expect("notification"))["notification"]
    assert sent == {
        "type": "notification-sent",
        "notificationId": shown["id"],
        "notificationIds": [shown["id"]],
    }
    assert (shown["type"], shown["data"], shown["fromUserId"]) == (kind, {"roomId": "r"}, "s")


async def test_client_form_without_target(serve: Serve, device: Device) -> None:
    """Without a target it is no sending, and the sender is told."""
    sender = await device(await serve(), "s")
    assert await sender.refused("invite", data={}) == "missing-field"


async def test_sender_may_be_its_own_target(serve: Serve, device: Device) -> None:
    """A user who sends to themselves gets notification and answer, on other devices only the notification."""
    service = await serve()
    sender, other = await device(service, "s"), await device(service, "s")
    await sender.send("send-notification", targetUserId="s", notificationType="system", data={})
    assert [(await sender.get())["type"] for _ in range(2)] == ["notification", "notification-sent"]
    await other.expect("notification")
    assert await other.waiting() == []


async def test_data_arrives_unchanged(serve: Serve, device: Device) -> None:
    """Data arrives as the bytes in which it was sent, at once and later."""
    service = await serve()
    sender, receiver = await device(service, "s"), await device(service, "u")
    data = '{"a" : 1.0, "b":"\\u00fc ☃", "c":1E+5, "d":123456789012345678901234567890}'
    await sender.text('{"type":"invite", "targetUserId":"u", "data" : ' + data + "}")
    await sender.expect("notification-sent")
    await receiver.send("get-notifications")
    for _ in range(2):
        assert f'"data":{data}' in str(await receiver.ws.recv())


CHANGES: list[tuple[str, bool, str]] = [
    ("mark-read", True, "notification-updated"),
    ("mark-unread", True, "notification-updated"),
    ("mark-all-read", False, "notifications-read"),
    ("delete-notification", True, "notification-deleted"),
    ("delete-all", False, "notifications-cleared"),
]
"""What changes an inbox, whether it names a notification, and what all devices get."""


@pytest.mark.parametrize(("change", "names", "event"), CHANGES)
async def test_all_devices_of_a_user_agree(serve: Serve, device: Device, change: str, names: bool, event: str) -> None:
    """All devices of a user, and nobody else, are told once of a change; then they read the same."""
    service = await serve()
    sender = await device(service, "s")
    id_, _ = [await sender.notify("u") for _ in range(2)]
    one, two = await device(service, "u"), await device(service)
    if change == "mark-unread":
        await one.ask("mark-read", notificationId=id_)
    before = await two.authenticate("u")
    await one.send(change, **({"notificationId": id_} if names else {}))
    told = await one.expect(event)
    assert await two.expect(event) == told
    page = await one.inbox()
    assert page == await two.inbox()
    assert (told["unreadCount"], told["sequence"]) == (page["unreadCount"], page["sequence"])
    assert told["sequence"] > before["sequence"]
    assert await sender.waiting() == []


async def test_mark_read_is_told_to_all_devices(serve: Serve, device: Device) -> None:
    """Devices get the notification as it is now; reading again changes nothing."""
    service = await serve()
    sender, client = await device(service, "s"), await device(service, "u")
    id_ = await sender.notify("u")
    shown = (await client.expect("notification"))["notification"]
    updated = await client.ask("mark-read", notificationId=id_)
    read_at = updated["notification"]["readAt"]
    assert updated["notification"] == {**shown, "read": True, "readAt": read_at}
    assert read_at >= shown["createdAt"]
    assert await client.ask("mark-read", notificationId=id_) == updated
    assert (await client.inbox())["unreadCount"] == 0
    updated = await client.ask("mark-unread", notificationId=id_)
    assert (updated["notification"], updated["unreadCount"]) == (shown, 1)


async def test_unchanged_request_is_answered_to_its_sender_alone(serve: Serve, device: Device) -> None:
    """A request that changes nothing is answered to its sender alone."""
    service = await serve()
    id_ = await (await device(service, "s")).notify("u")
    one, two = await device(service, "u"), await device(service, "u")
    await one.ask("mark-read", notificationId=id_)
    await two.expect("notification-updated")
    assert (await one.ask("mark-read", notificationId=id_))["type"] == "notification-updated"
    assert (await one.ask("mark-all-read"))["type"] == "notifications-read"
    await one.ask("delete-all")
    await two.expect("notifications-cleared")
    assert (await one.ask("delete-all"))["type"] == "notifications-cleared"
    assert await two.waiting() == []


async def test_mark_all_read_is_told_to_all_devices(serve: Serve, device: Device) -> None:
    """Devices get the time at which everything was read, and that nothing is unread."""
    service = await serve()
    sender, client = await device(service, "s"), await device(service)
    for _ in range(2):
        await sender.notify("u")
    await client.authenticate("u")
    told = await client.ask("mark-all-read")
    page = await client.inbox()
    numbers = {"unreadCount": 0, "sequence": page["sequence"]}
    assert told == {"type": "notifications-read", "readAt": told["readAt"], **numbers}
    assert [one["readAt"] for one in page["notifications"]] == [told["readAt"]] * 2
    assert page["unreadCount"] == 0


async def test_delete_is_told_to_all_devices(serve: Serve, device: Device) -> None:
    """Devices get the id of what was deleted, or that everything was."""
    service = await serve()
    sender, client = await device(service, "s"), await device(service)
    kept, deleted = [await sender.notify("u") for _ in range(2)]
    await client.authenticate("u")
    told = await client.ask("delete-notification", notificationId=deleted)
    page = await client.inbox()
    numbers = {"unreadCount": 1, "sequence": page["sequence"]}
    assert told == {"type": "notification-deleted", "notificationId": deleted, **numbers}
    assert ids(page) == [kept]
    told = await client.ask("delete-all")
    page = await client.inbox()
    assert told == {"type": "notifications-cleared", "unreadCount": 0, "sequence": page["sequence"]}
    assert ids(page) == []


@pytest.mark.parametrize("change", ["mark-read", "mark-unread", "delete-notification"])
async def test_several_notifications_are_changed_at_once(serve: Serve, device: Device, change: str) -> None:
    """Of several, those that are there are changed, each with an event of its own; the others are left out."""
    service = await serve()
    sender, client = await device(service, "s"), await device(service)
    sent = [await sender.notify("u") for _ in range(3)]
    await client.authenticate("u")
    if change == "mark-unread":
        await client.send("mark-all-read")
        await client.expect("notifications-read")
    await client.send(change, notificationIds=[sent[2], "nothing", sent[0]])
    told = [await client.get() for _ in range(2)]
    assert [one.get("notificationId") or one["notification"]["id"] for one in told] == [sent[2], sent[0]]
    assert told[0]["sequence"] < told[1]["sequence"]
    assert await client.refused(change, notificationIds=["nothing", "at all"]) == "not-found"
    assert (await client.inbox())["unreadCount"] == told[1]["unreadCount"]


@pytest.mark.parametrize("message", ["mark-read", "mark-unread", "delete-notification"])
async def test_missing_and_foreign_ids_get_one_answer(serve: Serve, device: Device, message: str) -> None:
    """Another's notification, a deleted one and none at all get one and the same answer."""
    service = await serve()
    sender, other = await device(service, "s"), await device(service, "other")
    client = await device(service, "u")
    deleted, others = await sender.notify("u"), await sender.notify("other")
    await client.expect("notification")
    await client.ask("delete-notification", notificationId=deleted)
    errors = [await client.ask(message, notificationId=id_) for id_ in (deleted, others, "nothing")]
    assert errors[0]["code"] == "not-found"
    assert errors == [errors[0]] * 3
    await other.expect("notification")
    page = await other.inbox()
    assert (ids(page), page["unreadCount"]) == ([others], 1)


async def test_authentication_as_another_user_changes_the_user(serve: Serve, device: Device) -> None:
    """A connection that authenticates as another user is a device of that user and no longer of the first."""
    service = await serve()
    sender, client = await device(service, "s"), await device(service, "u")
    await sender.notify("v")
    page = await client.authenticate("v")
    assert len(page["notifications"]) == 1
    await sender.notify("u")
    id_ = await sender.notify("v")
    assert (await client.get())["notification"]["id"] == id_
    assert await client.refused("mark-read", notificationId="nothing") == "not-found"
    assert len(ids(await client.inbox())) == 2
    assert (await health(service.port))[1]["connectedUsers"] == 2


async def test_repeated_authentication_delivers_once(serve: Serve, device: Device) -> None:
    """A connection that authenticates twice as one user gets everything once."""
    service = await serve()
    sender, client = await device(service, "s"), await device(service, "u")
    await client.authenticate("u")
    await sender.notify("u")
    assert len(await client.waiting()) == 1


async def test_departed_device_is_forgotten(serve: Serve, device: Device) -> None:
    """A device that left costs the others nothing; the last one takes its user with it."""
    service = await serve()
    sender, one, two = await device(service, "s"), await device(service, "u"), await device(service, "u")
    await one.ws.close()
    await sender.notify("u")
    await two.expect("notification")
    assert (await health(service.port))[1]["connectedUsers"] == 2
    await two.ws.close()
    assert (await health(service.port))[1]["connectedUsers"] == 1


async def test_answers_keep_the_order_of_messages(serve: Serve, device: Device) -> None:
    """Answers keep the order of the messages of a client that does not wait for them."""
    service = await serve()
    client = await device(service)
    await client.send("authenticate", userId="a")
    await client.send("get-notifications", limit=1)
    await client.send("send-notification", targetUserId="a", notificationType="invite", data={})
    await client.send("mark-read", notificationId="nothing", requestId=1)
    await client.send("mark-all-read")
    await client.send("invite", targetUserId="b", data={})
    await client.send("get-notifications")
    await client.send("authenticate", userId="b")
    await client.send("delete-all")
    order = [
        *("authenticated", "notifications", "notifications", "notification", "notification-sent", "error"),
        *("notifications-read", "notification-sent", "notifications", "authenticated", "notifications"),
        "notifications-cleared",
    ]
    messages = [await client.expect(type_) for type_ in order]
    assert messages[8]["unreadCount"] == 0
    assert len(messages[8]["notifications"]) == len(messages[10]["notifications"]) == 1


async def test_many_pages_in_order(serve: Serve, device: Device) -> None:
    """A read between two sends has exactly the earlier sends."""
    client = await device(await serve(), "s")
    for _ in range(20):
        await client.send("invite", targetUserId="s", data={})
        await client.send("get-notifications")
    sent = []
    for _ in range(20):
        await client.expect("notification")
        sent.append((await client.expect("notification-sent"))["notificationId"])
        assert ids(await client.expect("notifications")) == sent[::-1]


async def test_health_counts_and_names_nobody(serve: Serve, device: Device) -> None:
    """`/health` counts notifications and users, and names none of them."""
    service = await serve()
    sender = await device(service, "secret-sender")
    for user in ("secret-a", "secret-b"):
        await device(service, user)
        await sender.notify(user)
    await device(service, "secret-a")
    status, content = await health(service.port)
    assert (status, set(content)) == (
        200,
        {"status", "version", "uptime", "warning", "notificationCount", "connectedUsers"},
    )
    assert (content["status"], content["notificationCount"], content["connectedUsers"]) == ("healthy", 2, 3)
    assert "secret" not in str(content)


async def test_metrics_count_and_name_nobody(serve: Serve, device: Device) -> None:
    """`/metrics` counts messages by type, what only this server has under a name of its own, and names nobody."""
    service = await serve()
    sender = await device(service, "secret-sender")
    await sender.notify("secret-user")
    await sender.ask("invite", targetUserId="secret-user", data={})
    status, body = await http(service.port, "/metrics")
    lines = body.decode().splitlines()
    assert status == 200
    assert 'opennoodl_messages_total{direction="in",type="invite"} 1.0' in lines
    assert 'opennoodl_messages_total{direction="out",type="notification-sent"} 2.0' in lines
    assert {"opennoodl_notification_stored 2.0", "opennoodl_notification_commits_total 2.0"} <= set(lines)
    assert b"secret" not in body
