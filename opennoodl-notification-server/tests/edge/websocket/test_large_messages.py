"""Large messages: above a limit, only the oldest is read on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from ..conftest import OpenRaw, Serve
from ..harness import BINARY, CLOSE, masked
from ..harness import large_messages as module

LIMIT = 100_000


class Sender:
    """A connection that notes what is done with it."""

    def __init__(self) -> None:
        self.waits = False
        self.closed = asyncio.Event()
        self.reason = ""

    def wait_for_memory(self, waits: bool) -> None:
        """Note it."""
        self.waits = waits

    def disconnect(self, code: int, reason: str, refusal: str) -> None:
        """Note it."""
        assert (code, refusal) == (1013, "messages-full")
        self.reason = reason
        self.closed.set()


class Watched(module.LargeMessages):  # type: ignore[misc]  # imported by a name that mypy cannot follow
    """Large messages that a test can wait for."""

    def __init__(self) -> None:
        super().__init__(LIMIT)
        self._changed = asyncio.Event()

    def count(self, sender: Any, size: int, *, arriving: bool) -> None:
        """Count, and say so."""
        super().count(sender, size, arriving=arriving)
        self._changed.set()

    def remove(self, sender: Any) -> None:
        """Remove, and say so."""
        super().remove(sender)
        self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a change has made `condition` true."""
        async with asyncio.timeout(30):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


@pytest.fixture
async def messages() -> Any:
    """Return the large messages of nobody yet."""
    return module.LargeMessages(LIMIT)


@pytest.fixture
def senders() -> list[Sender]:
    """Return some clients."""
    return [Sender() for _ in range(5)]


async def test_below_the_limit_all_are_read(messages: Any, senders: list[Sender]) -> None:
    """A client waits only when all together are over the limit."""
    for sender in senders:
        messages.count(sender, LIMIT // len(senders), arriving=True)
    assert not any(sender.waits for sender in senders)
    messages.count(senders[1], LIMIT // len(senders) + 1, arriving=True)
    assert [sender.waits for sender in senders] == [False, True, False, False, False]


async def test_small_messages_do_not_count(messages: Any, senders: list[Sender]) -> None:
    """However many there are, small messages do not wait."""
    for _ in range(100):
        messages.count(Sender(), module.LARGE, arriving=True)
    assert messages.size == 0


async def test_the_oldest_is_read(messages: Any, senders: list[Sender]) -> None:
    """The oldest message may be as large as any; the others go on in order when it is handled."""
    for sender in senders[:3]:
        messages.count(sender, LIMIT, arriving=True)
    messages.count(senders[0], 5 * LIMIT, arriving=True)
    assert [sender.waits for sender in senders[:3]] == [False, True, True]
    messages.remove(senders[0])
    assert [sender.waits for sender in senders[:3]] == [False, False, True]
    messages.remove(senders[1])
    assert not senders[2].waits
    assert messages.size == LIMIT


async def test_one_message_after_another_is_not_the_oldest(messages: Any, senders: list[Sender]) -> None:
    """A client that begins its next message while others wait is behind them."""
    messages.count(senders[0], 2 * LIMIT, arriving=True)
    messages.count(senders[1], LIMIT, arriving=True)
    assert senders[1].waits
    messages.count(senders[0], LIMIT, arriving=True)
    assert [sender.waits for sender in senders[:2]] == [True, False]


async def test_far_above_the_limit_clients_are_closed(messages: Any, senders: list[Sender]) -> None:
    """Waiting large messages are bounded too."""
    for sender in senders[:4]:
        messages.count(sender, LIMIT, arriving=True)
    assert [sender.reason for sender in senders[:4]] == ["", "", "", module.SHORT]


async def test_without_a_limit_all_are_read(senders: list[Sender]) -> None:
    """Zero is no limit."""
    messages = module.LargeMessages(0)
    for sender in senders:
        messages.count(sender, 10**9, arriving=True)
    assert not any(sender.waits or sender.reason for sender in senders)
    messages.remove(senders[0])


async def test_a_client_that_keeps_others_waiting_is_closed(
    messages: Any, senders: list[Sender], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its message has to arrive at a rate; then the next one is read."""
    monkeypatch.setattr(module, "PATIENCE", 0.0)
    for sender in senders[:2]:
        messages.count(sender, LIMIT, arriving=True)
    async with asyncio.timeout(30):
        await senders[0].closed.wait()
    assert senders[0].reason == module.TOO_SLOW
    assert not senders[1].waits


async def test_a_client_whose_message_is_being_handled_is_not_too_slow(
    messages: Any, senders: list[Sender], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others wait for the server then."""
    checks = asyncio.Queue[None]()
    monkeypatch.setattr(module, "PATIENCE", 0.0)
    check = messages._check
    monkeypatch.setattr(messages, "_check", lambda *args: (check(*args), checks.put_nowait(None)))
    messages.count(senders[0], LIMIT, arriving=False)
    messages.count(senders[1], LIMIT, arriving=True)
    async with asyncio.timeout(30):
        for _ in range(3):
            await checks.get()
    assert not senders[0].closed.is_set()
    assert senders[1].waits
    messages.remove(senders[0])
    assert messages._timer is None


# With connections


async def test_a_message_waits_for_an_older_one(serve: Serve, raw: OpenRaw) -> None:
    """While one client's message is unfinished, another one's is not read; both arrive in the end."""
    running = await serve(max_message_size=1_000_000)
    running.app.large_messages = large = Watched()
    first, second = await raw(running), await raw(running)
    one, other = masked(BINARY, b"1" * 400_000), masked(BINARY, b"2" * 900_000)
    await first.send(one[:-1])
    await large.until(lambda: large.size == 399_999)
    sending = asyncio.create_task(second.send(other))
    await large.until(lambda: running.app.connections[1]._read_flow.paused)
    assert running.app.got == []
    await first.send(one[-1:])
    await sending
    assert (await first.frame()).payload == b"1" * 400_000
    assert (await second.frame()).payload == b"2" * 900_000
    assert large.size == 0


@pytest.mark.parametrize("end", ["cut", "closed"])
async def test_a_client_that_leaves_does_not_count(serve: Serve, raw: OpenRaw, end: str) -> None:
    """Its unfinished message is gone."""
    running = await serve(max_message_size=1_000_000)
    running.app.large_messages = large = Watched()
    client = await raw(running)
    await client.send(masked(BINARY, b"1" * 400_000)[:-1])
    await large.until(lambda: large.size == 399_999)
    if end == "cut":
        client.sock.close()
    else:
        running.app.connections[0].disconnect(1000, "")
        assert (await client.frame()).opcode == CLOSE
    await running.app.closed(0)
    await large.until(lambda: large.size == 0)


async def test_fragments_count_as_one_large_message(serve: Serve, raw: OpenRaw) -> None:
    """A message in many fragments is as large as they are together."""
    running = await serve(max_message_size=1_000_000)
    running.app.large_messages = large = Watched()
    client = await raw(running)
    await client.send_frame(BINARY, b"x" * 15_000, fin=False)
    await client.send_frame(0, b"x" * 15_000, fin=False)
    await large.until(lambda: large.size == 30_000)
    await client.send_frame(0, b"x" * 15_000)
    assert (await client.frame()).payload == b"x" * 45_000
    assert large.size == 0
