"""The editor's own dialect, over sockets."""

from __future__ import annotations

import asyncio
import json

import pytest
from opennoodl_signaling import __version__
from opennoodl_signaling.edge.auth.authenticator import OPEN
from opennoodl_signaling.edge.service import Service
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from .conftest import Enter, EnterRaw, StartServer
from .edge.harness import CLOSE, TEXT, masked, request
from .editor import Editor, news


async def both(server: Service, enter: Enter, room: str = "r") -> tuple[Editor, Editor]:
    """Return peers a and b of one room."""
    a, b = await enter(server), await enter(server)
    await a.join(room, "a")
    await b.join(room, "b")
    await a.expect("peer-joined")
    return a, b


# Every message of the protocol


async def test_join_is_answered_with_the_peers(server: Service, enter: Enter) -> None:
    """`join` is answered with `joined`: the room, the own peer id, and the peers without the joiner itself."""
    a, b = await enter(server), await enter(server)
    first = await a.ask("join", room="r", peerId="a", userId="A", metadata={"name": "Ann"}, token="t", more=1)
    assert first == {"type": "joined", "room": "r", "peerId": "a", "peers": []}
    second = await b.ask("join", room="r", peerId="b", userId="B")
    assert second == {"type": "joined", "room": "r", "peerId": "b", "peers": [news("a", "A", {"name": "Ann"})]}
    assert await a.expect("peer-joined") == news("b", "B")


async def test_leave_is_told_to_the_others(server: Service, enter: Enter) -> None:
    """`leave` tells the others, and is owed no answer."""
    a, b = await both(server, enter)
    await b.send("leave", room="r", peerId="b")
    assert await a.receive() == {"type": "peer-left", "peerId": "b"}
    await b.quiet()
    assert await b.refused("signal", to="a", signal={}) == "not-in-room"


async def test_signal_reaches_only_its_target(server: Service, enter: Enter) -> None:
    """`signal` reaches the peer that it is for, alone, with any JSON in it."""
    a, b = await both(server, enter)
    c = await enter(server)
    await c.join("r", "c")
    await b.expect("peer-joined")
    await a.expect("peer-joined")
    for signal in ({"type": "offer", "sdp": "v=0\r\n"}, [1, None], "ü", 0, None, {"signal": {"to": "c"}}):
        await a.send("signal", to="b", signal=signal)
        assert await b.receive() == {"type": "signal", "from": "a", "signal": signal}
    await a.quiet()
    await c.quiet()


async def test_invite_reaches_every_connection_of_a_user(server: Service, enter: Enter) -> None:
    """`invite` reaches every connection of a user, and the sender learns that it did."""
    sender, one, two, other = [await enter(server) for _ in range(4)]
    await sender.join("r", "s", "S")
    await one.join("elsewhere", "x", "T")
    await two.ask("register", userId="T")
    await other.ask("register", userId="U")
    answer = await sender.ask("invite", targetUserId="T", roomId="r", sessionInfo={"title": "T"})
    assert answer == {"type": "invite-sent", "to": "T", "delivered": True}
    for device in (one, two):
        invite = {"type": "invite", "from": "S", "roomId": "r", "sessionInfo": {"title": "T"}}
        assert await device.receive() == invite
    await other.quiet()


async def test_invite_to_an_offline_user_is_reported(server: Service, enter: Enter) -> None:
    """The sender learns that nobody is there to be invited."""
    sender = await enter(server)
    await sender.join("r", "s")
    answer = await sender.ask("invite", targetUserId="T", roomId="r")
    assert answer == {"type": "invite-sent", "to": "T", "delivered": False, "reason": "User offline"}


async def test_register_makes_a_user_reachable(server: Service, enter: Enter) -> None:
    """`register` is answered, and makes reachable before any room is joined."""
    a, b = await enter(server), await enter(server)
    assert await a.refused("invite", targetUserId="B", roomId="r") == "not-registered"
    assert await b.ask("register", userId="B", token="t") == {"type": "registered", "userId": "B"}
    await a.ask("register", userId="A")
    assert (await a.ask("invite", targetUserId="B", roomId="r"))["delivered"] is True
    assert (await b.expect("invite"))["from"] == "A"


async def test_invites_have_an_hourly_quota(start: StartServer, enter: Enter) -> None:
    """A user that has used its invites up is told, and the others invite on."""
    server = await start(invites_per_hour=2)
    a, b = await enter(server), await enter(server)
    await a.ask("register", userId="A")
    await b.ask("register", userId="B")
    for _ in range(2):
        await a.ask("invite", targetUserId="nobody", roomId="r")
    assert await a.refused("invite", targetUserId="nobody", roomId="r", requestId=1) == ("rate-limited", 1)
    assert (await b.ask("invite", targetUserId="nobody", roomId="r"))["type"] == "invite-sent"


# Rules that a first version tends to miss


async def test_join_of_another_room_leaves_the_first(server: Service, enter: Enter) -> None:
    """A connection that joins another room leaves its old one first."""
    a, b = await both(server, enter)
    await b.join("s", "b")
    assert await a.receive() == {"type": "peer-left", "peerId": "b"}
    await b.join("r", "b")
    assert await a.expect("peer-joined") == news("b")


@pytest.mark.parametrize("how", ["close", "abort", "silence"])
async def test_lost_connection_is_a_leave(start: StartServer, enter: Enter, enter_raw: EnterRaw, how: str) -> None:
    """A lost connection is a leave, however it was lost."""
    server = await start(heartbeat_interval=250)
    a = await enter(server)
    await a.join("r", "a")
    b = await enter_raw(server, {"type": "join", "room": "r", "peerId": "b", "userId": "B"})
    assert await a.expect("peer-joined") == news("b", "B")
    if how == "close":
        await b.send_frame(CLOSE, b"\x03\xe8")
    elif how == "abort":
        b.reset()
    assert await a.receive() == {"type": "peer-left", "peerId": "b"}


async def test_last_message_is_delivered_before_the_leave(server: Service, enter: Enter, enter_raw: EnterRaw) -> None:
    """A message in the packet that ends its connection is delivered before `peer-left`."""
    a = await enter(server)
    await a.join("r", "a")
    b = await enter_raw(server, {"type": "join", "room": "r", "peerId": "b", "userId": "B"})
    await a.expect("peer-joined")
    signal = json.dumps({"type": "signal", "to": "a", "signal": "bye"}).encode()
    await b.send(masked(TEXT, signal) + masked(CLOSE, b"\x03\xe8"))
    assert await a.expect("signal") == {"from": "b", "signal": "bye"}
    assert await a.expect("peer-left") == {"peerId": "b"}


async def test_joined_precedes_every_signal(server: Service, enter: Enter) -> None:
    """`joined` is sent before anybody can signal the joiner."""
    a = await enter(server)
    await a.join("r", "a")
    b = await enter(server)
    await b.send("join", room="r", peerId="b", userId="B")
    await a.expect("peer-joined")
    await a.send("signal", to="b", signal="hello")
    await b.expect("joined")
    assert (await b.expect("signal"))["signal"] == "hello"


async def test_concurrent_joiners_learn_of_each_other_once(server: Service, enter: Enter) -> None:
    """Of two peers that join at once, each learns of the other exactly once: in `peers` or by `peer-joined`."""
    editors = [await enter(server) for _ in range(15)]
    answers = await asyncio.gather(*(editor.join("r", str(number)) for number, editor in enumerate(editors)))
    for number, (editor, answer) in enumerate(zip(editors, answers, strict=True)):
        known = [peer["peerId"] for peer in answer["peers"]]
        while len(known) < len(editors) - 1:
            known.append((await editor.expect("peer-joined"))["peerId"])
        assert sorted(known, key=int) == [str(other) for other in range(15) if other != number]
        await editor.quiet()


async def test_room_size_holds_under_concurrent_joins(start: StartServer, enter: Enter) -> None:
    """MAX_ROOM_SIZE holds exactly under concurrent joins, and a refused one may join elsewhere."""
    server = await start(max_room_size=5)
    editors = [await enter(server) for _ in range(12)]
    answers = await asyncio.gather(
        *(editor.ask("join", room="r", peerId=str(n), userId=str(n), requestId=n) for n, editor in enumerate(editors))
    )
    refused = [number for number, answer in enumerate(answers) if answer["type"] == "error"]
    assert [answer["type"] for answer in answers].count("joined") == 5
    assert {answers[number]["code"] for number in refused} == {"room-full"}
    assert [answers[number]["requestId"] for number in refused] == refused
    await editors[refused[0]].join("s", "x")


async def test_default_room_size_is_20(server: Service, enter: Enter) -> None:
    """By default, a room holds 20."""
    for number in range(20):
        await (await enter(server)).join("r", str(number))
    assert await (await enter(server)).refused("join", room="r", peerId="x", userId="x") == "room-full"


@pytest.mark.in_memory
async def test_empty_rooms_cost_nothing(server: Service, enter: Enter) -> None:
    """When everybody is gone, the server is as it was."""
    a, b = await both(server, enter)
    await a.subscribe("t")
    await a.send("leave")
    await b.expect("peer-left")
    await a.socket.close()
    await b.socket.close()
    health = json.loads((await request(server.port, "GET /health")).body)["metrics"]
    assert (health["activeConnections"], health["activeRooms"], health["totalConnections"]) == (0, 0, 2)


# HTTP


@pytest.mark.in_memory
async def test_health_has_counts_and_no_names(server: Service, enter: Enter) -> None:
    """/health counts connections, rooms and relayed messages, and names nothing: a room's name opens it."""
    a, _ = await both(server, enter, room="SECRET")
    await a.subscribe("SECRET too")
    await a.send("signal", to="b", signal=1)
    await a.send("publish", topic="SECRET too")
    await a.expect("publish")
    answer = await request(server.port, "GET /health")
    assert json.loads(answer.body) == {
        "status": "healthy",
        "version": __version__,
        "uptime": 0,
        "warning": OPEN,
        "metrics": {"activeConnections": 2, "totalConnections": 2, "activeRooms": 2, "messagesRelayed": 2},
    }


@pytest.mark.in_memory
async def test_metrics_have_no_names(server: Service, enter: Enter) -> None:
    """/metrics has the server's own numbers, and no name of anything."""
    a, _ = await both(server, enter, room="SECRET")
    await a.ask("SECRET")
    body = (await request(server.port, "GET /metrics")).body.decode()
    for line in (
        "opennoodl_signaling_rooms 1.0",
        "opennoodl_signaling_peers 2.0",
        "opennoodl_signaling_topics 0.0",
        'opennoodl_messages_total{direction="in",type="join"} 2.0',
        'opennoodl_messages_total{direction="out",type="peer-joined"} 1.0',
        'opennoodl_messages_total{direction="in",type="unknown"} 1.0',
    ):
        assert line in body
    assert "SECRET" not in body


@pytest.mark.parametrize("path", ["/room", "/health", "//"])
async def test_websocket_on_another_path_is_refused(server: Service, path: str) -> None:
    """WebSockets are served on / alone, with any query."""
    with pytest.raises(InvalidStatus) as info:
        await connect(f"ws://127.0.0.1:{server.port}{path}")
    assert info.value.response.status_code == 404
    async with connect(f"ws://127.0.0.1:{server.port}/?token=x") as socket:
        await Editor(socket).quiet()
