"""The server and clients that do not read: they are skipped, and catch up when they read again."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from opennoodl_sync.edge.websocket.connection import Connection
from websockets.asyncio.client import connect

from .client import TIMEOUT, Client, Server, running
from .wire import step_1, update_message


class Reader(Client):
    """A client that can stop reading, with little room for what it does not read."""

    connection: Connection

    def pause(self) -> None:
        """Read nothing more."""
        self.socket.transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        self.socket.transport.resume_reading()


async def reader(server: Server, name: str, number: int, *, sync: bool = True) -> Reader:
    """Connect a client whose receive buffer is small, and find the server's side of it."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", server.service.port))
    url = server.url(name)
    known = server.members(name)
    client = Reader(await connect(url, sock=sock, compression=None, max_size=None, ping_interval=None), number)
    server.clients.append(client)
    await client.until(lambda: client.messages)
    (client.connection,) = server.members(name) - known
    # What the kernel holds is out of the server's sight: let it be little, and the same everywhere.
    client.connection.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
    if sync:
        await client.step_1()
        await client.until(lambda: client.synced)
    return client


@asynccontextmanager
async def two(path: Path, buffer: int) -> AsyncIterator[tuple[Server, Client, Reader]]:
    """Run a server with a `buffer` for slow clients, with a writer and a reader."""
    async with running(path, slow_client_buffer=buffer, rate_limit=0) as server:
        yield server, await server.join("room", 1), await reader(server, "room", 2)


async def fill(writer: Client, slow: Reader, size: int = 10_000) -> None:
    """Let `slow` stop reading, and `writer` write until the server takes it for slow."""
    slow.pause()
    await write_until_slow(writer, slow.connection, size)


async def write_until_slow(writer: Client, connection: Connection, size: int = 10_000) -> None:
    """Write until so much waits for a connection that it is slow."""
    pieces = 0
    async with asyncio.timeout(TIMEOUT):
        while not connection.slow:
            heard = len(writer.messages)
            writer.put(f"piece {pieces % 3}", "x" * size)
            await writer.push_edits()
            await writer.step_1()  # the answer comes when the piece was shown
            await writer.hears(heard)
            pieces += 1
            assert pieces < 2000


async def test_a_slow_client_is_skipped_and_catches_up(tmp_path: Path) -> None:
    """Others go on while one does not read; what waits for that one is bounded, and in the end it has everything."""
    async with two(tmp_path, 100_000) as (server, ann, bob):
        carol = await server.join("room", 3)
        await fill(ann, bob)
        waiting = bob.connection.transport.get_write_buffer_size()
        await ann.type(*("meanwhile " for _ in range(50)), "end")
        await carol.shows("end")
        assert bob.connection.transport.get_write_buffer_size() == waiting
        assert not bob.text
        bob.resume()
        await bob.shows("end")
        await bob.agrees(ann)
        await ann.type(" and on")
        await bob.shows(" and on")
        await bob.type(" and back")
        await ann.shows(" and back")
        assert bob.same(ann)


async def test_a_slow_client_catches_up_in_one_message(tmp_path: Path) -> None:
    """A slow client gets the missed updates merged into one message."""
    async with two(tmp_path, 100_000) as (_, ann, bob):
        await fill(ann, bob)
        await ann.type(*(f"{number} " for number in range(300)), "end")
        await ann.shows("end")
        before = len(bob.messages)
        bob.resume()
        await bob.shows("end")
        behind = [message for message in bob.messages[before:] if b"299 " in message]
        assert [message[:2] for message in behind] == [b"\x00\x01"]


@pytest.mark.parametrize("buffer", [1_000, 20_000])
async def test_a_small_buffer_works_too(tmp_path: Path, buffer: int) -> None:
    """With a SLOW_CLIENT_BUFFER smaller than that of the event loop, who was slow catches up as well."""
    async with two(tmp_path, buffer) as (_, ann, bob):
        await fill(ann, bob, 3_000)
        await ann.type("end")
        bob.resume()
        await bob.shows("end")
        await bob.agrees(ann)


async def test_a_slow_client_sees_no_departed_clients(tmp_path: Path) -> None:
    """A client that did not read while another left learns of that when it reads again."""
    async with two(tmp_path, 100_000) as (server, ann, bob):
        carol = await server.join("room", 3)
        await carol.point(1, {"cursor": 1})
        await bob.until(lambda: 3 in bob.states)
        await fill(ann, bob)
        await carol.close()
        await ann.until(lambda: ann.states.get(3) == (1, None))
        bob.resume()
        await ann.type("end")
        await bob.shows("end")
        assert bob.states[3] == (1, None)


async def asked(witness: Client, asker: Client) -> None:
    """Wait until the server has read everything that `asker` has sent."""
    await asker.point(1, {"asked": True})
    await witness.until(lambda: asker.number in witness.states)


# What happens in the turn in which a client becomes slow cannot be arranged from outside; these three act as the edge.


def becomes_slow(server: Server, client: Reader) -> None:
    """Do what the edge does when too much waits for a client."""
    client.connection._write_flow.begin_slow()
    client.connection._handler.slow()


def has_drained(server: Server, client: Reader) -> None:
    """Do what the edge does when a client has read what waited for it."""
    client.connection._write_flow.end_slow()
    client.connection._handler.drained()


async def test_an_update_in_the_turn_of_becoming_slow_is_not_missed(tmp_path: Path) -> None:
    """An update that was received but not yet told when a client became slow reaches it."""
    async with two(tmp_path, 100_000) as (server, ann, bob):
        (writer,) = server.members("room") - {bob.connection}
        writer._handler.receive(update_message(ann.write("in between ")), text=False)
        becomes_slow(server, bob)
        ann.sent = len(ann.updates)
        has_drained(server, bob)
        await ann.type("end")
        await bob.shows("end")
        await bob.agrees(ann)


async def test_a_client_that_is_slow_before_its_step_1_misses_nothing(tmp_path: Path) -> None:
    """A client that becomes slow with the greeting already, and asks then, gets all that comes after its answer."""
    async with running(tmp_path) as server:
        ann, bob = await server.join("room", 1), await reader(server, "room", 2, sync=False)
        carol = await server.join("room", 3)
        becomes_slow(server, bob)
        await bob.step_1()
        await asked(ann, bob)
        await ann.type("one ")
        await carol.shows("one ")
        has_drained(server, bob)
        await ann.type("two")
        await bob.shows("two")
        assert bob.text == "one two"


async def test_a_slow_client_that_asks_again_misses_nothing(tmp_path: Path) -> None:
    """A slow client that asks again is brought up to date once it reads."""
    async with two(tmp_path, 100_000) as (server, ann, bob):
        carol = await server.join("room", 3)
        becomes_slow(server, bob)
        await ann.type("one ")
        await carol.shows("one ")
        await bob.step_1()
        await asked(ann, bob)
        await ann.type("two ")
        await carol.shows("two ")
        has_drained(server, bob)
        await ann.type("three")
        await bob.shows("three")
        assert bob.text == "one two three"


async def test_unread_answers_of_a_client_are_bounded(tmp_path: Path) -> None:
    """A client that asks for the whole document again and again without reading does not fill the memory."""
    async with two(tmp_path, 100_000) as (_, ann, bob):
        await ann.type("x" * 200_000, "y")
        await bob.shows("y")
        bob.pause()
        for _ in range(100):
            await bob.socket.send(step_1(b"\x00"))
        await asked(ann, bob)
        assert bob.connection.transport.get_write_buffer_size() < 2_000_000
        bob.resume()
        await ann.type("end")
        await bob.shows("end")
        assert bob.same(ann)
