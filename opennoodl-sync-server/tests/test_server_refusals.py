"""A client that does not get its document leaves a line in the log with the reason, and a count in the metrics."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from time import time
from typing import Any

import pytest
import structlog
from opennoodl_sync import sessions as sessions_module
from opennoodl_sync.edge.refusals import EVENT
from opennoodl_sync.pages.rooms import KICKED
from opennoodl_sync.refusals import REFUSALS
from opennoodl_sync.storage.interface import CorruptError, ElsewhereError, PersistentStore, UnavailableError
from websockets.asyncio.client import connect

from .client import Client, Server, running
from .conftest import Disk
from .edge.issuer import OTHER_SECRET, SECRET, signed
from .wire import token_message

TOKENS: dict[str, Any] = {"auth": "jwt", "auth_secret": SECRET, "auth_audience": "opennoodl"}
ROOM = "SECRET-room"


def token(**claims: Any) -> str:
    """Return a token of this server."""
    return signed(**{"aud": "opennoodl", **claims})


async def come(server: Server, query: str = "", room: str = ROOM) -> Client:
    """Connect, and wait for nothing."""
    client = Client(await connect(f"{server.url(room)}?{query}", compression=None), 9)
    server.clients.append(client)
    return client


def shows(shown: str) -> Act:
    """Return what connects with a token, and waits for the end."""

    async def act(server: Server, disk: Disk) -> None:
        await (await come(server, f"token={shown}")).ended()

    return act


Act = Callable[[Server, Disk], Awaitable[None]]


def fails(error: Exception) -> Act:
    """Return what connects where the store cannot open a document."""

    async def act(server: Server, disk: Disk) -> None:
        async def open_(name: str) -> Any:
            raise error

        server.app._store.open = open_  # type: ignore[method-assign]
        await (await come(server)).ended()

    return act


async def one_too_many(server: Server, disk: Disk) -> None:
    """Connect to a room with one client."""
    await server.join(ROOM, 1)
    await (await come(server)).ended()


async def another_room(server: Server, disk: Disk) -> None:
    """Open a second document."""
    await server.join("other", 1)
    await (await come(server)).ended()


async def closed(server: Server, disk: Disk) -> None:
    """Connect to a room that an operator has closed."""
    store = server.app._store
    assert isinstance(store, PersistentStore)
    await store.set_closed(ROOM, True)
    await (await come(server)).ended()


async def kicked(server: Server, disk: Disk) -> None:
    """Be in a room when its clients are disconnected."""
    client = await server.join(ROOM, 1)
    server.app._sessions.disconnect(server.app.rooms.rooms[ROOM], KICKED, "kicked")
    await client.ended()


async def much(server: Server, disk: Disk) -> None:
    """Write more than may be."""
    client = await server.join(ROOM, 1)
    await client.type("SECRET" * 100_000)
    await client.ended()


async def full_disk(server: Server, disk: Disk) -> None:
    """Write where the disk is full."""
    client = await server.join(ROOM, 1)
    disk.full = True
    await client.type("SECRET")
    await client.ended()
    disk.full = False


async def acknowledgements(server: Server, disk: Disk) -> None:
    """Ask for acknowledgements."""
    await (await come(server, "ack=true")).ended()


async def text(server: Server, disk: Disk) -> None:
    """Send text, as y-webrtc does to the wrong server."""
    client = await server.join(ROOM, 1)
    await client.socket.send("SECRET")
    await client.ended()


async def bad_renewal(server: Server, disk: Disk) -> None:
    """Show a token that has expired, on an open connection."""
    client = await server.join(f"{ROOM}?token={token()}", 1)
    heard = len(client.messages)
    await client.socket.send(token_message(token(exp=1)))
    await client.hears(heard)


SITUATIONS: dict[str, tuple[str, Act, dict[str, Any]]] = {
    "no token": ("token-missing", shows(""), TOKENS),
    "a token that is none": ("token-invalid", shows("SECRET"), TOKENS),
    "an expired token": ("token-expired", shows(token(exp=1)), TOKENS),
    "a token of tomorrow": ("token-not-yet-valid", shows(token(nbf=time() + 86_400)), TOKENS),
    "a token of another issuer": ("token-signature", shows(signed(OTHER_SECRET)), TOKENS),
    "a token for another application": ("token-audience", shows(token(aud="SECRET")), TOKENS),
    "a token for another room": ("token-room", shows(token(rooms=["other"])), TOKENS),
    "a renewal that has expired": ("token-expired", bad_renewal, TOKENS),
    "an issuer that does not answer": (
        "auth-unavailable",
        shows(token()),
        {"auth": "jwt", "auth_jwks_url": "http://127.0.0.1:9/keys"},
    ),
    "a full room": ("room-full", one_too_many, {"max_room_size": 1}),
    "a closed room": ("room-closed", closed, {}),
    "a kick": ("kicked", kicked, {}),
    "many documents": ("too-many-documents", another_room, {"max_rooms": 1}),
    "full memory": ("memory-full", much, {"max_memory": 500_000}),
    "a large document": ("document-too-large", much, {"max_document_size": 100_000}),
    "damaged data": ("document-damaged", fails(CorruptError("it is damaged")), {}),
    "a full disk": ("storage-failed", full_disk, {}),
    "no database": ("storage-unavailable", fails(UnavailableError("It is away.")), {}),
    "a document of another instance": ("document-elsewhere", fails(ElsewhereError("other", "")), {}),
    "acknowledgements of nothing": ("not-durable", acknowledgements, {"enable_persistence": False}),
    "a text message": ("wrong-message-kind", text, {}),
}


@pytest.mark.parametrize("name", SITUATIONS)
async def test_each_situation_has_a_log_line_and_a_metric(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Each situation in which a client does not get its document has its line, and its metric."""
    monkeypatch.setattr(sessions_module, "TURN_AWAY_AFTER", 0.05)
    code, act, settings = SITUATIONS[name]
    async with running(tmp_path, **settings) as server:
        with structlog.testing.capture_logs() as logged:
            await act(server, disk)
        reasons = server.app.refusals.reasons
        metrics = server.app.metrics.text().decode()
    line = next(line for line in logged if line["event"] == EVENT)
    assert (line["log_level"], line["code"], line["reason"]) == ("info", code, reasons[code])
    assert line["address"] == "127.0.0.1"
    assert isinstance(line["connection"], int)
    assert "SECRET" not in repr([line for line in logged if line["log_level"] != "debug"])
    assert f'opennoodl_refusals_total{{code="{code}"}} 1.0' in metrics


def test_every_own_code_has_a_situation() -> None:
    """No code that only this server has is without a test."""
    assert {code for code, _, _ in SITUATIONS.values()} >= REFUSALS.keys()
