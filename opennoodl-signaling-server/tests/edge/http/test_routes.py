"""HTTP on the WebSocket's port: health, metrics, a word to people, and a clear no to the rest."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ..conftest import Connect, OpenRaw, Serve
from ..harness import BINARY, CLOSE, HANDSHAKE, UPGRADE, Answer, Raw, authenticator, masked, parse, request, routes
from ..issuer import SECRET

BODY = ("Content-Type: text/plain", "Content-Length: 5")
ALLOWED = {"GET", "HEAD", "OPTIONS"}


def listed(header: str | None) -> set[str]:
    """Return the elements of a comma-separated header."""
    return {element.strip() for element in (header or "").split(",")}


async def exchange(running: Any, data: bytes) -> Answer:
    """Send bytes on a connection of its own; return the answer when the server has ended the connection."""
    client = await Raw.connect(running.port)
    with client.sock:
        await client.send(data)
        return parse(await client.rest())


@pytest.fixture
async def running(serve: Serve) -> Any:
    """Start a service."""
    return await serve()


@pytest.fixture
async def draining(serve: Serve, raw: OpenRaw) -> AsyncIterator[Any]:
    """Start a service that drains, and waits for a client that does not answer the close frame."""
    running = await serve()
    client = await raw(running)
    stopping = asyncio.create_task(running.stop())
    assert await client.frame_of(CLOSE)
    assert not stopping.done()
    yield running
    client.sock.close()
    await stopping


# Health and metrics


async def test_health_shows_status_version_and_uptime(running: Any) -> None:
    """/health answers 200 with status, version, uptime in whole seconds, and what the server adds."""
    answer = await request(running.port, "GET /health")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert json.loads(answer.body) == {
        "status": "healthy",
        "version": "1.2.3",
        "uptime": 0,
        "warning": authenticator.OPEN,
        "answer": 42,
    }


async def test_health_has_no_warning_with_authentication(serve: Serve) -> None:
    """`/health` has no warning where users have to authenticate."""
    running = await serve(auth="jwt", auth_secret=SECRET)
    assert "warning" not in json.loads((await request(running.port, "GET /health")).body)


async def test_health_says_that_a_load_test_is_allowed(serve: Serve) -> None:
    """/health has `loadTest` where the operator allows it; `make load` refuses to begin otherwise."""
    running = await serve(allow_load_test=True)
    assert json.loads((await request(running.port, "GET /health")).body)["loadTest"] is True


async def test_health_is_not_cached(running: Any) -> None:
    """No proxy may answer in the server's place."""
    assert (await request(running.port, "GET /health")).headers["Cache-Control"] == "no-store"


async def test_query_does_not_change_the_path(running: Any) -> None:
    """A query does not change what a path means."""
    assert (await request(running.port, "GET /health?probe=1")).status == 200


async def test_failing_server_answers_health_503(running: Any) -> None:
    """/health answers 503 with the reason when the server cannot do its work."""
    running.app.fail("The disk is full.", outside=False)
    answer = await request(running.port, "GET /health")
    assert answer.status == 503
    health = json.loads(answer.body)
    assert (health["status"], health["reason"]) == ("failing", "The disk is full.")


async def test_draining_server_answers_health_503(draining: Any) -> None:
    """/health answers 503 while the server drains."""
    answer = await request(draining.port, "GET /health")
    assert answer.status == 503
    assert json.loads(answer.body)["status"] == "draining"


async def test_health_in_an_outage(running: Any) -> None:
    """/health answers 200 and mentions an outage that a restart would not end."""
    running.app.fail("The database does not answer.", outside=True)
    answer = await request(running.port, "GET /health")
    assert answer.status == 200
    health = json.loads(answer.body)
    assert (health["status"], health["reason"]) == ("degraded", "The database does not answer.")


async def test_ready_is_200_while_clients_are_welcome(running: Any) -> None:
    """/ready answers 200 while this instance should get new clients, and no proxy may answer in its place."""
    answer = await request(running.port, "GET /ready")
    assert answer.status == 200
    assert answer.headers["Cache-Control"] == "no-store"
    assert json.loads(answer.body) == {"ready": True}


@pytest.mark.parametrize("outside", [False, True])
async def test_ready_is_503_in_an_outage(running: Any, outside: bool) -> None:
    """/ready answers 503 with the reason in an outage and while the server cannot do its work."""
    running.app.fail("The database does not answer.", outside=outside)
    answer = await request(running.port, "GET /ready")
    assert answer.status == 503
    assert json.loads(answer.body) == {"ready": False, "reason": "The database does not answer."}


async def test_not_ready_while_draining(draining: Any) -> None:
    """/ready answers 503 while the server drains."""
    answer = await request(draining.port, "GET /ready")
    assert answer.status == 503
    assert json.loads(answer.body) == {"ready": False, "reason": routes.DRAINING}


async def test_draining_server_refuses_handshakes(draining: Any) -> None:
    """No handshake succeeds while the server drains."""
    assert (await request(draining.port, "GET /", *UPGRADE)).status == 503
    assert draining.app.refusals.counts["draining"] == 1


async def test_metrics_are_in_the_format_of_prometheus(running: Any, client: Connect) -> None:
    """/metrics answers what a Prometheus server reads."""
    await client(running)
    answer = await request(running.port, "GET /metrics")
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    families = {family.name: family for family in text_string_to_metric_families(answer.body.decode())}
    assert families["opennoodl_open_connections"].samples[0].value == 1
    assert families["opennoodl_tasks"].samples[0].value > 0


async def test_metrics_for_a_second(running: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests for /metrics within one second get the same text, which is made once."""
    now = 1000.0
    monkeypatch.setattr(routes, "monotonic", lambda: now)

    async def metrics() -> bytes:
        return (await request(running.port, "GET /metrics")).body

    first = await metrics()
    running.app.metrics.tokens["accepted"] += 1
    assert await metrics() == first
    now += 1.0
    assert b'opennoodl_tokens_total{outcome="accepted"} 1.0' in await metrics()


async def test_handshakes_are_counted_by_outcome(serve: Serve, client: Connect) -> None:
    """Every handshake is counted by its outcome, and nothing else is."""
    running = await serve(max_connections=1)
    await client(running)
    await request(running.port, "GET /", *UPGRADE)
    await request(running.port, "GET /health")
    running.app.settings = type(running.app.settings)(max_connections=0)
    await request(running.port, "GET /nowhere", *UPGRADE)
    await request(running.port, "GET /", *UPGRADE[:-1])
    assert +running.app.refusals.counts == Counter({"at-capacity": 1, "path": 1, "invalid": 1})


# Pages and methods


async def test_root_page_describes_the_server(running: Any) -> None:
    """GET / tells people what this is, as plain text."""
    answer = await request(running.port, "GET /")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert b"Echo 1.2.3" in answer.body
    assert b"It echoes." in answer.body


@pytest.mark.parametrize("path", ["/nowhere", "/health/", "/healthy", "//", "/../health"])
async def test_unknown_path_is_404_with_the_known_paths(running: Any, path: str) -> None:
    """An unknown path is answered with 404 and the paths that the server has."""
    answer = await request(running.port, f"GET {path}")
    assert answer.status == 404
    assert "/health, /ready and /metrics" in answer.body.decode()


@pytest.mark.parametrize("path", ["/", "/health", "/ready", "/metrics", "/nowhere"])
async def test_head_has_no_body(running: Any, path: str) -> None:
    """HEAD answers as GET does, with the length of the body and without the body."""
    get, head = await request(running.port, f"GET {path}"), await request(running.port, f"HEAD {path}")
    assert head.status == get.status
    assert head.headers["Content-Type"] == get.headers["Content-Type"]
    assert head.body == b""
    assert int(get.headers["Content-Length"]) == len(get.body)
    if path != "/metrics":  # which changes while one looks
        assert head.headers["Content-Length"] == get.headers["Content-Length"]


@pytest.mark.parametrize("path", ["/", "/health", "/nowhere", "*"])
async def test_options_answers_a_preflight(running: Any, path: str) -> None:
    """OPTIONS answers a CORS preflight with 204, for any path, without a body."""
    answer = await request(running.port, f"OPTIONS {path}", "Origin: https://a.example")
    assert answer.status == 204
    assert answer.body == b""
    assert "Content-Length" not in answer.headers
    assert listed(answer.headers["Access-Control-Allow-Methods"]) >= ALLOWED


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "get"])
async def test_other_methods_are_405(running: Any, method: str) -> None:
    """Every other method is 405 with Allow, whatever the path."""
    for path in ("/health", "/nowhere"):
        answer = await request(running.port, f"{method} {path}")
        assert answer.status == 405
        assert listed(answer.headers["Allow"]) == ALLOWED


@pytest.mark.parametrize("headers", [BODY, ("Transfer-Encoding: chunked",)])
async def test_post_with_a_body_is_405(running: Any, headers: tuple[str, ...]) -> None:
    """A POST with a body is 405 with Allow as well."""
    answer = await request(running.port, "POST /health", *headers, body=b"hello")
    assert answer.status == 405
    assert listed(answer.headers["Allow"]) == ALLOWED


async def test_get_with_a_body_is_not_405(running: Any) -> None:
    """A GET with a body is not answered that GET is not allowed."""
    assert (await request(running.port, "GET /health", *BODY, body=b"hello")).status in (200, 400)


@pytest.mark.parametrize("line", [b"everybody", b"GET /transfer HTTP/9", b"GET /body\xff HTTP/1.1"])
async def test_malformed_request_is_400(running: Any, line: bytes) -> None:
    """A malformed HTTP request is answered 400, whatever words it holds."""
    assert (await exchange(running, line + b"\r\nHost: localhost\r\n\r\n")).status == 400


async def test_http_1_0_is_answered(running: Any) -> None:
    """Old monitors that speak HTTP/1.0 are answered."""
    assert (await exchange(running, b"GET /health HTTP/1.0\r\n\r\n")).status == 200


@pytest.mark.parametrize("target", ["room", "*", "health", "?token=x", "ftp://localhost/", "http:///", "/#fragment"])
async def test_invalid_target_is_400(running: Any, target: str) -> None:
    """A target that is neither a path nor an absolute URL is answered 400, for pages and handshakes (RFC 9112, 3.2)."""
    running.app.refusal = lambda _: None
    for headers in ((), UPGRADE):
        answer = await request(running.port, f"GET {target}", *headers)
        assert answer.status == 400
        assert b"slash" in answer.body


@pytest.mark.parametrize("scheme", ["http", "HTTPS", "ws", "wss"])
async def test_absolute_target_means_its_path(running: Any, scheme: str) -> None:
    """A target in absolute form means its path, as a proxy may send it (RFC 9112, 3.2.2)."""
    for path, status in (("/health", 200), ("", 200), ("?query", 200), ("/nowhere", 404)):
        assert (await request(running.port, f"GET {scheme}://localhost:80{path}")).status == status


async def test_handshake_with_an_absolute_target(running: Any, raw: OpenRaw) -> None:
    """A handshake in absolute form enters the room that its path names, and no other."""
    running.app.refusal = lambda path: None if path == "/a%2Fb" else "No."
    client = await raw(running, handshake=False)
    await client.upgrade("ws://user@localhost/a%2Fb?token=x")
    await running.app.until(lambda: 0 in running.app.connections)
    assert running.app.connections[0].path == "/a%2Fb"


async def test_upgrade_to_another_protocol_is_ignored(running: Any) -> None:
    """A client that offers another protocol is answered in HTTP/1.1: Java's does so with every first request."""
    answer = await request(
        running.port, "GET /health", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"
    )
    assert answer.status == 200


async def test_connection_without_bytes_is_not_logged(
    running: Any, client: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    """A TCP probe that sends nothing is no event for the log and none for the others."""
    for data in (b"", b"GET /he"):
        probe = await Raw.connect(running.port)
        await probe.send(data)
        probe.half_close()
        await probe.rest()
        probe.sock.close()
    connected = await client(running)
    await connected.send("still here")
    assert await connected.recv() == "still here"
    assert not caplog.records


async def test_reset_during_the_handshake_is_not_logged(
    running: Any, client: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    """A connection reset during its handshake leaves nothing in the log."""
    for _ in range(100):
        with socket.create_connection(("127.0.0.1", running.port)) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.sendall("\r\n".join(["GET / HTTP/1.1", "Host: localhost", *UPGRADE, "", ""]).encode())
            await asyncio.sleep(0)
    await client(running)
    assert not caplog.records


# CORS and refused handshakes

REQUESTS = {
    "page": (b"GET /health HTTP/1.1\r\n\r\n", 200),
    "options": (b"OPTIONS /health HTTP/1.1\r\n\r\n", 204),
    "bad": (b"nonsense\r\n\r\n", 400),
    "bad header": (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
    "unknown": (b"GET /nowhere HTTP/1.1\r\n\r\n", 404),
    "method": (b"DELETE /health HTTP/1.1\r\n\r\n", 405),
    "body": (b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", 405),
    "long line": (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n", 414),
    "long header": (b"GET / HTTP/1.1\r\nX: " + b"x" * 9000 + b"\r\n\r\n", 431),
    "many headers": (b"GET / HTTP/1.1\r\n" + b"X: x\r\n" * 200 + b"\r\n", 431),
    "large head": (b"GET / HTTP/1.1\r\n" + b"X: %b\r\n" % (b"x" * 4000) * 5 + b"\r\n", 431),
    "endless head": (b"GET / HTTP/1.1\r\n" + b"X: x\r\n" * 100_000, 431),
    "handshake elsewhere": (f"GET /nowhere HTTP/1.1\r\n{HANDSHAKE}\r\n".encode(), 404),
    "handshake without key": (f"GET / HTTP/1.1\r\n{HANDSHAKE}\r\n".replace("-Key", "-X").encode(), 400),
    "handshake of old": (f"GET / HTTP/1.1\r\n{HANDSHAKE}\r\n".replace(": 13", ": 8").encode(), 426),
    "handshake in HTTP/1.0": (f"GET / HTTP/1.0\r\n{HANDSHAKE}\r\n".encode(), 505),
}


async def test_preflight_allows_the_authorization_header(running: Any) -> None:
    """A page may send a token: browsers do not take the asterisk to stand for Authorization."""
    headers = (await request(running.port, "OPTIONS /", "Origin: https://a.example")).headers
    assert listed(headers["Access-Control-Allow-Headers"]) == {"*", "Authorization"}


@pytest.mark.parametrize("status", [401, 429, 503])
async def test_refusals_carry_headers_that_say_what_to_do(running: Any, status: int) -> None:
    """401 says how a user is proven, 429 and 503 say when to ask again, and a page may read that."""

    async def page(*_: object) -> Any:
        return status, {}

    running.app.page = page
    headers = (await request(running.port, "GET /session/a/info")).headers
    name = "WWW-Authenticate" if status == 401 else "Retry-After"
    assert headers[name] == {401: 'Bearer realm="opennoodl"', 429: "10", 503: "10"}[status]
    assert name in listed(headers["Access-Control-Expose-Headers"])


@pytest.mark.parametrize("name", list(REQUESTS))
async def test_every_answer_has_cors_headers(running: Any, name: str) -> None:
    """Every HTTP answer, whatever its status, may be read by pages of any origin."""
    data, status = REQUESTS[name]
    answer = await exchange(running, data)
    assert answer.status == status
    assert answer.headers["Access-Control-Allow-Origin"] == "*"


async def test_draining_server_sends_cors_headers(draining: Any) -> None:
    """The answers of a draining server may be read as well."""
    for headers in ((), UPGRADE):
        answer = await request(draining.port, "GET /health", *headers)
        assert answer.status == 503
        assert answer.headers["Access-Control-Allow-Origin"] == "*"


async def test_connection_beyond_the_capacity_is_503(serve: Serve, client: Connect) -> None:
    """One connection more than MAX_CONNECTIONS is answered 503, with CORS and a time to come back."""
    running = await serve(max_connections=2)
    await client(running)
    await client(running)
    answer = await request(running.port, "GET /", *UPGRADE)
    assert answer.status == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert answer.headers["Access-Control-Allow-Origin"] == "*"


async def test_capacity_is_for_connections(serve: Serve, client: Connect) -> None:
    """A full server still says how it is."""
    running = await serve(max_connections=1)
    await client(running)
    assert (await request(running.port, "GET /health")).status == 200


async def test_closed_connection_frees_capacity(serve: Serve, client: Connect) -> None:
    """The place of a connection that has ended is free again."""
    running = await serve(max_connections=1)
    first = await client(running)
    await first.close()
    second = await client(running)
    await second.send("here")
    assert await second.recv() == "here"


async def test_capacity_of_zero_is_no_limit(serve: Serve, client: Connect) -> None:
    """A MAX_CONNECTIONS of 0 means that there is no limit."""
    running = await serve(max_connections=0)
    for _ in range(20):
        await client(running)
    assert running.app.metrics.open_connections == 20


async def test_application_gets_the_path_without_the_query(running: Any, raw: OpenRaw) -> None:
    """The application gets the path as it was sent, without the query, to refuse it or not."""
    running.app.refusal = lambda path: None if path == "/a%2Fb" else "No."
    client = await raw(running, handshake=False)
    await client.upgrade("/a%2Fb?token=x")
    await running.app.until(lambda: 0 in running.app.connections)
    assert running.app.connections[0].path == "/a%2Fb"


async def test_much_before_the_answer(running: Any, raw: OpenRaw, caplog: pytest.LogCaptureFixture) -> None:
    """A client that goes on sending while its request is being answered is cut before that takes much memory."""
    asked, answer = asyncio.Event(), asyncio.Event()

    async def page(*_: object) -> None:
        asked.set()
        await answer.wait()

    running.app.page = page
    client = await raw(running, handshake=False)
    await client.send(b"GET /slow HTTP/1.1\r\n\r\n")
    await asked.wait()
    with contextlib.suppress(ConnectionError):
        await client.send(masked(BINARY, bytes(60_000))[:5000])
        await client.send(bytes(50_000))
    assert await client.rest() == b""
    answer.set()
    assert (await request(running.port, "GET /health")).status == 200
    assert caplog.records == []
