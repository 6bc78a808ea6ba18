"""Acknowledgements through a real socket, for those that ask for them and nobody else."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from opennoodl_sync.storage.interface import StoreError
from opennoodl_sync.y_protocol import denial
from opennoodl_sync.yjs.lib0 import read_varuint

from .client import TIMEOUT, Client, Server, running
from .disks import Writes
from .wire import update_message


def counts(client: Client) -> list[int]:
    """Return the counts that a client was sent, in order."""
    return [read_varuint(message, 1)[0] for message in client.messages if message[0] == 100]


async def asking(server: Server, number: int, *, sync: bool = True) -> Client:
    """Connect a client that wants acknowledgements."""
    return await server.join("room?ack=true", number, sync=sync)


async def acknowledged(client: Client, count: int) -> None:
    """Wait until so many of a client's updates are stored."""
    await client.until(lambda: counts(client)[-1:] == [count])


@pytest.mark.parametrize("fsync", ["every-second", "true", "false"])
async def test_a_client_that_asks_is_acknowledged(tmp_path: Path, fsync: str) -> None:
    """Every update is acknowledged in the end, by counts that rise, the handshake's step 2 being one of them."""
    async with running(tmp_path, fsync=fsync) as server:
        ann = await asking(server, 1)
        await acknowledged(ann, 1)
        await ann.type(*(f"{number} " for number in range(100)))
        await acknowledged(ann, 101)
        assert counts(ann) == sorted(set(counts(ann)))
    async with running(tmp_path) as server:
        assert (await server.join("room", 2)).same(ann)


async def test_the_room_is_the_same(tmp_path: Path) -> None:
    """Asking for acknowledgements does not make another room of it."""
    async with running(tmp_path) as server:
        ann, bob = await asking(server, 1), await server.join("room", 2)
        await ann.type("hello")
        await bob.shows("hello")
        assert set(server.app.rooms.rooms) == {"room"}


@pytest.mark.parametrize("query", ["", "?", "?ack=false", "?ack=", "?ack", "?token=x", "?ACK=true"])
async def test_a_stock_client_is_never_acknowledged(tmp_path: Path, query: str) -> None:
    """Stock clients, which would not know what they are, are sent none."""
    async with running(tmp_path) as server:
        ann, bob = await server.join("room" + query, 1), await server.join("room", 2)
        await ann.type("one ")
        await bob.shows("one ")
        await bob.type("two")
        await ann.shows("two")
        assert counts(ann) == counts(bob) == []


@pytest.mark.parametrize("query", ["?ack=true", "?token=x&ack=true", "?ack=true&other"])
async def test_how_to_ask(tmp_path: Path, query: str) -> None:
    """The query says so, with other things before and behind it."""
    async with running(tmp_path) as server:
        ann = await server.join("room" + query, 1)
        await ann.type("one")
        await acknowledged(ann, 2)


async def test_without_persistence_there_is_nothing_to_acknowledge(tmp_path: Path) -> None:
    """A client with `ack=true` at a server without storage is told so and closed with 1008; others are served."""
    async with running(tmp_path, enable_persistence=False) as server:
        ann = await asking(server, 1, sync=False)
        assert await ann.ended() == 1008
        assert "This server stores nothing" in (ann.socket.close_reason or "")
        assert ann.messages == [denial(ann.socket.close_reason or "")]
        bob = await server.join("room", 2)
        await bob.type("hello")
        await (await server.join("room", 3)).shows("hello")


@pytest.mark.parametrize("fsync", ["every-second", "true", "false"])
async def test_repeated_and_waiting_updates_are_acknowledged(tmp_path: Path, fsync: str) -> None:
    """Known updates and pending ones are stored and acknowledged, too."""
    async with running(tmp_path, fsync=fsync) as server:
        ann = await asking(server, 1)
        await ann.type("one ")
        await acknowledged(ann, 2)
        for _ in range(2):
            await ann.socket.send(update_message(ann.updates[0]))
        await acknowledged(ann, 4)
        ann.write("lost ")
        ann.sent += 1
        await ann.type("waits")
        await acknowledged(ann, 5)
    async with running(tmp_path) as server:
        bob = await server.join("room", 2)
        assert bob.text == "one "
        bob.take(ann.updates[1])
        await bob.socket.send(update_message(ann.updates[1]))
        await bob.shows("one lost waits")
        await (await server.join("room", 3)).agrees(bob)


async def test_nothing_is_acknowledged_before_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the disk is at work there is no acknowledgement; then there is one for each batch."""
    writes = Writes(monkeypatch)
    async with running(tmp_path, fsync="true") as server:
        ann = await asking(server, 1)
        await acknowledged(ann, 1)
        writes.hold()
        await ann.type("one ")
        await writes.begun()
        await ann.type("two ", "three")
        await heard(server, ann)
        assert counts(ann) == [1]
        writes.release()
        await acknowledged(ann, 4)
        assert counts(ann) == [1, 2, 4]


async def heard(server: Server, client: Client) -> None:
    """Wait until the server has heard everything that a client has sent; a ping is behind it."""
    async with asyncio.timeout(TIMEOUT):
        await (await client.socket.ping())


async def test_a_write_that_fails_is_not_acknowledged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client closed after a failed write knows which updates to send again."""
    writes = Writes(monkeypatch)
    async with running(tmp_path, fsync="true") as server:
        ann = await asking(server, 1)
        await acknowledged(ann, 1)
        writes.failure = StoreError("the disk is full")
        await ann.type("unstored")
        assert await ann.ended() == 1011
        assert counts(ann) == [1]
