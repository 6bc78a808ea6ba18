"""The opening handshake: its version and subprotocol, and requests that come one behind the other."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest

from ..conftest import Serve
from ..harness import HANDSHAKE, TEXT, UPGRADE, Frame, Raw, credential, masked, protocol, request

HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
ROOT = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
TOKEN = f"{credential.TOKEN_PROTOCOL}a.b-c_d"


@pytest.fixture
async def running(serve: Serve) -> Any:
    """Start a service."""
    return await serve()


async def statuses(running: Any, data: bytes) -> list[int]:
    """Send bytes on a connection of its own; return the status codes of all answers."""
    client = await Raw.connect(running.port)
    with client.sock:
        await client.send(data)
        return [int(status) for status in re.findall(rb"HTTP/1\.1 ([0-9]{3}) ", await client.rest())]


# Version and subprotocol


async def test_other_websocket_version_is_426(running: Any) -> None:
    """A handshake of another WebSocket version is answered 426 with the version that is spoken."""
    headers = [line.replace(": 13", ": 8") for line in UPGRADE]
    answer = await request(running.port, "GET /", *headers)
    assert (answer.status, answer.headers["Sec-WebSocket-Version"]) == (426, "13")
    assert answer.headers["Upgrade"] == "websocket"
    assert +running.app.refusals.counts == Counter({"invalid": 1})


@pytest.mark.parametrize(
    ("offered", "answered"),
    [
        (["yjs"], "yjs"),
        (["yjs, other"], "yjs"),
        (["other", "yjs"], "other"),
        ([f"{TOKEN}, yjs"], "yjs"),
        ([TOKEN], TOKEN),
        ([], None),
    ],
    ids=str,
)
async def test_first_offered_subprotocol_is_selected(running: Any, offered: list[str], answered: str | None) -> None:
    """The first subprotocol that is offered is answered; one with a token only if there is no other."""
    client = await Raw.connect(running.port)
    with client.sock:
        headers = "".join(f"Sec-WebSocket-Protocol: {value}\r\n" for value in offered)
        await client.send(f"GET / HTTP/1.1\r\n{HANDSHAKE}{headers}\r\n".encode())
        answer = await client.head()
        assert (answer.status, answer.headers["Sec-WebSocket-Protocol"]) == (101, answered)


async def test_malformed_subprotocol_header_is_400(running: Any) -> None:
    """A header that lists no subprotocols is answered 400."""
    assert (await request(running.port, "GET /", *UPGRADE, "Sec-WebSocket-Protocol: a b")).status == 400


# Requests one behind the other


async def test_second_request_in_a_packet_ends_the_connection(running: Any) -> None:
    """Two requests in one packet get two answers, and the second one ends the connection."""
    client = await Raw.connect(running.port)
    with client.sock:
        await client.send(HEALTH + ROOT)
        first, second = await client.head(), await client.rest()
    assert (first.status, first.headers["Connection"]) == (200, None)
    assert b"HTTP/1.1 200 OK" in second
    assert b"\r\nConnection: close\r\n" in second
    assert b"It echoes." in second


@pytest.mark.parametrize("at", range(1, len(HEALTH + ROOT)))
def test_packet_boundaries_do_not_matter(at: int) -> None:
    """Where one packet ends and the next one begins does not matter."""
    heard = protocol.EdgeProtocol()
    stream = HEALTH + ROOT
    heard.receive_data(stream[:at])
    heard.receive_data(stream[at:])
    (first,) = heard.events_received()
    heard.send_response(heard.reject(200, "healthy"))
    heard.receive_data(heard.next_request())
    (second,) = heard.events_received()
    assert (first.path, second.path) == ("/health", "/")


@pytest.mark.parametrize(
    ("behind", "expected"),
    [
        (b"\r\n", [200]),
        (b"nonsense\r\n\r\n", [200, 400]),
        (b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", [200, 405]),
        (b"GET /nowhere HTTP/1.1\r\n\r\n" + HEALTH, [200, 404, 200]),
        (b"GET / HTTP/1.1\r\n" + b"X: x\r\n" * 200 + b"\r\n", [200, 431]),
        (f"GET /nowhere HTTP/1.1\r\n{HANDSHAKE}\r\n".encode(), [200, 404]),
    ],
    ids=["empty line", "nonsense", "body", "two", "many headers", "handshake"],
)
async def test_bytes_behind_a_request_are_the_next_request(running: Any, behind: bytes, expected: list[int]) -> None:
    """Bytes behind a request are answered as a request of their own."""
    assert await statuses(running, HEALTH + behind) == expected


@pytest.mark.parametrize(
    "first", [HEALTH.replace(b"1.1", b"1.0"), HEALTH.replace(b"Host", b"Connection: keep-alive, Close\r\nHost")]
)
async def test_nothing_is_answered_after_the_last_request(running: Any, first: bytes) -> None:
    """Nothing is answered behind a request of HTTP/1.0, or one that says that it is the last (RFC 9112, 9.6)."""
    assert await statuses(running, first + HEALTH) == [200]


async def test_handshake_behind_a_request(running: Any) -> None:
    """A handshake behind a request opens a WebSocket."""
    client = await Raw.connect(running.port)
    with client.sock:
        await client.send(HEALTH + f"GET / HTTP/1.1\r\n{HANDSHAKE}\r\n".encode())
        first = await client.head()
        while (await client.some())[-4:] != b"\r\n\r\n":
            pass
        assert first.status == 200
        await client.send(masked(TEXT, b"here"))
        assert await client.frame() == Frame(TEXT, b"here")
    assert running.app.metrics.total_connections == 1


async def test_number_of_pipelined_requests_is_bounded(running: Any) -> None:
    """The last of so many requests is answered, and those behind it are not."""
    assert await statuses(running, HEALTH * 100) == [200] * protocol.MAX_PIPELINED


async def test_requests_one_behind_the_other_count(serve: Serve) -> None:
    """Requests on one connection have the same rate as requests on many."""
    running = await serve(handshake_rate_limit=1)
    assert await statuses(running, ROOT * 12) == [200] * 10 + [429] * 2


async def test_pipelined_requests_let_others_have_turns(running: Any) -> None:
    """Others have their turn between two requests of one connection."""
    order: list[str] = []

    async def page(connection: Any, path: str) -> None:
        order.append(path)

    running.app.page = page
    one, other = await Raw.connect(running.port), await Raw.connect(running.port)
    with one.sock, other.sock:
        await one.send(b"GET /1 HTTP/1.1\r\n\r\n" * 8)
        await other.send(b"GET /2 HTTP/1.1\r\n\r\n")
        await other.rest()
        await one.rest()
    assert order != ["/1"] * 8 + ["/2"]
