"""What a message has to wait for keeps its sender's other messages in order, and ends with its connection."""

from __future__ import annotations

import asyncio
from functools import partial
from time import time
from typing import Any

import pytest

from ..conftest import Connect, OpenRaw, Serve
from ..harness import CLOSE, TEXT, Echo, connection, identity, masked


class Worker(Echo):
    """Echoes a message that begins with ``wait`` only when the test lets it, and the others at once.

    Attributes:
        goes_on: what such messages wait for.
        works: how many are waiting or have waited.
        cancelled: how many of them were cancelled.
    """

    def __init__(self, **values: object) -> None:
        super().__init__(**values)  # type: ignore[arg-type]
        self.goes_on = asyncio.Event()
        self.works = 0
        self.cancelled = 0

    def receive(self, sender: Any, message: bytes, text: bool) -> None:
        """Echo now or later."""
        if message.startswith(b"wait"):
            sender.work(partial(self._later, sender, message, text))
            self.works += 1
            self._changed.set()
        else:
            super().receive(sender, message, text)

    async def _later(self, sender: Any, message: bytes, text: bool) -> None:
        try:
            await self.goes_on.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            self._changed.set()
            raise
        super().receive(sender, message.removeprefix(b"wait "), text)


@pytest.fixture
async def running(serve: Serve) -> Any:
    """Start a service of a worker."""
    return await serve(Worker)


async def test_messages_behind_waiting_work_keep_their_order(running: Any, raw: OpenRaw) -> None:
    """Messages behind one that waits are handled after it, in order, also if several of them wait in turn."""
    client = await raw(running)
    texts = [b"wait a", b"b", b"wait c", b"wait d", b"e"]
    await client.send(b"".join(masked(TEXT, text) for text in texts))
    await running.app.until(lambda: running.app.works == 1)
    assert running.app.got == []
    running.app.goes_on.set()
    assert [(await client.frame()).payload for _ in texts] == [b"a", b"b", b"c", b"d", b"e"]


async def test_nothing_is_read_while_a_message_waits(running: Any, raw: OpenRaw) -> None:
    """Nothing more is read from a client while one of its messages waits, so it cannot fill the memory."""
    client, other = await raw(running), await raw(running)
    await client.send(masked(TEXT, b"wait a"))
    await running.app.until(lambda: running.app.works == 1)
    await client.send(masked(TEXT, b"b") * 1000)
    await other.send_frame(TEXT, b"c")
    assert (await other.frame()).payload == b"c"
    assert not running.app.connections[0]._work._messages
    running.app.goes_on.set()
    assert [(await client.frame()).payload for _ in range(1001)] == [b"a", *([b"b"] * 1000)]


async def test_read_bytes_wait_undecoded(running: Any, raw: OpenRaw) -> None:
    """Bytes of the same read wait undecoded: tiny messages would take twenty times as much memory."""
    client = await raw(running)
    await client.send(masked(TEXT, b"wait a") + masked(TEXT, b"b") * 5000)
    await running.app.until(lambda: running.app.works == 1)
    kept = running.app.connections[0]
    assert not kept._work._messages
    assert kept._reader.size > 0
    running.app.goes_on.set()
    assert [(await client.frame()).payload for _ in range(5001)] == [b"a", *([b"b"] * 5000)]


async def test_waiting_work_delays_no_other_client(running: Any, raw: OpenRaw) -> None:
    """Nobody else waits."""
    client, other = await raw(running), await raw(running)
    await client.send_frame(TEXT, b"wait a")
    await running.app.until(lambda: running.app.works == 1)
    await other.send_frame(TEXT, b"b")
    assert (await other.frame()).payload == b"b"


@pytest.mark.parametrize(("message", "code"), [(b"wait refuse", 1008), (b"wait raise", 1011)])
async def test_failing_work_ends_the_connection(running: Any, raw: OpenRaw, message: bytes, code: int) -> None:
    """Work that fails or closes the connection ends it, and the messages behind it are not handled."""
    client = await raw(running)
    running.app.goes_on.set()
    await client.send(masked(TEXT, message) + masked(TEXT, b"behind"))
    frame = await client.frame()
    assert frame is not None
    assert frame.code == code
    await running.app.closed(0)
    assert b"behind" not in running.app.got


async def test_end_of_the_connection_cancels_its_work(running: Any, raw: OpenRaw) -> None:
    """When the server ends the connection, nothing waits for it any more."""
    client = await raw(running)
    await client.send(masked(TEXT, b"wait a") + masked(TEXT, b"b"))
    await running.app.until(lambda: running.app.works == 1)
    running.app.connections[0].disconnect(1000, "The end.")
    await running.app.until(lambda: running.app.cancelled == 1)
    assert running.app.got == []
    assert (await client.frame()).code == 1000


async def test_close_frame_while_work_waits_cancels_it(
    running: Any, raw: OpenRaw, caplog: pytest.LogCaptureFixture
) -> None:
    """A client that says goodbye in the same breath is answered, and what it asked for is not done."""
    client = await raw(running)
    await client.send(masked(TEXT, b"wait a") + masked(TEXT, b"b") * 2000 + masked(CLOSE, b"\x03\xe8"))
    await running.app.until(lambda: running.app.works == 1)
    running.app.connections[0].disconnect(1008, "Too late.")
    assert (await client.frame_of(CLOSE)).code == 1000
    await running.app.closed(0)
    assert running.app.got == []
    assert not caplog.records


async def test_goodbye_in_one_piece(running: Any, raw: OpenRaw, caplog: pytest.LogCaptureFixture) -> None:
    """So is one whose goodbye comes in the same packet, before it can be seen that there is something to wait for."""
    client = await raw(running)
    await client.send(masked(TEXT, b"wai", fin=False) + masked(0, b"t a") + masked(CLOSE, b"\x03\xe8"))
    assert (await client.frame_of(CLOSE)).code == 1000
    await running.app.closed(0)
    assert running.app.cancelled <= 1
    assert running.app.got == []
    assert not caplog.records


async def test_cancelled_before_it_began(running: Any, client: Connect) -> None:
    """The end may come in the same turn."""
    connected = await client(running)
    await connected.send("here")
    await connected.recv()
    kept = running.app.connections[0]
    kept.work(partial(running.app._later, kept, b"wait a", True))
    kept.disconnect(1000, "The end.")
    await connected.wait_closed()
    assert running.app.got == [b"here"]


async def test_deadline_closes_with_1008(running: Any, client: Connect) -> None:
    """A connection ends with 1008 and the reason when its deadline has come."""
    connected = await client(running)
    await connected.send("here")
    await connected.recv()
    running.app.connections[0].set_deadline(0, "Too late.")
    await connected.wait_closed()
    assert (connected.close_code, connected.close_reason) == (1008, "Too late.")


async def test_later_deadline_replaces_the_earlier(running: Any, client: Connect) -> None:
    """A later deadline, or none, takes the place of an earlier one."""
    connected = await client(running)
    await connected.send("here")
    await connected.recv()
    kept = running.app.connections[0]
    kept.set_deadline(0.0, "Too late.")
    kept.set_deadline(60, "Later.")
    kept.set_deadline(0.0, "Too late.")
    kept.set_deadline(None)
    for _ in range(3):
        await connected.send("still here")
        assert await connected.recv() == "still here"


@pytest.mark.parametrize("ago", [0, 3600])
async def test_expired_token_closes_the_connection(running: Any, client: Connect, ago: int) -> None:
    """A connection ends when its user's token does."""
    connected = await client(running)
    await connected.send("here")
    await connected.recv()
    running.app.connections[0].set_identity(identity.Identity("ann", expires=time() - ago))
    await connected.wait_closed()
    assert (connected.close_code, connected.close_reason) == (1008, connection.EXPIRED)


async def test_proof_without_expiry_sets_no_deadline(running: Any, client: Connect) -> None:
    """Without an end of the proof, the connection has none."""
    connected = await client(running)
    await connected.send("here")
    await connected.recv()
    kept = running.app.connections[0]
    kept.set_deadline(0.0, "Too late.")
    kept.set_identity(identity.Identity("ann"))
    await connected.send("still here")
    assert await connected.recv() == "still here"
    assert kept.identity.user == "ann"


async def test_no_token_is_kept(running: Any, client: Connect) -> None:
    """Once a connection is open, nothing remembers the token that came with it."""
    from websockets.asyncio.client import connect

    url = f"ws://127.0.0.1:{running.port}/?token=secret"
    async with connect(url, additional_headers={"Authorization": "Bearer secret"}) as connected:
        await connected.send("here")
        await connected.recv()
        request = running.app.connections[0].request
        assert "secret" not in repr(request)
        assert request.path == "/"
