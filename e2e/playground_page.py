"""Pages of the playground in Chromium, with real servers."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

import jwt
import pytest
from harness import HERE, PATIENCE, Client, Server, Value

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
KINDS = ("signaling", "sync", "notification")
ROOM = "garden-7f3a"
SECRET = "a secret of a test, in 32 characters or more"
AUTH = {"AUTH": "jwt", "AUTH_SECRET": SECRET}
EMPTY_ROOM = re.compile("the server responded with a status of (404|401)")
"""Console messages of Chromium for the preview of an empty room, or without a token."""
UNREACHABLE = re.compile(
    "net::ERR_|status of 503|CORS policy"  # of a fetch; a refusal has no CORS headers
    "|Error during WebSocket handshake|Connection closed before receiving a handshake response"
    "|WebSocket opening handshake (was canceled|timed out)"
    "|already in CLOSING or CLOSED state"  # y-websocket answers in a socket that the server has begun to close
)
"""Console messages of Chromium for a server that cannot be reached, stops at any moment, or has just started."""

OPENED = """new Promise(done => {
  const messages = document.getElementById('messages')
  if (messages.open) return done()
  messages.addEventListener('toggle', () => done(), { once: true })
  messages.open = true
})"""
"""Opens the protocol messages, which are then drawn."""

in_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
"""Marks the tests of these pages. They share nothing, so they are spread over the workers."""


@dataclass
class Page:
    """A page of the playground."""

    browser: Client
    name: str

    async def do(self, method: str, /, *args: object) -> Value:
        """Call a method of Playwright's page."""
        return await self.browser.call("page", page=self.name, method=method, args=args)

    async def shows(self, selector: str, text: str | None = None) -> None:
        """Wait until an element is shown, with this text if one is given."""
        await self.browser.call("shows", page=self.name, selector=selector, text=text)

    async def hides(self, selector: str, text: str | None = None) -> None:
        """Wait until no such element is shown."""
        await self.browser.call("hides", page=self.name, selector=selector, text=text)

    async def until(self, expression: str) -> None:
        """Wait until a JavaScript expression is true.

        Playwright's ``waitForFunction`` evaluates the text in the page from its second attempt on, which the page's
        Content Security Policy forbids.
        """
        async with asyncio.timeout(PATIENCE):
            while not await self.do("evaluate", expression):  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async def start(self, user: str, token: str = "") -> None:
        """Fill in and submit the form."""
        await self.do("fill", "#name", user)
        if token:
            await self.do("click", "#start summary")
            await self.do("fill", "#token", token)
        await self.do("click", "#start button")

    async def add(self, name: str) -> None:
        """Add a node with this name by keyboard."""
        await self.do("click", "#add")
        for key in ("Enter", *name, "Enter"):
            await self.do("press", ":focus", key)
        await self.shows(".node:focus", name)

    async def mode(self, mode: str) -> None:
        """Choose the path of edits: both, webrtc or sync."""
        await self.do("check", f"input[name=mode][value={mode}]")

    async def connected(self, kind: str) -> None:
        """Wait until a server has accepted the page."""
        await self.shows(f"#servers tr:has(th:text('{kind}')) td:last-child", "connected")

    async def log(self) -> str:
        """Return the protocol messages."""
        await self.do("evaluate", OPENED)
        await self.drawn()
        return str(await self.do("evaluate", "document.getElementById('log').textContent"))

    async def drawn(self) -> None:
        """Wait until the page has drawn all that it knows, which it does in the next frame."""
        await self.do("evaluate", "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


@dataclass
class Playground:
    """The three servers, the playground's web server, and a browser."""

    servers: dict[str, Server]
    browser: Client
    url: str
    allowed: re.Pattern[str] | None = None
    pages: int = 0

    async def page(self, user: str, *, token: str = "", start: bool = True, **options: object) -> Page:
        """Open the room as a user; the options are those of `open` in browser.mjs."""
        self.pages += 1
        page = Page(self.browser, f"{user} {self.pages}")
        await self.browser.call("open", page=page.name, url=f"{self.url}/#room={ROOM}", **options)
        if start:
            await page.start(user, token)
        return page


@asynccontextmanager
async def serve_playground(servers: dict[str, Server], browser: Client) -> AsyncIterator[Playground]:
    """Serve the page for these servers; at the end, its pages must have no error on the console."""
    urls = {f"{kind.upper()}_URL": server.url for kind, server in servers.items()}
    process = await asyncio.create_subprocess_exec(
        sys.executable, HERE.parent / "playground" / "serve.py", stdout=asyncio.subprocess.PIPE,
        env={**os.environ, **urls, "HOST": "127.0.0.1", "PORT": "0"},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line = (await asyncio.wait_for(process.stdout.readline(), PATIENCE)).decode()
        made = Playground(servers, browser, f"http://127.0.0.1:{line.rpartition(':')[2].strip()}")
        yield made
    finally:
        process.terminate()
        code = await asyncio.wait_for(process.wait(), PATIENCE)
    assert code == 0
    complaints = [event["text"] for event in browser.pending("complained")]
    expected = [EMPTY_ROOM, *([made.allowed] if made.allowed else [])]
    unexpected = [text for text in complaints if not any(pattern.search(text) for pattern in expected)]
    assert not unexpected, f"errors on the console: {unexpected}"


class StartPlayground(Protocol):
    """The fixture `playground`."""

    async def __call__(self, **settings: object) -> Playground:
        """Start everything, with settings for all three servers."""
        ...


def token(user: str, seconds: float, **claims: object) -> str:
    """Return a token that expires in this number of seconds."""
    return jwt.encode({"sub": user, "rooms": [ROOM], "exp": int(time.time() + seconds), **claims}, SECRET, "HS256")
