"""Heartbeats: who is silent is gone, and a pong says how far a client has read."""

from __future__ import annotations

from typing import Any

from ..conftest import Connect, OpenRaw, Serve
from ..harness import CLOSE, PING, PONG, TEXT, Echo, Frame

GOODBYE = b"\x03\xe8"


async def test_silent(serve: Serve, raw: OpenRaw) -> None:
    """A silent client is pinged once, and gone when the next ping would be due: after two intervals at most."""
    running = await serve(heartbeat_interval=50)
    client = await raw(running)
    assert await client.frame() == Frame(PING, b"")
    assert await client.frame() is None
    await running.app.closed(0)
    await running.stop()
    assert running.app.history(0) == ["open", "close"]


async def test_pong_keeps(serve: Serve, raw: OpenRaw) -> None:
    """A client that answers the pings stays."""
    client = await raw(await serve(heartbeat_interval=200))
    for _ in range(3):
        assert await client.frame() == Frame(PING, b"")
        await client.send_frame(PONG)
    await client.send_frame(TEXT, b"still here")
    assert (await client.frame_of(TEXT)) == Frame(TEXT, b"still here")


async def test_silent_alone(serve: Serve, raw: OpenRaw, client: Connect) -> None:
    """A client that answers pings stays while a silent one is cut."""
    running = await serve(heartbeat_interval=200)
    await raw(running)
    polite = await client(running)
    await running.app.closed(0)
    await polite.send("still here")
    assert await polite.recv() == "still here"


class Marking(Echo):
    """An application that marks its heartbeats."""

    def ping_payload(self, connection: Any) -> bytes:
        """Mark it."""
        return b"mark"

    def pong(self, connection: Any, payload: bytes) -> None:
        """Note what comes back, for the connection."""
        self._note(payload.decode(), connection.session)


async def test_marks(serve: Serve, raw: OpenRaw) -> None:
    """What the application gives a heartbeat to carry comes back to it with the pong, and so does any other pong."""
    running = await serve(Marking, heartbeat_interval=200)
    client = await raw(running)
    await client.send_frame(PONG, b"before")
    ping = await client.frame()
    assert ping == Frame(PING, b"mark")
    await client.send_frame(PONG, ping.payload)
    await client.send_frame(CLOSE, GOODBYE)
    await running.app.closed(0)
    assert running.app.history(0) == ["open", "before", "mark", "close"]
