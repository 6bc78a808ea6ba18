"""The server where memory is short: what it does, in order, and that nobody loses anything."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path

import pytest
from opennoodl_sync import server as module
from opennoodl_sync import sessions as sessions_module
from opennoodl_sync.edge.settings import load
from opennoodl_sync.memory import unread_output
from opennoodl_sync.rooms.room import NoMemoryError
from opennoodl_sync.settings import Settings
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from .client import TIMEOUT, Client, Process, get, running
from .editor import Editor
from .test_server_bounds import left, reason
from .test_server_slow import fill, reader
from .wire import QUERY, update_message

LIMIT = 1_000_000
MIB = 1 << 20
"""Bytes; documents may take three quarters of them."""


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep nobody waiting."""
    monkeypatch.setattr(sessions_module, "TURN_AWAY_AFTER", 0.05)


async def handled(client: Client) -> None:
    """Wait until the server has handled what a client has sent."""
    heard = len(client.messages)
    await client.socket.send(QUERY)
    await client.hears(heard)


async def test_nobody_loses_anything(tmp_path: Path) -> None:
    """With a small bound: a document is not opened, none grows, and an idle one makes place for both."""
    async with running(tmp_path) as server:
        writer = await server.join("stored", 1)
        await writer.type("s" * 300_000)
        await handled(writer)
    async with running(tmp_path, max_memory=LIMIT) as server:
        ann, bob = await server.join("a", 1), await server.join("b", 2)
        await ann.type("a" * 300_000)
        await handled(ann)  # large messages that arrive at the same time would be too many
        await bob.type("b" * 300_000)
        await handled(bob)
        eve = await server.join("stored", 3, sync=False)
        await ann.type("c" * 200_000)
        assert (
            await reason(ann)
            == "MAX_MEMORY is reached, so the change was not stored. Your client keeps it; connect again."
        )
        assert ann.code == 1013
        assert await reason(eve) == "MAX_MEMORY is reached, so no further document can be loaded. Connect again later."
        assert eve.code == 1013
        carol = await server.join("b", 4)
        assert carol.text == "b" * 300_000
        await carol.close()
        await left(server, bob, await server.join("witness", 9))
        again = await server.join("a", 5, *ann.updates)
        newcomer = await server.join("a", 6)
        await newcomer.agrees(again)
        assert newcomer.text == "c" * 200_000 + "a" * 300_000 or newcomer.text == "a" * 300_000 + "c" * 200_000
        assert "b" not in server.app.rooms.rooms
        await again.close()
        await left(server, newcomer, await server.join("witness", 10))
        assert (await server.join("stored", 7)).text == "s" * 300_000
        assert (await server.join("b", 8)).text == "b" * 300_000


async def test_large_answers_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A newcomer is sent a large document when there is memory for it again."""
    monkeypatch.setattr(sessions_module, "INTERVAL", 60.0)
    async with running(tmp_path, max_memory=2 * LIMIT) as server:
        ann = await server.join("a", 1)
        await ann.type("a" * 700_000)
        server.app._budget.transfers = 1
        server.app._budget.count_output(LIMIT * 115 // 100)
        bob = await server.join("a", 2, sync=False)
        await bob.step_1()
        await bob.point(1, {"cursor": 1})
        await ann.until(lambda: 2 in ann.states)
        await ann.type("more")
        await ann.point(1, {"cursor": 2})
        await bob.until(lambda: 1 in bob.states)  # an update would have come before that
        assert not any(message[0] == 0 and len(message) > 1000 for message in bob.messages)
        server.app._budget.transfers = 0
        server.app._budget.count_output(0)
        await bob.until(lambda: bob.synced)
        await bob.agrees(ann)
        assert server.app._budget.transfers == 0


async def test_a_client_that_does_not_read_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Documents grow into what unread output has taken; the client that did not read comes back for what it lacks."""
    monkeypatch.setattr(sessions_module, "INTERVAL", 0.01)
    monkeypatch.setattr(unread_output, "PATIENCE", 2)
    async with running(tmp_path, max_memory=LIMIT, slow_client_buffer=250_000, rate_limit=0) as server:
        ann, bob = await server.join("a", 1), await reader(server, "a", 2)
        await fill(ann, bob)
        pieces = 0
        async with asyncio.timeout(TIMEOUT):  # a heartbeat would end the connection after a minute
            while bob.connection.is_open:
                if not server.app._budget.short:  # also again, since a document may take less than its updates
                    pieces += 1
                    ann.put(f"more {pieces}", "x" * 10_000)
                    await ann.push_edits()
                await handled(ann)
        assert ann.code is None
        monkeypatch.setattr(unread_output, "PATIENCE", 1_000_000)  # a newcomer may take a moment to read
        bob.resume()
        assert await bob.ended() == 1006
        await (await server.join("a", 3)).agrees(ann)


async def test_many_large_messages_at_once(tmp_path: Path) -> None:
    """On a machine of 256 MB, two dozen clients with a message of 4 MB each do not need more than the machine has."""
    process = await Process.start(tmp_path, MAX_MEMORY=str(64 * MIB), BYTE_RATE_LIMIT="0", RATE_LIMIT="0")
    try:
        updates = [Editor(number).write(chr(97 + number) * 4_000_000) for number in range(24)]
        outcomes = await asyncio.gather(*(bring(process, f"room{n % 8}", update) for n, update in enumerate(updates)))
        assert outcomes.count("stored") >= 12
        assert set(outcomes) <= {"stored", "1013"}
        assert peak_memory(process.child.pid) < 256 * MIB
    finally:
        await process.kill()


def peak_memory(pid: int) -> int:
    """Return the most bytes that a process has had."""
    return int(Path(f"/proc/{pid}/status").read_text().split("VmHWM:")[1].split()[0]) * 1024


async def bring(process: Process, name: str, update: bytes) -> str:
    """Send an update to a room; return "stored" or the close code."""
    url = f"ws://127.0.0.1:{process.port}/{name}?ack=true"
    async with connect(url, compression=None, max_size=None, ping_interval=None, open_timeout=60) as socket:
        try:
            await socket.send(update_message(update))
            while (await socket.recv())[:1] != b"\x64":
                pass
        except ConnectionClosed as closed:
            return str(closed.rcvd.code if closed.rcvd else 1006)
        return "stored"


@pytest.mark.parametrize(
    ("memory", "setting", "bound"),
    [
        pytest.param(1024 * MIB, 16 * MIB, 16 * MIB, id="the setting"),
        pytest.param(64 * MIB, 16 * MIB, 4 * MIB, id="a sixteenth of memory"),
        pytest.param(64 * MIB, 0, 4 * MIB, id="a sixteenth, with no other limit"),
        pytest.param(4 * MIB, 16 * MIB, MIB, id="no less than a MiB"),
        pytest.param(4 * MIB, 1000, 1000, id="a setting of less than a MiB"),
    ],
)
async def test_a_message_has_no_more_than_a_share_of_memory(
    tmp_path: Path, memory: int, setting: int, bound: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """A larger one closes its connection, and a line at the start says so where `MAX_MESSAGE_SIZE` allows it."""
    async with running(tmp_path, max_memory=memory, max_message_size=setting) as server:
        assert server.app.max_message_size == bound
    assert ("a sixteenth of MAX_MEMORY" in capsys.readouterr().out) is (bound != setting)


@pytest.mark.parametrize(("setting", "bound"), [(5, 5), (0, 0)])
def test_memory_that_is_not_known_bounds_no_message(monkeypatch: pytest.MonkeyPatch, setting: int, bound: int) -> None:
    """Only `MAX_MESSAGE_SIZE` does."""
    monkeypatch.setattr(module, "available_memory", lambda: None)
    assert module.Sync(load(Settings, {"MAX_MESSAGE_SIZE": str(setting)})).max_message_size == bound


async def test_a_refused_change_is_not_kept(tmp_path: Path) -> None:
    """Its memory is free at once, and not when a garbage collection finds it."""
    async with running(tmp_path, max_memory=LIMIT) as server:
        ann = await server.join("a", 1)
        gc.collect()
        gc.disable()
        try:
            await ann.type("a" * 800_000)
            assert (await reason(ann)).startswith("MAX_MEMORY is reached")
            assert not [error for error in gc.get_objects() if isinstance(error, NoMemoryError)]
        finally:
            gc.enable()


async def test_a_client_that_is_closed_keeps_no_document(tmp_path: Path) -> None:
    """A document that leaves memory is gone, although the sockets of its clients are not closed yet."""
    async with running(tmp_path, room_idle_timeout=0) as server:
        ann = await server.join("a", 1)
        (member,) = server.members("a")
        assert member._handler is not None
        await ann.close()
        await left(server, ann, await server.join("witness", 2))
        assert member._handler is None


async def test_memory_of_documents_is_a_metric(tmp_path: Path) -> None:
    """A metric shows the memory of documents."""
    async with running(tmp_path) as server:
        ann = await server.join("a", 1)
        await ann.type("a" * 100_000)
        await handled(ann)
        lines = (await get(server.service.port, "/metrics")).body.decode().splitlines()
        (documents,) = (float(line.split()[1]) for line in lines if line.startswith("opennoodl_sync_document_bytes "))
        assert 100_000 < documents < 200_000
        assert "opennoodl_sync_unread_bytes 0.0" in lines


@pytest.mark.parametrize(
    ("available", "expected"), [(1024 * MIB, 448 * MIB), (256 * MIB, 64 * MIB), (64 * MIB, 8 * MIB), (None, 0)]
)
def test_the_default_is_half_of_the_memory(
    monkeypatch: pytest.MonkeyPatch, available: int | None, expected: int
) -> None:
    """It is half of what there is besides what the server itself takes; no limit where that is not known."""
    monkeypatch.setattr(module, "available_memory", lambda: available)
    assert module.Sync(load(Settings, {}))._budget.limit == expected
    assert module.Sync(load(Settings, {"MAX_MEMORY": "1000"}))._budget.limit == 1000
