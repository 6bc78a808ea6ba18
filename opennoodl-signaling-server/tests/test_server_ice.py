"""ICE servers, over sockets and from the command line."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from opennoodl_signaling.edge.service import Service
from opennoodl_signaling.ice import credential

from .conftest import Enter, EnterRaw, StartServer
from .edge.harness import PROCESS_TIMEOUT
from .editor import news

STUN = "stun:turn.example:3478"
TURN = "turn:turn.example:3478"
SECRET = "0123456789abcdef"


@pytest.fixture
async def server(start: StartServer) -> Service:
    """Start a server that sends peers to a TURN server."""
    return await start(stun_urls=STUN, turn_urls=TURN, turn_secret=SECRET, turn_ttl=600)


def check(servers: Any, user: str) -> int:
    """Find out that these are the servers for a user; return when they expire."""
    stun, turn = servers
    assert stun == {"urls": [STUN]}
    assert turn["urls"] == [TURN]
    assert turn["credential"] == credential(SECRET.encode(), turn["username"])
    expiry, name = turn["username"].split(":")
    assert name == user
    return int(expiry)


async def test_joined_has_ice_servers(server: Service, enter: Enter) -> None:
    """`joined` brings everybody the ICE servers, with credentials of their own."""
    a, b = await enter(server), await enter(server)
    before = int(time.time())
    for editor, peer, user in ((a, "a", "A"), (b, "b", "B")):
        joined = await editor.join("r", peer, user)
        assert before + 600 <= check(joined["iceServers"], user) <= time.time() + 600
    assert await a.expect("peer-joined") == news("b", "B")


async def test_second_join_has_ice_servers(server: Service, enter: Enter) -> None:
    """A second join gets the ICE servers again."""
    a = await enter(server)
    for room in ("r", "r", "s"):
        check((await a.join(room, "a", "A"))["iceServers"], "A")


async def test_joined_after_a_contest_has_ice_servers(
    server: Service, enter: Enter, enter_raw: EnterRaw, contest_timeout: Callable[[float], None]
) -> None:
    """A client that replaces a dead connection gets the ICE servers too."""
    contest_timeout(0.05)
    b, again = await enter(server), await enter(server)
    await b.join("r", "b", "B")
    await enter_raw(server, {"type": "join", "room": "r", "peerId": "a", "userId": "A"})
    await b.expect("peer-joined")
    check((await again.join("r", "a", "A"))["iceServers"], "A")


async def test_ice_servers_can_be_refreshed(server: Service, enter: Enter) -> None:
    """`ice-servers` is answered with a list as in `joined`, and with when it expires."""
    a = await enter(server)
    await a.join("r", "a", "A")
    answer = await a.ask("ice-servers")
    assert answer.keys() == {"type", "iceServers", "expiresAt"}
    assert answer["type"] == "ice-servers"
    assert datetime.fromisoformat(answer["expiresAt"]).timestamp() == check(answer["iceServers"], "A")


async def test_registered_client_may_ask_for_ice_servers(server: Service, enter: Enter) -> None:
    """A registered client may ask for ICE servers before it joins a room: y-webrtc needs the list at its start."""
    a = await enter(server)
    await a.ask("register", userId="A")
    check((await a.ask("ice-servers"))["iceServers"], "A")


async def test_unregistered_client_gets_no_credentials(server: Service, enter: Enter) -> None:
    """An unregistered client gets no credentials."""
    a = await enter(server)
    assert await a.refused("ice-servers", requestId=7) == ("not-registered", 7)


async def test_list_is_empty_without_settings(start: StartServer, enter: Enter) -> None:
    """Without settings `joined` is as ever, and the list that is asked for is empty."""
    a = await enter(await start())
    assert await a.join("r", "a") == {"room": "r", "peerId": "a", "peers": []}
    assert await a.ask("ice-servers") == {"type": "ice-servers", "iceServers": []}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "value"), [("STUN_URLS", "stun.example"), ("TURN_URLS", TURN), ("TURN_SECRET", SECRET), ("TURN_TTL", "0")]
)
def test_unusable_setting_stops_the_start(name: str, value: str) -> None:
    """A setting that is not usable stops the start with one line that names it."""
    environment = {**os.environ, "PORT": "0", name: value}
    command = [sys.executable, "-m", "opennoodl_signaling"]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=PROCESS_TIMEOUT, check=False
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"opennoodl_signaling: {name} ")
    assert done.stdout == ""
