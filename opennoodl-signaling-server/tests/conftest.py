"""Fixtures: signaling servers and the editors on them, which end with the test that started them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import pytest
from hypothesis import settings
from opennoodl_signaling.edge.service import Service
from opennoodl_signaling.server import create
from opennoodl_signaling.settings import Settings
from websockets.asyncio.client import connect

from .edge.conftest import LOOPS, configure  # noqa: F401  # `configure` is a fixture
from .edge.harness import TEXT, Raw
from .editor import Editor

settings.register_profile("steady", deadline=None, max_examples=50)  # a busy machine is no defect
settings.register_profile("quick", deadline=None, max_examples=10)  # for `make quick`
settings.load_profile("steady")

StartServer = Callable[..., Awaitable[Service]]
Enter = Callable[..., Awaitable[Editor]]
EnterRaw = Callable[..., Awaitable[Raw]]


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run on the event loop that the server runs on; the edge's own tests try both."""
    name = "uvloop" if "uvloop" in LOOPS else "asyncio"
    return {name: LOOPS[name]}


@pytest.fixture
async def start() -> AsyncIterator[StartServer]:
    """Start a server with the given settings."""
    services: list[Service] = []

    async def start_(**values: Any) -> Service:
        services.append(create(Settings(host="127.0.0.1", port=0, **values)))
        await services[-1].start()
        return services[-1]

    yield start_
    for service in services:
        if not service.app.draining:
            await service.stop()


@pytest.fixture
async def server(start: StartServer) -> Service:
    """Start a server with the default settings."""
    return await start()


@pytest.fixture
async def enter(start: StartServer) -> AsyncIterator[Enter]:
    """Connect an editor to a server."""
    editors: list[Editor] = []

    async def enter_(service: Service) -> Editor:
        url = f"ws://127.0.0.1:{service.port}/"
        editors.append(Editor(await connect(url, compression=None, max_queue=None)))
        return editors[-1]

    yield enter_
    for editor in editors:
        await editor.socket.close()


@pytest.fixture
async def enter_raw(start: StartServer) -> AsyncIterator[EnterRaw]:
    """Connect a client that answers nothing, not even pings, and let it send messages."""
    clients: list[Raw] = []

    async def enter_(service: Service, *messages: dict[str, Any]) -> Raw:
        clients.append(await Raw.connect(service.port))
        await clients[-1].upgrade()
        for message in messages:
            await clients[-1].send_frame(TEXT, json.dumps(message).encode())
        return clients[-1]

    yield enter_
    for client in clients:
        client.sock.close()
