"""The modules of the reference client handle tokens and close codes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import jwt
import pytest
from attacks.servers import websocket_server
from harness import StartClient, StartServer
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

SECRET = "a secret of a test, in 32 characters or more"
ROOM = "garden-7f3a"
STEP_2 = bytes([0, 1, 2, 0, 0])
"""The answer to a client: the document is empty."""
ACKNOWLEDGEMENT = bytes([100, 0])
"""All that the client has sent is stored; it has sent nothing."""


def token(seconds: float) -> str:
    """Return a token that expires so many seconds from now."""
    return jwt.encode({"sub": "ann", "exp": int(time.time() + seconds)}, SECRET, "HS256")


@pytest.mark.parametrize(
    ("kind", "working"), [("signaling", "connected"), ("sync", "saved"), ("notification", "connected")]
)
async def test_an_app_that_starts_with_an_expired_token(
    server: StartServer, client: StartClient, kind: str, working: str
) -> None:
    """The client reports that the token has expired, asks for another one, and works with it, in spite of a failure."""
    app = await client("reference")
    started = await server(kind, AUTH="jwt", AUTH_SECRET=SECRET)
    expired = token(-3600)
    tokens = [expired, None, token(3600)]
    await app.call("connect", kind=kind, url=started.url, room=ROOM, user="ann", tokens=tokens)
    await app.event("asked", old=None)
    assert "expired" in (await app.event("refused"))["reason"]
    await app.event("asked", old=expired)
    failed = "offline" if kind == "sync" else "waiting"
    await app.event(failed, reason="there is no token: Error: no answer")
    await app.event(working)


class Peer:
    """A sync server that does as it is told, with a queue of its connections."""

    def __init__(self) -> None:
        self.url = ""
        self.connections: asyncio.Queue[ServerConnection] = asyncio.Queue()

    async def handle(self, connection: ServerConnection) -> None:
        """Read a connection until it ends."""
        await self.connections.put(connection)
        try:
            async for _ in connection:
                pass
        except ConnectionClosed:
            pass

    async def next(self) -> ServerConnection:
        """Return the next connection."""
        return await asyncio.wait_for(self.connections.get(), 30)


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    """Return a server that ends with the test."""
    peer = Peer()
    async with websocket_server(peer.handle, subprotocols=["yjs"]) as peer.url:
        yield peer


@pytest.mark.parametrize(("code", "least"), [(1001, 280), (1011, 280), (1013, 4500)])
async def test_sync_reconnects_after_a_random_delay(client: StartClient, peer: Peer, code: int, least: int) -> None:
    """Chance makes the delay longer than 200 ms, or than 3.2 s if the server is at a limit."""
    app = await client("reference")
    await app.call("connect", kind="sync", url=peer.url, room=ROOM, chance=0.5)
    await app.event("connecting")
    connection = await peer.next()
    await connection.send(STEP_2)
    await connection.send(ACKNOWLEDGEMENT)
    await app.event("saved")
    await connection.close(code, "the reason")
    lost = await app.event("offline", reason="the reason")
    await peer.next()
    assert (await app.event("connecting"))["at"] - lost["at"] > least - 5  # timers of Node may be early by a little


async def test_sync_asks_less_often_while_the_server_closes_early(client: StartClient, peer: Peer) -> None:
    """Delays grow until the server has sent the document, since a socket that opens proves nothing."""
    app = await client("reference")
    await app.call("connect", kind="sync", url=peer.url, room=ROOM)
    await app.event("connecting")
    for least in (200, 400, 800):
        await (await peer.next()).close(1011)
        lost = await app.event("offline", reason="")
        assert (await app.event("connecting"))["at"] - lost["at"] > least - 5
