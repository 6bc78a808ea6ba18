"""However a connection ends, the application is told once, nothing stays behind, and nobody else notices."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import weakref
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from ..conftest import Connect, OpenRaw, Serve
from ..harness import (
    BINARY,
    CLOSE,
    HANDSHAKE,
    PING,
    PONG,
    TEXT,
    TIMEOUT,
    Echo,
    Frame,
    Raw,
    connection,
    frames,
    masked,
)

GOODBYE = b"\x03\xe8"


async def clean(_: Any, client: Raw) -> None:
    """Say goodbye."""
    await client.send_frame(CLOSE, GOODBYE)


async def clean_without_code(_: Any, client: Raw) -> None:
    """Say goodbye without a code."""
    await client.send_frame(CLOSE)


async def end_of_stream(_: Any, client: Raw) -> None:
    """End the stream without a close frame."""
    client.half_close()


async def reset(_: Any, client: Raw) -> None:
    """Vanish."""
    client.reset()


async def ended(_: Any, client: Raw) -> None:
    """Be ended by the application, and answer that."""
    await client.send_frame(TEXT, b"end")
    await client.frame()
    await client.send_frame(CLOSE, GOODBYE)


async def ended_unanswered(_: Any, client: Raw) -> None:
    """Be ended by the application, and say nothing."""
    await client.send_frame(TEXT, b"end")


async def both_end(_: Any, client: Raw) -> None:
    """Say goodbye in the packet that makes the application end the connection."""
    await client.send(masked(TEXT, b"end") + masked(CLOSE, GOODBYE))


async def refused(_: Any, client: Raw) -> None:
    """Send what the application refuses."""
    await client.send_frame(TEXT, b"refuse")


async def failure(_: Any, client: Raw) -> None:
    """Send what the application fails on, three times."""
    await client.send(masked(TEXT, b"raise") * 3)


async def not_utf8(_: Any, client: Raw) -> None:
    """Send text that is none."""
    await client.send_frame(TEXT, b"\xff")


async def too_big(_: Any, client: Raw) -> None:
    """Send more than the limit."""
    await client.send_frame(BINARY, bytes(65_537))


async def unmasked(_: Any, client: Raw) -> None:
    """Break the protocol."""
    await client.send(b"\x81\x01x")


async def drain(running: Any, _: Raw) -> None:
    """Wait for the server to stop."""
    await running.stop()


WAYS: list[tuple[Callable[[Any, Raw], Awaitable[None]], int]] = [
    (clean, 1000),
    (clean_without_code, 1005),
    (end_of_stream, 1006),
    (reset, 1006),
    (ended, 1000),
    (ended_unanswered, 1000),
    (both_end, 1000),
    (refused, 1008),
    (failure, 1011),
    (not_utf8, 1007),
    (too_big, 1009),
    (unmasked, 1002),
    (drain, 1001),
]
"""How connections end, and the close code by which that is counted."""


async def end(serve: Serve, raw: OpenRaw, way: Callable[[Any, Raw], Awaitable[None]]) -> Any:
    """End a connection; return its service when nothing happens in it any more."""
    running = await serve()
    client = await raw(running)
    await running.app.until(lambda: bool(running.app.calls))
    await way(running, client)
    await running.app.closed(0)
    if way is not reset:
        await client.rest()
    await running.stop()
    return running


@pytest.fixture
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give close frames little time to be answered."""
    monkeypatch.setattr(connection, "CLOSE_TIMEOUT", 0.02)


@pytest.fixture
def _uncollected() -> Iterator[None]:
    """Leave garbage where it is."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_soon")
@pytest.mark.parametrize("way", [way for way, _ in WAYS])
async def test_application_is_told_once_of_any_end(
    serve: Serve, raw: OpenRaw, way: Callable[[Any, Raw], Awaitable[None]]
) -> None:
    """Whatever ends a connection, the application is told exactly once, and last."""
    running = await end(serve, raw, way)
    history = running.app.history(0)
    assert history[0] == "open"
    assert history.count("open") == history.count("close") == 1
    assert history[-1] == "close"


@pytest.mark.usefixtures("_soon")
@pytest.mark.parametrize("way", [way for way, _ in WAYS])
async def test_ended_connection_is_not_kept(
    serve: Serve, raw: OpenRaw, way: Callable[[Any, Raw], Awaitable[None]]
) -> None:
    """Whatever ends a connection, it is no longer counted as open, nor kept."""
    running = await end(serve, raw, way)
    assert running.app.metrics.open_connections == 0
    assert running.app.metrics.total_connections == 1
    assert not running.connections


@pytest.mark.usefixtures("_soon", "_uncollected")
@pytest.mark.parametrize("way", [way for way, _ in WAYS if way is not failure])  # a log may keep what failed
async def test_ended_connection_leaves_no_reference_cycle(
    serve: Serve, raw: OpenRaw, way: Callable[[Any, Raw], Awaitable[None]]
) -> None:
    """Whatever ends a connection, nothing of it is left for a full garbage collection, which would hold everybody."""
    running = await serve()
    client = await raw(running)
    await running.app.until(lambda: bool(running.app.calls))
    gone = asyncio.Event()
    there = weakref.ref(next(iter(running.connections)).protocol, lambda _: gone.set())
    await way(running, client)
    async with asyncio.timeout(TIMEOUT):
        await gone.wait()
    assert there() is None


@pytest.mark.asyncio(loop_factories=["asyncio"])
@pytest.mark.usefixtures("_soon")
@pytest.mark.parametrize(("way", "code"), WAYS)
async def test_end_is_counted_once_by_its_code(
    serve: Serve, raw: OpenRaw, way: Callable[[Any, Raw], Awaitable[None]], code: int
) -> None:
    """An end is counted once, by the code of the first close frame either side sent; 1006 if there was none."""
    running = await end(serve, raw, way)
    assert +running.app.metrics.closes == {str(code): 1}


async def test_close_frame_is_answered_with_its_code(serve: Serve, raw: OpenRaw) -> None:
    """A client's close frame is answered with its own code, and then the server ends the TCP connection."""
    client = await raw(await serve())
    await client.send_frame(CLOSE, GOODBYE)
    assert await client.frame() == Frame(CLOSE, GOODBYE)
    assert await client.frame() is None


async def test_unanswered_close_is_cut_after_the_close_timeout(
    serve: Serve, raw: OpenRaw, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A close frame that is never answered is followed by a cut, after CLOSE_TIMEOUT."""
    monkeypatch.setattr(connection, "CLOSE_TIMEOUT", 0.2)
    client = await raw(await serve())
    await client.send_frame(TEXT, b"end")
    closed = await client.frame()
    assert closed is not None
    assert closed.code == 1000
    assert await client.frame() is None


async def test_client_that_talks_after_the_close_is_cut(
    serve: Serve, raw: OpenRaw, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that goes on talking instead of answering the close frame is cut all the same."""
    monkeypatch.setattr(connection, "CLOSE_TIMEOUT", 0.2)
    client = await raw(await serve())
    await client.send_frame(TEXT, b"end")
    with contextlib.suppress(ConnectionError):  # it may be cut while it sends
        while await client.frame() is not None:
            await client.send_frame(PING, b"still here")


async def test_application_forgets_a_closed_client_at_once(serve: Serve, raw: OpenRaw) -> None:
    """The application forgets a client that it has ended at once, not when the client has answered."""
    running = await serve()
    client = await raw(running)
    await client.send_frame(TEXT, b"end")
    await client.frame()
    assert running.app.history(0) == ["open", "receive", "close"]


async def test_client_lost_during_open_is_closed_after_it(serve: Serve, raw: OpenRaw, client: Connect) -> None:
    """A client that leaves while the application is taking it is closed once the application has it."""
    running = await serve()
    running.app.open_waits = gate = asyncio.Event()
    leaver = await raw(running)
    await running.app.until(lambda: bool(running.app.calls))
    await leaver.send_frame(CLOSE, GOODBYE)
    leaver.half_close()
    running.app.open_waits = None
    marker = await client(running)
    await marker.send("a turn of the event loop")
    await marker.recv()
    gate.set()
    await running.app.closed(0)
    await leaver.rest()
    await marker.close()
    await running.stop()
    assert running.app.history(0) == ["open", "close"]
    assert running.app.metrics.open_connections == 0


@pytest.mark.usefixtures("_soon")
@pytest.mark.parametrize("leave", [Raw.half_close, Raw.reset])
async def test_client_lost_during_its_handshake_is_not_counted(
    serve: Serve, raw: OpenRaw, leave: Callable[[Raw], None]
) -> None:
    """A client that vanishes during its handshake does not count as open for ever."""
    running = await serve()
    for _ in range(20):
        client = await raw(running, handshake=False)
        await client.send(f"GET / HTTP/1.1\r\n{HANDSHAKE}\r\n".encode())
        leave(client)
    await (await raw(running)).send_frame(CLOSE, GOODBYE)
    await running.stop()
    assert running.app.metrics.open_connections == 0
    calls = [name for name, _ in running.app.calls]
    assert calls.count("open") == calls.count("close")


# Clients that do not read


def keep_little(waiting: Any) -> None:
    """Let the kernel keep little of what a client does not read: it may keep megabytes, which take long to read."""
    waiting.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)


async def test_slow_client_is_closed_with_1013(
    serve: Serve, raw: OpenRaw, client: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that does not read is closed with 1013; another one keeps getting everything meanwhile."""
    monkeypatch.setattr(connection, "CLOSE_TIMEOUT", 10 * TIMEOUT)  # so that the close frame can be read in the end
    running = await serve(slow_client_buffer=65_536)
    slow = await raw(running, receive_buffer=4096)
    await running.app.until(lambda: 0 in running.app.connections)
    keep_little(running.app.connections[0])
    fast = await client(running)
    rounds = 0
    while ("close", 0) not in running.app.calls:
        message = f"all {rounds} ".ljust(60_000, "x")
        await fast.send(message)
        assert await fast.recv() == message
        rounds += 1
        assert rounds < 1000
    await fast.send("still here")
    assert await fast.recv() == "still here"
    closed = await slow.frame_of(CLOSE)
    assert closed is not None
    assert closed.code == 1013


@pytest.mark.usefixtures("_soon")
async def test_slow_client_is_counted_as_1013(serve: Serve, raw: OpenRaw, client: Connect) -> None:
    """A client that was closed for being slow is counted as 1013, though it never answers."""
    running = await serve(slow_client_buffer=65_536)
    slow = await raw(running, receive_buffer=4096)
    await running.app.until(lambda: 0 in running.app.connections)
    keep_little(running.app.connections[0])
    fast = await client(running)
    while ("close", 0) not in running.app.calls:
        await fast.send("all ".ljust(60_000, "x"))
        await fast.recv()
    await fast.close()
    await running.stop()
    await slow.rest()
    assert running.app.metrics.closes["1013"] == 1


async def test_slow_client_without_a_limit_gets_everything(serve: Serve, raw: OpenRaw) -> None:
    """Without a limit, a client that does not read gets everything in the end."""
    running = await serve(slow_client_buffer=0)
    client = await raw(running, receive_buffer=4096)
    for _ in range(100):
        await client.send_frame(BINARY, bytes(60_000))
    for _ in range(100):
        assert await client.frame() == Frame(BINARY, bytes(60_000))


class Patient(Echo):
    """An application that keeps slow clients."""

    def slow(self, connection: Any) -> None:
        """Note it, and keep the client."""
        self._note("slow", self.numbers[connection])

    def drained(self, connection: Any) -> None:
        """Note it."""
        self._note("drained", self.numbers[connection])


@pytest.mark.parametrize("limit", [1000, 100_000])
async def test_application_is_told_when_a_slow_client_caught_up(
    serve: Serve, raw: OpenRaw, client: Connect, limit: int
) -> None:
    """An application that keeps a slow client is told when that has caught up, whatever the limit."""
    running = await serve(Patient, slow_client_buffer=limit)
    slow = await raw(running, receive_buffer=4096)
    await running.app.until(lambda: 0 in running.app.connections)
    marker = await client(running)
    waiting = running.app.connections[0]
    keep_little(waiting)
    while ("slow", 0) not in running.app.calls:  # the kernel may take some bytes more before that is checked
        waiting.write(frames.encode_frame(bytes(2000), text=False))
        await marker.send("a turn of the event loop")
        await marker.recv()
    assert waiting.transport.get_write_buffer_size() > limit
    assert ("drained", 0) not in running.app.calls
    waiting.write(frames.encode_frame(b"the last", text=True))
    assert await slow.frame_of(TEXT) == Frame(TEXT, b"the last")
    await running.app.until(lambda: ("drained", 0) in running.app.calls)


async def test_last_ping_is_answered_when_the_client_reads(serve: Serve, raw: OpenRaw) -> None:
    """Of the pings that come while a client does not read, the last one is answered when it has read."""
    running = await serve(slow_client_buffer=0)
    slow = await raw(running)
    await running.app.until(lambda: 0 in running.app.connections)
    connected = running.app.connections[0]
    connected.pause_writing()
    await slow.send(masked(PING, b"first") + masked(PING, b"last") + masked(TEXT, b"hello"))
    assert await slow.frame() == Frame(TEXT, b"hello")
    connected.resume_writing()
    assert await slow.frame() == Frame(PONG, b"last")


async def test_pongs_to_a_client_that_does_not_read_are_bounded(serve: Serve, raw: OpenRaw, client: Connect) -> None:
    """Pongs to a client that does not read are bounded, because pings cost memory too."""
    running = await serve(slow_client_buffer=65_536)
    flood = await raw(running, receive_buffer=4096)
    await running.app.until(lambda: 0 in running.app.connections)
    waiting = running.app.connections[0]
    keep_little(waiting)
    marker = await client(running)
    most = 0
    with contextlib.suppress(TimeoutError, ConnectionError):  # to be cut is fine, and so is not to be read any more
        for _ in range(50):
            async with asyncio.timeout(1):
                await flood.send(masked(PING, bytes(125)) * 200)
            await marker.send("a turn of the event loop")
            await marker.recv()
            most = max(most, waiting.transport.get_write_buffer_size())
    assert most < 4 * 65_536
