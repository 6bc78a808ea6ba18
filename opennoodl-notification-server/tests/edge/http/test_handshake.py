"""Who comes in is decided before there is a WebSocket: by where it is, and by which page it serves."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from websockets.asyncio.client import connect

from ..certificates import Files
from ..conftest import Connect, OpenRaw, Serve
from ..harness import HANDSHAKE, UPGRADE, Echo, dispatch, handshake, limits, request, settings

PAGE, OTHER = "https://noodl.example", "https://evil.example"


async def test_foreign_origin_is_refused_and_counted(serve: Serve) -> None:
    """A page of another origin is refused with a sentence and counted; one of a listed origin and no page are not."""
    running = await serve(allowed_origins=PAGE)
    answer = await request(running.port, "GET /", *UPGRADE, f"Origin: {OTHER}")
    assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (403, None)
    assert b"origin" in answer.body
    assert +running.app.refusals.counts == Counter({"origin": 1})
    for headers in ((*UPGRADE[:-1], f"Origin: {PAGE}"), UPGRADE[:-1]):  # without a key, so that there is an answer
        assert (await request(running.port, "GET /", *headers)).status == 400


async def test_two_origins_in_a_handshake_are_refused(serve: Serve) -> None:
    """A handshake with two Origin headers is refused where only some origins are allowed."""
    running = await serve(allowed_origins=PAGE)
    answer = await request(running.port, "GET /", *UPGRADE, f"Origin: {PAGE}", f"Origin: {OTHER}")
    assert answer.status == 403


@pytest.mark.parametrize("line", ["GET /health", "OPTIONS /health", "GET /nowhere", "DELETE /"])
async def test_listed_pages_may_read_answers(serve: Serve, line: str) -> None:
    """Only listed pages may read answers; `/health` is answered to clients without an origin."""
    running = await serve(allowed_origins=f"{PAGE},https://*.noodl.example")
    for origin in (PAGE, "https://a.noodl.example"):
        headers = (await request(running.port, line, f"Origin: {origin}")).headers
        assert (headers["Access-Control-Allow-Origin"], headers["Vary"]) == (origin, "Origin")
    headers = (await request(running.port, line, f"Origin: {OTHER}")).headers
    assert (headers["Access-Control-Allow-Origin"], headers["Vary"]) == (None, "Origin")
    assert (await request(running.port, "GET /health", "Host: somewhere.else")).status == 200


async def test_unreadable_request_has_no_cors_headers(serve: Serve) -> None:
    """The answer to an unreadable request has no CORS headers, so no page may read it."""
    running = await serve(allowed_origins=PAGE)
    answer = await request(running.port, "nonsense")
    assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (400, None)


async def test_connections_of_one_address_are_limited(serve: Serve, client: Connect) -> None:
    """One connection too many from an address is answered 429 and counted; it may come when another has gone."""
    running = await serve(max_connections_per_ip=2)
    first, _ = await client(running), await client(running)
    answer = await request(running.port, "GET /", *UPGRADE)
    assert answer.status == 429
    assert int(answer.headers["Retry-After"]) > 0
    assert running.app.refusals.counts["address"] == 1
    assert (await request(running.port, "GET /health")).status == 200
    await first.close()
    await (await client(running)).send("here")


async def test_handshakes_of_one_address_have_a_rate(
    serve: Serve, client: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handshake over the rate is answered 429, whether the others succeeded or not; open connections stay."""
    monkeypatch.setattr(handshake, "monotonic", lambda: 1000.0)  # however long the handshakes take
    running = await serve(handshake_rate_limit=1)
    here = await client(running)
    for _ in range(limits.BURST_SECONDS - 2):
        await (await client(running)).close()
    assert (await request(running.port, "GET /nowhere", *UPGRADE)).status == 404
    assert (await request(running.port, "GET /", *UPGRADE)).status == 429
    assert (await request(running.port, "GET /health")).status == 200
    await here.send("still here")
    assert await here.recv() == "still here"


async def test_requests_of_one_address_have_a_rate(
    serve: Serve, client: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One request too many for a page is answered 429; /health, /ready and handshakes have no such limit."""
    monkeypatch.setattr(dispatch, "monotonic", lambda: 1000.0)  # however long the requests take
    running = await serve(handshake_rate_limit=1)
    for path in ["/metrics", "/", "/nowhere"] * 3 + ["/metrics"]:
        assert (await request(running.port, f"GET {path}")).status != 429
    for path in ("/metrics", "/", "/nowhere"):
        answer = await request(running.port, f"GET {path}")
        assert (answer.status, answer.headers["Retry-After"]) == (429, "10")
    for path in ("/health", "/ready"):
        assert (await request(running.port, f"GET {path}")).status == 200
    assert +running.app.refusals.counts == Counter()
    await (await client(running)).send("here")


async def test_refused_handshakes_take_no_place(serve: Serve, client: Connect) -> None:
    """A handshake that fails later takes no place in the counts."""
    running = await serve(max_connections_per_ip=1)
    for _ in range(3):
        assert (await request(running.port, "GET /", *UPGRADE[:-1])).status == 400
        assert (await request(running.port, "GET /nowhere", *UPGRADE)).status == 404
    await client(running)


async def test_clients_behind_a_proxy_are_counted_apart(serve: Serve, client: Connect) -> None:
    """Clients behind a trusted proxy are counted each for itself."""
    running = await serve(max_connections_per_ip=1, trusted_proxies="127.0.0.1")
    await client(running)  # from the proxy itself
    assert (await request(running.port, "GET /", *UPGRADE)).status == 429
    headers = (*UPGRADE[:-1], "X-Forwarded-For: 203.0.113.7")
    assert (await request(running.port, "GET /", *headers)).status == 400


async def test_untrusted_client_cannot_claim_an_address(serve: Serve, client: Connect) -> None:
    """An untrusted client cannot claim another address."""
    running = await serve(max_connections_per_ip=1)
    await client(running)
    assert (await request(running.port, "GET /", *UPGRADE, "X-Forwarded-For: 203.0.113.7")).status == 429


HTTPS = "X-Forwarded-Proto: https"


@pytest.mark.parametrize(
    ("trusted", "headers"),
    [("127.0.0.1", ()), ("127.0.0.1", ("X-Forwarded-Proto: http",)), ("192.0.2.1", (HTTPS,))],
    ids=["not said", "said not to be", "said by anybody"],
)
async def test_request_without_tls_at_a_proxy_is_refused(serve: Serve, trusted: str, headers: tuple[str, ...]) -> None:
    """A request that reached a trusted proxy without TLS is refused with a sentence and counted, also for a page."""
    running = await serve(require_wss=True, trusted_proxies=trusted)
    for answer in (
        await request(running.port, "GET /", *UPGRADE, *headers),
        await request(running.port, "GET /health", *UPGRADE, *headers),  # as a room's name
        await request(running.port, "GET /", *headers),
        await request(running.port, "GET /nowhere", *headers),
    ):
        assert answer.status == 403
        assert b"wss://" in answer.body
    assert +running.app.refusals.counts == Counter({"insecure": 2})


async def test_request_with_tls_at_a_proxy_is_accepted(serve: Serve, raw: OpenRaw) -> None:
    """A request that reached a trusted proxy over TLS is accepted."""
    running = await serve(require_wss=True, trusted_proxies="127.0.0.1")
    client = await raw(running, handshake=False)
    await client.send(f"GET / HTTP/1.1\r\n{HANDSHAKE}{HTTPS}\r\n\r\n".encode())
    assert (await client.head()).status == 101
    assert (await request(running.port, "GET /", HTTPS)).status == 200


class Behind(Echo):
    """An application to which another server passes connections on."""

    port = 0

    def listening(self, port: int) -> None:
        """Note the port."""
        self.port = port

    def client_address(self, request: Any) -> str | None:
        """Return the address in a header."""
        address: str | None = request.headers.get("X-Behind")
        return address


async def test_forwarded_handshake_counts_for_its_client(serve: Serve, raw: OpenRaw) -> None:
    """A handshake that another server passes on is its client's: its address counts, and it came over TLS there."""
    running = await serve(Behind, require_wss=True, trusted_proxies="192.0.2.9", max_connections_per_ip=1)
    assert running.app.port == running.port
    for header, status in (("X-Behind: 192.0.2.1", 101), ("X-Behind: 192.0.2.2", 101), ("X-Behind: 192.0.2.1", 429)):
        client = await raw(running, handshake=False)
        await client.send(f"GET / HTTP/1.1\r\n{HANDSHAKE}{header}\r\n\r\n".encode())
        assert (await client.head()).status == status
    assert (await request(running.port, "GET /", *UPGRADE)).status == 403


async def test_request_over_the_servers_own_tls_is_accepted(serve: Serve, files: Files) -> None:
    """A request over the server's own TLS is accepted."""
    running = await serve(require_wss=True, **files.settings)
    async with connect(f"wss://localhost:{running.port}/", ssl=files.client, proxy=None) as client:
        await client.send("hello")
        assert await client.recv() == "hello"


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics"])
async def test_health_is_answered_without_tls(serve: Serve, path: str) -> None:
    """`/health` is answered without TLS, under any host name."""
    running = await serve(require_wss=True, trusted_proxies="192.0.2.1")
    assert (await request(running.port, f"GET {path}", "Host: healthcheck.railway.app")).status == 200


@pytest.mark.parametrize(
    "values", [{"allowed_origins": "here"}, {"trusted_proxies": "there"}, {"require_wss": True}], ids=str
)
def test_bad_handshake_setting_stops_the_start(values: dict[str, Any]) -> None:
    """A bad setting of the door stops the start."""

    class App:
        settings = settings_with(values)

    with pytest.raises(settings.SettingError):
        dispatch.Http(App())


def settings_with(values: dict[str, Any]) -> Any:
    """Return settings with these values."""
    return settings.EdgeSettings(**values)


async def test_offered_compression_is_declined(serve: Serve) -> None:
    """An offer to compress is not taken up: it multiplies what a message costs to read."""
    running = await serve()
    async with connect(f"ws://127.0.0.1:{running.port}/", compression="deflate", proxy=None) as offering:
        assert offering.protocol.extensions == []
