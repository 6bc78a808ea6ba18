"""A test that hangs fails, and its output says where it waits."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SUITES = ["e2e", *(f"opennoodl-{name}-server" for name in ("signaling", "sync", "notification"))]

HANGS = """
import asyncio, threading
import pytest

async def forget():
    await asyncio.Event().wait()

@pytest.mark.asyncio
async def test_coroutine():
    await forget()

@pytest.fixture
def stuck():
    yield
    threading.Event().wait()

def test_teardown(stuck):
    pass

def test_teardown_of_a_failure(stuck):
    pytest.fail("first")

def test_next():
    pass
"""


@pytest.mark.parametrize("suite", SUITES)
def test_every_suite_has_a_limit(suite: str) -> None:
    """The limit is in the settings of each folder with tests, and its conftest.py has what says where a test waits."""
    settings = tomllib.loads((ROOT / suite / "pyproject.toml").read_text())
    assert settings["tool"]["pytest"]["ini_options"]["timeout"] > 0
    conftest = ROOT / suite / ("conftest.py" if suite == "e2e" else "tests/conftest.py")
    assert "time_limit import pytest_exception_interact, pytest_timeout_set_timer" in conftest.read_text()


def test_hanging_tests_fail_where_they_wait(tmp_path: Path) -> None:
    """A coroutine fails at its own line, a teardown fails also after a failure, and the next test runs."""
    (tmp_path / "conftest.py").write_text(
        "from time_limit import pytest_exception_interact, pytest_timeout_set_timer\n"
    )
    (tmp_path / "test_hangs.py").write_text(HANGS)
    command = [sys.executable, "-m", "pytest", "--timeout", "4", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    done = subprocess.run(
        [*command, "--tb=short", str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT / "e2e")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "2 failed, 2 passed, 2 errors" in done.stdout
    assert "in forget\n    await asyncio.Event().wait()" in done.stdout
    assert done.stdout.count("in stuck\n    threading.Event().wait()") == 2
