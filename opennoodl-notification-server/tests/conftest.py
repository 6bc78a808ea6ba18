"""Fixtures: servers and devices that end with their test."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from opennoodl_notification import cleanup, server
from opennoodl_notification.edge.service import Service
from opennoodl_notification.inbox.store import Changes
from opennoodl_notification.settings import Settings
from opennoodl_notification.storage.json_file.journal import Journal
from opennoodl_notification.storage.sql import channel, engines

from .edge.conftest import known_labels, small_trust_store  # noqa: F401  # fixtures
from .edge.time_limit import pytest_exception_interact, pytest_timeout_set_timer  # noqa: F401  # hooks
from .harness import TIMEOUT, Client, Clock, Gate

settings.register_profile("steady", deadline=None, max_examples=50)  # a busy machine is no defect
settings.register_profile("quick", deadline=None, max_examples=10)  # for `make quick`
settings.register_profile("long", deadline=None, max_examples=1000)
settings.load_profile("steady")

Serve = Callable[..., Awaitable[Service]]
Device = Callable[..., Awaitable[Client]]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add options for more kills of the server, and for the seed of a repetition."""
    parser.addoption("--crash-rounds", type=int, default=8, help="how often the server is killed")
    parser.addoption("--chaos-rounds", type=int, default=6, help="how many faults two instances meet")
    parser.addoption("--seed", type=int, help="what chance begins with; printed when a test fails")


@pytest.fixture
def crash_rounds(request: pytest.FixtureRequest) -> int:
    """Return the number of kills of the server."""
    return int(request.config.getoption("--crash-rounds"))


@pytest.fixture
def chaos_rounds(request: pytest.FixtureRequest) -> int:
    """Return the number of faults."""
    return int(request.config.getoption("--chaos-rounds"))


@pytest.fixture
def dice(request: pytest.FixtureRequest) -> random.Random:
    """Return the random number generator of a test."""
    chosen = request.config.getoption("--seed")
    seed = random.SystemRandom().getrandbits(32) if chosen is None else int(chosen)
    print(f"--seed {seed}")
    return random.Random(seed)  # noqa: S311


@pytest.fixture(autouse=True)
def _patient_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give PostgreSQL and the servers more time for each other: on a busy machine, both answer late."""
    monkeypatch.setattr(engines, "TIMEOUT", TIMEOUT)
    monkeypatch.setattr(engines, "IDLE_TIMEOUT", int(TIMEOUT))
    monkeypatch.setattr(channel, "TIMEOUT", TIMEOUT)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return the path of the notifications."""
    return tmp_path / "notifications.json"


@pytest.fixture
async def serve(file: Path) -> AsyncIterator[Serve]:
    """Return a function that starts a server with given settings; all use the same file."""
    started: list[Service] = []

    async def start(**values: object) -> Service:
        unlimited = {"rate_limit": 0, "byte_rate_limit": 0}
        settings: dict[str, object] = {"host": "127.0.0.1", "port": 0, "db_file": str(file), **unlimited, **values}
        service = server.create(Settings(**settings))  # type: ignore[arg-type]
        await service.start()
        started.append(service)
        return service

    yield start
    for service in started:
        if not service.app.draining:
            async with asyncio.timeout(TIMEOUT):
                await service.stop()


@pytest.fixture
async def device(serve: Serve) -> AsyncIterator[Device]:
    """Return a function that connects to a server, and authenticates if it gets a user."""
    clients: list[Client] = []

    async def open_(service: Service, user: str | None = None) -> Client:
        clients.append(await Client.connect(service.port))
        if user is not None:
            await clients[-1].authenticate(user)
        return clients[-1]

    yield open_
    for client in clients:
        await client.ws.close()


@pytest.fixture
def gate(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """Replace the journal's writes by a gate."""
    gate = Gate()

    def append(journal: Journal, changes: Changes, size: int = 0) -> None:
        gate.append(journal, changes, size)

    monkeypatch.setattr(Journal, "append", append)
    yield gate
    gate.open()


@pytest.fixture
def busy_cleanup(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the server clean up continuously."""
    monkeypatch.setattr(cleanup, "INTERVAL", 0.01)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Replace the server's clocks by one that stands still."""
    fake = Clock()
    fake.use(monkeypatch)
    return fake
