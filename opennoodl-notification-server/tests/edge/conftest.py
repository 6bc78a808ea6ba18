"""Fixtures: services and clients that end with the test that started them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Any

import pytest
import structlog
from websockets.asyncio.client import ClientConnection, connect

from .certificates import Files, RawTls, certify
from .harness import Echo, Raw, connected, logs, metrics, service
from .loops import LOOPS

Serve = Callable[..., Awaitable[Any]]
OpenRaw = Callable[..., Awaitable[Raw]]
Connect = Callable[..., Awaitable[ClientConnection]]
Configure = Callable[[str, str], None]


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run each test on both event loops: they write and call back in a different order."""
    return LOOPS


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests of connections over TCP, and over TLS."""
    if (
        metafunc.module.__name__.endswith(("test_connection", "test_connection_close", "test_liveness"))
        and "wire" in metafunc.fixturenames
    ):
        metafunc.parametrize("wire", ["tcp", "tls"], indirect=True)


@pytest.fixture(autouse=True)
def known_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail if a counter gets a label value that had no zero at the start."""

    def missing(_: Any, value: str) -> int:
        pytest.fail(f"{value!r} is counted, but is not among the values of the label")

    monkeypatch.setattr(metrics.Counts, "__missing__", missing)


@pytest.fixture(scope="session", autouse=True)
def small_trust_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Trust one certificate in place of the system's, which take each HTTP client 40 ms of CPU time to load."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(certify(tmp_path_factory.mktemp("trusted")).certificate))
        yield


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Return one certificate for all tests."""
    return certify(tmp_path_factory.mktemp("certificate"))


@pytest.fixture
def wire(request: pytest.FixtureRequest, files: Files) -> Files | None:
    """Return the certificate of services and clients if this test runs over TLS, else None."""
    return files if getattr(request, "param", "tcp") == "tls" else None


@pytest.fixture
async def serve(wire: Files | None) -> AsyncIterator[Serve]:
    """Start a service of an `Echo` with the given settings."""
    started: list[Any] = []

    async def start(kind: type[Echo] = Echo, **values: Any) -> Any:
        values = {**(wire.settings if wire else {}), **values}
        started.append(service.Service(kind(**values), 0))
        await started[-1].start()
        return started[-1]

    yield start
    for running in started:
        for left in list(running.connections):
            left.abort()  # a drain would wait for read-paused clients
        if not running.app.draining:
            await running.stop()


@pytest.fixture
async def raw(serve: Serve, wire: Files | None) -> AsyncIterator[OpenRaw]:
    """Open a `Raw` client on a service: ready for frames, or before its handshake."""
    clients: list[Raw] = []

    async def open_(running: Any, *, handshake: bool = True, receive_buffer: int = 0) -> Raw:
        sock = await connected(running.port, receive_buffer)
        clients.append(RawTls(sock, wire.client) if wire else Raw(sock))
        if handshake:
            await clients[-1].upgrade()
        return clients[-1]

    yield open_
    for client in clients:
        client.sock.close()


@pytest.fixture
async def client(serve: Serve, wire: Files | None) -> AsyncIterator[Connect]:
    """Connect a well-behaved client to a service."""
    clients: list[ClientConnection] = []

    async def open_(running: Any) -> ClientConnection:
        url = f"{'wss' if wire else 'ws'}://127.0.0.1:{running.port}/"
        context = wire.client if wire else None
        clients.append(await connect(url, ssl=context, compression=None, max_size=None, max_queue=None, proxy=None))
        return clients[-1]

    yield open_
    for each in clients:
        await each.close()


@pytest.fixture
def configure(capsys: pytest.CaptureFixture[str]) -> Iterator[Configure]:
    """Configure the logs, for the duration of one test."""
    names = ("", "websockets", "asyncio", "httpcore", "httpx")
    root = logging.getLogger()
    handlers, levels = root.handlers[:], [logging.getLogger(name).level for name in names]
    yield logs.configure
    root.handlers = handlers
    for name, level in zip(names, levels, strict=True):
        logging.getLogger(name).setLevel(level)
    structlog.reset_defaults()
