"""Attacks on HTTP: too large, ambiguous, and invalid requests."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable

from .attack import attack
from .raw_connection import UPGRADE, Target, request

MEGABYTE = 2**20
SEED = 6
HOST = "Host: localhost"


async def _statuses(target: Target, requests: Iterable[bytes]) -> Collection[str]:
    """Send each request on its own connection; return the statuses of the responses."""
    statuses = set()
    for data in requests:
        async with target.tcp() as raw:
            await raw.send(data)
            statuses.add(await raw.status())
    return statuses


@attack("431")
async def large_header(target: Target) -> Collection[str]:
    """A request with a header of 1 MB."""
    return await _statuses(target, [request(b"/", HOST, "X-Large: " + "a" * MEGABYTE)] * 10)


@attack("431")
async def many_headers(target: Target) -> Collection[str]:
    """A request with 1 MB of small headers."""
    return await _statuses(target, [request(b"/", HOST, *["X-Small: a"] * (MEGABYTE // 12))] * 10)


@attack("431")
async def unfinished_header_line(target: Target) -> Collection[str]:
    """1 MB of a header whose line does not end."""
    return await _statuses(target, [b"GET / HTTP/1.1\r\nX: " + b"a" * MEGABYTE] * 10)


@attack("414", "431")
async def long_path(target: Target) -> Collection[str]:
    """A request with a path of 1 MB."""
    return await _statuses(target, [request(b"/" + b"a" * MEGABYTE, HOST)] * 10)


@attack("200", "400", "404")
async def path_traversal(target: Target) -> Collection[str]:
    """Paths that other servers resolve: `..`, `%2e%2e`, `//`, `%00`, a URL (the server takes its path)."""
    paths = [
        b"/../../etc/passwd",
        b"/%2e%2e/%2e%2e/etc/passwd",
        b"/..%5c..%5cwindows",
        b"//etc/passwd",
        b"//localhost/health",
        b"/health/",
        b"/health%00",
        b"/%68ealth",
        b"/metrics;a=b",
        b"/Health",
        b"http://localhost/health",
        b"http://elsewhere.example/metrics",
        b"*",
        b"/\xc3\xa9",
        b"/\xff\xfe",
        b"/%",
        b"/%zz",
    ]
    return await _statuses(target, (request(path, HOST) for path in paths))


@attack("405", "400")
async def requests_with_bodies(target: Target) -> Collection[str]:
    """Other methods, requests with bodies, and two lengths in one request (request smuggling)."""
    body = "0\r\n\r\nGET /metrics HTTP/1.1\r\nHost: localhost"
    return await _statuses(
        target,
        [
            request(b"/", HOST, "Content-Length: 5", method="POST") + b"hello",
            request(b"/", HOST, f"Content-Length: {len(body)}", "Transfer-Encoding: chunked", method="POST"),
            request(b"/health", HOST, "Content-Length: 44", "Content-Length: 0") + body.encode(),
            request(b"/health", HOST, "Transfer-Encoding: chunked") + body.encode(),
            request(b"/", HOST, method="DELETE"),
            request(b"localhost:22", HOST, method="CONNECT"),
        ],
    )


@attack("400", "101")
async def forged_headers(target: Target) -> Collection[str]:
    """Handshakes with headers that would forge log lines, responses or addresses."""
    forged = ["X-Forwarded-For: 127.0.0.1", "X-Real-IP: ::1", "User-Agent: a\x1b[2J\x00", "Origin: null\nlevel=error"]
    return await _statuses(target, (request(target.path, *UPGRADE, header) for header in forged))


@attack("200")
async def pipelined_requests(target: Target) -> Collection[str]:
    """A hundred pipelined requests, as a proxy might send them: the server answers 16."""
    return await _statuses(target, [request(b"/health", HOST) * 100])


@attack("400", "414", "431")
async def not_http(target: Target) -> Collection[str]:
    """Bytes that are not HTTP: random ones, a ClientHello, SSH, another protocol's request, NULs."""
    dice = random.Random(SEED)  # noqa: S311
    return await _statuses(
        target,
        [
            *(dice.randbytes(2 ** dice.randrange(1, 16)) + b"\r\n\r\n" for _ in range(50)),
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + dice.randbytes(500) + b"\n",
            b"SSH-2.0-OpenSSH_9.6\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"\x00" * 100_000,
            b"\r\n" * 10_000,
            b"*1\r\n$4\r\nPING\r\n",
        ],
    )


@attack("101", "400", "426")
async def invalid_handshakes(target: Target) -> Collection[str]:
    """Handshakes without a key, with two keys or a short key, with another version, or with an extension."""
    others = [
        [header for header in UPGRADE if "Key" not in header],
        [*UPGRADE, "Sec-WebSocket-Key: BBBBBBBBBBBBBBBBBBBBBB=="],
        [header.replace("AAAA", "A") for header in UPGRADE],
        [header.replace("13", "8") for header in UPGRADE],
        [*UPGRADE, "Sec-WebSocket-Extensions: x-unknown; a=b"],
        [*UPGRADE, "Sec-WebSocket-Protocol: a, b"],
    ]
    return await _statuses(target, (request(target.path, *headers) for headers in others))
