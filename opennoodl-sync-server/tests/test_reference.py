"""pycrdt-websocket's own room, as the reference: what ours does alike, and what it does otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from opennoodl_sync.edge.service import Service
from opennoodl_sync.server import create
from opennoodl_sync.settings import Settings
from opennoodl_sync.y_protocol import Kind, parse, step_1, update_message
from pycrdt import Provider
from pycrdt.websocket import YRoom
from websockets.asyncio.client import ClientConnection, connect

from .editor import Editor
from .memory_records import MemoryRecords
from .turns import end_turn, open_room, receive

TIMEOUT = 30.0


class Channel:
    """One client of a stock room: what it sends is queued by the test, what it gets is kept."""

    def __init__(self) -> None:
        self.path = "room"
        self.got: asyncio.Queue[bytes] = asyncio.Queue()
        self._sent: asyncio.Queue[bytes | None] = asyncio.Queue()

    def say(self, message: bytes | None) -> None:
        """Send a message; None hangs up."""
        self._sent.put_nowait(message)

    async def send(self, message: bytes) -> None:
        """Take a message from the room."""
        self.got.put_nowait(message)

    async def recv(self) -> bytes:
        """Give the next message to the room."""
        return await self.__anext__()

    def __aiter__(self) -> Channel:
        return self

    async def __anext__(self) -> bytes:
        message = await self._sent.get()
        if message is None:
            raise StopAsyncIteration
        return message


async def next_kind(channel: Channel) -> Kind:
    """Return what the next message is that is not about awareness."""
    while True:
        kind, _ = parse(await asyncio.wait_for(channel.got.get(), TIMEOUT))
        if kind is not Kind.AWARENESS:
            return kind


@asynccontextmanager
async def stock_room() -> AsyncIterator[tuple[YRoom, Any]]:
    """Run pycrdt-websocket's room; yield it and a function that lets a channel in."""
    tasks = []
    async with YRoom() as room:

        def enter(channel: Channel) -> None:
            tasks.append(asyncio.create_task(room.serve(channel)))

        yield room, enter
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    # It leaves its streams to the garbage collector, which warns of them.
    room._update_send_stream.close()
    room._update_receive_stream.close()


async def test_stock_room_shows_updates_before_step_2() -> None:
    """In the stock room, a client that is about to ask for step 2 is shown somebody's update first."""
    async with stock_room() as (_, enter):
        writer, newcomer = Channel(), Channel()
        enter(writer)
        assert await next_kind(writer) is Kind.STEP_1
        enter(newcomer)
        assert await next_kind(newcomer) is Kind.STEP_1
        writer.say(update_message(Editor(1).write("a")))
        assert await next_kind(newcomer) is Kind.UPDATE


def test_our_room_shows_step_2_first() -> None:
    """In our room, the same client is sent nothing before step 2, which holds the update."""
    store = MemoryRecords()
    room = open_room(store)
    room.join("writer")
    room.join("newcomer")
    receive(room, "writer", update_message(Editor(1).write("a")))
    assert "newcomer" not in end_turn(room, store).synced
    assert receive(room, "newcomer", step_1(b"\x00")) == (Kind.STEP_1, None)
    ((client, reply),) = end_turn(room, store).replies
    kind, update = parse(reply)
    assert (client, kind, Editor(2, update).text) == ("newcomer", Kind.STEP_2, "a")


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    """Start a server without persistence."""
    service = create(Settings(host="127.0.0.1", port=0, enable_persistence=False))
    await service.start()
    yield service
    await service.stop()


class Socket:
    """A WebSocket as pycrdt's Provider wants it."""

    def __init__(self, connection: ClientConnection) -> None:
        self.path = "room"
        self._connection = connection

    async def send(self, message: bytes) -> None:
        """Send one message."""
        await self._connection.send(message)

    async def recv(self) -> bytes:
        """Receive one message."""
        message = await self._connection.recv()
        assert isinstance(message, bytes)
        return message

    def __aiter__(self) -> Socket:
        return self

    async def __anext__(self) -> bytes:
        return await self.recv()


async def test_pycrdts_provider_converges(service: Service) -> None:
    """Two clients of pycrdt's own provider end with the same text."""
    url = f"ws://127.0.0.1:{service.port}/room"
    left, right = Editor(1), Editor(2)
    arrived = asyncio.Event()
    subscription = right.doc.observe(lambda _: arrived.set())
    async with connect(url) as a, connect(url) as b, Provider(left.doc, Socket(a)), Provider(right.doc, Socket(b)):
        left.write("hello")
        await asyncio.wait_for(arrived.wait(), TIMEOUT)
    right.doc.unobserve(subscription)
    assert right.text == "hello"
