"""Who connects is admitted with its first bytes, a few clients in a turn of the event loop."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest

from ..conftest import OpenRaw, Serve
from ..harness import HANDSHAKE, TEXT, TIMEOUT, listener, pending, refusals, service

A_TURN: int = listener.PER_TURN


class Wire(asyncio.Transport):
    """A transport that notes what is asked of it."""

    def __init__(self) -> None:
        super().__init__()
        self.protocol: asyncio.BaseProtocol | None = None
        self.reading = True
        self.ended = False

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return self.ended

    def abort(self) -> None:
        self.ended = True


class Taken(asyncio.Protocol):
    """What takes over."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.made_for: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.made_for = transport

    def data_received(self, data: bytes) -> None:
        assert self.made_for is not None
        self.gate.admitted.append(data)


class Gate:
    """A listener, and the first bytes of each client that it has handed on."""

    def __init__(self) -> None:
        self.admitted: list[bytes] = []
        self.made = 0
        self.failing = False
        self.listener = listener.Listener(self.create, 60, pending.Pending(0), refusals.Refusals({}))

    def create(self) -> Taken:
        self.made += 1
        if self.failing:
            raise RuntimeError("it cannot be made")
        return Taken(self)

    def come(self) -> tuple[Wire, Any]:
        """Connect, and say nothing."""
        wire, accepted = Wire(), self.listener.accept()
        accepted.connection_made(wire)
        return wire, accepted

    def speak(self, *numbers: int) -> list[tuple[Wire, Any]]:
        """Connect one client for each number, which is what it says."""
        came = [self.come() for _ in numbers]
        for number, (_, accepted) in zip(numbers, came, strict=True):
            accepted.data_received(said(number))
        return came


def said(number: int) -> bytes:
    """Return what a client with this number says."""
    return b"%d" % number


def everything(count: int) -> list[bytes]:
    """Return what the first clients say."""
    return [said(number) for number in range(count)]


async def turn() -> None:
    """Let the event loop do what it was told to do up to now."""
    await asyncio.sleep(0)


async def test_one_is_admitted_at_once() -> None:
    """Where nobody waits, the first bytes are handed over as they come in."""
    gate = Gate()
    ((wire, _),) = gate.speak(0)
    assert gate.admitted == [said(0)]
    assert isinstance(wire.protocol, Taken)
    assert wire.protocol.made_for is wire


async def test_silent_is_not_admitted() -> None:
    """Nothing is made for a client that says nothing."""
    gate = Gate()
    gate.come()
    await turn()
    assert gate.made == 0


async def test_a_turn_admits_so_many() -> None:
    """A turn of the event loop admits PER_TURN clients, and each of the next ones as many."""
    gate = Gate()
    gate.speak(*range(2 * A_TURN + 1))
    counts = [len(gate.admitted)]
    for _ in range(2):
        await turn()
        counts.append(len(gate.admitted))
    assert counts == [A_TURN, 2 * A_TURN, 2 * A_TURN + 1]


async def test_turns_do_not_add_up() -> None:
    """After turns in which nobody came, no more are admitted in one than ever."""
    gate = Gate()
    gate.speak(0)
    await turn()
    await turn()
    gate.speak(*range(1, 2 * A_TURN))
    assert len(gate.admitted) == 1 + A_TURN


async def test_clients_are_admitted_in_the_order_of_their_first_bytes() -> None:
    """Clients are admitted in the order of their first bytes; a later client does not overtake waiting ones."""
    gate = Gate()
    gate.speak(*range(2 * A_TURN + 1))
    await turn()
    gate.speak(2 * A_TURN + 1, 2 * A_TURN + 2)
    await turn()
    assert gate.admitted == everything(2 * A_TURN + 3)


async def test_client_that_leaves_while_waiting_is_skipped() -> None:
    """Nothing is made for a client that has left, and the next one takes its place."""
    gate = Gate()
    came = gate.speak(*range(2 * A_TURN + 1))
    wire, accepted = came[A_TURN]
    wire.ended = True
    await turn()
    accepted.connection_lost(None)
    assert gate.admitted == [said(number) for number in range(2 * A_TURN + 1) if number != A_TURN]
    assert gate.made == 2 * A_TURN


@pytest.mark.parametrize("spoke", [False, True])
async def test_client_that_left_before_admission_leaves_nothing(spoke: bool) -> None:
    """Of a client that left before it was admitted, nothing stays."""
    gate = Gate()
    gate.speak(*range(A_TURN))
    wire, accepted = gate.come()
    if spoke:
        accepted.data_received(b"hello")
    wire.ended = True
    accepted.connection_lost(None)
    await turn()
    there = weakref.ref(wire)
    del wire, accepted
    gc.collect()
    assert there() is None


async def test_more_comes_while_waiting() -> None:
    """Bytes that a client sends while it waits are handed over in one piece."""
    gate = Gate()
    _, accepted = gate.speak(*range(A_TURN + 1))[-1]
    accepted.data_received(b" and more")
    await turn()
    assert gate.admitted[-1] == said(A_TURN) + b" and more"


async def test_waiting_client_that_sends_much_is_not_read() -> None:
    """One that sends much while it waits is not read from, until it is admitted."""
    gate = Gate()
    wire, accepted = gate.speak(*range(A_TURN + 1))[-1]
    accepted.data_received(bytes(listener.MAX_UNREAD))
    paused = not wire.reading
    await turn()
    assert paused
    assert wire.reading


async def test_failure_is_one_clients() -> None:
    """The failure of one admission does not affect the clients that wait behind it."""
    gate = Gate()
    failures: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context["exception"]))
    gate.speak(*range(A_TURN + 3))
    gate.failing = True
    await turn()
    gate.failing = False
    await turn()
    assert len(failures) == 1
    assert gate.admitted == [*everything(A_TURN), said(A_TURN + 1), said(A_TURN + 2)]


async def test_close_cuts_silent_waiting_and_later_clients() -> None:
    """A closed listener cuts silent, waiting and later clients, and creates nothing for them."""
    gate = Gate()
    silent, _ = gate.come()
    waiting, _ = gate.speak(*range(A_TURN + 1))[-1]
    gate.listener.close()
    late, _ = gate.come()
    await turn()
    assert (silent.ended, waiting.ended, late.ended) == (True, True, True)
    assert gate.made == A_TURN


# In a service


async def test_silent_client_is_cut_after_the_open_timeout(
    serve: Serve, raw: OpenRaw, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that says nothing for OPEN_TIMEOUT is cut."""
    monkeypatch.setattr(service, "OPEN_TIMEOUT", 0.05)
    client = await raw(await serve(), handshake=False)
    assert await client.rest() == b""


async def test_unfinished_handshake_is_cut_after_the_open_timeout(
    serve: Serve, raw: OpenRaw, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that does not finish its handshake within OPEN_TIMEOUT is cut."""
    monkeypatch.setattr(service, "OPEN_TIMEOUT", 0.3)
    client = await raw(await serve(), handshake=False)
    await client.send(b"GET / HTTP/1.1\r\n")
    assert await client.rest() == b""


async def test_handshake_may_arrive_byte_by_byte(serve: Serve, raw: OpenRaw) -> None:
    """A handshake may come byte by byte."""
    client = await raw(await serve(), handshake=False)
    for byte in f"GET / HTTP/1.1\r\n{HANDSHAKE}\r\n".encode():
        await client.send(bytes((byte,)))
    assert (await client.head()).status == 101


async def test_stop_cuts_silent_clients_without_waiting(
    serve: Serve, raw: OpenRaw, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service that stops cuts silent clients without waiting for them."""
    monkeypatch.setattr(service, "DRAIN_TIMEOUT", 10 * TIMEOUT)
    running = await serve()
    client = await raw(running, handshake=False)
    async with asyncio.timeout(TIMEOUT):
        await running.stop()
    assert await client.rest() == b""


async def test_stop_while_many_wait(serve: Serve, raw: OpenRaw, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that stops in a rush ends, and so does every connection."""
    monkeypatch.setattr(listener, "PER_TURN", 1)
    running = await serve()
    clients = [await raw(running, handshake=False) for _ in range(20)]
    for client in clients:
        await client.send(f"GET / HTTP/1.1\r\n{HANDSHAKE}\r\n".encode())
    await running.app.until(lambda: bool(running.app.calls))
    async with asyncio.timeout(TIMEOUT):
        stopping = asyncio.create_task(running.stop())
        for client in clients:
            await client.some()
            client.half_close()
            await client.rest()
        await stopping
    assert running.connections == set()


async def test_others_are_answered_meanwhile(serve: Serve, raw: OpenRaw, monkeypatch: pytest.MonkeyPatch) -> None:
    """During a rush, connected clients are answered before all new ones are admitted."""
    monkeypatch.setattr(listener, "PER_TURN", 1)
    running = await serve()
    connected = await raw(running)
    clients = [await raw(running, handshake=False) for _ in range(100)]
    for client in clients:
        await client.send(f"GET / HTTP/1.1\r\n{HANDSHAKE}\r\n".encode())
    await running.app.until(lambda: ("open", 1) in running.app.calls)
    await connected.send_frame(TEXT, b"hello")
    await running.app.until(lambda: ("open", len(clients)) in running.app.calls)
    calls = running.app.calls
    assert calls.index(("receive", 0)) < calls.index(("open", len(clients)))
