"""With authentication, a client is who its token says, and reads and changes nothing of anybody else's."""

from __future__ import annotations

import asyncio

import pytest
from opennoodl_notification.edge import json_application
from opennoodl_notification.edge.service import Service
from websockets.asyncio.client import connect

from .conftest import Device, Serve
from .edge.issuer import OTHER_SECRET, SECRET, signed
from .harness import Client, ids


@pytest.fixture
async def service(serve: Serve) -> Service:
    """Start a server that lets in who has a token."""
    return await serve(auth="jwt", auth_secret=SECRET)


async def proven(device: Device, service: Service, user: str, **claims: object) -> Client:
    """Connect as a user."""
    client = await device(service)
    answer = await client.ask("authenticate", userId=user, token=signed(sub=user, **claims))
    assert answer["type"] == "authenticated", answer
    await client.expect("notifications")
    return client


async def test_token_authenticates_all_devices(service: Service, device: Device) -> None:
    """A token authenticates its user on all devices."""
    ann, bob, other = [await proven(device, service, user) for user in ("ann", "bob", "bob")]
    sent = await ann.notify("bob")
    for client in (bob, other):
        shown = (await client.expect("notification"))["notification"]
        assert (shown["id"], shown["fromUserId"]) == (sent, "ann")


@pytest.mark.parametrize(
    "token",
    [None, "", "x", signed(OTHER_SECRET), signed(exp=1), signed(sub="bob"), signed(sub="ANN"), 1, ["x"]],
    ids=["none", "empty", "no token", "another secret", "expired", "of Bob", "of a like name", "a number", "a list"],
)
async def test_unproven_user_is_refused(service: Service, device: Device, token: object) -> None:
    """Without a token of the user that `userId` names, nobody is anybody."""
    client = await device(service)
    code = await client.refused("authenticate", userId="ann", token=token)
    assert code == ("unauthorized" if token is None or isinstance(token, str) else "invalid-field")
    assert await client.refused("get-notifications") == "unauthorized"


async def test_no_token_at_all(service: Service, device: Device) -> None:
    """An `authenticate` without a token is refused with the missing field and its requestId."""
    client = await device(service)
    error = await client.ask("authenticate", userId="ann", requestId=7)
    assert (error["code"], error["requestId"]) == ("unauthorized", 7)
    assert "`token` is missing" in error["error"]


@pytest.mark.parametrize("with_header", [True, False])
async def test_token_of_the_connection_proves_one_user(service: Service, with_header: bool) -> None:
    """A token of the handshake proves its user, who must still authenticate, and no other user."""
    url = f"ws://127.0.0.1:{service.port}/"
    headers = {"Authorization": f"Bearer {signed()}"} if with_header else {}
    async with connect(url if with_header else f"{url}?token={signed()}", additional_headers=headers) as socket:
        client = Client(socket)
        assert await client.refused("get-notifications") == "unauthorized"
        assert await client.refused("authenticate", userId="bob") == "unauthorized"
        await client.authenticate("ann")
        assert ids(await client.inbox()) == []


async def test_messages_behind_authenticate_wait(service: Service, device: Device) -> None:
    """Messages behind `authenticate` wait until it is answered."""
    client = await device(service)
    await client.send("authenticate", userId="ann", token=signed())
    await client.send("send-notification", targetUserId="ann", notificationType="mention")
    await client.send("get-notifications")
    for kind in ("authenticated", "notifications", "notification", "notification-sent", "notifications"):
        message = await client.expect(kind)
    assert len(message["notifications"]) == 1


@pytest.mark.parametrize("kind", ["mark-read", "mark-unread", "delete-notification", "revoke-notification"])
async def test_foreign_and_missing_ids_get_one_answer(service: Service, device: Device, kind: str) -> None:
    """Ids of another user and unknown ids get the same answer."""
    ann, bob, eve = [await proven(device, service, user) for user in ("ann", "bob", "eve")]
    theirs = await ann.notify("bob")
    for id_ in (theirs, "no-such-id"):
        assert await eve.refused(kind, notificationId=id_) == "not-found"
    await bob.expect("notification")
    page = await bob.inbox()
    assert (ids(page), page["unreadCount"]) == ([theirs], 1)


async def test_connection_keeps_its_user(service: Service, device: Device) -> None:
    """A connection stays one user's, whatever tokens it shows."""
    client = await proven(device, service, "ann")
    assert await client.refused("authenticate", userId="bob", token=signed(sub="bob")) == "unauthorized"
    await (await proven(device, service, "eve")).notify("ann")
    await client.expect("notification")


async def test_only_services_send_system_notifications(service: Service, device: Device) -> None:
    """Only a token for services may send `system` notifications, in either form; the others may send the others."""
    ann, forum = await proven(device, service, "ann"), await proven(device, service, "forum", services=True)
    both = {"targetUserId": "ann", "data": {}}
    assert await ann.refused("system", **both) == "forbidden"
    assert await ann.refused("send-notification", notificationType="system", **both) == "forbidden"
    assert ids(await ann.inbox()) == []
    await forum.notify("ann", "system")
    assert (await ann.expect("notification"))["notification"]["type"] == "system"
    await ann.notify("forum", "mention")


async def test_newer_token_replaces_the_older(service: Service, device: Device) -> None:
    """A newer token takes the place of one that expires; one that expires ends the connection."""
    client = await proven(device, service, "ann")
    (connection,) = service.connections
    assert connection.deadline is not None
    first = connection.deadline
    newer = signed(exp=5_000_000_000)
    assert (await client.ask("authenticate", userId="ann", token=newer))["type"] == "authenticated"
    await client.expect("notifications")
    assert connection.deadline > first + 1000
    connection.set_deadline(0, "Your token has expired.")
    assert await client.closed() == 1008


async def test_client_is_closed_without_a_timely_proof(
    service: Service, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client without a valid token within the deadline is closed with 1008."""
    from opennoodl_notification import server

    monkeypatch.setattr(server, "AUTHENTICATION_TIMEOUT", 0.05)
    monkeypatch.setattr(json_application, "AUTHENTICATION_TIMEOUT", 0.05)
    assert await (await device(service)).closed() == 1008


async def test_five_rejected_tokens_close_the_client(service: Service, device: Device) -> None:
    """A client with five rejected tokens is closed with 1008."""
    client = await device(service)
    for _ in range(4):
        assert await client.refused("authenticate", userId="ann", token="x") == "unauthorized"
    await client.send("authenticate", userId="ann", token="x")
    assert await client.closed() == 1008


async def test_nothing_in_the_log(service: Service, device: Device, capsys: pytest.CaptureFixture[str]) -> None:
    """No log line has a token or a user's name."""
    token = signed(sub="secret-user")
    client = await device(service)
    await client.ask("authenticate", userId="secret-user", token=token)
    await client.expect("notifications")
    await client.refused("authenticate", userId="secret-user", token=token + "x")
    captured = capsys.readouterr()
    assert token[:20] not in captured.out + captured.err
    assert "secret-user" not in captured.out + captured.err


def left(service: Service) -> list[float]:
    """Return the seconds that each connection has left, those first that have least."""
    now = asyncio.get_running_loop().time()
    deadlines = [connection.deadline for connection in service.connections]
    return sorted(deadline - now for deadline in deadlines if deadline is not None)


async def test_refused_device_is_closed_later(serve: Serve, device: Device) -> None:
    """A device over `MAX_CONNECTIONS_PER_USER` still has ten seconds, and then is closed."""
    service = await serve(auth="jwt", auth_secret=SECRET, max_connections_per_user=1)
    first, second = await proven(device, service, "ann"), await device(service)
    assert await second.refused("authenticate", userId="ann", token=signed()) == "too-many-connections"
    refused, accepted = left(service)
    assert refused <= json_application.AUTHENTICATION_TIMEOUT < accepted
    await first.ws.close()
    assert (await second.ask("authenticate", userId="ann"))["type"] == "authenticated"
    assert left(service)[-1] > json_application.AUTHENTICATION_TIMEOUT


async def test_a_token_without_authenticate(service: Service) -> None:
    """A connection with a token but without `authenticate` has ten seconds, too."""
    async with connect(f"ws://127.0.0.1:{service.port}/?token={signed()}") as socket:
        await Client(socket).heard()
        (seconds,) = left(service)
        assert seconds <= json_application.AUTHENTICATION_TIMEOUT


async def test_message_behind_authenticate_is_the_proven_users(service: Service, device: Device) -> None:
    """A message behind `authenticate` is checked as that user's, before `authenticate` is answered."""
    client = await device(service)
    await client.send("authenticate", userId="ann", token=signed())
    await client.send("system", targetUserId="ann", data={})
    codes = [message.get("code") for message in [await client.get() for _ in range(3)]]
    assert codes.count("forbidden") == 1
