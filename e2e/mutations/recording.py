"""The actions of the JavaScript clients during a recording."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from harness import StartClient

Record = Callable[[StartClient, str], Awaitable[None]]

ROOM, ADA, BEN = "room", "ada", "ben"


async def signaling(client: StartClient, url: str) -> None:
    """Two editors meet, signal, describe their session, resume and invite; two y-webrtc providers find each other."""
    ada, ben = await client("session"), await client("session")
    for editor, name in ((ada, ADA), (ben, BEN)):
        await editor.call("connect", url=url)
        await editor.call("register", userId=name)
        await editor.event("registered")
        await editor.call("join", room=ROOM, peerId=f"{name}-1", userId=name, name=name, resume=True)
        await editor.event("joined")
    await ada.event("channel-open")
    await ada.call(
        "present", session={"title": "A dashboard", "maxParticipants": 5, "features": {"audioEnabled": True}}
    )
    await ada.call("present", session={"description": None, "features": {"videoEnabled": None}})
    await ada.call("rename", name="Ada")
    await ben.event("peer-updated")
    await ada.call("drop")
    await ada.event("joined")
    await ada.call("invite", userId=BEN)
    await ben.event("invite")
    await ben.call("leave")
    await ada.event("peer-left")
    first, second = await client("webrtc"), await client("webrtc")
    await first.call("open", signaling=url, room=ROOM)
    await first.event("published")
    await second.call("open", signaling=url, room=ROOM)
    await second.event("synced", 20, synced=True)


async def sync(client: StartClient, url: str) -> None:
    """Editors with both versions of y-websocket write every kind of content of Yjs at the same time."""
    editors = await client("websocket")
    names = ["first", "second", "third"]
    for number, name in enumerate(names, start=1):
        version = "1.5" if number == 3 else "3"
        await editors.call(
            "open", name=name, url=url, room=ROOM, version=version, state={"user": name}, clientId=number
        )
    for number, name in enumerate(names):
        await editors.call("everything", name=name)
        await editors.call("insert", name=name, text="\U0001f388")
        await editors.call("cut", name=name, how=("insert", "format", "first")[number])
        await editors.call("storm", name=name, seed=number, letter=name[0], edits=20, deletes=True)
        await editors.call("setState", name=name, state={"user": name, "cursor": {"anchor": number, "head": None}})
    for name in names:
        await editors.call("finish", name=name, who=name)
    await editors.call("untilFinished", name="first", all=names)
    for name in names:
        await editors.call("close", name=name)


async def notification(client: StartClient, url: str) -> None:
    """Two users send each other every type of notification, read some and delete some."""
    ada, ben = await client("notifications"), await client("notifications")
    for device, name in ((ada, ADA), (ben, BEN)):
        await device.call("initialize", url=url, userId=name)
        await device.event("notifications")
    for kind in ("invite", "mention", "thread", "session", "component", "system"):
        await ada.call("sendNotification", userId=BEN, type=kind, data={"title": "A dashboard", "at": [1, 0.5, None]})
        await ada.call("sendAsMeant", userId=BEN, type=kind, data={"text": "Look \u00e9 \U0001f600"})
        for _ in range(2):
            received = await ben.event("notification")
    known = received["message"]["notification"]["id"]
    await ben.call("markAsRead", notificationId=known)
    await ben.event("notification-updated")
    await ben.call("getNotifications")
    await ben.event("notifications")
    await ben.call("deleteNotification", notificationId=known)
    await ben.event("notification-deleted")


RECORD: dict[str, Record] = {"signaling": signaling, "sync": sync, "notification": notification}
