"""Every way out of a room: the others are told exactly once, and nothing of the peer is left."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from opennoodl_signaling.edge.limits import PATIENCE
from opennoodl_signaling.edge.service import Service

from .cluster.redis_server import RedisServer
from .conftest import Enter, EnterRaw, StartServer
from .edge.harness import BINARY, CLOSE, TEXT, Raw
from .editor import Editor

JOIN = {"type": "join", "room": "r", "peerId": "x", "userId": "X"}
RESUMABLE = {**JOIN, "resume": True}
COUNTING = {**RESUMABLE, "received": 0}
joins = pytest.mark.parametrize("join", [JOIN, RESUMABLE, COUNTING], ids=["plain", "resumable", "counting"])


class Scene:
    """A peer that looks on, and x, which is about to go."""

    def __init__(self, server: Service, other: Editor, x: Raw, redis: RedisServer | None) -> None:
        self.redis = redis
        self.server = server
        self.other = other
        self.x = x

    async def send(self, **message: Any) -> None:
        """Let x send a message."""
        await self.x.send_frame(TEXT, json.dumps(message).encode())

    async def code(self) -> int:
        """Return the code that x is closed with."""
        closed = await self.x.frame_of(CLOSE)
        assert closed is not None
        return closed.code

    async def is_over(self) -> None:
        """Find out that x has left once, and that nothing is left of it; then of anybody."""
        assert await self.other.receive() == {"type": "peer-left", "peerId": "x"}
        await self.forgotten()
        self.x.sock.close()
        await self.other.quiet()
        await self.other.send("leave")
        await self.other.quiet()
        app: Any = self.server.app
        if self.redis is None:
            assert app.rooms.rooms == {}
        else:
            assert self.kept() == {"user:user of o"}

    def kept(self) -> set[str]:
        """Return what Redis has of rooms, mailboxes, topics and users."""
        assert self.redis is not None
        client = self.redis.client()
        keys = {key.decode().removeprefix("opennoodl:signaling:") for key in client.keys("*")}
        client.close()
        return {key for key in keys if key.partition(":")[0] in ("away", "box", "room", "topic", "user", "waiting")}

    async def forgotten(self) -> None:
        """Find out that no index has x."""
        if self.redis is not None:
            await self.other.quiet()
            assert self.kept() == {"room:r", "user:user of o"}
            return
        app: Any = self.server.app
        assert [list(room.peers) for room in app.rooms.rooms.values()] == [["o"]]
        assert list(app.users.devices) == ["user of o"]
        assert app.effects.absent == app.topics.topics == {}
        assert app.rooms.absent_peers.count == app.rooms.absent_peers.size == app.rooms.logs.size == 0


@pytest.fixture
def set_up(start: StartServer, enter: Enter, enter_raw: EnterRaw, engine: str, request: pytest.FixtureRequest) -> Any:
    """Start a server with a peer that looks on and x."""
    redis = request.getfixturevalue("redis") if engine == "redis" else None

    async def set_up_(join: dict[str, Any], **settings: Any) -> Scene:
        server = await start(**settings)
        other = await enter(server)
        await other.join("r", "o")
        x = await enter_raw(server, {"type": "subscribe", "topics": ["t"]}, join)
        await other.expect("peer-joined")
        return Scene(server, other, x, redis)

    return set_up_


# The client's ways


@joins
async def test_leave_is_told_once(set_up: Any, join: dict[str, Any]) -> None:
    """`leave` is one; the end of the connection after it is no other."""
    scene = await set_up(join)
    await scene.send(type="leave")
    assert await scene.other.receive() == {"type": "peer-left", "peerId": "x"}
    await scene.x.send_frame(CLOSE, b"\x03\xe8")
    await scene.code()
    await scene.other.quiet()
    await scene.forgotten()


@joins
async def test_move_is_told_once(set_up: Any, join: dict[str, Any]) -> None:
    """To join another room is one; the end of the connection after it is no other."""
    scene = await set_up(join)
    await scene.send(**{**join, "room": "s"})
    assert await scene.other.receive() == {"type": "peer-left", "peerId": "x"}
    await scene.x.send_frame(CLOSE, b"\x03\xe8")
    await scene.code()
    await scene.other.quiet()
    await scene.forgotten()


@joins
@pytest.mark.parametrize("payload", [b"\x03\xe8", b"\x03\xe9", b"", b"\x03\xf3", b"\x0f\xa0bye"])
async def test_close_frame_is_told_at_once(set_up: Any, join: dict[str, Any], payload: bytes) -> None:
    """A close frame is one, whatever its code."""
    scene = await set_up(join)
    await scene.x.send_frame(CLOSE, payload)
    await scene.is_over()


@pytest.mark.parametrize("how", ["reset", "half_close"])
@joins
async def test_lost_connection_is_told_after_the_grace(set_up: Any, join: dict[str, Any], how: str) -> None:
    """A connection that ends without a close frame is one, after the grace if there is one."""
    scene = await set_up(join, resume_grace=50)
    getattr(scene.x, how)()
    await scene.is_over()


@joins
async def test_silent_client_is_told_after_the_grace(set_up: Any, join: dict[str, Any]) -> None:
    """Two heartbeats of silence are one, after the grace if there is one."""
    scene = await set_up(join, resume_grace=50, heartbeat_interval=300)
    await scene.is_over()


@pytest.mark.in_memory
@joins
async def test_silence_is_a_loss(set_up: Any, enter: Enter, join: dict[str, Any]) -> None:
    """A silent client is waited for if it can resume, and has left if it cannot."""
    scene = await set_up(join, heartbeat_interval=300)
    while await scene.x.some():
        pass  # until it is cut
    app: Any = scene.server.app
    if join is JOIN:
        await scene.is_over()
    else:
        assert app.rooms.absent_peers.count == 1
        await scene.other.quiet()


# The server's ways


@joins
async def test_end_by_a_binary_frame_is_told(set_up: Any, join: dict[str, Any]) -> None:
    """To be closed for a binary frame is one."""
    scene = await set_up(join)
    await scene.x.send_frame(BINARY, b"binary")
    assert await scene.code() == 1003
    await scene.is_over()


@joins
async def test_end_by_invalid_utf8_is_told(set_up: Any, join: dict[str, Any]) -> None:
    """To be closed for a text that is none is one."""
    scene = await set_up(join)
    await scene.x.send_frame(TEXT, b"\xff")
    assert await scene.code() == 1007
    await scene.is_over()


@joins
async def test_end_by_a_large_message_is_told(set_up: Any, join: dict[str, Any]) -> None:
    """To be closed for a message that is too big is one."""
    scene = await set_up(join, max_message_size=1000)
    await scene.x.send_frame(TEXT, b" " * 1001)
    assert await scene.code() == 1009
    await scene.is_over()


@joins
async def test_end_by_an_invalid_frame_is_told(set_up: Any, join: dict[str, Any]) -> None:
    """To be closed for bytes that are no frame is one."""
    scene = await set_up(join)
    await scene.x.send(b"\xff\xff\xff\xff\xff\xff")
    assert await scene.code() == 1002
    await scene.is_over()


@pytest.mark.in_memory
@joins
async def test_end_by_the_rate_is_told(set_up: Any, join: dict[str, Any]) -> None:
    """To be closed for not heeding RATE_LIMIT is one."""
    scene = await set_up(join, rate_limit=1)
    for _ in range(PATIENCE + 20):
        await scene.x.send_frame(TEXT, b"{}")
    assert await scene.code() == 1008
    await scene.is_over()


@joins
async def test_end_of_a_slow_client_is_told_at_once(set_up: Any, enter: Enter, join: dict[str, Any]) -> None:
    """To be closed for reading too slowly is one: what waited is lost, so there is nothing to go on with."""
    scene = await set_up(join, slow_client_buffer=10_000, rate_limit=0, byte_rate_limit=0)
    sender = await enter(scene.server)
    await sender.join("r", "s")
    await scene.other.expect("peer-joined")
    for _ in range(200):  # more than the kernel buffers
        await sender.send("signal", to="x", signal="x" * 60_000)
    assert await scene.other.receive() == {"type": "peer-left", "peerId": "x"}
    await sender.socket.close()
    await scene.other.expect("peer-left")
    await scene.forgotten()
    await scene.other.quiet()


@pytest.mark.in_memory
@joins
async def test_end_by_a_failure_is_told(set_up: Any, join: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """To be closed for a message that the server failed on is one."""
    scene = await set_up(join)
    monkeypatch.setattr(scene.server.app.users, "invite", None)
    await scene.send(type="invite", targetUserId="o", roomId="r")
    assert await scene.code() == 1011
    await scene.is_over()


@pytest.mark.in_memory
@joins
async def test_stop_is_not_told(set_up: Any, enter: Enter, join: dict[str, Any]) -> None:
    """A server that stops tells nobody of those whom it closes: live calls need no server, and go on."""
    scene = await set_up(join)
    stopping = asyncio.create_task(scene.server.stop())
    assert await scene.code() == 1001
    scene.x.reset()
    await stopping
    app: Any = scene.server.app
    assert await scene.other.closed() == 1001
    assert app.rooms.rooms == app.users.devices == app.topics.topics == app.effects.absent == {}


# Those that are none


@joins
async def test_replaced_peer_is_told_once(
    set_up: Any, enter: Enter, contest_timeout: Callable[[float], None], join: dict[str, Any]
) -> None:
    """To be replaced by a connection without the token is one; that connection has come, and leaves once."""
    contest_timeout(0.05)
    scene = await set_up(join)
    newer = await enter(scene.server)
    await newer.join("r", "x", "X")
    assert await scene.code() == 4409
    scene.x.reset()
    assert await scene.other.receive() == {"type": "peer-left", "peerId": "x"}
    await scene.other.expect("peer-joined")
    await scene.other.quiet()
    await newer.socket.close()
    await scene.is_over()


@pytest.mark.in_memory
async def test_resumed_peer_is_told_once(set_up: Any, enter: Enter) -> None:
    """A peer replaced by itself has not left; when it leaves, the others are told once."""
    scene = await set_up(RESUMABLE)
    newer = await enter(scene.server)
    await newer.join("r", "x", "X", resumeToken=scene.server.app.rooms.rooms["r"].peers["x"].resumption.token)
    assert await scene.code() == 4409
    scene.x.reset()
    await scene.other.quiet()
    await newer.socket.close()
    await scene.is_over()
