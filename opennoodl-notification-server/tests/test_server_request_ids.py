"""The `requestId` of a message over sockets: it comes back in every answer to it, and nowhere else."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import Device, Serve
from .harness import Client, Json


async def notified(service: Any, device: Device) -> tuple[Client, Client, Client, list[str]]:
    """Return a sender, two devices of one user, and the ids of two notifications that these have been told of."""
    sender = await device(service, "s")
    one, two = await device(service, "u"), await device(service, "u")
    sent = [await sender.notify("u") for _ in range(2)]
    for client in (one, two):
        await several(client, 2)
    return sender, one, two, sent


async def several(client: Client, number: int) -> list[Json]:
    """Return the next messages."""
    return [await client.get() for _ in range(number)]


MARKS = ["mark-read", "mark-unread", "delete-notification"]


@pytest.mark.parametrize("type_", MARKS)
async def test_change_answers_its_device_with_the_id(serve: Serve, device: Device, type_: str) -> None:
    """Each event that answers a change has the id for the device that asked, and not for the others."""
    _, one, two, sent = await notified(await serve(), device)
    if type_ == "mark-unread":
        await one.send("mark-read", notificationIds=sent)
        for client in (one, two):
            await several(client, 2)
    await one.send(type_, notificationIds=sent, requestId="r")
    answers, told = await several(one, 2), await several(two, 2)
    assert [answer.pop("requestId") for answer in answers] == ["r", "r"]
    assert told == answers


@pytest.mark.parametrize("type_", ["mark-all-read", "delete-all"])
async def test_change_of_everything_answers_with_the_id(serve: Serve, device: Device, type_: str) -> None:
    """So has the one event of a change of everything, and the answer where nothing is left to change."""
    _, one, two, _ = await notified(await serve(), device)
    answer = await one.ask(type_, requestId=1)
    assert answer.pop("requestId") == 1
    assert await two.get() == answer
    again = await one.ask(type_, requestId=2)
    assert (again["type"], again["requestId"]) == (answer["type"], 2)
    assert await two.waiting() == []


async def test_unchanged_request_answers_with_the_id(serve: Serve, device: Device) -> None:
    """So have the answers to a change of which a part was so already."""
    _, one, two, sent = await notified(await serve(), device)
    await two.ask("mark-read", notificationId=sent[0])
    await one.expect("notification-updated")
    await one.send("mark-read", notificationIds=sent, requestId="r")
    answers = {answer["notification"]["id"]: answer["requestId"] for answer in await several(one, 2)}
    assert answers == dict.fromkeys(sent, "r")
    assert "requestId" not in await two.expect("notification-updated")


async def test_sending_answers_with_the_id(serve: Serve, device: Device) -> None:
    """A send and its revocation are answered with the request id, which no receiver gets, be it the sender."""
    service = await serve()
    one, two = await device(service, "u"), await device(service, "u")
    for fields in ({"type_": "send-notification", "notificationType": "thread"}, {"type_": "invite"}):
        await one.send(**fields, targetUserId="u", data={}, requestId=["r"])
        event, sent = await several(one, 2)
        assert (sent["type"], sent["requestId"]) == ("notification-sent", ["r"])
        assert await two.get() == event
        assert "requestId" not in event
    await one.send("revoke-notification", notificationId=sent["notificationId"], requestId={"r": 1})
    event, revoked = await several(one, 2)
    assert (revoked["type"], revoked["requestId"]) == ("notification-revoked", {"r": 1})
    assert await two.get() == event
    assert "requestId" not in event


async def test_page_answers_with_the_id(serve: Serve, device: Device) -> None:
    """A page and the answers to `authenticate` have the request id, but replayed changes do not."""
    service = await serve()
    _, one, _, _ = await notified(service, device)
    page = await one.inbox(requestId="p")
    assert page["requestId"] == "p"
    other = await device(service)
    await other.send("authenticate", userId="u", since=page["sequence"] - 1, requestId="a")
    ids = {message["type"]: message.get("requestId") for message in await several(other, 3)}
    assert ids == {"authenticated": "a", "notification": None, "up-to-date": "a"}
    await other.send("authenticate", userId="u", since=0, requestId="b")
    ids = {message["type"]: message.get("requestId") for message in await several(other, 3)}
    assert ids == {"authenticated": "b", "notifications": "b", "up-to-date": "b"}


@pytest.mark.parametrize(("length", "accepted"), [(1022, True), (1023, False), (60_000, False)])
async def test_long_request_id_is_refused(serve: Serve, device: Device, length: int, accepted: bool) -> None:
    """An id that is too long is refused: a message about many notifications would have many such answers."""
    _, one, two, _ = await notified(await serve(), device)
    answer: Json = await one.ask("mark-all-read", requestId="x" * length)
    assert answer["requestId"] == "x" * length
    if accepted:
        assert answer["type"] == "notifications-read"
    else:
        assert answer["code"] == "invalid-field"
        assert "requestId" in answer["error"]
        assert await two.waiting() == []
