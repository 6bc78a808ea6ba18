"""What a server has on the disk is measured beside its event loop."""

from __future__ import annotations

import asyncio
from itertools import count
from pathlib import Path
from shutil import disk_usage

import pytest
from structlog.testing import capture_logs

from .harness import TIMEOUT, data_files


async def test_files_with_the_prefix_are_counted(tmp_path: Path) -> None:
    """The files of a store are counted, and no others beside them; the free space is that of their disk."""
    for name, size in (("data.json", 100), ("data.json.journal.1", 20), ("other", 4000)):
        (tmp_path / name).write_bytes(bytes(size))
    files = data_files.DataFiles(tmp_path, "data.json")
    await files.measure()
    assert files.size == 120
    assert 0 < files.free <= disk_usage(tmp_path).total


async def test_measuring_goes_on_after_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that cannot be read is a line in the log; when it can be read again, the numbers are right."""
    monkeypatch.setattr(data_files, "INTERVAL", 0.001)
    loop, number, third = asyncio.get_running_loop(), count(1), asyncio.Event()

    def measure() -> tuple[int, int]:
        match next(number):
            case 1:
                raise FileNotFoundError("gone")
            case 3:
                loop.call_soon_threadsafe(third.set)
        return 7, 8

    files = data_files.DataFiles(tmp_path)
    monkeypatch.setattr(files, "_measure", measure)
    with capture_logs() as lines:
        watching = asyncio.create_task(files.watch())
        async with asyncio.timeout(TIMEOUT):
            await third.wait()
        watching.cancel()
    assert (files.size, files.free) == (7, 8)
    assert [line["event"] for line in lines] == ["the data directory cannot be read"]
