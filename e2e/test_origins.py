"""The desktop editor is a page from a file: which origin its browser names, and which servers let it in."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import pytest
from attacks.servers import websocket_server
from harness import HERE, Server, StartServer
from websockets.asyncio.server import ServerConnection

PATIENCE = 60
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
KINDS = ("signaling", "sync", "notification")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
Outcome = list[dict[str, bool]]

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")


class Browser:
    """Chromium with a page from a file.

    Attributes:
        origins: what it said of where the page comes from, when that reported.
    """

    def __init__(self, profile: Path) -> None:
        self.origins: list[str | None] = []
        self._profile = profile
        self._processes: list[asyncio.subprocess.Process] = []

    async def reaches(self, servers: list[Server], *flags: str) -> Outcome:
        """Return which of the servers the page can connect to, and whose health it may read."""
        reported: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

        async def report(connection: ServerConnection) -> None:
            assert connection.request is not None
            self.origins.append(connection.request.headers.get("Origin"))
            reported.set_result(json.loads(await connection.recv()))

        async with websocket_server(report) as reports:
            paths = {"opennoodl_sync": "room"}
            tried = [
                {"ws": f"{each.url}/{paths.get(each.name, '')}", "health": f"{each.http}/health"} for each in servers
            ]
            what = {"report": reports, "servers": tried}
            page = f"{(HERE / 'clients' / 'origins.html').as_uri()}#{quote(json.dumps(what))}"
            assert CHROMIUM is not None
            process = await asyncio.create_subprocess_exec(
                CHROMIUM,
                *FLAGS,
                *flags,
                f"--user-data-dir={self._profile}",
                "--remote-debugging-port=0",  # so that it stays until it is ended
                page,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )
            self._processes.append(process)
            async with asyncio.timeout(PATIENCE):
                return await reported

    async def close(self) -> None:
        """End it."""
        for process in self._processes:
            if process.returncode is None:
                process.terminate()
            await process.wait()


@pytest.fixture
async def browser(tmp_path: Path) -> AsyncIterator[Browser]:
    """Return a browser that ends with the test."""
    browser = Browser(tmp_path / "profile")
    yield browser
    await browser.close()


@pytest.mark.parametrize(
    ("origin", "flags"),
    [("null", ()), ("file://", ("--allow-file-access-from-files",))],
    ids=["null", "file"],
)
async def test_a_page_from_a_file(server: StartServer, browser: Browser, origin: str, flags: tuple[str, ...]) -> None:
    """A page from a file connects to all three servers if ALLOWED_ORIGINS names its origin among others."""
    servers = [await server(kind, ALLOWED_ORIGINS=f"https://noodl.example, {origin}") for kind in KINDS]
    assert await browser.reaches(servers, *flags) == [{"connects": True, "healthy": True}] * 3
    assert browser.origins == [origin]


async def test_a_page_from_a_file_is_refused(server: StartServer, browser: Browser) -> None:
    """It is refused by all three if ALLOWED_ORIGINS names others alone, and may not even read how they are."""
    servers = [await server(kind, ALLOWED_ORIGINS="https://noodl.example, file://") for kind in KINDS]
    assert await browser.reaches(servers) == [{"connects": False, "healthy": False}] * 3
    assert browser.origins == ["null"]
