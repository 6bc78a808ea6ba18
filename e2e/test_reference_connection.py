"""The reference client's connection handles each close code, against a server that closes on command."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator

import jwt
import pytest
from attacks.servers import websocket_server
from harness import Client, Event, StartClient
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

SECRET = "a secret of a test, in 32 characters or more"


class Peer:
    """A server with a queue of its connections, each with the client's first message, and a queue of later messages."""

    def __init__(self) -> None:
        self.url = ""
        self.greeted: asyncio.Queue[tuple[ServerConnection, Event]] = asyncio.Queue()
        self.messages: asyncio.Queue[Event] = asyncio.Queue()

    async def handle(self, connection: ServerConnection) -> None:
        """Read a connection until it ends."""
        await self.greeted.put((connection, json.loads(await connection.recv())))
        with contextlib.suppress(ConnectionClosed):
            while True:
                await self.messages.put(json.loads(await connection.recv()))

    async def accept(self) -> ServerConnection:
        """Accept the next client."""
        connection, _ = await asyncio.wait_for(self.greeted.get(), 30)
        await connection.send('{"type": "accepted"}')
        return connection


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    """Return a server that ends with the test. It is named before `client`, so that clients end before it."""
    peer = Peer()
    async with websocket_server(peer.handle) as peer.url:
        yield peer


async def accepted(client: StartClient, peer: Peer, **options: object) -> tuple[Client, ServerConnection]:
    """Return a client that the server has accepted."""
    page = await client("connection")
    await page.call("connect", url=peer.url, **options)
    connection = await peer.accept()
    await page.event("connected")
    return page, connection


@pytest.mark.parametrize(("code", "least"), [(1001, 250), (1011, 250), (1013, 2500)])
async def test_the_client_reconnects_after_a_random_delay(
    peer: Peer, client: StartClient, code: int, least: int
) -> None:
    """It connects again after a random delay, which is longer if the server is at a limit."""
    page, connection = await accepted(client, peer)
    await page.event("connecting")
    await connection.close(code, "the reason")
    lost = await page.event("waiting", reason="the reason")
    await peer.accept()
    assert (await page.event("connecting"))["at"] - lost["at"] > least - 5  # timers of Node may be early by a little
    await page.event("connected")


async def test_delays_grow_while_the_server_closes_early(peer: Peer, client: StartClient) -> None:
    """A server that closes before it accepts is asked less and less often."""
    page = await client("connection")
    await page.call("connect", url=peer.url)
    await page.event("connecting")
    for least in (250, 500, 1000):
        connection, _ = await asyncio.wait_for(peer.greeted.get(), 30)
        await connection.close(1011)
        lost = await page.event("waiting")
        assert (await page.event("connecting"))["at"] - lost["at"] > least - 5


@pytest.mark.parametrize("answer", ["not JSON", "null", "[]", '{"type": 1}', b"{}"])
async def test_the_client_leaves_a_server_that_sends_no_messages(
    peer: Peer, client: StartClient, answer: str | bytes
) -> None:
    """It says so, as the address may be wrong, and connects again after a delay."""
    page, connection = await accepted(client, peer)
    await connection.send(answer)
    assert "is not a message" in (await page.event("waiting"))["reason"]
    await peer.accept()
    await page.event("connected")


async def test_a_replaced_client_stays_away(peer: Peer, client: StartClient) -> None:
    """After 4409 it does not return, and says so."""
    page, connection = await accepted(client, peer)
    await connection.close(4409, "a newer connection")
    await page.event("replaced", reason="a newer connection")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(peer.greeted.get(), 1)


async def test_a_refused_token_is_replaced(peer: Peer, client: StartClient) -> None:
    """After 1008 it asks for another token, names the refused one, and connects with the new one."""
    page, connection = await accepted(client, peer, tokens=["one", "two"])
    await connection.close(1008, "expired")
    await page.event("refused", reason="expired")
    await page.event("asked", old="one")
    _, hello = await asyncio.wait_for(peer.greeted.get(), 30)
    assert hello["token"] == "two"


@pytest.mark.parametrize("seconds", [10, 1])
async def test_a_token_is_renewed_in_time(peer: Peer, client: StartClient, seconds: int) -> None:
    """At half of a short lifetime, and after five seconds at least, it asks for a newer token and sends it."""
    now = int(time.time())
    token = jwt.encode({"exp": now + seconds}, SECRET, "HS256")
    page, _ = await accepted(client, peer, tokens=[token, "newer"], now=now)
    began = time.monotonic()
    await page.event("asked", old=token)
    assert time.monotonic() - began > 3
    assert await asyncio.wait_for(peer.messages.get(), 30) == {"type": "renewed", "token": "newer"}
    assert peer.greeted.empty()
