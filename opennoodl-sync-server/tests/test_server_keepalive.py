"""The server and clients that hear nothing from others."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from opennoodl_sync.rooms import keepalive as module

from .client import Server, get, running
from .test_server_slow import fill, reader

KEEPALIVE = bytes((1, 1, 0))


@pytest.fixture
async def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Server]:
    """Run a server that does not let a client wait for long."""
    monkeypatch.setattr(module, "INTERVAL", 0.05)
    monkeypatch.setattr(module, "TICK", 0.01)
    async with running(tmp_path) as server:
        yield server


async def test_a_client_that_is_alone_and_silent_hears_something(server: Server) -> None:
    """It is sent awareness without a client in it, which changes nothing, again and again."""
    ann = await server.join("room", 1)
    heard = len(ann.messages)
    await ann.hears(heard + 2)
    assert set(ann.messages[heard:]) == {KEEPALIVE}
    assert ann.states == {}
    assert (
        b'opennoodl_messages_total{direction="out",type="keepalive"}'
        in (await get(server.service.port, "/metrics")).body
    )


async def test_a_client_that_only_writes_hears_something(server: Server) -> None:
    """It is not sent what it wrote, but hears from the server."""
    ann = await server.join("room", 1)
    heard = len(ann.messages)
    while KEEPALIVE not in ann.messages[heard:]:
        await ann.type("word ")
        await ann.hears(len(ann.messages))
    assert set(ann.messages[heard:]) == {KEEPALIVE}


async def test_a_client_that_left_is_forgotten(server: Server) -> None:
    """Nothing is kept of it."""
    ann = await server.join("room", 1)
    bob = await server.join("room", 2)
    await ann.close()
    heard = len(bob.messages)
    await bob.hears(heard + 1)
    assert len(server.app._sessions.keepalive._due) == 1


async def test_a_client_that_does_not_read_is_sent_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that does not read gets no keepalive on top of its unread output."""
    monkeypatch.setattr(module, "INTERVAL", 0.05)
    monkeypatch.setattr(module, "TICK", 0.01)
    async with running(tmp_path, slow_client_buffer=50_000, rate_limit=0) as server:
        ann, bob = await server.join("room", 1), await reader(server, "room", 2)
        await fill(ann, bob)
        waiting = bob.connection.buffered
        await ann.until(lambda: ann.messages[-3:] == [KEEPALIVE] * 3)
        assert bob.connection.buffered == waiting
        bob.resume()
