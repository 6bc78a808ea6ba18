"""The server's bounds: documents in memory, clients in a room, bytes of a document."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from opennoodl_sync.settings import Settings
from opennoodl_sync.y_protocol import denial
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from .client import Client, Server, running
from .wire import step_2


async def reason(client: Client) -> str:
    """Wait until the server has closed the connection; return what it said."""
    await client.ended()
    return client.socket.close_reason or ""


async def left(server: Server, client: Client, witness: Client) -> None:
    """Let a client leave, and wait until the server knows."""
    room = client.socket.request.path[1:] if client.socket.request is not None else ""
    await client.close()
    while server.members(room):
        heard = len(witness.messages)
        await witness.point(heard + 1, {})
        await witness.hears(heard)


async def test_one_document_more_than_may_be_is_refused(tmp_path: Path) -> None:
    """A document over MAX_ROOMS is closed with 1013; open documents continue, and take more clients."""
    async with running(tmp_path, max_rooms=2) as server:
        ann, bob = await server.join("a", 1), await server.join("b", 2)
        eve = await server.join("c", 3, sync=False)
        assert await eve.ended() == 1013
        assert await reason(eve) == "MAX_ROOMS, the limit of documents in use, is reached: 2."
        assert eve.messages == [denial(eve.socket.close_reason or "")]
        carol = await server.join("a", 4)
        await ann.type("hello")
        await carol.shows("hello")
        assert bob.code is None


async def test_an_idle_document_makes_place(tmp_path: Path) -> None:
    """The one that was left first leaves memory, with all that was written, and can be opened again."""
    async with running(tmp_path, max_rooms=3) as server:
        witness = await server.join("witness", 9)
        ann, bob = await server.join("a", 1), await server.join("b", 2)
        await ann.type("kept")
        await left(server, ann, witness)
        await left(server, bob, witness)
        carol = await server.join("c", 3)
        assert set(server.app.rooms.rooms) == {"witness", "b", "c"}
        again = await server.join("a", 4)
        assert again.text == "kept"
        assert set(server.app.rooms.rooms) == {"witness", "c", "a"}
        assert (await server.join("b", 5, sync=False)).code is None
        assert carol.code is None


async def test_a_refused_client_may_enter_a_free_place(tmp_path: Path) -> None:
    """A place that becomes free is taken by the next who comes."""
    async with running(tmp_path, max_rooms=2) as server:
        witness, ann = await server.join("witness", 9), await server.join("a", 1)
        assert await (await server.join("b", 2, sync=False)).ended() == 1013
        await left(server, ann, witness)
        await (await server.join("b", 2)).type("hello")


async def test_many_that_come_at_once_are_no_more_than_may_be(tmp_path: Path) -> None:
    """Documents that are being opened count as well."""
    async with running(tmp_path, max_rooms=5) as server:
        clients = [await server.join(str(number), number + 1, sync=False) for number in range(20)]
        closed = [await client.ended() for client in clients[5:]]
        assert closed == [1013] * 15
        assert len(server.app.rooms.rooms) == 5


async def test_one_client_more_than_may_be_in_a_room_is_refused(tmp_path: Path) -> None:
    """It is closed with 1013 and told why; others go on, and who comes when somebody has left may stay."""
    async with running(tmp_path, max_room_size=2) as server:
        ann, bob = await server.join("room", 1), await server.join("room", 2)
        eve = await server.join("room", 3, sync=False)
        assert await eve.ended() == 1013
        assert await reason(eve) == "This room is full: its limit of clients is 2."
        assert eve.messages == [denial(eve.socket.close_reason or "")]
        other = await server.join("other", 4)
        await ann.type("hello")
        await bob.shows("hello")
        await bob.point(1, {})
        await ann.until(lambda: 2 in ann.states)
        await bob.close()
        await ann.until(lambda: ann.states[2][1] is None)
        assert (await server.join("room", 5)).text == "hello"
        assert other.code is None


async def test_zero_means_no_bound(tmp_path: Path) -> None:
    """Rooms, clients and documents may be without a bound."""
    async with running(tmp_path, max_rooms=0, max_room_size=0, max_document_size=0) as server:
        clients = [await server.join("room", number + 1) for number in range(10)]
        await clients[0].type("x" * 100_000)
        await clients[9].shows("x" * 100_000)
        others = [await server.join(str(number), 100 + number) for number in range(10)]
        assert [client.code for client in others] == [None] * 10


async def test_a_client_that_makes_a_document_too_large_is_closed(tmp_path: Path) -> None:
    """It is closed with 1009 and told why; nothing of that is shown or stored, and others are not touched."""
    async with running(tmp_path, max_document_size=10_000) as server:
        ann, bob = await server.join("room", 1), await server.join("room", 2)
        eve = await server.join("room", 3)
        await ann.type("x" * 9_000)
        await bob.shows("x")
        await eve.shows("x")
        await eve.type("y" * 2_000)
        assert await eve.ended() == 1009
        assert await reason(eve) == "This document would exceed MAX_DOCUMENT_SIZE: 10000 bytes."
        await ann.type(" and on")
        await bob.shows(" and on")
        assert "y" not in bob.text
        assert bob.same(ann)
    async with running(tmp_path) as server:
        assert (await server.join("room", 4)).same(ann)


async def test_a_full_document_can_be_made_smaller_and_grow_again(tmp_path: Path) -> None:
    """Deletions are accepted in a full document, and make room for new content."""
    async with running(tmp_path, max_document_size=10_000) as server:
        ann, bob = await server.join("room", 1), await server.join("room", 2)
        await ann.type("x" * 9_900)
        await bob.shows("x")
        ann.delete(0, 9_000)
        await ann.push_edits()
        await bob.until(lambda: len(bob.text) == 900)
        await bob.type("y" * 8_000)
        await ann.shows("y")
        assert ann.same(bob)
    async with running(tmp_path) as server:
        assert (await server.join("room", 4)).same(ann)


async def test_a_compaction_that_makes_no_room_keeps_nobody_waiting(tmp_path: Path) -> None:
    """A change that does not fit waits for a compaction that may make room; if it does not, its sender is closed."""
    async with running(tmp_path, max_document_size=10_000) as server:
        ann, bob = await server.join("room", 1), await server.join("room", 2)
        for letter in "abcd":
            await ann.type(letter * 2_400)
            await bob.shows(letter)
        await ann.type("e" * 2_400)
        assert await ann.ended() == 1009
        assert bob.code is None


async def test_an_empty_update_is_invalid_in_a_full_document_too(tmp_path: Path) -> None:
    """An invalid update closes with 1003, also in a full document."""
    async with running(tmp_path) as server:
        await (await server.join("room", 1)).type("x" * 2_000)
        await (await server.join("room", 2)).shows("x")
    async with running(tmp_path, max_document_size=1_000) as server:
        async with connect(server.url("room"), compression=None) as socket:
            await socket.send(step_2(b""))
            with suppress(ConnectionClosed):
                async for _ in socket:
                    pass
        assert socket.close_code == 1003


def test_connections_that_may_be_passed_on_take_two_files() -> None:
    """Two open files are counted for each connection where connections are passed on to other servers."""
    assert Settings().files_per_connection == 1
    url = "postgresql://user:password@host/name"
    assert Settings(database_url=url, cluster_secret="s" * 32).files_per_connection == 2
