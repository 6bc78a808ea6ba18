"""The editor's notifications, sent and received the way its NotificationManager does it."""

from __future__ import annotations

import time

from harness import Client, Event, Server, StartClient, StartServer

INVITATION = {"sessionId": "session-1", "sessionTitle": "Building a dashboard"}
KINDS = ["invite", "mention", "thread", "session", "component"]


async def online(device: Client, server: Server, user: str) -> Event:
    """Open a device of a user; return the list it is sent unasked."""
    await device.call("initialize", url=server.url, userId=user)
    assert (await device.event("authenticated"))["message"]["userId"] == user
    return (await device.event("notifications"))["message"]  # type: ignore[no-any-return]


async def test_a_notification_waits_for_an_offline_user(server: StartServer, client: StartClient) -> None:
    """A user who was offline gets the notification in the list after connecting."""
    sender, receiver, notification = *[await client("notifications") for _ in range(2)], await server("notification")
    await online(sender, notification, "ada")
    await sender.call("sendAsMeant", userId="ben", type="invite", data=INVITATION)
    sent = (await sender.event("notification-sent"))["message"]
    shown = await online(receiver, notification, "ben")
    (only,) = shown["notifications"]
    assert only["id"] == sent["notificationId"]
    assert (only["userId"], only["fromUserId"], only["type"]) == ("ben", "ada", "invite")
    assert only["data"] == INVITATION
    assert only["read"] is False
    assert (shown["unreadCount"], shown["hasMore"]) == (1, False)


async def test_a_notification_reaches_all_devices_at_once(server: StartServer, client: StartClient) -> None:
    """A notification reaches each device of an online user at once, and nobody else."""
    sender, desk, couch, notification = *[await client("notifications") for _ in range(3)], await server("notification")
    await online(sender, notification, "ada")
    await online(desk, notification, "ben")
    await online(couch, notification, "ben")
    await sender.call("sendAsMeant", userId="ben", type="mention", data={"threadUrl": "/t/1"})
    received = [(await device.event("notification"))["message"]["notification"] for device in (desk, couch)]
    assert received[0] == received[1]
    assert received[0]["id"] == (await sender.event("notification-sent"))["message"]["notificationId"]
    assert sender.pending("notification") == []


async def test_the_editors_defective_form_is_understood(server: StartServer, client: StartClient) -> None:
    """The editor overwrites the type of its own message; what arrives is stored and delivered as it was meant."""
    sender, receiver, notification = *[await client("notifications") for _ in range(2)], await server("notification")
    await online(sender, notification, "ada")
    await online(receiver, notification, "ben")
    for kind in KINDS:
        await sender.call("sendNotification", userId="ben", type=kind, data=INVITATION)
        received = (await receiver.event("notification"))["message"]["notification"]
        assert (received["type"], received["fromUserId"], received["data"]) == (kind, "ada", INVITATION)
        assert (await sender.event("notification-sent"))["message"]["notificationId"] == received["id"]


async def test_two_devices_agree_on_what_is_read(server: StartServer, client: StartClient) -> None:
    """Marking as read on one device shows on the other, and nowhere is it unread again later."""
    sender, desk, couch, notification = *[await client("notifications") for _ in range(3)], await server("notification")
    await online(sender, notification, "ada")
    for device in (desk, couch):
        await online(device, notification, "ben")
    for number in range(3):
        await sender.call("sendNotification", userId="ben", type="thread", data={"number": number})
        for device in (desk, couch):
            await device.event("notification")
    target = (await desk.call("list"))[1]["id"]
    await desk.call("markAsRead", notificationId=target)
    for device in (desk, couch):
        await device.event("notification-updated")
    assert await desk.call("list") == await couch.call("list")
    assert [entry["read"] for entry in await couch.call("list")] == [False, True, False]
    await couch.call("getNotifications")
    again = (await couch.event("notifications"))["message"]
    assert again["unreadCount"] == 2
    assert again["notifications"] == await desk.call("list")


async def test_two_devices_agree_on_what_is_deleted(server: StartServer, client: StartClient) -> None:
    """Deleting on one device removes it from the other, and it does not come back."""
    sender, desk, couch, notification = *[await client("notifications") for _ in range(3)], await server("notification")
    await online(sender, notification, "ada")
    for device in (desk, couch):
        await online(device, notification, "ben")
    for number in range(2):
        await sender.call("sendNotification", userId="ben", type="component", data={"number": number})
        for device in (desk, couch):
            await device.event("notification")
    newest, oldest = await desk.call("list")
    assert (newest["data"], oldest["data"]) == ({"number": 1}, {"number": 0})
    await couch.call("deleteNotification", notificationId=newest["id"])
    for device in (desk, couch):
        await device.event("notification-deleted")
    assert await desk.call("list") == await couch.call("list") == [oldest]
    await desk.call("getNotifications")
    assert (await desk.event("notifications"))["message"]["notifications"] == [oldest]


async def test_the_editor_can_read_the_times(server: StartServer, client: StartClient) -> None:
    """`new Date` understands every time, and they are what they say: now, and thirty days from now."""
    ben, notification = await client("notifications"), await server("notification")
    await online(ben, notification, "ben")
    before = time.time()
    await ben.call("sendNotification", userId="ben", type="session", data={})
    sent = await ben.event("notification")
    await ben.call("markAsRead", notificationId=sent["message"]["notification"]["id"])
    await ben.event("notification-updated")
    (times,) = await ben.call("times")
    after = time.time()
    for name in ("createdAt", "readAt"):
        assert before - 1 <= times[name] / 1000 <= after + 1
    assert abs(times["expiresAt"] - times["createdAt"] - 30 * 86_400_000) < 1000


async def test_a_device_that_was_away_catches_up(server: StartServer, client: StartClient) -> None:
    """A device that was disconnected is shown on return what the other has done meanwhile."""
    sender, desk, couch, notification = *[await client("notifications") for _ in range(3)], await server("notification")
    await online(sender, notification, "ada")
    for device in (desk, couch):
        await online(device, notification, "ben")
    await couch.call("disconnect")
    await couch.event("closed")
    for number in range(3):
        await sender.call("sendNotification", userId="ben", type="mention", data={"number": number})
        await desk.event("notification")
    entries = await desk.call("list")
    await desk.call("markAsRead", notificationId=entries[0]["id"])
    await desk.event("notification-updated")
    await desk.call("deleteNotification", notificationId=entries[1]["id"])
    await desk.event("notification-deleted")
    shown = await online(couch, notification, "ben")
    assert shown["notifications"] == await desk.call("list")
    assert shown["unreadCount"] == 1


async def test_the_editor_shows_all_of_a_long_list(server: StartServer, client: StartClient) -> None:
    """The editor asks for no number and knows no `hasMore`: it is given more than a page's worth at once."""
    sender, ben, notification = *[await client("notifications") for _ in range(2)], await server("notification")
    await online(sender, notification, "ada")
    for number in range(60):
        await sender.call("sendNotification", userId="ben", type="thread", data={"number": number})
        await sender.event("notification-sent")
    shown = await online(ben, notification, "ben")
    assert (len(shown["notifications"]), shown["unreadCount"]) == (60, 60)
    await ben.call("getNotifications")
    await ben.event("notifications")
    listed = await ben.call("list")
    assert [entry["data"]["number"] for entry in listed if not entry["read"]] == list(range(59, -1, -1))


async def test_a_promise_survives_a_killed_server(server: StartServer, client: StartClient) -> None:
    """A notification named by `notification-sent` is still stored after the server was killed."""
    sender, receiver, notification = *[await client("notifications") for _ in range(2)], await server("notification")
    await online(sender, notification, "ada")
    await sender.call("sendNotification", userId="ben", type="invite", data=INVITATION)
    promised = (await sender.event("notification-sent"))["message"]["notificationId"]
    await notification.kill()
    await notification.restart()
    shown = await online(receiver, notification, "ben")
    assert [entry["id"] for entry in shown["notifications"]] == [promised]
