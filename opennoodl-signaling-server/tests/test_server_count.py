"""Peers that count, over sockets: what was written to a connection that was dead and seemed open is not lost."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from opennoodl_signaling.edge.service import Service
from opennoodl_signaling.server import LocalHandler

from .conftest import Enter, EnterRaw, StartServer
from .edge.harness import TEXT, TIMEOUT
from .editor import news
from .test_server_metrics import read
from .test_server_resume import X, cut

JOIN = {"type": "join", "room": "r", "peerId": "x", "userId": "X", "resume": True, "received": 0}


async def test_count_resumes_with_the_missing_messages(server: Service, enter: Enter, enter_raw: EnterRaw) -> None:
    """A client that resumes with its count gets the missing messages, in order; the others see nothing."""
    other, late = await enter(server), await enter(server)
    await other.join("r", "o")
    dead = await enter_raw(server, JOIN)
    await other.expect("peer-joined")
    joined = await dead.frame_of(TEXT)
    assert joined is not None
    token = json.loads(joined.payload)["resumeToken"]
    for number in range(2):
        await other.send("signal", to="x", signal=number)
    assert await dead.frame_of(TEXT)  # the first signal is the last thing that is read
    await late.join("r", "l")
    await late.send("signal", to="x", signal="an offer")
    await late.quiet()
    again = await enter(server)
    answer = await again.join(**X, resumeToken=token, received=1)
    assert (answer["peers"], answer["resumed"]) == ([news("o")], True)
    assert await again.expect("peer-joined") == news("l")
    assert await again.expect("signal") == {"from": "o", "signal": 1}
    assert await again.expect("signal") == {"from": "l", "signal": "an offer"}
    await again.quiet()
    assert await other.expect("peer-joined") == news("l")
    await other.quiet()


@pytest.mark.in_memory
async def test_answered_heartbeat_drops_the_log(start: StartServer, enter: Enter) -> None:
    """Messages from before an answered heartbeat are not kept."""
    server = await start(heartbeat_interval=300)
    x, other = await enter(server), await enter(server)
    await x.join(**X, resume=True, received=0)
    await other.join("r", "o")
    await other.send("signal", to="x", signal="hello")
    await other.quiet()
    assert read(server, "unconfirmed_bytes") > 0
    await _until_nothing_is_kept(server)
    token = _token(server)
    await cut(x)
    again = await enter(server)
    assert (await again.join(**X, resumeToken=token, received=2))["peers"] == [news("o")]
    await again.quiet()


@pytest.mark.in_memory
async def test_client_without_a_count_has_no_log(server: Service, enter: Enter) -> None:
    """For who does not count nothing is kept."""
    x, other = await enter(server), await enter(server)
    await x.join(**X, resume=True)
    await other.join("r", "o")
    await other.send("signal", to="x", signal="hello")
    await other.quiet()
    assert read(server, "unconfirmed_bytes") == 0


@pytest.mark.parametrize("received", [-1, "1", 1.5, True, []])
async def test_invalid_count_is_refused(server: Service, enter: Enter, received: object) -> None:
    """A count that is none is refused."""
    x = await enter(server)
    assert await x.refused("join", room="r", peerId="x", userId="X", received=received) == "invalid-field"


@pytest.mark.in_memory
async def test_joins_while_a_ping_is_under_way(start: StartServer, enter: Enter, enter_raw: EnterRaw) -> None:
    """A pong that was on its way when a peer joined again says nothing about what came after that."""
    server = await start(heartbeat_interval=0)
    other = await enter(server)
    await other.join("r", "o")
    x = await enter_raw(server, JOIN)
    await other.expect("peer-joined")
    await other.send("signal", to="x", signal=1)
    await other.quiet()
    app: Any = server.app
    mark = app.rooms.rooms["r"].peers["x"].resumption.mark()
    await x.send_frame(TEXT, json.dumps(JOIN).encode())
    await x.send_frame(TEXT, b'{"type":"signal","to":"o","signal":"joined again"}')
    await other.expect("signal")
    await other.send("signal", to="x", signal=2)
    await other.quiet()
    token = _token(server)
    await x.send_frame(10, mark)
    await x.send_frame(TEXT, b'{"type":"signal","to":"o","signal":"pong sent"}')
    await other.expect("signal")
    again = await enter(server)
    await again.join(**X, resumeToken=token, received=0)
    assert await again.expect("signal") == {"from": "o", "signal": 2}
    await again.quiet()


def _token(server: Service) -> str:
    app: Any = server.app
    token: str = app.rooms.rooms["r"].peers["x"].resumption.token
    return token


async def _until_nothing_is_kept(server: Service) -> None:
    """Wait for the pong after which no log has anything."""
    app: Any = server.app
    nothing, pong = asyncio.Event(), LocalHandler.pong

    def pong_(handler: LocalHandler, payload: bytes) -> None:
        pong(handler, payload)
        if not app.rooms.logs.size:
            nothing.set()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalHandler, "pong", pong_)
        async with asyncio.timeout(TIMEOUT):
            await nothing.wait()
