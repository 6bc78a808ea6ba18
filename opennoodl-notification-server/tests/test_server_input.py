"""The server over sockets: what is wrong costs its sender alone, and an error or the connection at most."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
from opennoodl_notification.edge.service import Service
from opennoodl_notification.inbox.batch import Batch

from .conftest import Device, Serve
from .harness import Client, Json, health, ids

LONG = "x" * 300


class Scene:
    """A server, somebody who sends bad messages, and two who go on with theirs."""

    def __init__(self, service: Service, bad: Client, sender: Client, receiver: Client) -> None:
        self.service = service
        self.bad = bad
        self.sender = sender
        self.receiver = receiver

    async def goes_on(self) -> None:
        """See that the others have noticed nothing, and that what they send arrives."""
        id_ = await self.sender.notify("receiver", data={"still": "here"})
        event = await self.receiver.expect("notification")
        assert event["notification"]["id"] == id_
        assert ids(await self.receiver.inbox())[0] == id_
        status, content = await health(self.service.port)
        assert (status, content["status"]) == (200, "healthy")

    async def bad_goes_on(self) -> None:
        """See that the bad one may do better."""
        assert ids(await self.bad.inbox()) == []


@pytest.fixture
async def scene(serve: Serve, device: Device) -> AsyncIterator[Scene]:
    """Start a server with three users."""
    service = await serve(max_data_size=0)
    scene = Scene(service, *[await device(service, user) for user in ("bad", "sender", "receiver")])
    await scene.goes_on()
    yield scene
    await scene.goes_on()


NO_JSON = [
    "",
    " ",
    "{",
    "x",
    '{"type":"delete-all"',
    '{"type":"delete-all"}}',
    "[]",
    "5",
    "null",
    '"delete-all"',
    "[{}]",
]


@pytest.mark.parametrize("text", [*NO_JSON, "[" * 60_000, '{"a":' * 10_000])
async def test_invalid_json_is_answered_with_an_error(scene: Scene, text: str) -> None:
    """A message that is no JSON object is answered with an error."""
    await scene.bad.text(text)
    error = await scene.bad.expect("error")
    assert (set(error), error["code"]) == ({"type", "error", "code"}, "invalid-json")
    await scene.bad_goes_on()


WRONG: list[tuple[str, Json]] = [
    ("unknown-type", {}),
    ("unknown-type", {"type": "party"}),
    ("unknown-type", {"type": None}),
    ("unknown-type", {"type": {"type": "delete-all"}}),
    ("unknown-type", {"type": "notification", "notification": {}}),
    ("missing-field", {"type": "authenticate"}),
    ("invalid-field", {"type": "authenticate", "userId": ""}),
    ("invalid-field", {"type": "authenticate", "userId": LONG}),
    ("invalid-field", {"type": "authenticate", "userId": None}),
    ("invalid-field", {"type": "get-notifications", "limit": 0}),
    ("invalid-field", {"type": "get-notifications", "limit": 201}),
    ("invalid-field", {"type": "get-notifications", "limit": "9"}),
    ("invalid-field", {"type": "get-notifications", "before": 5}),
    ("invalid-field", {"type": "get-notifications", "unreadOnly": "no"}),
    ("missing-field", {"type": "send-notification", "targetUserId": "receiver", "data": {}}),
    ("missing-field", {"type": "send-notification", "notificationType": "invite", "data": {}}),
    ("invalid-field", {"type": "send-notification", "targetUserId": LONG, "notificationType": "invite", "data": {}}),
    ("invalid-field", {"type": "send-notification", "targetUserId": 5, "notificationType": "invite", "data": {}}),
    ("invalid-field", {"type": "send-notification", "targetUserId": "receiver", "notificationType": "x", "data": {}}),
    ("invalid-field", {"type": "invite", "targetUserId": "receiver", "data": {}, "idempotencyKey": LONG}),
    ("invalid-field", {"type": "invite", "targetUserId": LONG, "data": {}}),
    ("invalid-field", {"type": "invite", "targetUserId": ["receiver"], "data": {}}),
    ("missing-field", {"type": "mark-read"}),
    ("invalid-field", {"type": "mark-read", "notificationId": LONG}),
    ("invalid-field", {"type": "mark-read", "notificationId": {}}),
    ("missing-field", {"type": "delete-notification"}),
    ("invalid-field", {"type": "delete-notification", "notificationId": LONG}),
]


@pytest.mark.parametrize(("code", "message"), WRONG)
async def test_unknown_message_is_answered_with_an_error(scene: Scene, code: str, message: Json) -> None:
    """An unknown message is answered with an error that says why, and carries its requestId."""
    await scene.bad.text(json.dumps({**message, "requestId": "r"}))
    error = await scene.bad.expect("error")
    assert (set(error), error["code"], error["requestId"]) == ({"type", "error", "code", "requestId"}, code, "r")
    await scene.bad_goes_on()


@pytest.mark.parametrize("request_id", ["r", "", 0, 7, 1.5, None, False, {"a": [1]}, "☃"])
async def test_errors_carry_the_request_id(scene: Scene, request_id: object) -> None:
    """An error carries the requestId of what it is about, whatever that is, also where the inbox refuses."""
    error = await scene.bad.ask("mark-read", notificationId="nothing", requestId=request_id)
    assert (error["code"], error["requestId"]) == ("not-found", request_id)
    error = await scene.bad.ask("mark-read", requestId=request_id)
    assert (error["code"], error["requestId"]) == ("missing-field", request_id)


async def test_error_without_a_request_id_has_none(scene: Scene) -> None:
    """An error about a message without requestId has none."""
    assert "requestId" not in await scene.bad.ask("mark-read", notificationId="nothing")


NUMBERS = ["1e999", "-1e400", "9" * 400]
"""JSON numbers that are valid, and greater than what most programs can hold."""


@pytest.mark.parametrize("number", NUMBERS, ids=["1e999", "-1e400", "400 digits"])
@pytest.mark.parametrize(
    ("message", "code"),
    [
        ('"type":"mark-read","notificationId":"nothing"', "not-found"),
        ('"type":"mark-read"', "missing-field"),
        ('"type":"party"', "unknown-type"),
    ],
    ids=["not-found", "missing-field", "unknown-type"],
)
async def test_odd_request_id_is_echoed(scene: Scene, message: str, code: str, number: str) -> None:
    """A requestId is echoed also where it is a number beyond all bounds."""
    await scene.bad.text(f'{{{message},"requestId":{number}}}')
    error = await scene.bad.expect("error")
    assert (error["code"], error["requestId"]) == (code, json.loads(number))
    await scene.bad_goes_on()


@pytest.mark.parametrize("number", NUMBERS, ids=["1e999", "-1e400", "400 digits"])
async def test_odd_unknown_field_is_ignored(scene: Scene, number: str) -> None:
    """Unknown fields are ignored, whatever is in them."""
    await scene.bad.text(f'{{"type":"get-notifications","future":{number},"requestId":{number}}}')
    await scene.bad.expect("notifications")


async def test_binary_frame_closes_with_1003(scene: Scene) -> None:
    """A binary frame closes with 1003."""
    await scene.bad.ws.send(b'{"type":"delete-all"}')
    assert await scene.bad.closed() == 1003


async def test_invalid_utf8_closes_with_1007(scene: Scene) -> None:
    """A text that is no UTF-8 closes with 1007."""
    await scene.bad.text(b'{"type":"invite","targetUserId":"receiver","data":"\xff"}')
    assert await scene.bad.closed() == 1007


def sized(size: int) -> str:
    """Return a message of so many bytes."""
    start, end = '{"type":"invite","targetUserId":"somebody","data":"', '"}'
    return start + "x" * (size - len(start) - len(end)) + end


@pytest.mark.parametrize("over", [1, 100_000])
async def test_message_over_the_limit_is_not_stored(scene: Scene, over: int) -> None:
    """A message over the limit closes with 1009, and is not stored."""
    before = (await health(scene.service.port))[1]["notificationCount"]
    await scene.bad.text(sized(65_536 + over))
    assert await scene.bad.closed() == 1009
    assert (await health(scene.service.port))[1]["notificationCount"] == before


async def test_message_of_the_limit_is_stored(scene: Scene) -> None:
    """A message of just the limit is stored."""
    await scene.bad.text(sized(65_536))
    await scene.bad.expect("notification-sent")


async def test_data_over_its_limit_is_refused(serve: Serve, device: Device) -> None:
    """Data over its own limit is refused with both numbers; just as much is stored."""
    sender = await device(await serve(max_data_size=10), "sender")
    error = await sender.ask("invite", targetUserId="u", data="123456789", requestId=4)
    assert (error["code"], error["requestId"]) == ("data-too-large", 4)
    assert "11 bytes; at most 10" in error["error"]
    await sender.notify("u", data="12345678")


async def test_fragments_over_the_limit(scene: Scene) -> None:
    """The limit is of the message, not of the frames it comes in."""

    async def parts() -> AsyncIterator[str]:
        for _ in range(8):
            yield " " * 10_000

    await scene.bad.ws.send(parts())
    assert await scene.bad.closed() == 1009


async def test_lone_surrogate_is_replaced(scene: Scene) -> None:
    """A text that JavaScript cut within an emoji is delivered; no half is left in it that a receiver could choke on."""
    await scene.bad.text('{"type":"invite","targetUserId":"receiver","data":{"a":"cut \\ud83d","b":"\\ud83d\\ude00"}}')
    await scene.bad.expect("notification-sent")
    event = await scene.receiver.expect("notification")
    assert event["notification"]["data"] == {"a": "cut \ufffd", "b": "😀"}


async def test_failing_message_closes_its_sender_alone(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message on which the server fails closes its sender with 1011, and nobody else notices."""

    def fail(*args: object) -> None:
        raise RuntimeError("nobody thought of this")

    monkeypatch.setattr(Batch, "mark_all_read", fail)
    await scene.bad.send("mark-all-read")
    assert await scene.bad.closed() == 1011


async def test_message_over_the_rate_is_answered_with_an_error(serve: Serve, device: Device) -> None:
    """Messages over the rate are answered with an error that carries their requestId; others have their own rate."""
    service = await serve(rate_limit=1)
    bad, other = await device(service, "bad"), await device(service, "other")
    for number in range(20):
        await bad.send("get-notifications", requestId=number)
    messages = [await bad.get() for _ in range(20)]
    refused = [message for message in messages if message["type"] == "error"]
    assert len(refused) >= 9
    assert {error["code"] for error in refused} == {"rate-limited"}
    assert ids(await other.inbox()) == []
    assert [error.get("requestId") for error in refused] == list(range(20 - len(refused), 20))
