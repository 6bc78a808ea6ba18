"""All three servers stop and start again under editors that are at work."""

from __future__ import annotations

import asyncio

import pytest
from harness import Client, Server, StartClient, StartServer


@pytest.mark.parametrize(
    ("kind", "driver", "commands"),
    [
        ("signaling", "session", [("connect", {}), ("join", {"room": "r", "peerId": "p", "userId": "u", "name": "n"})]),
        ("sync", "websocket", [("open", {"name": "ada", "room": "project", "version": "3"})]),
        ("notification", "notifications", [("initialize", {"userId": "ben"})]),
    ],
    ids=["signaling", "sync", "notification"],
)
async def test_clients_are_told_that_the_server_goes_away(
    server: StartServer, client: StartClient, kind: str, driver: str, commands: list[tuple[str, dict[str, object]]]
) -> None:
    """A server that is asked to stop closes its connections with 1001 and ends with 0."""
    editor, started = await client(driver), await server(kind)
    for command, arguments in commands:
        await editor.call(command, url=started.url, **arguments)
    await started.stop()
    assert (await editor.event("closed"))["code"] == 1001


async def restart_all(servers: tuple[Server, ...]) -> None:
    """Stop all servers, and only when all are gone start them again."""
    await asyncio.gather(*(each.stop() for each in servers))
    await asyncio.gather(*(each.start() for each in servers))


async def test_editors_go_on_after_all_servers_were_restarted(server: StartServer, client: StartClient) -> None:
    """Documents and inboxes are there again, y-websocket and y-webrtc come back by themselves, all converges."""
    editors = [await client("websocket") for _ in range(2)]
    documents = [await client("webrtc") for _ in range(2)]
    sender, receiver = await client("notifications"), await client("notifications")
    servers = await asyncio.gather(server("signaling"), server("sync"), server("notification"))
    signaling, sync, notification = servers

    for editor, name, version in zip(editors, ("ada", "ben"), ("1.5", "3"), strict=True):
        await editor.call("open", name=name, url=sync.url, room="project", version=version, state={"user": name})
    await editors[0].call("insert", name="ada", text="before")
    await editors[1].call("untilText", name="ben", text="before")
    await documents[0].call("open", signaling=signaling.url, room="project")
    await documents[0].call("insert", text="kept by the peers")
    await documents[0].call("untilSignaling", connected=True)
    await sender.call("initialize", url=notification.url, userId="ada")
    await sender.call("sendNotification", userId="ben", type="invite", data={"sessionId": "1"})
    promised = (await sender.event("notification-sent"))["message"]["notificationId"]

    await restart_all(servers)

    for editor, name in zip(editors, ("ada", "ben"), strict=True):
        await editor.event("closed", name=name)
        await editor.call("insert", name=name, text=f", {name} again")
        await editor.call("finish", name=name, who=name)
    for editor, name in zip(editors, ("ada", "ben"), strict=True):
        await editor.call("untilFinished", name=name, all=["ada", "ben"])
    texts = [await editor.call("text", name=name) for editor, name in zip(editors, ("ada", "ben"), strict=True)]
    assert texts[0] == texts[1]
    assert sorted(texts[0].split(", ")) == ["ada again", "before", "ben again"]
    # A client that has lost the server takes no state for news that it has seen before: cursors must move.
    for editor, name in zip(editors, ("ada", "ben"), strict=True):
        await editor.call("setState", name=name, state={"user": name, "cursor": {"x": 3, "y": 4}})
    for editor, name in zip(editors, ("ada", "ben"), strict=True):
        await editor.call("untilUsers", name=name, users=["ada", "ben"])

    await documents[0].call("untilSignaling", connected=True)
    await documents[1].call("open", signaling=signaling.url, room="project")
    await documents[1].call("untilText", text="kept by the peers")

    await receiver.call("initialize", url=notification.url, userId="ben")
    inbox = (await receiver.event("notifications"))["message"]["notifications"]
    assert [entry["id"] for entry in inbox] == [promised]


async def type_and_leave(driver: Client, sync: Server, room: str, text: str) -> None:
    """Write a text and be gone before the server is, so that nobody can bring it back but the server."""
    await driver.call("open", name=room, url=sync.url, room=room, version="3")
    await driver.call("open", name=f"observer {room}", url=sync.url, room=room, version="1.5")
    await driver.call("insert", name=room, text=text)
    await driver.call("untilText", name=f"observer {room}", text=text)
    await driver.call("close", name=room)
    await driver.call("close", name=f"observer {room}")


async def test_documents_are_read_from_disk_after_a_restart(server: StartServer, client: StartClient) -> None:
    """A restarted sync server serves every room's document to somebody who never had it."""
    first, second, sync = await client("websocket"), await client("websocket"), await server("sync")
    rooms = ["project", "team/project", "team%2Fproject"]
    for room in rooms:
        await type_and_leave(first, sync, room, f"text of {room}")
    await first.close()
    await sync.restart()
    for room in rooms:
        await second.call("open", name=room, url=sync.url, room=room, version="3")
        assert await second.call("text", name=room) == f"text of {room}"


async def test_a_document_survives_many_restarts(server: StartServer, client: StartClient) -> None:
    """Each start adds to the document; nothing is doubled, nothing is lost."""
    driver, sync = await client("websocket"), await server("sync")
    for round_ in range(4):
        await driver.call("open", name=f"{round_}", url=sync.url, room="project", version="3")
        assert await driver.call("text", name=f"{round_}") == "".join(map(str, range(round_)))
        await driver.call("insert", name=f"{round_}", text=str(round_))
        await driver.call("open", name=f"observer {round_}", url=sync.url, room="project", version="3")
        await driver.call("untilText", name=f"observer {round_}", text="".join(map(str, range(round_ + 1))))
        await driver.call("close", name=f"{round_}")
        await driver.call("close", name=f"observer {round_}")
        await sync.restart()


async def test_read_and_deleted_stay_so_after_a_restart(server: StartServer, client: StartClient) -> None:
    """The inbox after a restart is the inbox before it, entry for entry."""
    ben, later, notification = *[await client("notifications") for _ in range(2)], await server("notification")
    await ben.call("initialize", url=notification.url, userId="ben")
    await ben.event("notifications")
    for number in range(3):
        await ben.call("sendNotification", userId="ben", type="mention", data={"number": number})
        await ben.event("notification")
    entries = await ben.call("list")
    await ben.call("markAsRead", notificationId=entries[0]["id"])
    await ben.event("notification-updated")
    await ben.call("deleteNotification", notificationId=entries[1]["id"])
    await ben.event("notification-deleted")
    await notification.restart()
    await later.call("initialize", url=notification.url, userId="ben")
    await later.event("notifications")
    assert await later.call("list") == await ben.call("list")
