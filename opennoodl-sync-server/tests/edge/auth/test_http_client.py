"""The answer of a URL arrives in time and has a bound, also over TLS."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import suppress

import httpx
import pytest

from ..certificates import Files
from ..harness import TIMEOUT, http_client
from ..issuer import Loopback
from ..servers import TcpServer


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


async def fetched(server: Loopback, seconds: float = TIMEOUT, most: int = 3, url: str = "") -> bytes:
    """Return its answer, fetched with a client that knows the environment of this moment."""
    async with http_client.new_client(TIMEOUT) as client:
        body: bytes = await http_client.fetch(client, url or f"{server.url}/path?query", seconds, most)
    return body


async def test_response_body_is_returned(server: Loopback) -> None:
    """The client returns the body of the response."""
    server.answer = (200, b"yes")
    assert await fetched(server) == b"yes"
    assert server.asked[0].startswith("GET /path?query HTTP/1.1\r\n")


async def test_response_that_is_too_large_fails(server: Loopback) -> None:
    """One that is too large is none."""
    server.answer = (200, b"much")
    with pytest.raises(ValueError, match="larger than 3 bytes"):
        await fetched(server)


async def test_response_with_an_error_status_fails(server: Loopback) -> None:
    """One that tells of a failure is none."""
    server.answer = (503, b"no")
    with pytest.raises(ValueError, match="status 503"):
        await fetched(server)


async def test_redirect_is_not_followed(server: Loopback) -> None:
    """One that points elsewhere is none, and nothing else is asked."""
    server.answer = (302, b"")
    server.headers = [f"Location: {server.url}/elsewhere"]
    with pytest.raises(ValueError, match="status 302"):
        await fetched(server)
    assert len(server.asked) == 1


async def test_compressed_response_is_not_decompressed(server: Loopback) -> None:
    """No compressed answer is asked for, and one that comes is not decompressed: its size would have no bound."""
    server.headers = ["Content-Encoding: gzip"]
    server.answer = (200, b"gz!")
    assert await fetched(server) == b"gz!"
    assert "accept-encoding: identity\r\n" in server.asked[0].lower()


async def test_chunked_response_is_joined(server: Loopback) -> None:
    """One that comes in chunks is put together."""
    server.headers = ["Transfer-Encoding: chunked"]
    server.answer = (200, b"1\r\ny\r\n2\r\nes\r\n0\r\n\r\n")
    assert await fetched(server) == b"yes"


@pytest.mark.parametrize("server", ["tcp"], indirect=True)
async def test_response_that_trickles_is_given_up(server: Loopback) -> None:
    """One that comes byte by byte is given up, and its sender left."""
    server.trickles = b"HTTP/1.1 200 -\r\n\r\n"
    with pytest.raises(TimeoutError):
        await fetched(server, 0.5, 1_000_000)
    await server.until_left()


@pytest.mark.parametrize("server", ["tls"], indirect=True)
async def test_untrusted_certificate_is_refused(
    server: Loopback, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    """A server with an untrusted certificate is not asked."""
    monkeypatch.setenv("SSL_CERT_FILE", f"{tmp_path}/nobody.pem")
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        await fetched(server)
    assert server.asked == []


# Through a proxy


@pytest.mark.parametrize("server", ["tcp"], indirect=True)
async def test_http_proxy_and_no_proxy_are_honoured(server: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTP requests go through the proxy of `http_proxy`, unless `no_proxy` names the host."""
    monkeypatch.setenv("http_proxy", server.url)
    server.answer = (200, b"yes")
    assert await fetched(server, url="http://issuer.invalid/keys") == b"yes"
    assert server.asked[0].startswith("GET http://issuer.invalid/keys HTTP/1.1\r\n")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert await fetched(server) == b"yes"


@pytest.mark.parametrize("server", ["tls"], indirect=True)
async def test_https_proxy_tunnels_requests(server: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTPS requests go through a tunnel of the proxy of `https_proxy`."""
    asked: list[bytes] = []

    async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        there, back = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")

        async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            with suppress(ConnectionError):
                while data := await source.read(65_536):
                    sink.write(data)
            sink.close()

        await asyncio.gather(copy(reader, back), copy(there, writer))
        with suppress(OSError):
            await back.wait_closed()
        ended.set()

    ended = asyncio.Event()
    server.answer = (200, b"yes")
    proxy = TcpServer(tunnel)
    await proxy.start()
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
    assert await fetched(server) == b"yes"
    async with asyncio.timeout(TIMEOUT):
        await ended.wait()
    await proxy.stop()
    assert asked[0].startswith(b"CONNECT 127.0.0.1:")
