"""The server and clients that send nonsense: they alone are affected, the others go on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from .client import Client, Server, get, running
from .editor import BASE, ODD, UNSOUND, Editor
from .wire import awareness_message, step_1, step_2, update_message

BAD: dict[str, tuple[str | bytes, int]] = {
    "text frame": ("hello", 1003),
    "JSON in a text frame": ('{"type": "join", "room": "room"}', 1003),
    "empty": (b"", 1003),
    "unknown type": (b"\x07\x00", 1003),
    "unknown sync message": (b"\x00\x05\x00", 1003),
    "auth from a client": (b"\x02\x00\x02no", 1003),
    "truncated step 1": (step_1(b"\x01\x01\x02")[:-1], 1003),
    "truncated update": (update_message(BASE)[:-3], 1003),
    "number without end": (b"\x00" + b"\x80" * 100, 1003),
    "junk for a state vector": (step_1(b"\x05"), 1003),
    "junk for an update": (update_message(b"junk"), 1003),
    "junk for a step 2": (step_2(b"\xff" * 40), 1003),
    "update without its end": (update_message(BASE[:-2]), 1003),
    "awareness that is not JSON": (awareness_message((9, 1, b"{")), 1003),
    "awareness with too many states": (awareness_message(*((client, 1, {}) for client in range(100))), 1003),
    "too large": (b"\x00" * 20_001, 1009),
    **{f"unsound update: {name}": (update_message(update), 1003) for name, update in UNSOUND.items()},
}


@asynccontextmanager
async def busy(path: Path) -> AsyncIterator[tuple[Server, Client, Client]]:
    """Run a server that reads 20,000 bytes at most, with two clients that have written."""
    async with running(path, max_message_size=20_000) as server:
        ann, bob = await server.join("room", 5), await server.join("room", 6)
        ann.take(BASE)
        ann.updates.append(BASE)
        await ann.type(" ann")
        await bob.shows("abc ann")
        yield server, ann, bob


@pytest.mark.parametrize(("message", "code"), BAD.values(), ids=BAD.keys())
async def test_nonsense_ends_its_sender_alone(tmp_path: Path, message: str | bytes, code: int) -> None:
    """The sender is closed with a code that says why; others lose neither connection, document nor updates."""
    async with busy(tmp_path) as (server, ann, bob):
        eve = await server.join("room", 666)
        await eve.point(1, {"evil": True})
        await bob.until(lambda: 666 in bob.states)
        await ann.type(" before")
        await eve.socket.send(message)
        assert await eve.ended() == code
        await ann.type(" after")
        await bob.shows(" after")
        await bob.until(lambda: bob.states[666] == (1, None))
        assert bob.text == "abc ann before after"
        assert set(bob.states) == {666}
        assert (await server.join("room", 3)).same(ann)
    async with running(tmp_path) as server:
        assert (await server.join("room", 3)).same(ann)


async def test_a_fragmented_message_that_is_too_large_is_refused(tmp_path: Path) -> None:
    """The limit holds for a whole message, not for its frames."""
    async with busy(tmp_path) as (server, ann, bob):
        eve = await server.join("room", 666)
        await eve.socket.send([b"\x00" * 10_000 for _ in range(3)])
        assert await eve.ended() == 1009
        await ann.type(" after")
        await bob.shows(" after")


async def test_a_message_as_large_as_allowed_is_read(tmp_path: Path) -> None:
    """The largest message is handled, in one frame or in many."""
    async with busy(tmp_path) as (_, ann, bob):
        message = update_message(ann.write("x" * 19_950))
        assert 19_960 < len(message) <= 20_000
        await ann.socket.send([message[at : at + 1000] for at in range(0, len(message), 1000)])
        await bob.agrees(ann)


async def test_nobody_can_lock_a_room(tmp_path: Path) -> None:
    """Whatever somebody sends, the room can be opened again when the server has been started again."""
    async with running(tmp_path) as server:
        ann = await server.join("room", 5)
        await ann.type("ann")
        bob = await server.join("room", 6)
        await bob.shows("ann")
        for update in [*ODD.values(), *UNSOUND.values()]:
            eve = await server.join("room", 666)
            await eve.socket.send(update_message(update))
        await ann.type(" was here")
        await bob.shows(" was here")
    async with running(tmp_path) as server:
        carol = await server.join("room", 7)
        await carol.until(lambda: "ann was here" in carol.text)


async def test_a_message_before_the_handshake_is_answered_hurts_nobody(server: Server) -> None:
    """A client that vanishes in the middle of its handshake leaves nothing behind."""
    answer = await get(server.service.port, "/room", "Connection: Upgrade", "Upgrade: websocket")
    assert answer.status in (400, 426)
    assert server.app.rooms.rooms == {}
    ann = await server.join("room", 1)
    assert ann.same(Editor(2))
