"""What a URL answers is there in time and has a bound, also over TLS."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator

import pytest

from .certificates import Files
from .harness import TIMEOUT, fetch
from .issuer import Loopback


@pytest.fixture(params=["tcp", "tls"])
async def server(
    request: pytest.FixtureRequest, files: Files, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Loopback]:
    """Run what is asked, whose certificate is believed."""
    server, context = Loopback(), None
    if request.param == "tls":
        monkeypatch.setenv("SSL_CERT_FILE", str(files.certificate))
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(files.certificate, files.key)
    await server.start(context)
    yield server
    await server.stop()


async def fetched(server: Loopback, seconds: float = TIMEOUT, most: int = 3) -> bytes:
    """Return what it answers."""
    body: bytes = await asyncio.to_thread(fetch.fetch, f"{server.url}/path?query", seconds, most)
    return body


async def test_answer(server: Loopback) -> None:
    """An answer is what is asked for."""
    server.answer = (200, b"yes")
    assert await fetched(server) == b"yes"
    assert server.asked[0].startswith("GET /path?query HTTP/1.1\r\n")


async def test_too_large(server: Loopback) -> None:
    """One that is too large is none."""
    server.answer = (200, b"much")
    with pytest.raises(ValueError, match="larger than 3 bytes"):
        await fetched(server)


async def test_failure(server: Loopback) -> None:
    """One that tells of a failure is none."""
    server.answer = (503, b"no")
    with pytest.raises(OSError, match="503"):
        await fetched(server)


async def test_chunks(server: Loopback) -> None:
    """One that comes in chunks is put together."""
    server.headers = ["Transfer-Encoding: chunked"]
    server.answer = (200, b"1\r\ny\r\n2\r\nes\r\n0\r\n\r\n")
    assert await fetched(server) == b"yes"


async def test_trickle(server: Loopback) -> None:
    """One that comes byte by byte is given up, and its sender left."""
    server.trickles = b"HTTP/1.1 200 -\r\n\r\n"
    with pytest.raises(TimeoutError):
        await fetched(server, 0.1, 1_000_000)
    await server.until_left()


@pytest.mark.parametrize("server", ["tls"], indirect=True)
async def test_not_believed(server: Loopback, monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    """Whose certificate is not believed is not asked."""
    monkeypatch.setenv("SSL_CERT_FILE", f"{tmp_path}/nobody.pem")
    with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
        await fetched(server)
    assert server.asked == []
