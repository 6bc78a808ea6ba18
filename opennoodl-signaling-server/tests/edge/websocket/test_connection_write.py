"""What is written: at once, or soon, at the end of the turn, together and in order."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from websockets.protocol import CLOSED

from ..harness import Echo, connection, frames, opened

ONE, TWO, THREE = (frames.encode_frame(text, text=True) for text in (b"one", b"two", b"three"))


@pytest.fixture
async def client() -> Any:
    """Return a connection whose transport keeps what is written."""
    app = Echo()
    client = opened(app)
    client.attach(await app.open(client))
    return client


def written(client: Any) -> list[bytes]:
    """Return what was written, write by write."""
    return [call.args[0] for call in client.transport.write.call_args_list]


async def test_frames_of_one_turn_are_one_write(client: Any) -> None:
    """Frames of one turn are one write, when the turn is over; those of the next are another."""
    client.write_soon(ONE)
    client.write_soon(TWO)
    assert written(client) == []
    await asyncio.sleep(0)
    assert written(client) == [ONE + TWO]
    client.write_soon(THREE)
    await asyncio.sleep(0)
    assert written(client) == [ONE + TWO, THREE]


async def test_pending_frames_precede_the_close(client: Any) -> None:
    """Pending frames precede the close frame, and nothing follows it."""
    client.write_soon(ONE)
    client.disconnect(1000, "")
    client.write_soon(TWO)
    await asyncio.sleep(0)
    first, second = written(client)
    assert (first, second[:2]) == (ONE, b"\x88\x02")


async def test_before_an_answer_of_the_protocol(client: Any) -> None:
    """An answer of the protocol, such as a close, comes after the pending frames."""
    client.write_soon(ONE)
    client.data_received(b"\x88\x82\x00\x00\x00\x00\x03\xe8")
    await asyncio.sleep(0)
    first, second = written(client)
    assert (first, second[:1]) == (ONE, b"\x88")


async def test_pending_frames_precede_a_heartbeat(client: Any) -> None:
    """A pong says that everything has arrived that was sent before its ping: what was to be sent soon is."""
    client.write_soon(ONE)
    client.heartbeat()
    assert written(client) == [ONE, b"\x89\x00"]


async def test_nothing_is_written_to_an_ended_connection(client: Any) -> None:
    """Nothing is written to a connection that ended before the turn did."""
    client.write_soon(ONE)
    client.protocol.state = CLOSED
    await asyncio.sleep(0)
    assert written(client) == []


async def test_client_is_idle_until_something_is_written(client: Any) -> None:
    """A client is idle if nothing was written to it since the last question; a ping is no message."""
    client.check_idle()
    client.heartbeat()
    assert client.check_idle()
    client.write(ONE)
    assert not client.check_idle()
    client.write_soon(TWO)
    assert client.check_idle()
    await asyncio.sleep(0)
    assert not client.check_idle()


# Without a connection


class Flushable:
    """A connection that notes when it is flushed."""

    def __init__(self, name: str, flushed: list[str]) -> None:
        self._name = name
        self._flushed = flushed

    def flush(self) -> None:
        """Note it."""
        self._flushed.append(self._name)


async def test_connections_are_flushed_in_order() -> None:
    """Every connection is flushed once, in the order in which they came, and not before the turn is over."""
    flushed: list[str] = []
    box = connection.WriteBatch()
    for name in ("a", "b"):
        box.add(Flushable(name, flushed))
    assert flushed == []
    await asyncio.sleep(0)
    assert flushed == ["a", "b"]
    await asyncio.sleep(0)
    assert flushed == ["a", "b"]


async def test_frames_added_by_a_flush_wait_for_the_next_turn() -> None:
    """Frames added by a flush are sent in the next turn."""
    flushed: list[str] = []
    box = connection.WriteBatch()

    class Adding(Flushable):
        """A connection whose flush makes another one have something to write."""

        def flush(self) -> None:
            """Add another one."""
            super().flush()
            box.add(Flushable("b", flushed))

    box.add(Adding("a", flushed))
    await asyncio.sleep(0)
    assert flushed == ["a"]
    await asyncio.sleep(0)
    assert flushed == ["a", "b"]
