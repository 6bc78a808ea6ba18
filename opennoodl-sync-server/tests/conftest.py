"""Fixtures: servers, and a disk that can fail."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import structlog
from opennoodl_sync.storage.leveldb.bindings import plyvel
from opennoodl_sync.storage.postgresql.link import Link
from opennoodl_sync.webhook import Webhook

from .client import Server, running
from .databases import empty_database
from .edge.conftest import known_labels, small_trust_store  # noqa: F401  # fixtures
from .edge.loops import LOOPS
from .edge.time_limit import pytest_exception_interact, pytest_timeout_set_timer  # noqa: F401  # hooks
from .receiver import SECRET, TIMEOUT, Make, Outcomes, Receiver

# Tests cause panics on purpose; printing the trace of one takes a second.
os.environ["RUST_BACKTRACE"] = "0"

# No deadline, since a machine that runs tests may be busy.
hypothesis.settings.register_profile("busy", deadline=None, max_examples=60)
hypothesis.settings.register_profile("quick", deadline=None, max_examples=10)  # for `make quick`
hypothesis.settings.load_profile("busy")


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run on the server's event loop; tests of slow clients and of processes run on asyncio's loop too."""
    if item.path.name in ("test_server_slow.py", "test_compactor.py"):
        return LOOPS
    name = "uvloop" if "uvloop" in LOOPS else "asyncio"
    return {name: LOOPS[name]}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add options for longer searches, and for the seed of a repetition."""
    parser.addoption("--crash-rounds", type=int, default=8, help="how often the server is killed")
    parser.addoption("--power-cuts", type=int, default=2, help="how often the power is cut")
    parser.addoption("--chaos-rounds", type=int, default=0, help="faults of two servers; 0 is one of each, in short")
    parser.addoption("--damage-rounds", type=int, default=0, help="bytes to change in each file; also: every bit")
    parser.addoption("--seed", type=int, help="what chance begins with; printed when a test fails")


@pytest.fixture(autouse=True)
def own_logs() -> Iterator[None]:
    """Undo a test's changes to the logging configuration, such as from running a command."""
    yield
    structlog.reset_defaults()


@pytest.fixture
def crash_rounds(request: pytest.FixtureRequest) -> int:
    """Return the number of kills of the server."""
    return int(request.config.getoption("--crash-rounds"))


@pytest.fixture
def power_cuts(request: pytest.FixtureRequest) -> int:
    """Return the number of power cuts."""
    return int(request.config.getoption("--power-cuts"))


@pytest.fixture
def chaos_rounds(request: pytest.FixtureRequest) -> int:
    """Return the number of faults for two servers with production leases; 0 runs a short form."""
    return int(request.config.getoption("--chaos-rounds"))


@pytest.fixture
def damage_rounds(request: pytest.FixtureRequest) -> int:
    """Return the number of bytes to change in each file of a large database; 0 changes a few."""
    return int(request.config.getoption("--damage-rounds"))


@pytest.fixture
def dice(request: pytest.FixtureRequest) -> random.Random:
    """Return the random number generator of a test; the output of a failed test has the option for its seed."""
    seed = request.config.getoption("--seed")
    if seed is None:
        seed = random.SystemRandom().getrandbits(32)
    print(f"--seed {seed}")
    return random.Random(seed)  # noqa: S311


@pytest.fixture(autouse=True)
def brief_refusals(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Close refused connections soon, except in the tests of this delay."""
    if "edge" not in request.path.parts:
        monkeypatch.setattr("opennoodl_sync.edge.admission.refusal_delay.FIRST", 0.01)
        monkeypatch.setattr("opennoodl_sync.edge.admission.refusal_delay.LONGEST", 0.05)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    """Run a server with default settings."""
    async with running(tmp_path / "data") as server:
        yield server


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the URL of an empty database; leases of instances in this process last longer than any test.

    The database of a busy machine may answer late.
    """
    for name, seconds in (("DURATION", 1000.0), ("LAPSE_AFTER", 900.0), ("RENEW_TIMEOUT", 60.0), ("TIMEOUT", 60.0)):
        monkeypatch.setattr(f"opennoodl_sync.storage.postgresql.lease.{name}", seconds)
    monkeypatch.setattr("opennoodl_sync.storage.postgresql.store.TIMEOUT", 60.0)
    defaults = Link.fetch.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "seconds", 60.0)
    return empty_database()


class Disk:
    """The disk of all LevelDBs.

    Attributes:
        full: whether writes fail.
    """

    full = False


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """Return the disk of every LevelDB that is opened from now on."""
    disk = Disk()
    real = plyvel.DB

    class FailingDB:
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self._real = real(*args, **kwargs)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._real, name)

        def write_batch(self, **kwargs: Any) -> Any:
            if disk.full:
                raise plyvel.IOError(b"IO error: data/000003.log: No space left on device")
            return self._real.write_batch(**kwargs)

    monkeypatch.setattr(plyvel, "DB", FailingDB)
    return disk


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """Run a receiver of webhook requests."""
    receiver = Receiver()
    await receiver.start()
    yield receiver
    await receiver.stop()


@pytest.fixture
async def webhooks(receiver: Receiver) -> AsyncIterator[Make]:
    """Return a function that makes webhooks without a delay before a request, by default."""
    made: list[Webhook] = []

    def make(debounce: float = 0.0, url: str = "", **times: Any) -> Webhook:
        url = url or f"http://127.0.0.1:{receiver.port}/hook"
        made.append(Webhook(url, SECRET, debounce, **{"delays": (0.0, 0.0), "close_timeout": TIMEOUT, **times}))
        made[-1].posts = Outcomes(made[-1].posts)
        return made[-1]

    yield make
    for webhook in made:
        await webhook.close()
