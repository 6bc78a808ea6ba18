"""The server over real sockets: documents converge, rooms stay apart."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from pycrdt import Doc, Provider
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from .client import TIMEOUT, Server, get, running
from .disks import until
from .editor import Editor, content
from .loads import Loads
from .wire import QUERY, awareness_of


async def test_everybody_sees_what_everybody_writes(server: Server) -> None:
    """Clients that write at the same time end with the same document."""
    clients = await asyncio.gather(*(server.join("room", number) for number in (1, 2, 3)))
    for client in clients:
        client.put(f"key {client.number}", {"nested": [client.number, None]})
        client.push(client.number)
    await asyncio.gather(*(client.type(*(f"{client.number}.{word} " for word in range(20))) for client in clients))
    for client in clients:
        await client.has(60)
        await client.agrees(clients[0])
    assert sorted(content(clients[0].doc)[2]) == [1, 2, 3]  # type: ignore[call-overload]  # it is a list


async def test_a_late_joiner_gets_the_document(server: Server) -> None:
    """A later client gets the whole document in the answer to its step 1."""
    ann = await server.join("room", 1)
    await ann.type("one ", "two")
    ann.delete(0, 4)
    await ann.push_edits()
    bob = await server.join("room", 2)
    await bob.shows("two")
    assert bob.same(ann)


async def test_offline_work_comes_with_the_handshake(server: Server) -> None:
    """Two that wrote while they were alone have each other's work after joining."""
    ann = await server.join("room", 1, Editor(11).write("ann's "))
    bob = await server.join("room", 2, Editor(12).write("bob's "))
    for client in (ann, bob):
        await client.has(2)
    assert ann.same(bob)


async def test_nothing_is_missed_while_joining(server: Server) -> None:
    """Clients that join one after the other while others write converge with them."""
    ann = await server.join("room", 1)
    typing = asyncio.create_task(ann.type(*(f"{number} " for number in range(300))))
    late = [await server.join("room", number) for number in range(2, 8)]
    await typing
    for client in late:
        await client.agrees(ann)


async def test_a_step_1_during_loading_is_answered(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message sent while the room loads is answered after that, however long it takes."""
    ann = await server.join("room", 1)
    await ann.type("before")
    await (await server.join("room", 2)).shows("before")
    loads = Loads(monkeypatch)
    bob = await server.join("other", 3, Editor(11).write("bob's"), sync=False)
    await bob.step_1()
    await ann.type(" meanwhile")
    assert bob.messages == []
    loads.may_go_on.set()
    await bob.until(lambda: bob.synced)
    await (await server.join("other", 4)).shows("bob's")


class Channel:
    """A socket as pycrdt's provider wants it."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.path = "room"

    def __aiter__(self) -> Channel:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await self.recv()
        except ConnectionClosed:
            raise StopAsyncIteration from None

    async def send(self, message: bytes) -> None:
        await self.socket.send(message)

    async def recv(self) -> bytes:
        return await self.socket.recv(decode=False)


async def test_pycrdts_provider_is_served(server: Server) -> None:
    """The client that comes with pycrdt syncs both ways."""
    ann = await server.join("room", 1)
    await ann.type("ann's ")
    bob = Editor(2)
    async with connect(server.url("room"), compression=None) as socket, Provider(bob.doc, Channel(socket)) as provider:
        async with asyncio.timeout(TIMEOUT):
            await provider.synced.wait()
        assert bob.text == "ann's "
        bob.write("bob's")
        await ann.shows("bob's")


async def test_awareness_reaches_everybody(server: Server) -> None:
    """A state goes to the others, back to its sender, and to who joins later."""
    ann = await server.join("room", 1)
    bob = await server.join("room", 2)
    await ann.point(1, {"cursor": 5})
    carol = await server.join("room", 3, sync=False)
    for client in (ann, bob, carol):
        await client.knows({1: (1, {"cursor": 5})})


async def test_awareness_is_told_when_it_is_asked_for(server: Server) -> None:
    """A query is answered with all states, to who asked."""
    ann, bob = await server.join("room", 1), await server.join("room", 2)
    await ann.point(1, {"cursor": 5})
    await bob.until(lambda: bob.states)
    bob.messages.clear()
    await bob.socket.send(QUERY)
    await bob.until(lambda: bob.messages)
    assert awareness_of(bob.messages[0]) == [(1, 1, {"cursor": 5})]


async def test_a_closed_client_ends_its_states_at_once(server: Server) -> None:
    """When a client closes its connection, the others are told without delay that its states have ended."""
    ann, bob = await server.join("room", 1), await server.join("room", 2)
    await ann.point(3, {"cursor": 5})
    await bob.knows({1: (3, {"cursor": 5})})
    await ann.close()
    await bob.knows({1: (3, None)})  # it waits for seconds, and a heartbeat would take 30
    carol = await server.join("room", 3)
    assert carol.states == {}


async def test_a_lost_client_ends_its_states_later(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a connection was lost for a while, the others are told that its states have ended."""
    monkeypatch.setattr("opennoodl_sync.rooms.lost_clients.LOST_GRACE", 0.05)
    ann, bob = await server.join("room", 1), await server.join("room", 2)
    await ann.point(3, {"cursor": 5})
    await bob.knows({1: (3, {"cursor": 5})})
    await ann.abort()
    await bob.knows({1: (3, None)})


async def test_a_lost_client_is_shown_to_new_clients(server: Server) -> None:
    """Meanwhile, the states of a lost connection are there for all."""
    ann, bob = await server.join("room", 1), await server.join("room", 2)
    await ann.point(3, {"cursor": 5})
    await bob.knows({1: (3, {"cursor": 5})})
    await ann.abort()
    await until(lambda: server.app._sessions.lost._timers)
    carol = await server.join("room", 3)
    await carol.knows({1: (3, {"cursor": 5})})
    assert bob.states == {1: (3, {"cursor": 5})}


async def test_a_lost_client_that_returns_keeps_its_state(server: Server) -> None:
    """A client that comes back in time with its state is not gone when the time of the lost connection is over."""
    ann, bob = await server.join("room", 1), await server.join("room", 2)
    await ann.point(3, {"cursor": 5})
    await bob.knows({1: (3, {"cursor": 5})})
    await ann.abort()
    await until(lambda: server.app._sessions.lost._timers)
    again = await server.join("room", 1)
    await again.point(3, {"cursor": 5})
    await again.type("here again")
    await bob.shows("here again")
    ((session, timer),) = server.app._sessions.lost._timers.items()
    timer.cancel()
    server.app._sessions.lost._forget(session.room, session)
    await again.type("still here")
    await bob.shows("still here")
    assert bob.states == {1: (3, {"cursor": 5})}


async def test_so_many_lost_clients_are_waited_for(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond a number of lost connections, states end at once, so little is kept for clients that are gone."""
    monkeypatch.setattr("opennoodl_sync.rooms.lost_clients.MAX_LOST", 1)
    bob = await server.join("room", 9)
    for number in (1, 2):
        client = await server.join("room", number)
        await client.point(3, {})
        await bob.until(lambda number=number: number in bob.states)
        await client.abort()
    await bob.knows({1: (3, {}), 2: (3, None)})


async def test_a_client_that_reconnects_early_keeps_its_state(server: Server) -> None:
    """A client that reconnects before its old connection has ended is not taken for gone when that ends."""
    old, bob = await server.join("room", 1), await server.join("room", 2)
    await old.point(1, {"old": True})
    new = await server.join("room", 1)
    await new.point(2, {"new": True})
    await bob.knows({1: (2, {"new": True})})
    await old.close()
    await new.type("still here")
    await bob.shows("still here")
    assert bob.states == {1: (2, {"new": True})}


async def test_nothing_leaks_between_rooms(server: Server) -> None:
    """Neither edits nor awareness of one room reach another, whose name begins alike."""
    ann, spy = await server.join("room", 1), await server.join("room2", 2)
    mate = await server.join("room", 3)
    await ann.type("secret")
    await ann.point(1, {"secret": True})
    await mate.until(lambda: mate.text and mate.states)
    await ann.close()
    await mate.knows({1: (1, None)})
    marker = await server.join("room2", 4)
    await marker.type("marker")
    await spy.shows("marker")
    assert spy.text == "marker"
    assert spy.states == {}
    assert not any(b"secret" in message for message in spy.messages)


async def test_names_are_taken_as_they_stand(server: Server) -> None:
    """Room names are not percent-decoded, and a slash is a character like any other."""
    names = ["a/b", "a%2Fb", "a%2fb", "/a/b", "a/b/"]
    for number, name in enumerate(names):
        client = await server.join(name, number + 1)
        await client.type(name)
        await (await server.join(name, number + 10)).shows(name)
    for number, name in enumerate(names):
        assert (await server.join(name, number + 20)).text == name


async def test_the_query_is_not_part_of_the_name(server: Server) -> None:
    """Whatever follows the question mark, the room is the same."""
    ann, bob = await server.join("room?token=abc", 1), await server.join("room", 2)
    await ann.type("hello")
    await bob.shows("hello")
    assert set(server.app.rooms.rooms) == {"room"}


@pytest.mark.parametrize(
    "name",
    ["", "?room", "x" * 257, "x" * 300, "a\x1b[2Jb", "a\x7f"],
    ids=["empty", "query only", "257", "300", "escape", "delete"],
)
async def test_an_invalid_room_name_is_refused(server: Server, name: str) -> None:
    """A name that is empty, longer than 256 characters or not printable gets no WebSocket, and is told why."""
    with pytest.raises(InvalidStatus) as refused:
        await connect(server.url(name))
    assert refused.value.response.status_code == 404
    assert refused.value.response.body == b"The path names the room: one to 256 printable characters after the slash.\n"
    assert server.app.rooms.rooms == {}


@pytest.mark.parametrize("name", ["x", "x" * 256, "health", "metrics"])
async def test_a_valid_room_name_is_served(server: Server, name: str) -> None:
    """The shortest and the longest name are rooms, and so are those of the HTTP pages."""
    ann = await server.join(name, 1)
    await ann.type("hello")
    await (await server.join(name, 2)).shows("hello")
    assert (await server.health())[0] == 200


async def test_health_counts_and_names_nobody(server: Server) -> None:
    """``/health`` has its three counts, and no room name in it."""
    ann, bob = await server.join("secret-room", 1), await server.join("other-room", 2)
    await ann.type("one", "two")
    await (await server.join("secret-room", 3)).shows("two")
    await bob.type("three")
    await (await server.join("other-room", 4)).shows("three")
    status, health = await server.health()
    assert status == 200
    assert set(health) == {"status", "version", "uptime", "warning", "metrics"}
    metrics = health["metrics"]
    assert (metrics["activeConnections"], metrics["activeDocuments"]) == (4, 2)
    # Every client's answer to step 1 is an update too.
    assert metrics["totalUpdates"] >= 3
    text = json.dumps(health) + (await get(server.service.port, "/metrics")).body.decode()
    assert "secret-room" not in text
    assert "other-room" not in text


async def test_metrics_tell_documents_and_updates(server: Server) -> None:
    """``/metrics`` has what only this server measures beside what all three do."""
    ann = await server.join("room", 1)
    await ann.type("one")
    await (await server.join("room", 2)).shows("one")
    text = (await get(server.service.port, "/metrics")).body.decode()
    for line in ("opennoodl_open_connections 2.0", "opennoodl_sync_documents 1.0"):
        assert line in text.splitlines()
    assert "opennoodl_sync_updates_total" in text
    assert 'opennoodl_messages_total{direction="in",type="step-1"} 2.0' in text.splitlines()


async def test_an_idle_room_leaves_memory_and_comes_back(tmp_path: Path) -> None:
    """A room without clients is unloaded after the idle time, and has everything when it is opened again."""
    async with running(tmp_path, room_idle_timeout=1) as server:
        ann = await server.join("room", 1)
        await ann.type("kept")
        await ann.point(1, {"cursor": 1})
        stays = await server.join("other", 2)
        await ann.close()
        async with asyncio.timeout(TIMEOUT):
            while (await server.health())[1]["metrics"]["activeDocuments"] > 1:
                pass
        assert set(server.app.rooms.rooms) == {"other"}
        bob = await server.join("room", 3)
        assert bob.text == "kept"
        assert bob.states == {}
        await stays.close()


async def test_without_persistence_nothing_is_written(tmp_path: Path) -> None:
    """With ENABLE_PERSISTENCE off clients are served from memory, and the data directory is not even made."""
    async with running(tmp_path / "data", enable_persistence=False) as server:
        ann, bob = await server.join("room", 1), await server.join("room", 2)
        await ann.type("hello")
        await bob.shows("hello")
        assert (await server.join("room", 3)).text == "hello"
        assert (await server.health())[0] == 200
    assert not os.listdir(tmp_path)


async def test_a_restart_keeps_everything(tmp_path: Path) -> None:
    """A restarted server has every change, and accepts further ones."""
    ann = Editor(1)
    for number in range(3):
        async with running(tmp_path) as server:
            client = await server.join("room", number + 10)
            assert client.same(ann)
            client.put(str(number), number)
            await client.type(f"{number} ")
            ann.take(client.doc.get_update())
            await (await server.join("room", number + 20)).agrees(ann)


async def test_clients_of_a_stopping_server_are_closed_with_1001(tmp_path: Path) -> None:
    """Clients of a server that ends are closed with 1001, and what they had written is kept."""
    async with running(tmp_path) as server:
        ann, bob = await server.join("room", 1), await server.join("room", 2)
        await ann.type("hello")
        await bob.shows("hello")
    assert (ann.code, bob.code) == (1001, 1001)
    async with running(tmp_path) as server:
        assert (await server.join("room", 3)).text == "hello"


async def test_a_client_over_its_rate_is_read_more_slowly(tmp_path: Path) -> None:
    """A client over the rate loses nothing, but what it sends next is read when its debt is paid."""
    async with running(tmp_path, rate_limit=100) as server:
        ann, bob = await server.join("room", 1), await server.join("room", 2)
        started = time.monotonic()
        await ann.type(*("x" for _ in range(1100)), "!")
        await bob.shows("!")
        await ann.type("marker")
        await bob.shows("marker")
        assert time.monotonic() - started > 0.8
        assert bob.same(ann)


async def test_a_client_over_its_byte_rate_is_read_more_slowly(tmp_path: Path) -> None:
    """A client over the rate in bytes loses nothing, but is not read from until its debt is paid."""
    async with running(tmp_path, byte_rate_limit=2000, max_message_size=1000) as server:
        ann = await server.join("room", 1)
        reads = next(iter(server.members("room"))).transport.is_reading
        bob = await server.join("room", 2)
        await ann.type(*("x" * 900 for _ in range(28)), "!")
        await until(lambda: not reads())
        await bob.shows("!")
        assert server.app.metrics.rate_limited["bytes"] > 0
        assert bob.same(ann)


async def test_a_document_of_several_megabytes_is_served(server: Server) -> None:
    """A new client gets a document that is larger than the buffer for slow clients, and what comes after it."""
    ann = await server.join("room", 1)
    await ann.type("x" * 6_000_000)
    bob = await server.join("room", 2)
    await ann.type("end")
    await bob.shows("end")
    assert len(bob.text) == 6_000_003
    doc: Doc[Any] = Doc()
    doc.apply_update(bob.doc.get_update())
    assert content(doc) == content(ann.doc)


async def test_free_space_is_a_metric_of_a_disk(tmp_path: Path) -> None:
    """The free bytes of the disk are a metric of a server with a disk, and of no other."""
    for persistence in (True, False):
        async with running(tmp_path, enable_persistence=persistence) as server:
            names = {family.name for family in server.app.metrics.collect()}
            assert ("opennoodl_data_free_bytes" in names) == persistence
