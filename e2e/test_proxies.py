"""The recipes of docs/proxies.md and deploy/Caddyfile, in real proxies with real clients."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from harness import HERE, Client, Server, StartClient, StartServer
from pycrdt import Doc, Text, create_sync_message, create_update_message
from reverse_proxies import RECIPES, Recipe, ReverseProxy
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

# With the last one, the proxy has to say that it was reached over TLS.
BEHIND = {"TRUSTED_PROXIES": "127.0.0.1", "REQUIRE_WSS": True}
PATIENCE = 30
StartProxy = Callable[..., Awaitable[ReverseProxy]]

pytestmark = pytest.mark.parametrize(
    "recipe",
    [
        pytest.param(
            recipe,
            id=str(recipe),
            marks=pytest.mark.skipif(
                not recipe.installed, reason=f"needs {recipe.program}: apt-get install {recipe.program}"
            ),
        )
        for recipe in RECIPES
    ],
)


@pytest.fixture
async def proxy(recipe: Recipe, tmp_path: Path) -> AsyncIterator[StartProxy]:
    """Start the proxy, which ends with the test."""
    started: list[ReverseProxy] = []

    async def start(**servers: Server) -> ReverseProxy:
        folder = tmp_path / "proxy"
        folder.mkdir()
        started.append(ReverseProxy(recipe, folder, {kind: server.port for kind, server in servers.items()}))
        await started[0].start()
        return started[0]

    yield start
    for each in started:
        await each.close()
        print(each.tail())


def to_proxy(url: str, proxy: ReverseProxy, **headers: str) -> connect:
    """Connect to a URL of the proxy, whose names no DNS knows."""
    return connect(
        url, host="127.0.0.1", port=proxy.port, ssl=proxy.context(), additional_headers=headers, compression=None
    )


async def driver(client: StartClient, name: str, proxy: ReverseProxy) -> Client:
    """Start JavaScript clients that find the proxy and trust its certificate."""
    options = f"--import={(HERE / 'clients/hosts.mjs').as_uri()}"
    return await client(name, NODE_OPTIONS=options, NODE_EXTRA_CA_CERTS=str(proxy.authority))


async def test_y_websocket_clients_share_a_document_through_a_proxy(
    recipe: Recipe, proxy: StartProxy, server: StartServer, client: StartClient
) -> None:
    """Two y-websocket clients share a document through the proxy, also a message of megabytes."""
    started = await proxy(sync=await server("sync", **BEHIND, **recipe.settings))
    clients = await driver(client, "websocket", started)
    for name, version in (("ada", "3"), ("ben", "1.5")):
        await clients.call("open", name=name, url=started.url("sync"), room="project", version=version)
    await clients.call("insert", name="ada", text="x" * 3_000_000)
    await clients.call("untilText", name="ben", text="x" * 3_000_000)


async def test_y_webrtc_editors_find_each_other_through_a_proxy(
    proxy: StartProxy, server: StartServer, client: StartClient
) -> None:
    """Two y-webrtc editors find each other through the proxy."""
    started = await proxy(signaling=await server("signaling", **BEHIND))
    ada, ben = [await driver(client, "webrtc", started) for _ in range(2)]
    await ada.call("open", signaling=started.url("signaling"), room="project")
    await ada.event("published")
    await ben.call("open", signaling=started.url("signaling"), room="project")
    for editor in (ada, ben):
        await editor.event("synced", synced=True)


async def test_devices_authenticate_through_a_proxy(proxy: StartProxy, server: StartServer) -> None:
    """A device authenticates at the notification server through the proxy."""
    started = await proxy(notification=await server("notification", **BEHIND))
    async with to_proxy(started.url("notification"), started) as device:
        await device.send(json.dumps({"type": "authenticate", "userId": "ann"}))
        async with asyncio.timeout(PATIENCE):
            assert json.loads(await device.recv())["type"] == "authenticated"


def update(text: str) -> bytes:
    """Return the message that adds a text to a document."""
    doc: Doc[Text] = Doc()
    doc["text"] = Text(text)
    return create_update_message(doc.get_update())


async def receive(socket: ClientConnection, end: bytes) -> None:
    """Wait for a message that has these bytes."""
    async with asyncio.timeout(PATIENCE):
        while end not in await socket.recv(decode=False):
            pass


ROOMS = ("x", "team%2F1", "a//b", "a/b/", "a%20b", "a/%2e%2e/b", "metrics", "caf%C3%A9", "a'b!")


async def meet(near: ClientConnection, far: ClientConnection) -> bool:
    """Return whether what one client says reaches the other one."""
    for socket in (near, far):
        await socket.send(create_sync_message(Doc()))
        await socket.recv()
    await far.send(update("said through the proxy"))
    try:
        await receive(near, b"said through the proxy")
    except TimeoutError:
        return False
    return True


async def test_room_names_are_the_same_through_a_proxy(recipe: Recipe, proxy: StartProxy, server: StartServer) -> None:
    """A room has the same name through the proxy and without it, whatever characters it has."""
    sync = await server("sync", **BEHIND, **recipe.settings)
    started = await proxy(sync=sync)

    async def is_same(room: str) -> bool:
        direct = f"{sync.url}{recipe.settings.get('PATH_PREFIX', '')}/{recipe.room(room)}"
        async with (
            connect(direct, additional_headers={"X-Forwarded-Proto": "https"}, compression=None) as near,
            to_proxy(f"{started.url('sync')}/{room}", started) as far,
        ):
            return await meet(near, far)

    same = await asyncio.gather(*map(is_same, ROOMS))
    assert [room for room, reached in zip(ROOMS, same, strict=True) if not reached] == []


async def test_address_of_the_client(proxy: StartProxy, server: StartServer) -> None:
    """The proxy reports the address of the client, whatever address the client claims."""
    signaling = await server("signaling", **BEHIND, MAX_CONNECTIONS_PER_IP=1)
    started = await proxy(signaling=signaling)
    async with to_proxy(started.url("signaling"), started, **{"X-Forwarded-For": "192.0.2.1"}):
        with pytest.raises(InvalidStatus) as refused:
            await to_proxy(started.url("signaling"), started, **{"X-Forwarded-For": "192.0.2.2"})
        assert refused.value.response.status_code == 429


async def test_proxies_log_no_room_and_no_token(recipe: Recipe, proxy: StartProxy, server: StartServer) -> None:
    """The proxy logs neither the name of a room nor a token, also when it cannot reach the server."""
    sync = await server("sync", **BEHIND, **recipe.settings)
    started = await proxy(sync=sync)
    url = f"{started.url('sync')}/a-secret-room?token=a-secret-token"
    async with to_proxy(url, started):
        pass
    await sync.stop()
    with pytest.raises(InvalidStatus) as refused:
        await to_proxy(url, started)
    assert refused.value.response.status_code in (502, 503)
    await started.close()
    assert [line for line in started.output if "a-secret" in line] == []


async def test_session_previews_are_found_through_a_proxy(proxy: StartProxy, server: StartServer) -> None:
    """The session preview of signaling is found behind the proxy, for a room with a slash in its name."""
    signaling = await server("signaling", **BEHIND)
    started = await proxy(signaling=signaling)
    join = {"type": "join", "room": "team/1", "peerId": "p", "userId": "ann"}
    async with to_proxy(started.url("signaling"), started) as peer:
        await peer.send(json.dumps(join))
        assert json.loads(await peer.recv())["type"] == "joined"
        status, body = await get(started, f"{started.url('signaling')}/session/team%2F1/info")
        assert (status, json.loads(body)["participantCount"]) == (200, 1)


async def get(proxy: ReverseProxy, url: str) -> tuple[int, bytes]:
    """Return status and body of a page of the proxy."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", proxy.port, ssl=proxy.context(), server_hostname=parts.hostname
    )
    writer.write(
        f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nAccept: application/json\r\n".encode()
        + b"Connection: close\r\n\r\n"
    )
    async with asyncio.timeout(PATIENCE):
        answer = await reader.read()
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body
