"""A server with a certificate of its own speaks TLS and nothing else, and takes a new one while it runs."""

from __future__ import annotations

import asyncio
import gc
import http.client
import os
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect

from ..certificates import Files, RawTls, certify
from ..conftest import OpenRaw, Serve
from ..harness import HANDSHAKE, PING, TEXT, Frame, Pause, Raw, connected, limits, masked, service, settings, tls
from ..tls_key_updates import CIPHER, Keys

GARBAGE = [
    b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"\x16\x03\x01\x00\x05hello",
    b"\x16\x03\x01\xff\xff" + bytes(70_000),
    b"\0" * 100,
    bytes(range(tls.MAX_EMPTY)) * 1000,
]
"""What is no TLS: HTTP, broken records, nothing that anybody would send."""


@pytest.fixture
def wire(files: Files) -> Files:
    """Let services and clients here use TLS."""
    return files


def serial(client: Any) -> int:
    """Return the number of the certificate that a client was shown."""
    shown = client.transport.get_extra_info("ssl_object").getpeercert()
    return int(shown["serialNumber"], 16)


async def visit(port: int, files: Files) -> Any:
    """Connect a client that trusts one certificate."""
    return await connect(f"wss://localhost:{port}/", ssl=files.client, proxy=None)


async def get(port: int, files: Files, path: str) -> int:
    """Return the status of a page over TLS."""

    def ask() -> int:
        server = http.client.HTTPSConnection("localhost", port, timeout=30, context=files.client)
        server.request("GET", path)
        status = server.getresponse().status
        server.close()
        return status

    return await asyncio.to_thread(ask)


async def test_http_and_websockets_share_the_tls_port(serve: Serve, files: Files) -> None:
    """HTTP and WebSockets are served on the one port, over TLS."""
    running = await serve()
    assert await get(running.port, files, "/health") == 200
    async with await visit(running.port, files) as client:
        await client.send("hello")
        assert await client.recv() == "hello"


@pytest.mark.parametrize(("version", "served"), [("TLSv1_1", False), ("TLSv1_2", True), ("TLSv1_3", True)], ids=str)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
async def test_tls_before_1_2_is_refused(serve: Serve, files: Files, version: str, served: bool) -> None:
    """TLS before 1.2 is refused with a TLS alert."""
    context = files.client
    context.set_ciphers("ALL:@SECLEVEL=0")  # so that it is not the client who refuses
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    client = RawTls(await connected((await serve()).port), context)
    with client.sock:
        if served:
            await client.upgrade()
        else:
            with pytest.raises(ssl.SSLError, match="ALERT_PROTOCOL_VERSION"):
                await client.shake()


@pytest.mark.parametrize("garbage", GARBAGE, ids=range(len(GARBAGE)))
async def test_garbage_instead_of_tls_ends_only_its_connection(
    serve: Serve, raw: OpenRaw, caplog: pytest.LogCaptureFixture, garbage: bytes
) -> None:
    """Bytes that are no TLS end only their connection, without a line in the log."""
    running = await serve()
    other = await raw(running)
    bad = await Raw.connect(running.port)
    with bad.sock:
        with suppress(ConnectionError):  # cut before all of it was sent
            await bad.send(garbage)
        assert not (await bad.rest()).startswith(b"HTTP")
    await other.send_frame(TEXT, b"as before")
    assert await other.frame() == Frame(TEXT, b"as before")
    assert caplog.records == []


async def test_garbage_on_an_open_connection_ends_it(serve: Serve, raw: OpenRaw) -> None:
    """Bytes that are no TLS end an open connection as well, and the application is told."""
    running = await serve()
    client = await raw(running)
    assert isinstance(client, RawTls)
    await client.send_plain(b"\x17\x03\x03\x00\x20" + bytes(32))
    await running.app.closed(0)
    with pytest.raises(ssl.SSLError, match="BAD_RECORD_MAC"):
        await client.rest()


async def test_tls_handshake_may_arrive_byte_by_byte(
    serve: Serve, raw: OpenRaw, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A TLS handshake may come byte by byte."""
    client = await raw(await serve(), handshake=False)
    whole = Raw.send

    async def send(self: Raw, data: bytes) -> None:
        for byte in data:
            await whole(self, bytes((byte,)))

    monkeypatch.setattr(Raw, "send", send)
    await client.upgrade()


async def nothing(_: RawTls) -> None:
    """Say nothing."""


async def half_a_hello(client: RawTls) -> None:
    """Stop in the middle of what is said first."""
    await client.send_plain(client.hello()[:100])


async def a_hello(client: RawTls) -> None:
    """Stop before the end of the TLS handshake."""
    await client.send_plain(client.hello())


async def no_request(client: RawTls) -> None:
    """Stop after the TLS handshake."""
    await client.shake()


async def half_a_request(client: RawTls) -> None:
    """Stop in the middle of the request."""
    await client.send(b"GET / HTTP/1.1\r\n")


@pytest.mark.parametrize("stop", [nothing, half_a_hello, a_hello, no_request, half_a_request])
async def test_unfinished_tls_handshake_is_cut(
    serve: Serve, raw: OpenRaw, monkeypatch: pytest.MonkeyPatch, stop: Callable[[RawTls], Any]
) -> None:
    """A client that stops anywhere before its WebSocket is open is cut after OPEN_TIMEOUT."""
    monkeypatch.setattr(service, "OPEN_TIMEOUT", 0.3)  # longer than the handshakes of a busy machine
    running = await serve()
    client = await raw(running, handshake=False)
    assert isinstance(client, RawTls)
    await stop(client)
    while await client.feed():
        pass
    assert running.app.calls == []


@pytest.mark.parametrize("proxies", ["", "127.0.0.0/8"], ids=["a client", "a proxy"])
async def test_handshakes_of_one_address(serve: Serve, raw: OpenRaw, proxies: str) -> None:
    """A TLS handshake over the rate is cut before it begins, except for trusted proxies; open connections stay."""
    running = await serve(handshake_rate_limit=1, trusted_proxies=proxies)
    here = await raw(running)
    for number in range(1, limits.BURST_SECONDS + 1):
        client = await raw(running, handshake=False)
        assert isinstance(client, RawTls)
        if number == limits.BURST_SECONDS and not proxies:
            await client.send_plain(client.hello())
            assert not await client.feed()
        else:
            await client.shake()
    await here.send_frame(TEXT, b"still here")
    assert await here.frame() == Frame(TEXT, b"still here")


async def test_silent_has_no_tls(serve: Serve, raw: OpenRaw) -> None:
    """For a client that says nothing, nothing of TLS is made."""
    running = await serve()
    gc.collect()
    before = sum(type(each) is tls.Tls for each in gc.get_objects())
    await raw(running, handshake=False)
    last = await raw(running)  # after which the first one has been accepted
    await last.send_frame(TEXT, b"x")
    await last.frame()
    assert sum(type(each) is tls.Tls for each in gc.get_objects()) == before + 1


async def test_tls_close_notify_ends_the_connection(serve: Serve, raw: OpenRaw) -> None:
    """A client that says goodbye in TLS alone is gone, and hears a goodbye."""
    running = await serve()
    client = await raw(running)
    assert isinstance(client, RawTls)
    await running.app.until(lambda: bool(running.app.calls))
    await client.goodbye()
    await running.app.closed(0)
    with pytest.raises(ssl.SSLZeroReturnError):
        await client.rest()


async def test_read_pause_over_tls_loses_nothing(serve: Serve, raw: OpenRaw) -> None:
    """A client that is not read from sends as little as it would without TLS, and loses nothing."""
    running = await serve()
    client = await raw(running)
    await running.app.until(lambda: 0 in running.app.connections)
    running.app.connections[0].pause_reading(Pause.STORAGE)
    sending = asyncio.create_task(
        client.send(b"".join(masked(TEXT, b"%05d" % number + bytes(50_000)) for number in range(20)))
    )
    other = await raw(running)
    await other.send_frame(PING)
    await other.frame()
    assert running.app.got == []
    running.app.connections[0].resume_reading(Pause.STORAGE)
    for number in range(20):
        frame = await client.frame()
        assert frame is not None
        assert int(frame.payload[:5]) == number
    await sending


@pytest.fixture
async def keys(serve: Serve, files: Files, tmp_path: Path) -> AsyncIterator[tuple[RawTls, Keys]]:
    """Give a client after the TLS handshake, and its keys."""
    context = files.client
    context.keylog_filename = str(tmp_path / "secrets")
    client = RawTls(await connected((await serve()).port), context)
    with client.sock:
        await client.shake()
        assert client.tls.cipher() == (CIPHER, "TLSv1.3", 256)
        yield client, Keys(tmp_path / "secrets")


async def test_client_may_update_its_keys(keys: tuple[RawTls, Keys]) -> None:
    """A client may take new keys, as after some millions of records."""
    client, own = keys
    request = f"GET / HTTP/1.1\r\n{HANDSHAKE}\r\n".encode()
    await client.send_plain(own.renew() + own.record(request) + own.renew())
    assert (await client.head()).status == 101
    await client.send_plain(own.renew() + own.record(masked(TEXT, b"x")))
    assert await client.frame() == Frame(TEXT, b"x")


@pytest.mark.parametrize(
    ("count", "served"), [(tls.MAX_EMPTY - 10, True), (tls.MAX_EMPTY, False)], ids=["many", "more"]
)
async def test_new_keys_without_end(keys: tuple[RawTls, Keys], count: int, served: bool) -> None:
    """A client that takes new keys again and again is cut, with whatever follows."""
    client, own = keys
    renewals = b"".join(own.renew() for _ in range(count))
    await client.send_plain(renewals + own.record(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"))
    assert bool(await client.rest()) is served


# Certificates


def refusal(**values: str) -> str:
    """Return the line that refuses these files."""
    with pytest.raises(settings.SettingError) as info:
        tls.Certificate(settings.EdgeSettings(**values))
    line = str(info.value)
    assert "\n" not in line
    return line


def test_tls_is_off_without_files() -> None:
    """Without files there is no TLS."""
    assert tls.Certificate(settings.EdgeSettings()).context is None


@pytest.mark.parametrize(("given", "missing"), [("tls_cert", "TLS_KEY"), ("tls_key", "TLS_CERT")])
def test_certificate_without_key_names_the_missing_setting(files: Files, given: str, missing: str) -> None:
    """One file without the other is refused with the name of the other."""
    line = refusal(**{given: files.settings[given]})
    assert given.upper() in line
    assert f"{missing} is not" in line


@pytest.mark.parametrize("name", ["tls_cert", "tls_key"])
def test_unreadable_file_is_named(files: Files, tmp_path: Path, name: str) -> None:
    """A file that cannot be read is named, with the reason."""
    path = str(tmp_path / "nowhere.pem")
    line = refusal(**{**files.settings, name: path})
    assert line.startswith(f"{name.upper()} is {path!r}")
    assert os.strerror(2) in line


@pytest.mark.parametrize("name", ["tls_cert", "tls_key"])
@pytest.mark.parametrize("what", ["empty", "text", "half", "the other"])
def test_file_of_a_wrong_format_is_named(files: Files, tmp_path: Path, name: str, what: str) -> None:
    """A file of a wrong format is named, with the accepted format."""
    good = Path(files.settings[name]).read_bytes()
    other = files.key if name == "tls_cert" else files.certificate
    contents = {"empty": b"", "text": b"hello\n", "half": good[: len(good) // 2], "the other": other.read_bytes()}
    path = tmp_path / "bad.pem"
    path.write_bytes(contents[what])
    line = refusal(**{**files.settings, name: str(path)})
    assert line.startswith(f"{name.upper()} is {str(path)!r}")
    assert "PEM" in line


def test_key_of_another_certificate_is_refused(files: Files, tmp_path: Path) -> None:
    """The key of another certificate is refused as what it is."""
    line = refusal(**{**files.settings, "tls_key": str(certify(tmp_path).key)})
    assert line.startswith("TLS_KEY")
    assert "not the key of the certificate" in line


def test_key_with_a_passphrase_is_refused(tmp_path: Path) -> None:
    """A key with a passphrase is refused, and nobody is asked for it."""
    line = refusal(**certify(tmp_path, b"hush").settings)
    assert line.startswith("TLS_KEY")
    assert "without a passphrase" in line


async def test_reloaded_certificate_is_used_for_new_connections(serve: Serve, tmp_path: Path) -> None:
    """New connections get the reloaded certificate; existing ones are unaffected."""
    old = certify(tmp_path)
    running = await serve(**old.settings)
    before = await visit(running.port, old)
    new = certify(tmp_path)
    running.reload()
    after = await visit(running.port, new)
    assert (serial(before), serial(after)) == (old.serial, new.serial)
    for client in (before, after):
        await client.send("hello")
        assert await client.recv() == "hello"
        await client.close()


async def test_bad_reload_keeps_the_old_certificate(
    serve: Serve, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Files that cannot be used are named in the log, and the old certificate stays."""
    old = certify(tmp_path / "old")
    running = await serve(**old.settings)
    old.key.write_bytes(certify(tmp_path / "new").key.read_bytes())
    running.reload()
    logged = capsys.readouterr().out
    assert "error" in logged
    assert "TLS_KEY" in logged
    async with await visit(running.port, Files(*old)) as client:
        assert serial(client) == old.serial
