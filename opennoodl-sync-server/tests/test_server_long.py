"""While something takes long in a room, the others go on, and what is done in the room meanwhile is not lost."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opennoodl_sync import sessions
from opennoodl_sync.rooms import flusher
from opennoodl_sync.rooms.room import Room
from opennoodl_sync.storage.interface import StoreError
from opennoodl_sync.storage.leveldb.store import LevelDBStore
from opennoodl_sync.yjs.document import Document
from opennoodl_sync.yjs.lib0 import Steps

from .client import Client, Server, running
from .disks import Writes, until
from .edge.harness import BINARY, PING, masked
from .wire import QUERY, awareness_message, step_1, update_message

PASTE = "long" * 10_000

TOUCH = (
    *("join", "permit", "leave", "receive", "flush", "put_behind", "catch_up", "begin_compaction"),
    *("transferred", "ask_again"),
)
"""What is done to rooms."""


class Gate:
    """Keeps what takes long from being done."""

    def __init__(self) -> None:
        self._reached = asyncio.Semaphore(0)
        self._passing = 0
        self._open = False

    def wait(self) -> Steps[None]:
        """Wait until one may pass."""
        self._reached.release()
        while not self._open and not self._passing:
            yield
        self._passing -= not self._open

    def open(self) -> None:
        """Let everything pass from now on."""
        self._open = True

    async def keeps(self, *, after_one: bool = False) -> None:
        """Wait until something more is kept, if that is asked for after letting one pass."""
        self._passing += after_one
        await asyncio.wait_for(self._reached.acquire(), 30)


@pytest.fixture(autouse=True)
def touched(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """See to it that nothing else is done with a room that is busy."""
    touched: list[str] = []

    def watch(name: str) -> Callable[..., Any]:
        real = getattr(Room, name)

        def touch(self: Room, *args: Any, **options: Any) -> Any:
            if self.busy:
                touched.append(name)
            return real(self, *args, **options)

        return touch

    for name in TOUCH:
        monkeypatch.setattr(Room, name, watch(name))
    yield touched
    assert touched == []


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """Keep what takes long in all documents until the gate is opened."""
    gate = Gate()
    integrate = Document.integrate

    def integrate_later(self: Document, update: bytes) -> Steps[None]:
        if b"long" in update:
            yield from gate.wait()
        yield from integrate(self, update)

    monkeypatch.setattr(Document, "integrate", integrate_later)
    monkeypatch.setattr(sessions, "LONG_MESSAGE", 0)
    yield gate
    gate.open()


async def paste(client: Client, gate: Gate) -> None:
    """Send something that takes long, and wait until it is begun."""
    await client.type(PASTE)
    await gate.keeps()


async def passed(server: Server) -> None:
    """Wait until the server has done all that it can do while a room is busy."""
    await (await server.join("another", 99)).close()


def piece(*messages: bytes) -> bytes:
    """Return messages in frames that the server reads at once, of which it can hand on none before all are read."""
    return masked(PING) + b"".join(masked(BINARY, message) for message in messages)


async def test_the_order_of_one_client(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages of one client are handled in their order, however they were read and how long each takes."""
    handled: list[bytes] = []
    integrate = Document.integrate

    def note(self: Document, update: bytes) -> Steps[None]:
        for _ in range(100_000 if b"long" in update else 0):
            yield
        yield from integrate(self, update)
        handled.append(update)

    monkeypatch.setattr(Document, "integrate", note)
    ann, bob = await server.join("room", 1), await server.join("room", 2)
    for number in range(400):
        ann.write(f"{'long' if number % 50 == 1 else 'word'} {number} ")
    ann.socket.transport.write(piece(*map(update_message, ann.updates)))
    await bob.until(lambda: bob.text == ann.text)
    assert handled == ann.updates


async def test_a_client_that_was_refused_meanwhile(server: Server, gate: Gate) -> None:
    """Messages behind a refused one are not handled, although they were read before the refusal."""
    ann, eve = await server.join("room", 1), await server.join("room", 3)
    messages = [update_message(eve.write("long")), b"\x07", awareness_message((7, 1, {})), step_1(b"\x00")]
    eve.socket.transport.write(piece(*messages, update_message(eve.write("too long"))))
    await gate.keeps()
    gate.open()
    assert await eve.ended() == 1003
    await ann.shows("long")
    await ann.type(" and more")
    room = server.app.rooms.rooms["room"]
    assert (len(room.clients), len(room.synced), len(room.awareness)) == (1, 1, 0)
    assert ann.text == "long and more"


async def test_others_have_their_turn(server: Server, gate: Gate) -> None:
    """Between two things that take long, what others did is shown, and newcomers come in."""
    ann, bob, eve = [await server.join("room", number) for number in (1, 2, 3)]
    await eve.type("long ")
    await gate.keeps()
    await ann.type("hello ")
    await eve.type(*["long "] * 5)
    carol = asyncio.create_task(server.join("room", 4))
    await passed(server)
    await gate.keeps(after_one=True)
    await bob.until(lambda: "hello" in bob.text)
    await gate.keeps(after_one=True)
    await gate.keeps(after_one=True)
    assert "hello" in (await asyncio.wait_for(carol, 30)).text
    gate.open()
    await bob.has(7)


async def test_changes_do_not_wait_for_a_long_message(
    server: Server, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Changes that are gathered are shown before a long message that comes after them is handled."""
    monkeypatch.setattr(sessions, "LONG_MESSAGE", len(PASTE))
    ann, bob = await server.join("room", 1), await server.join("room", 2)
    monkeypatch.setattr(flusher, "INTERVAL", 3600)
    await bob.type("well ")
    await ann.shows("well ")
    await bob.type("hello")
    await paste(ann, gate)
    await ann.until(lambda: "hello" in ann.text)
    gate.open()


async def test_a_long_message_after_a_failed_write_is_dropped(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the changes before a long message cannot be stored, its room is dropped, and stores nothing later."""
    writes = Writes(monkeypatch)
    ann, bob = await server.join("room", 1), await server.join("room", 2)
    monkeypatch.setattr(flusher, "INTERVAL", 3600)
    await bob.type("well ")
    await ann.shows("well ")
    await bob.type("hello")
    await (await bob.socket.ping())
    writes.failure = StoreError("the disk is full")
    await ann.type(PASTE)
    assert {await ann.ended(), await bob.ended()} == {1011}
    assert not server.app._sessions.flusher._rooms


async def test_a_large_paste_arrives_in_order(server: Server) -> None:
    """A large paste arrives at the others, and so does what is typed after it."""
    ann, bob = await server.join("room", 1), await server.join("room", 2)
    await ann.type(PASTE, "and", PASTE, "more")
    await bob.shows("and" + PASTE + "more")
    await bob.type("!")
    await ann.shows("more!")


async def test_others_go_on(server: Server, gate: Gate) -> None:
    """In other rooms nobody notices."""
    ann = await server.join("room", 1)
    carol, dave = await server.join("other", 3), await server.join("other", 4)
    await paste(ann, gate)
    await carol.type("hello")
    await dave.shows("hello")
    assert server.app.rooms.rooms["room"].busy


async def test_members_wait_for_long_work_in_order(server: Server, gate: Gate) -> None:
    """Messages of others are handled after the long work, in their order: edits, cursors, queries."""
    ann, bob = await server.join("room", 1), await server.join("room", 2)
    await paste(ann, gate)
    messages = len(bob.messages)
    await bob.type("one ", "two ")
    await bob.point(1, {"name": "bob"})
    await bob.socket.send(QUERY)
    carol = await server.join("room", 3, sync=False)
    await passed(server)
    assert len(bob.messages) == messages
    assert carol.messages == []
    gate.open()
    await ann.knows({2: (1, {"name": "bob"})})
    await ann.agrees(bob)
    assert ann.text.replace(PASTE, "") == "one two "
    await carol.step_1()
    await carol.agrees(ann)


def reading(server: Server, name: str) -> int:
    """Return how many members of a room are read from."""
    return sum(member.transport.is_reading() for member in server.members(name))


async def test_members_are_not_read_from(server: Server, gate: Gate) -> None:
    """A client that has sent a message to a busy room is read-paused until the room is free."""
    ann, bob, _ = [await server.join("room", number) for number in (1, 2, 3)]
    await paste(ann, gate)
    assert reading(server, "room") == 2
    await bob.type(PASTE)
    await passed(server)
    assert reading(server, "room") == 1
    gate.open()
    await ann.until(lambda: len(ann.text) == 2 * len(PASTE))
    await bob.agrees(ann)
    assert reading(server, "room") == 3


async def test_clients_that_leave_at_once(server: Server, gate: Gate) -> None:
    """Messages sent right before a disconnect are not lost, neither long work nor those that wait for it."""
    ann, bob, carol = [await server.join("room", number) for number in (1, 2, 3)]
    await paste(ann, gate)
    await bob.type("said in a hurry")
    for client in (ann, bob):
        client.socket.transport.write_eof()
    gate.open()
    await carol.until(lambda: len(carol.text) == len(PASTE + "said in a hurry"))
    await carol.until(lambda: len(server.members("room")) == 1)


async def test_a_refused_one(server: Server, gate: Gate) -> None:
    """A client that sends much that is wrong is closed for it; what the others did meanwhile is done."""
    ann, bob, eve = [await server.join("room", number) for number in (1, 2, 3)]
    await eve.socket.send(update_message(b"\x01\x01\x03\x00\x04\x01\x01t\xff\xff\x03" + b"long"))
    await gate.keeps()
    await ann.type("hello")
    gate.open()
    await bob.shows("hello")
    assert await eve.ended() == 1003


async def test_a_failure_of_ours(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """An internal error in long work closes its connection, and the room continues."""
    ann, bob = await server.join("room", 1), await server.join("room", 2)

    def fail(self: Document, update: bytes) -> Steps[None]:
        for _ in range(100_000):
            yield
        raise RuntimeError("a mistake")

    with monkeypatch.context() as patch:
        patch.setattr(Document, "integrate", fail)
        await ann.type("hello")
        assert await ann.ended() == 1011
    await bob.type("on")
    assert bob.code is None
    await (await server.join("room", 3)).agrees(bob)


async def test_the_only_one(server: Server, gate: Gate) -> None:
    """A client that sends much, leaves, and comes back finds it."""
    ann = await server.join("room", 1)
    await paste(ann, gate)
    closing = asyncio.create_task(ann.close())
    again = asyncio.create_task(server.join("room", 2))
    await asyncio.sleep(0)
    gate.open()
    assert (await again).text == PASTE
    await closing


async def test_a_server_that_stops(tmp_path: Path, gate: Gate) -> None:
    """Long work does not keep a server from stopping: nobody was shown it, and its sender brings it again."""
    async with running(tmp_path) as server:
        ann, bob = await server.join("room", 1), await server.join("room", 2)
        await ann.type("hello ")
        await bob.shows("hello ")
        await paste(ann, gate)
    gate.open()
    async with running(tmp_path) as server:
        assert (await server.join("room", 3)).text == "hello "
        again = await server.join("room", 4, ann.doc.get_update())
        await (await server.join("room", 5)).agrees(again)


@pytest.mark.parametrize("settings", [{}, {"fsync": "true"}, {"enable_persistence": False}], ids=str)
async def test_wherever_it_is_kept(tmp_path: Path, settings: dict[str, Any]) -> None:
    """Several that send much at once, into rooms that are being stored, have it all in the end."""
    async with running(tmp_path, **settings) as server:
        clients = [await server.join("room", number) for number in range(1, 5)]
        for word in ("one ", "two ", PASTE * 8, "three "):
            await asyncio.gather(*(client.type(word) for client in clients))
        for client in clients:
            await client.until(lambda client=client: len(client.text) == 4 * len("one two three " + PASTE * 8))
            await client.agrees(clients[0])
        assert len((await server.join("room", 9)).text) == len(clients[0].text)


async def test_a_batch_that_ends_meanwhile(tmp_path: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that is stored while its room is busy is told when the room is free."""
    async with running(tmp_path, fsync="true") as server:
        ann, bob = await server.join("room", 1), await server.join("room", 2)
        assert isinstance(server.app._store, LevelDBStore)
        writer = server.app._store.writer
        real, writing = writer._write, threading.Event()

        def write(batch: Any) -> None:
            assert writing.wait(30)
            real(batch)

        monkeypatch.setattr(writer, "_write", write)
        await bob.type("hello")
        await until(lambda: writer.busy)
        await paste(ann, gate)
        writing.set()
        await writer.drain()
        assert server.app.rooms.rooms["room"] in server.app._sessions.flusher._flushed
        gate.open()
        await ann.agrees(bob)
        assert len(ann.text) == len(PASTE + "hello")
