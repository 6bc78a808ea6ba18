"""Refused clients are closed some seconds later, the longer the more often, and so many of them are kept."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ..conftest import OpenRaw, Serve
from ..harness import (
    CLOSE,
    PING,
    PONG,
    TEXT,
    TIMEOUT,
    UPGRADE,
    Frame,
    errors,
    limits,
    refusal_delay,
    request,
)


def test_each_refusal_doubles_the_delay_up_to_a_bound() -> None:
    """Each refusal of one address keeps the connection twice as long as the last, up to a bound."""
    refused = refusal_delay.RefusalDelays(0)
    assert [refused.keep("a", None, now) for now in range(7)] == [2, 4, 8, 16, 30, 30, 30]
    assert refused.keep("b", None, 7) == 2


def test_refused_token_is_remembered_across_addresses() -> None:
    """The same token is remembered wherever it comes from, and other tokens of an address count with the address."""
    refused = refusal_delay.RefusalDelays(0)
    assert refused.keep("a", "token", 1) == 2
    assert refused.keep("b", "token", 2) == 4
    assert refused.keep("c", "other", 3) == 2
    assert refused.keep("b", "another", 4) == 4


def test_refusals_are_forgotten_after_a_while() -> None:
    """After a while without a refusal, the next one is the first."""
    refused = refusal_delay.RefusalDelays(0)
    assert [refused.keep("a", None, now) for now in (0, 50, 100)] == [2, 4, 8]
    assert refused.keep("a", None, 100 + refusal_delay.MEMORY) == 2


def test_number_of_remembered_refusals_is_bounded() -> None:
    """However many addresses are refused, so many are remembered."""
    refused = refusal_delay.RefusalDelays(0)
    for number in range(refusal_delay.MAX_REMEMBERED + 10):
        refused.keep(str(number), None, 1)
    assert len(refused._refused) == refusal_delay.MAX_REMEMBERED
    assert refused.keep("0", None, 1) == 0  # others wait already, so it is not kept
    assert len(refused._refused) == refusal_delay.MAX_REMEMBERED


@pytest.mark.parametrize(("connections", "most"), [(0, 1000), (100_000, 1000), (500, 50), (5, 1)])
def test_how_many_are_kept(connections: int, most: int) -> None:
    """So many refused connections are kept, one in ten of those that may be open; another one is closed at once."""
    refused = refusal_delay.RefusalDelays(connections)
    assert all(refused.keep(str(number), None, 1) for number in range(most))
    assert refused.keep("one more", None, 1) == 0
    refused.release("0")
    assert refused.keep("one more", None, 1) > 0


def test_how_many_of_one_address_are_kept() -> None:
    """One address cannot have all the places of refused connections."""
    refused = refusal_delay.RefusalDelays(0)
    assert all(refused.keep("a", None, 1) for _ in range(refusal_delay.MAX_OF_ONE))
    assert refused.keep("a", None, 1) == 0
    assert refused.keep("b", None, 1) > 0
    refused.release("a")
    assert refused.keep("a", None, 1) > 0
    for _ in range(refusal_delay.MAX_OF_ONE):
        refused.release("a")
    refused.release("b")
    assert refused._waiting == {}


# On connections


@pytest.fixture
async def refusing(serve: Serve) -> Any:
    """Start a service whose application refuses every connection."""
    running = await serve()
    running.app.open_fails = errors.CloseConnection(1013, "Full.")
    return running


async def test_refused_connection_is_closed_later_with_its_code(
    refusing: Any, raw: OpenRaw, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refused connection is open for a while, and then closed with the code and the reason of the refusal."""
    monkeypatch.setattr(refusal_delay, "FIRST", 0.5)
    client = await raw(refusing)
    await client.send_frame(PING, b"here")
    assert await client.frame() == Frame(PONG, b"here")
    assert await client.frame() == Frame(CLOSE, b"\x03\xf5Full.")


async def test_failure_is_closed_later(refusing: Any, raw: OpenRaw) -> None:
    """So is one that could not be opened because of a defect."""
    refusing.app.open_fails = RuntimeError("a defect")
    client = await raw(refusing)
    await client.send_frame(PING, b"here")
    assert await client.frame() == Frame(PONG, b"here")


async def test_messages_of_a_refused_client_are_not_handled(refusing: Any, raw: OpenRaw) -> None:
    """Messages of a refused client are not handled, and it is cut over the rate limits."""
    refusing.app.settings = type(refusing.app.settings)(rate_limit=1)
    client = await raw(refusing)
    await client.send_frame(TEXT, b"hello")
    await client.send_frame(PING, b"here")
    assert await client.frame() == Frame(PONG, b"here")
    for _ in range(limits.BURST_SECONDS):
        await client.send_frame(TEXT, b"hello")
    assert await client.frame() is None
    assert refusing.app.got == []


async def test_refused_client_that_leaves_frees_its_place(refusing: Any, raw: OpenRaw) -> None:
    """A refused client that leaves is not kept any longer, and its place is free."""
    client = await raw(refusing)
    await client.send_frame(CLOSE, b"\x03\xe8")
    await client.rest()
    async with asyncio.timeout(TIMEOUT):
        while True:
            if not refusing.app.metrics.open_connections:
                break
            await asyncio.sleep(0)
    assert refusing._lifecycle._refusal_delays._count == 0


async def test_refusal_beyond_the_bound_is_closed_at_once(serve: Serve, raw: OpenRaw) -> None:
    """Where no more refused connections are kept, one more is closed at once."""
    running = await serve(max_connections=10)
    running.app.open_fails = errors.CloseConnection(1013, "Full.")
    kept = await raw(running)
    await kept.send_frame(PING)
    assert await kept.frame() == Frame(PONG, b"")
    assert await (await raw(running)).frame() == Frame(CLOSE, b"\x03\xf5Full.")


async def test_delayed_refusal_counts_for_its_address(serve: Serve, raw: OpenRaw) -> None:
    """A refused connection that is kept counts as one of its address."""
    running = await serve(max_connections_per_ip=1)
    running.app.open_fails = errors.CloseConnection(1013, "Full.")
    await raw(running)
    assert (await request(running.port, "GET /", *UPGRADE)).status == 429


async def test_stop_closes_delayed_refusals(refusing: Any, raw: OpenRaw) -> None:
    """A stop closes refused connections like all others."""
    client = await raw(refusing)
    await client.send_frame(PING)
    await client.frame()
    await refusing.stop()
    frame = await client.frame_of(CLOSE)
    assert frame is not None
    assert frame.code == 1001
