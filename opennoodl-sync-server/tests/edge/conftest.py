"""Fixtures: services and clients that end with the test that started them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Any

import pytest
import structlog
from websockets.asyncio.client import ClientConnection, connect

from .harness import Echo, Raw, logs, service

try:
    import uvloop
except ImportError:  # not on this platform
    LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
else:
    LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}

Serve = Callable[..., Awaitable[Any]]
OpenRaw = Callable[..., Awaitable[Raw]]
Connect = Callable[..., Awaitable[ClientConnection]]
Configure = Callable[[str, str], None]


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run everything on both event loops: they differ in when they write and in what they tell when."""
    return LOOPS


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Start a service of an `Echo` with the given settings."""
    started: list[Any] = []

    async def start(kind: type[Echo] = Echo, **values: Any) -> Any:
        started.append(service.Service(kind(**values), "1.2.3", 0))
        await started[-1].start()
        return started[-1]

    yield start
    for running in started:
        if not running.http.draining:
            await running.stop()


@pytest.fixture
async def raw(serve: Serve) -> AsyncIterator[OpenRaw]:
    """Open a `Raw` client on a service: ready for frames, or before its handshake."""
    clients: list[Raw] = []

    async def open_(running: Any, *, handshake: bool = True, receive_buffer: int = 0) -> Raw:
        clients.append(await Raw.connect(running.port, receive_buffer))
        if handshake:
            await clients[-1].upgrade()
        return clients[-1]

    yield open_
    for client in clients:
        client.sock.close()


@pytest.fixture
async def client(serve: Serve) -> AsyncIterator[Connect]:
    """Connect a well-behaved client to a service."""
    clients: list[ClientConnection] = []

    async def open_(running: Any) -> ClientConnection:
        url = f"ws://127.0.0.1:{running.port}/"
        clients.append(await connect(url, compression=None, max_size=None, max_queue=None))
        return clients[-1]

    yield open_
    for each in clients:
        await each.close()


@pytest.fixture
def configure(capsys: pytest.CaptureFixture[str]) -> Iterator[Configure]:
    """Configure the logs, for the duration of one test."""
    names = ("", "websockets", "asyncio")
    root = logging.getLogger()
    handlers, levels = root.handlers[:], [logging.getLogger(name).level for name in names]
    yield logs.configure
    root.handlers = handlers
    for name, level in zip(names, levels, strict=True):
        logging.getLogger(name).setLevel(level)
    structlog.reset_defaults()
