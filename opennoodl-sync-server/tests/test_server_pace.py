"""A client with large requests or messages is read more slowly, and other clients are not."""

from __future__ import annotations

import pytest
from opennoodl_sync.edge.websocket.connection import Connection
from opennoodl_sync.rooms import room as room_module
from opennoodl_sync.sessions import ANSWER_RATE, FEW_STATES, LARGE_ANSWER, STATES_RATE
from opennoodl_sync.yjs import difference as difference_module
from pycrdt import write_var_uint

from .client import Server
from .wire import QUERY, awareness_message, step_1


@pytest.fixture
def holds(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return for how many seconds anybody was not read from, in order; here nobody waits for them to pass."""
    holds: list[float] = []
    monkeypatch.setattr(Connection, "pause_reading_for", lambda _, seconds: holds.append(seconds))
    return holds


async def test_large_awareness_messages_are_followed_by_a_pause(server: Server, holds: list[float]) -> None:
    """A message with many or large states is followed by a pause, in proportion; those of everyday are not."""
    ann, bob = await server.join("room", 1), await server.join("room", 2)
    await ann.point(1, "x" * (FEW_STATES - 100))
    await bob.until(lambda: 1 in bob.states)
    assert holds == []
    message = awareness_message((1, 2, "x" * 50_000))
    await ann.socket.send(message)
    await bob.until(lambda: bob.states[1][0] == 2)
    assert holds == [len(message) / STATES_RATE]


async def test_large_answers_are_followed_by_a_pause(server: Server, holds: list[float]) -> None:
    """So is a large answer, be it of the document or of who is here."""
    ann, bob = await server.join("room", 1), await server.join("room", 2)
    await ann.type("x" * 2 * LARGE_ANSWER)
    await bob.shows("x")
    assert holds == []
    before = len(bob.messages)
    await bob.socket.send(step_1(b"\x00"))
    await bob.hears(before)
    assert holds == [pytest.approx(2 * LARGE_ANSWER / ANSWER_RATE, rel=0.01)]
    for client in (ann, bob):
        await client.point(1, "x" * 40_000)
    await ann.until(lambda: len(ann.states) == 2)
    holds.clear()
    before = len(bob.messages)
    await bob.socket.send(QUERY)
    await bob.hears(before)
    assert holds == [len(bob.messages[-1]) / ANSWER_RATE]


async def test_a_large_state_vector(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large one is answered, and so is one that is larger than is looked at: with the whole document."""
    monkeypatch.setattr(difference_module, "MAX_VECTOR", 100_000)
    monkeypatch.setattr(room_module, "MAX_VECTOR", 100_000)
    ann, eve = await server.join("room", 1), await server.join("room", 2)
    await ann.type("hello")
    await eve.shows("hello")
    entries = b"".join(write_var_uint(client) + b"\x01" for client in range(100, 20_000))
    for state_vector in (write_var_uint(19_900) + entries, write_var_uint(60_000) + entries * 2):
        before = len(eve.messages)
        await eve.socket.send(step_1(state_vector))
        await eve.until(lambda before=before: any(answer[:2] == b"\x00\x01" for answer in eve.messages[before:]))
        assert any(b"hello" in answer for answer in eve.messages[before:])
    await ann.type(" again")
    assert ann.code is None
