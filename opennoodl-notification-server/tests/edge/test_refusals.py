"""A client that cannot connect leaves one line in the log and one count in the metrics, and nothing of what it sent."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, NamedTuple

import pytest
import structlog

from .certificates import Files
from .clock import Clock
from .conftest import Connect, OpenRaw, Serve
from .harness import (
    BINARY,
    PING,
    TEXT,
    TIMEOUT,
    UPGRADE,
    Echo,
    connection,
    errors,
    limits,
    masked,
    refusals,
    request,
    service,
)

SECRET = "SECRET"
"""Stands in every request and message of these tests, and in no line."""
PATH = f"/?token={SECRET}"


class Meeting(NamedTuple):
    """A server, and the ways to meet it."""

    running: Any
    raw: OpenRaw
    client: Connect

    async def ask(self, *headers: str, path: str = PATH) -> None:
        """Send a request."""
        await request(self.running.port, f"GET {path}", *headers)

    async def say(self, data: bytes) -> None:
        """Connect without a handshake, send bytes, and wait for the end."""
        raw = await self.raw(self.running, handshake=False)
        await raw.send(data)
        await raw.rest()

    async def frame(self, opcode: int, payload: bytes) -> Any:
        """Connect and send a frame."""
        raw = await self.raw(self.running)
        await raw.send_frame(opcode, payload)
        return raw


class Situation(NamedTuple):
    """A reason why a client cannot connect.

    Attributes:
        code: what the line and the metric say.
        act: meets it.
        settings: of the server.
        numbered: whether the connection has a number: one that has sent nothing has none.
    """

    code: str
    act: Callable[[Meeting], Awaitable[object]]
    settings: dict[str, Any] = {}  # noqa: RUF012
    numbered: bool = True


async def silence(meeting: Meeting) -> None:
    """Connect and send nothing."""
    await (await meeting.raw(meeting.running, handshake=False)).rest()


async def half(meeting: Meeting) -> None:
    """Send half of a request."""
    await meeting.say(f"GET {PATH} HTTP/1.1\r\n".encode())


async def crowd(meeting: Meeting) -> None:
    """Connect three clients that send nothing, where two may be."""
    for _ in range(3):
        await meeting.raw(meeting.running, handshake=False)


async def distrust(meeting: Meeting) -> None:
    """Connect with TLS, and do not accept the certificate."""
    with pytest.raises(ssl.SSLCertVerificationError):
        await asyncio.open_connection("localhost", meeting.running.port, ssl=ssl.create_default_context())


async def twice(meeting: Meeting) -> None:
    """Connect where one connection is too many already."""
    await meeting.client(meeting.running)
    await meeting.ask(*UPGRADE)


async def drain(meeting: Meeting) -> None:
    """Connect while the server stops."""
    meeting.running.app.draining = True
    await meeting.ask(*UPGRADE)
    meeting.running.app.draining = False  # for the fixture, which ends it


async def no_pong(meeting: Meeting) -> None:
    """Answer no ping, and send nothing."""
    raw = await meeting.raw(meeting.running)
    await meeting.running.app.until(lambda: bool(meeting.running.app.connections))
    for _ in range(2):
        meeting.running.app.connections[0].heartbeat()
    await raw.rest()


async def unread(meeting: Meeting) -> None:
    """Read nothing of what the server sends."""
    await meeting.raw(meeting.running, receive_buffer=4096)
    app = meeting.running.app
    await app.until(lambda: bool(app.connections))
    app.connections[0].write(bytes(16_777_216))
    await app.closed(0)


async def fast(meeting: Meeting) -> None:
    """Send pings without end."""
    raw = await meeting.raw(meeting.running)
    await raw.send(masked(PING) * 100)
    await raw.rest()


async def unwelcome(meeting: Meeting) -> None:
    """Connect where the application has no place."""
    meeting.running.app.open_fails = errors.CloseConnection(1013, "No place.", "at-capacity")
    await meeting.raw(meeting.running)


async def unopened(meeting: Meeting) -> None:
    """Connect where the application fails."""
    meeting.running.app.open_fails = errors.CloseConnection(1011, "It failed.")
    await meeting.raw(meeting.running)


SITUATIONS = {
    "silence": Situation("timeout", silence, numbered=False),
    "half a request": Situation("timeout", half),
    "a crowd that sends nothing": Situation("pending-full", crowd, {"max_connections": 2}, numbered=False),
    "TLS to a port without it": Situation("tls-to-http", lambda m: m.say(b"\x16\x03\x01\x02\x00\x01SECRET")),
    "a request that is too large": Situation("headers-too-large", lambda m: m.ask(f"Cookie: {SECRET * 3000}")),
    "a header line that is too long": Situation("headers-too-large", lambda m: m.ask(f"Cookie: {SECRET * 1500}")),
    "not HTTP": Situation("bad-request", lambda m: m.say(b"SECRET\r\n\r\n")),
    "a proxy that removes Upgrade": Situation("no-upgrade", lambda m: m.ask(*UPGRADE[2:])),
    "handshakes over the rate": Situation("handshake-rate", twice, {"handshake_rate_limit": 1}),
    "no TLS where it is required": Situation(
        "insecure", lambda m: m.ask(*UPGRADE), {"require_wss": True, "trusted_proxies": "192.0.2.1"}
    ),
    "a server that stops": Situation("draining", drain),
    "a full server": Situation("at-capacity", twice, {"max_connections": 1}),
    "another origin": Situation(
        "origin",
        lambda m: m.ask(*UPGRADE, f"Origin: https://{SECRET}.example"),
        {"allowed_origins": "https://a.example"},
    ),
    "another path": Situation("path", lambda m: m.ask(*UPGRADE, path=f"/{SECRET}{PATH}")),
    "connections over the limit of an address": Situation("address", twice, {"max_connections_per_ip": 1}),
    "half a handshake": Situation("invalid", lambda m: m.ask(*UPGRADE[:-1])),
    "a frame of no kind": Situation("protocol-error", lambda m: m.frame(7, SECRET.encode())),
    "a message that is too large": Situation("message-too-large", lambda m: m.frame(BINARY, SECRET.encode() * 20_000)),
    "text that is not UTF-8": Situation("invalid-utf-8", lambda m: m.frame(TEXT, b"SECRET\xff")),
    "a message that the application refuses": Situation("policy", lambda m: m.frame(TEXT, b"refuse")),
    "a message that the server fails on": Situation("server-error", lambda m: m.frame(TEXT, b"raise for SECRET")),
    "no answer to pings": Situation("heartbeat", no_pong),
    "a client that does not read": Situation("slow-client", unread, {"slow_client_buffer": 1000}),
    "pings over the rate": Situation("rate-limit", fast, {"rate_limit": 1}),
    "an application without a place": Situation("at-capacity", unwelcome),
    "an application that fails": Situation("server-error", unopened),
}
OVER_TLS = {
    "a certificate that the client does not trust": Situation("tls-failed", distrust),
    "HTTP to a port with TLS": Situation("http-to-tls", lambda m: m.say(f"GET {PATH} HTTP/1.1\r\n\r\n".encode())),
}
ELSEWHERE = {
    *refusals.TOKENS,  # in the tests of the servers
    "authentication-timeout",
    "wrong-message-kind",
    "overloaded",
    "messages-full",  # in test_large_messages.py
}


Meet = Callable[..., Awaitable[Meeting]]


@pytest.fixture
def meet(serve: Serve, raw: OpenRaw, client: Connect) -> Meet:
    """Start a server with the given settings, and return the ways to meet it."""

    async def start(**values: Any) -> Meeting:
        return Meeting(await serve(**values), raw, client)

    return start


@pytest.fixture
def lines() -> Iterator[list[Any]]:
    """Return what is logged from now on."""
    with structlog.testing.capture_logs() as logged:
        yield logged


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> asyncio.Queue[str]:
    """Return the codes of refusals as they happen."""
    codes: asyncio.Queue[str] = asyncio.Queue()
    note = refusals.Refusals.note

    def noting(self: Any, code: str, *args: Any, **details: Any) -> None:
        note(self, code, *args, **details)
        codes.put_nowait(code)

    monkeypatch.setattr(refusals.Refusals, "note", noting)
    return codes


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Let clients save up nothing, and the time for handshakes be short where that is the point."""
    monkeypatch.setattr(limits, "BURST_SECONDS", 1)
    monkeypatch.setattr(connection, "PATIENCE", 10)
    if "silence" in request.node.name or "half a request" in request.node.name:
        monkeypatch.setattr(service, "OPEN_TIMEOUT", 0.05)


async def check(situation: Situation, meeting: Meeting, lines: list[Any], noted: asyncio.Queue[str]) -> None:
    """Meet a situation, and see its line and its metric."""
    app = meeting.running.app
    await situation.act(meeting)
    async with asyncio.timeout(TIMEOUT):
        assert await noted.get() == situation.code
    (line,) = [line for line in lines if line["event"] == refusals.EVENT]
    assert line["log_level"] == "info"
    assert (line["code"], line["reason"]) == (situation.code, refusals.EDGE[situation.code])
    assert line["address"] == "127.0.0.1"
    assert isinstance(line.get("connection"), int) == situation.numbered
    assert SECRET not in repr(lines)
    text = app.metrics.text().decode()
    assert f'opennoodl_refusals_total{{code="{situation.code}"}} 1.0' in text
    if situation.code in refusals.HANDSHAKES:
        assert f'opennoodl_handshakes_total{{outcome="{situation.code}"}} 1.0' in text


@pytest.mark.parametrize("name", SITUATIONS)
async def test_each_situation_has_a_log_line_and_a_metric(
    meet: Meet, lines: list[Any], noted: asyncio.Queue[str], name: str
) -> None:
    """Each situation in which a client cannot connect has one line, and a metric with the same code."""
    await check(SITUATIONS[name], await meet(**SITUATIONS[name].settings), lines, noted)


@pytest.mark.parametrize("name", OVER_TLS)
async def test_situation_over_tls(
    meet: Meet, files: Files, lines: list[Any], noted: asyncio.Queue[str], name: str
) -> None:
    """The same holds for what goes wrong before a request is read."""
    await check(OVER_TLS[name], await meet(**files.settings), lines, noted)


def test_every_code_has_a_situation() -> None:
    """No code of the edge is without a test."""
    tested = {situation.code for situation in (*SITUATIONS.values(), *OVER_TLS.values())}
    assert tested | ELSEWHERE == refusals.EDGE.keys()


async def test_no_line_for_others(serve: Serve, client: Connect, lines: list[Any]) -> None:
    """A client that connects and leaves, a page and a page that does not exist are no refusals."""
    running = await serve()
    await (await client(running)).close()
    for path in ("/", "/health", "/nowhere"):
        await request(running.port, f"GET {path}")
    assert [line for line in lines if line["event"] == refusals.EVENT] == []
    assert not +running.app.refusals.counts


async def test_lines_of_one_connection_have_its_number(serve: Serve, raw: OpenRaw, lines: list[Any]) -> None:
    """Lines of one connection can be told from those of others: each TCP connection has a number of its own."""
    running = await serve()
    for _ in range(2):
        client = await raw(running)
        await client.send_frame(7)
        await client.rest()
    numbers = [line["connection"] for line in lines if line["event"] == refusals.EVENT]
    assert len(set(numbers)) == 2


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Stop the clock of the limits."""
    clock = Clock()
    monkeypatch.setattr(refusals, "monotonic", clock)
    return clock


async def test_one_address_does_not_hide_others(lines: list[Any], clock: Clock) -> None:
    """A client that tries again and again has a few lines; all its refusals are counted."""
    some = refusals.Refusals({})
    for number in range(100):
        some.note("origin", "192.0.2.1", number)
    some.note("origin", "192.0.2.2", 100)
    assert [line["address"] for line in lines] == ["192.0.2.1"] * refusals.MAX_LINES_OF_ONE + ["192.0.2.2"]
    assert some.counts["origin"] == 101
    some.summarize()


async def test_lines_are_bounded(lines: list[Any], clock: Clock) -> None:
    """Many addresses have so many lines in a window, and as many in the next; one line says how many are missing."""
    some = refusals.Refusals({})
    for _ in range(2):
        for number in range(1000):
            some.note("origin", f"192.0.{number >> 8}.{number & 255}", number)
        clock.now += 10
    some.summarize()
    assert [line["event"] for line in lines] == [refusals.EVENT] * 2 * refusals.MAX_LINES + [refusals.LEFT_OUT]
    assert lines[-1]["number"] == 2 * (1000 - refusals.MAX_LINES)
    some.summarize()
    assert lines[-1]["number"] == 2 * (1000 - refusals.MAX_LINES)


async def test_summary_comes_by_itself(lines: list[Any], clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """How many were left out is said soon, also if nothing more happens."""
    monkeypatch.setattr(refusals, "WINDOW", 0.01)
    said = asyncio.Event()
    summarize = refusals.Refusals.summarize

    def summarizing(self: Any) -> None:
        summarize(self)
        said.set()

    monkeypatch.setattr(refusals.Refusals, "summarize", summarizing)
    some = refusals.Refusals({})
    for number in range(refusals.MAX_LINES_OF_ONE + 3):
        some.note("origin", "192.0.2.1", number)
    async with asyncio.timeout(TIMEOUT):
        await said.wait()
    assert (lines[-1]["event"], lines[-1]["number"]) == (refusals.LEFT_OUT, 3)


async def test_stop_says_how_many_were_left_out(serve: Serve, lines: list[Any]) -> None:
    """A server that stops says at once how many refusals were left out."""
    running = await serve(Echo)
    for number in range(refusals.MAX_LINES_OF_ONE + 1):
        running.app.refusals.note("origin", "192.0.2.1", number)
    await running.stop()
    assert [line["number"] for line in lines if line["event"] == refusals.LEFT_OUT] == [1]
