"""Fixtures: a server, and a disk that fails when it is told to."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import hypothesis
import plyvel
import pytest

from .client import Server, running

try:
    import uvloop
except ImportError:  # not on this platform
    LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
else:
    LOOPS = {"uvloop": uvloop.new_event_loop}

# Panics are expected here; the trace of one takes a second to print.
os.environ["RUST_BACKTRACE"] = "0"

# Machines that run tests are busy with other things too.
hypothesis.settings.register_profile("busy", deadline=None, max_examples=60)
hypothesis.settings.load_profile("busy")


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run everything on the event loop of the server; slow clients, which loops treat differently, on both."""
    if item.path.name == "test_server_slow.py":
        return {**LOOPS, "asyncio": asyncio.new_event_loop}
    return LOOPS


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    """Run a server with default settings."""
    async with running(tmp_path / "data") as server:
        yield server


class Disk:
    """What all LevelDBs are on.

    Attributes:
        full: whether writing fails.
    """

    full = False


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """Return the disk on which every LevelDB is that is opened from now on."""
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
