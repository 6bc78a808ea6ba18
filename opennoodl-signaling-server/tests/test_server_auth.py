"""With authentication, a client is who its token says, and enters what its token allows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from time import time
from typing import Any

import pytest
from opennoodl_signaling.edge import json_application
from opennoodl_signaling.edge.auth.identity import Identity
from opennoodl_signaling.edge.service import Service
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from .conftest import Enter, StartServer
from .edge.harness import TIMEOUT, request
from .edge.issuer import OTHER_SECRET, SECRET, signed
from .editor import Editor

Bring = Callable[..., Awaitable[Editor]]


@pytest.fixture
async def server(start: StartServer) -> Service:
    """Start a server that lets in who has a token."""
    return await start(auth="jwt", auth_secret=SECRET)


@pytest.fixture
async def bring(server: Service) -> AsyncIterator[Bring]:
    """Connect with a token in the URL, as y-webrtc has to, or in a header."""
    editors: list[Editor] = []

    async def bring_(token: str, *, header: bool = False) -> Editor:
        url = f"ws://127.0.0.1:{server.port}/"
        if header:
            socket = await connect(url, additional_headers={"Authorization": f"Bearer {token}"})
        else:
            socket = await connect(f"{url}?token={token}")
        editors.append(Editor(socket))
        return editors[-1]

    yield bring_
    for editor in editors:
        await editor.socket.close()


async def test_token_joins_as_its_user(server: Service, enter: Enter) -> None:
    """A token lets its client join as its user; signals and invites need no other token."""
    ann, bob = await enter(server), await enter(server)
    await ann.join("r", "a", "ann", token=signed())
    await bob.join("r", "b", "bob", token=signed(sub="bob"))
    assert (await ann.expect("peer-joined"))["userId"] == "bob"
    await bob.send("signal", to="a", signal=1)
    assert await ann.expect("signal") == {"from": "b", "signal": 1}
    await bob.send("invite", targetUserId="ann", roomId="s")
    assert (await ann.expect("invite"))["from"] == "bob"


@pytest.mark.in_memory
@pytest.mark.parametrize("kind", ["join", "register"])
@pytest.mark.parametrize(
    "token", [None, "", "x", signed(OTHER_SECRET), signed(exp=1), signed(sub="bob"), signed(sub="ANN")]
)
async def test_unproven_user_is_refused(server: Service, enter: Enter, kind: str, token: str | None) -> None:
    """Without a token of the user that `userId` names, nobody joins or registers."""
    editor = await enter(server)
    fields = {
        "room": "r",
        "peerId": "a",
        "userId": "ann",
        "requestId": 7,
        **({"token": token} if token is not None else {}),
    }
    assert await editor.refused(kind, **fields) == ("unauthorized", 7)
    assert not server.app.rooms.rooms  # type: ignore[attr-defined]
    assert not server.app.users.devices  # type: ignore[attr-defined]


@pytest.mark.parametrize("header", [True, False])
async def test_token_of_the_connection_proves_every_message(bring: Bring, header: bool) -> None:
    """A token that came with the connection proves its user in every message, and no other user."""
    editor = await bring(signed(), header=header)
    assert await editor.refused("join", room="r", peerId="a", userId="bob") == "unauthorized"
    await editor.join("r", "a", "ann")
    assert (await editor.ask("register", userId="ann"))["type"] == "registered"


async def test_wrong_with_the_connection(bring: Bring) -> None:
    """A wrong token that came with the connection is answered; a right one in a message is good all the same."""
    editor = await bring(signed(OTHER_SECRET))
    assert (await editor.expect("error"))["code"] == "unauthorized"
    await editor.join("r", "a", "ann", token=signed())


async def test_token_limits_rooms_and_access(server: Service, enter: Enter) -> None:
    """Only rooms that a token allows can be joined, and who may only read can join none."""
    editor = await enter(server)
    token = signed(rooms=["team-*"])
    assert await editor.refused("join", room="r", peerId="a", userId="ann", token=token) == "forbidden"
    reading = signed(access="read")
    assert await editor.refused("join", room="team-1", peerId="a", userId="ann", token=reading) == "forbidden"
    await editor.join("team-1", "a", "ann", token=token)


async def test_token_limits_topics(bring: Bring) -> None:
    """y-webrtc's topics are rooms, too: what a token does not allow is neither subscribed nor published to."""
    editor, other = await bring(signed(rooms=["team-*"])), await bring(signed(sub="bob"))
    assert await editor.refused("subscribe", topics=["team-1", "r"]) == "forbidden"
    assert await editor.refused("publish", topic="r", data=1) == "forbidden"
    await editor.subscribe("team-1")
    await other.send("publish", topic="team-1", data=1)
    assert await editor.expect("publish") == {"topic": "team-1", "data": 1, "clients": 1}
    await editor.send("publish", topic="team-1", data=2)
    assert (await editor.expect("publish"))["data"] == 2


async def test_reader_subscribes_to_nothing(bring: Bring) -> None:
    """A read-only user may not subscribe, since no server can restrict the messages between peers."""
    editor = await bring(signed(access="read"))
    assert await editor.refused("subscribe", topics=["r"]) == "forbidden"
    assert await editor.refused("publish", topic="r") == "forbidden"


@pytest.mark.parametrize(
    ("kind", "fields", "code"),
    [
        ("subscribe", {"topics": ["r"]}, "unauthorized"),
        ("publish", {"topic": "r"}, "unauthorized"),
        ("signal", {"to": "a", "signal": 1}, "not-in-room"),
        ("invite", {"targetUserId": "ann", "roomId": "r"}, "not-registered"),
        ("session", {"title": "t"}, "not-in-room"),
        ("ice-servers", {}, "not-registered"),
    ],
)
async def test_unproven_client_reaches_nobody(
    server: Service, enter: Enter, kind: str, fields: dict[str, Any], code: str
) -> None:
    """Before it has proven who it is, a client gets nothing and reaches nobody."""
    ann, editor = await enter(server), await enter(server)
    await ann.join("r", "a", "ann", token=signed())
    assert await editor.refused(kind, **fields) == code
    await ann.quiet()


async def test_connection_keeps_its_user(server: Service, enter: Enter) -> None:
    """A connection stays one user's, whatever tokens it shows."""
    editor = await enter(server)
    await editor.ask("register", userId="ann", token=signed())
    assert await editor.refused("register", userId="bob", token=signed(sub="bob")) == "unauthorized"


@pytest.mark.in_memory
async def test_newer_token_replaces_the_older(server: Service, enter: Enter) -> None:
    """A newer token takes the place of an older one; when one expires, the connection ends and the others are told."""
    ann, bob = await enter(server), await enter(server)
    await bob.join("r", "b", "bob", token=signed(sub="bob"))
    ends = int(time()) - 30 + 20  # with the leeway
    await ann.join("r", "a", "ann", token=signed(exp=ends))
    await bob.expect("peer-joined")
    (connection,) = (each for each in server.connections if each.identity and each.identity.user == "ann")
    assert connection.deadline is not None
    first = connection.deadline
    await ann.ask("register", userId="ann", token=signed())
    assert connection.deadline > first + 30
    connection.set_deadline(0, "Your token has expired.")
    assert await ann.closed() == 1008
    assert await bob.expect("peer-left") == {"peerId": "a"}


async def test_newer_token_without_the_room_changes_nothing(server: Service, enter: Enter) -> None:
    """A newer token that does not allow what the connection is in changes nothing."""
    editor = await enter(server)
    await editor.join("r", "a", "ann", token=signed())
    await editor.subscribe("t")
    for rooms in (["t"], ["r"], []):
        assert await editor.refused("register", userId="ann", token=signed(rooms=rooms)) == "forbidden"
    assert await editor.refused("join", room="s", peerId="a", userId="ann", token=signed(rooms=["s"])) == "forbidden"
    assert (await editor.ask("register", userId="ann", token=signed(rooms=["r", "t"])))["type"] == "registered"


async def test_refused_join_keeps_the_former_room(server: Service, enter: Enter) -> None:
    """A client refused by another room stays in its room by the former token; outside of one, the new token counts."""
    editor, new = await enter(server), await enter(server)
    here, there = signed(rooms=["r"]), signed(rooms=["s"])
    await editor.join("r", "a", "ann", token=here)
    join = {"room": "s", "peerId": "a", "userId": "ann", "metadata": {"a": "a" * 20_000}}
    assert await editor.refused("join", **join, token=there) == "too-large"
    assert await editor.refused("subscribe", topics=["s"]) == "forbidden"
    assert await new.refused("join", **join, token=there) == "too-large"
    await new.subscribe("s")
    await editor.join("s", "a", "ann", token=there)
    assert await editor.refused("subscribe", topics=["r"]) == "forbidden"


async def test_invites_into_rooms_of_others(server: Service, enter: Enter) -> None:
    """Nobody invites into a room that their token is not for."""
    editor, other = await enter(server), await enter(server)
    await other.ask("register", userId="bob", token=signed(sub="bob"))
    await editor.ask("register", userId="ann", token=signed(rooms=["r"]))
    assert await editor.refused("invite", targetUserId="bob", roomId="s") == "forbidden"
    await editor.send("invite", targetUserId="bob", roomId="r")
    assert (await other.expect("invite"))["roomId"] == "r"


@pytest.mark.parametrize("claims", [{"rooms": []}, {"access": "read"}], ids=str)
async def test_token_without_rooms_gets_no_credentials(server: Service, enter: Enter, claims: dict[str, Any]) -> None:
    """A token without rooms lets its user be invited, but gives no TURN credentials."""
    editor = await enter(server)
    assert (await editor.ask("register", userId="ann", token=signed(**claims)))["type"] == "registered"
    assert await editor.refused("ice-servers") == "forbidden"


async def test_peer_id_of_the_same_user(server: Service, enter: Enter) -> None:
    """The token proves the user, so a taken peer id of the same user is taken over without asking anybody."""
    first, second, other = await enter(server), await enter(server), await enter(server)
    await other.join("r", "o", "other", token=signed(sub="other"))
    await first.join("r", "a", "ann", token=signed())
    await other.expect("peer-joined")
    await second.join("r", "a", "ann", token=signed())
    assert await first.closed() == 4409
    await other.expect("peer-left")
    await other.expect("peer-joined")
    await other.quiet()
    thief = await enter(server)
    refused = await thief.refused("join", room="r", peerId="a", userId="bob", token=signed(sub="bob"))
    assert refused == "peer-id-taken"


async def test_two_tabs_do_not_replace_each_other_forever(server: Service, enter: Enter) -> None:
    """Two tabs with one peer id that both come back when they are replaced do not throw each other out for ever."""
    first, second = await enter(server), await enter(server)
    await first.join("r", "a", "ann", token=signed())
    await second.join("r", "a", "ann", token=signed())
    assert await first.closed() == 4409
    for _ in range(3):
        first = await enter(server)
        refused = await first.refused("join", room="r", peerId="a", userId="ann", token=signed())
        assert refused == "peer-id-taken"
    await second.quiet()


async def test_two_tabs_with_one_token(server: Service, enter: Enter) -> None:
    """The same holds for a tab that was copied with its resume token."""
    first, second = await enter(server), await enter(server)
    resume = (await first.join("r", "a", "ann", token=signed(), resume=True))["resumeToken"]
    await second.join("r", "a", "ann", token=signed(), resumeToken=resume)
    assert await first.closed() == 4409
    await second.quiet()  # it has answered the ping, so the former token is void
    first = await enter(server)
    fields = {"peerId": "a", "userId": "ann", "token": signed(), "resumeToken": resume}
    assert await first.refused("join", room="r", **fields) == "peer-id-taken"
    await second.quiet()


async def test_topics_compared_with_a_token_are_bounded(
    start: StartServer, enter: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more topics are compared with a token's patterns than a connection may have."""
    server = await start(auth="jwt", auth_secret=SECRET, max_topics=3)
    allows = Identity.allows
    compared: list[str] = []
    monkeypatch.setattr(Identity, "allows", lambda self, room: compared.append(room) or allows(self, room))
    editor = await enter(server)
    await editor.ask("register", userId="ann", token=signed(rooms=["t*"]))
    await editor.subscribe("t0")
    compared.clear()
    topics = [f"t{number}" for number in range(5000)]
    assert await editor.refused("subscribe", topics=topics) == "too-many-topics"
    assert compared == ["t1", "t2"]
    assert (await editor.ask("publish", topic="t2"))["clients"] == 1


async def test_five_rejected_tokens_close_the_client(server: Service, enter: Enter) -> None:
    """A client with five rejected tokens is closed with 1008."""
    editor = await enter(server)
    for _ in range(4):
        assert await editor.refused("register", userId="ann", token="x") == "unauthorized"
    await editor.send("register", userId="ann", token="x")
    assert await editor.closed() == 1008


@pytest.mark.in_memory
async def test_client_is_closed_without_a_timely_proof(
    server: Service, enter: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client without a valid token in time is closed with 1008, whatever it does meanwhile; a proven one stays."""
    monkeypatch.setattr(json_application, "AUTHENTICATION_TIMEOUT", 0.1)
    idle, busy = await enter(server), await enter(server)
    assert await idle.closed() == 1008
    with suppress(ConnectionClosed):
        async with asyncio.timeout(TIMEOUT):
            while True:
                await busy.quiet()
    assert busy.socket.close_code == 1008
    monkeypatch.setattr(json_application, "AUTHENTICATION_TIMEOUT", 10.0)  # a busy machine joins late
    proven = await enter(server)
    await proven.join("r", "a", "ann", token=signed())
    (connection,) = (each for each in server.connections if each.identity is not None)
    assert connection.deadline is not None
    assert connection.deadline > connection.loop.time() + 10


async def test_session_preview_needs_a_token(server: Service, enter: Enter) -> None:
    """A look through the door needs a token for the room; whether anybody is there is told to no one else."""
    ann = await enter(server)
    await ann.join("r", "a", "ann", token=signed())

    async def look(room: str, *headers: str, query: str = "") -> int:
        answer = await request(server.port, f"GET /session/{room}/info{query}", *headers)
        assert answer.body.startswith(b"{") is (answer.status == 200)
        return answer.status

    for room in ("r", "nobody"):
        assert await look(room) == 401
        assert await look(room, "Authorization: Bearer x") == 401
        assert await look(room, query="?token=" + signed(rooms=["team-*"])) == 403
    assert await look("r", f"Authorization: Bearer {signed(rooms=['r'])}") == 200
    assert await look("r", query="?token=" + signed(access="read")) == 200
    assert await look("nobody", query="?token=" + signed()) == 404


async def test_tokens_are_counted_by_outcome(server: Service, enter: Enter) -> None:
    """Tokens are counted by what became of them."""
    editor = await enter(server)
    await editor.refused("register", userId="ann", token="x")
    await editor.ask("register", userId="ann", token=signed())
    text = (await request(server.port, "GET /metrics")).body.decode()
    assert 'opennoodl_tokens_total{outcome="accepted"} 1.0' in text
    assert 'opennoodl_tokens_total{outcome="refused"} 1.0' in text
