"""Fixtures: signaling servers and the editors on them, which end with the test that started them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from functools import cache, partial
from itertools import cycle
from typing import Any

import pytest
from hypothesis import settings
from opennoodl_signaling import effects
from opennoodl_signaling.cluster import link, liveness, membership
from opennoodl_signaling.edge.service import Service
from opennoodl_signaling.server import create
from opennoodl_signaling.settings import Settings
from redis import utils as redis_utils
from websockets.asyncio.client import connect

from .cluster.redis_server import RedisServer
from .cluster.waiting import settle
from .edge.conftest import configure, known_labels, small_trust_store  # noqa: F401  # fixtures
from .edge.harness import TEXT, TIMEOUT, Raw
from .edge.loops import LOOPS
from .edge.time_limit import pytest_exception_interact, pytest_timeout_set_timer  # noqa: F401  # hooks
from .editor import Editor

settings.register_profile("steady", deadline=None, max_examples=50)  # no deadline, since the machine may be busy
settings.register_profile("quick", deadline=None, max_examples=10)  # for `make quick`
settings.load_profile("steady")

BOTH = {
    "test_server",
    "test_server_auth",
    "test_server_bad_input",
    "test_server_contest",
    "test_server_count",
    "test_server_ends",
    "test_server_ice",
    "test_server_resume",
    "test_server_session",
    "test_server_topics",
}
"""Modules whose tests run in memory and with Redis. Tests marked `in_memory` read the memory of the server."""


class Twins:
    """The instances of a server. Clients connect to them in turn."""

    def __init__(self, services: list[Service]) -> None:
        self.services = services
        self._turns = cycle(services)

    def next(self) -> Service:
        """Return the instance for the next client."""
        return next(self._turns)


TWINS: dict[Service, Twins] = {}
"""The servers of the test that runs, by their first instance."""

StartServer = Callable[..., Awaitable[Service]]
Enter = Callable[..., Awaitable[Editor]]
EnterRaw = Callable[..., Awaitable[Raw]]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of long runs."""
    parser.addoption("--chaos-seconds", type=float, default=10.0, help="how long things go wrong in test_chaos.py")
    parser.addoption("--chaos-seed", type=int, help="repeats the choices of a run of test_chaos.py")


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run on the event loop that the server uses. The tests of the edge run on both."""
    name = "uvloop" if "uvloop" in LOOPS else "asyncio"
    return {name: LOOPS[name]}


@pytest.fixture(scope="session", autouse=True)
def remembered_driver_version() -> Iterator[None]:
    """Let redis-py read its version from the disk once, and not for each connection: that takes 5 ms of CPU time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(redis_utils, "get_lib_version", cache(redis_utils.get_lib_version))
        yield


@pytest.fixture(scope="session")
def own_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Start a Redis server for all tests of this process."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.free()


@pytest.fixture
def redis(own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> RedisServer:
    """Return an empty Redis server, with which the first instance accepts clients at once."""
    monkeypatch.setattr(membership, "FILL", 0.0)
    own_redis.empty()
    return own_redis


@pytest.fixture(autouse=True)
def contest_timeout(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Return a function that sets `CONTEST_TIMEOUT`, in seconds. It begins with a long time."""

    def set_(seconds: float) -> None:
        for module in (effects, liveness):
            monkeypatch.setattr(module, "CONTEST_TIMEOUT", seconds)

    set_(10 * TIMEOUT)  # the clients of a busy machine answer late
    return set_


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests of modules in `BOTH` in memory, and on two instances that share a Redis."""
    if metafunc.module.__name__.rpartition(".")[2] in BOTH and "engine" in metafunc.fixturenames:
        alone = metafunc.definition.get_closest_marker("in_memory") is not None
        metafunc.parametrize("engine", ["memory"] if alone else ["memory", "redis"], indirect=True)


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> str:
    """Return the place of rooms: `memory`, or `redis` for two instances, to which editors connect in turn."""
    return str(getattr(request, "param", "memory"))


@pytest.fixture
async def start(
    engine: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[StartServer]:
    """Start a server with the given settings."""
    services: list[Service] = []
    shared = {"redis_url": request.getfixturevalue("redis").url} if engine == "redis" else {}
    monkeypatch.setattr(link, "TIMEOUT", TIMEOUT)  # the Redis of a busy machine answers late

    async def start_(**values: Any) -> Service:
        pair = [create(Settings(host="127.0.0.1", port=0, **{**shared, **values})) for _ in range(1 + len(shared))]
        for service in pair:
            services.append(service)
            await service.start()
        TWINS[pair[0]] = Twins(pair)
        return pair[0]

    yield start_
    TWINS.clear()
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
        twin = TWINS[service].next()
        url = f"ws://127.0.0.1:{twin.port}/"
        editors.append(Editor(await connect(url, compression=None, max_queue=None)))
        own: Any = twin.app.settings
        if own.redis_url:
            editors[-1].server = twin
            editors[-1].settle = partial(settle, TWINS[service].services)
        return editors[-1]

    yield enter_
    for editor in editors:
        await editor.socket.close()


@pytest.fixture
async def enter_raw(start: StartServer) -> AsyncIterator[EnterRaw]:
    """Connect a client that sends messages and answers nothing, not even pings."""
    clients: list[Raw] = []

    async def enter_(service: Service, *messages: dict[str, Any]) -> Raw:
        clients.append(await Raw.connect(TWINS[service].next().port))
        await clients[-1].upgrade()
        for message in messages:
            await clients[-1].send_frame(TEXT, json.dumps(message).encode())
        return clients[-1]

    yield enter_
    for client in clients:
        client.sock.close()
