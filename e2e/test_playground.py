"""The playground in Chromium, on real servers."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

import jwt
import pytest
from harness import HERE, Client, Server, StartClient, StartServer, Value

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
KINDS = ("signaling", "sync", "notification")
ROOM = "garden-7f3a"
SECRET = "a secret of a test, in 32 characters or more"
AUTH = {"AUTH": "jwt", "AUTH_SECRET": SECRET}
FALLBACK = 5.0
"""Seconds within which an edit arrives on the other path."""
NO_WEBRTC = """
    const Real = globalThis.RTCPeerConnection
    globalThis.RTCPeerConnection = class extends Real {
        constructor(config) { super({...config, iceServers: [], iceTransportPolicy: 'relay'}) }
    }
"""
"""A firewall that lets no WebRTC pass: only a relay may be used, and there is none."""
LATE_INBOX = """
    const Real = globalThis.WebSocket
    const released = new Promise(resolve => { globalThis.release = resolve })
    globalThis.WebSocket = class extends Real {
        send(data) {
            if (String(data).includes('"authenticate"')) released.then(() => super.send(data))
            else super.send(data)
        }
    }
"""
"""A slow network: the notification server hears of the page when `release` is called."""
EMPTY_ROOM = re.compile("the server responded with a status of (404|401)")
"""What Chromium says when the page asks for the preview of a room without people, or without a token."""
UNREACHABLE = re.compile(r"ERR_CONNECTION_REFUSED|net::ERR_|status of 503|Error during WebSocket handshake|CORS policy")
"""What Chromium itself says on the console of a server that cannot be reached, or that has just started."""

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
    pytest.mark.xdist_group("playground"),
]


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

    async def start(self, user: str, token: str = "") -> None:
        """Fill in the form."""
        await self.do("fill", "#name", user)
        if token:
            await self.do("click", "#start summary")
            await self.do("fill", "#token", token)
        await self.do("click", "#start button")

    async def add(self, name: str) -> None:
        """Add a node of this name with the keyboard."""
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
        return str(await self.do("evaluate", "document.getElementById('messages').open = true"
                                 " && new Promise(done => setTimeout(() => done("
                                 "document.getElementById('log').textContent), 200))"))  # fmt: skip


@dataclass
class Playground:
    """The three servers, the playground's own, and a browser."""

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


class StartPlayground(Protocol):
    """The fixture `playground`."""

    async def __call__(self, **settings: object) -> Playground:
        """Start everything, with settings for all three servers."""
        ...


@pytest.fixture
async def playground(server: StartServer, client: StartClient) -> AsyncIterator[StartPlayground]:
    """Start the playground; in the end, its pages must have had no error on the console."""
    started: list[tuple[Playground, asyncio.subprocess.Process]] = []

    async def start(**settings: object) -> Playground:
        browser = await client("browser", CHROMIUM=str(CHROMIUM))
        servers = dict(zip(KINDS, await asyncio.gather(*(server(kind, **settings) for kind in KINDS)), strict=True))
        urls = {f"{kind.upper()}_URL": servers[kind].url for kind in KINDS}
        process = await asyncio.create_subprocess_exec(
            sys.executable, HERE.parent / "playground" / "serve.py", stdout=asyncio.subprocess.PIPE,
            env={**os.environ, **urls, "HOST": "127.0.0.1", "PORT": "0"},
        )  # fmt: skip
        assert process.stdout is not None
        port = (await process.stdout.readline()).decode().rpartition(":")[2].strip()
        started.append((Playground(servers, browser, f"http://127.0.0.1:{port}"), process))
        return started[-1][0]

    yield start
    for made, process in started:
        process.terminate()
        assert await process.wait() == 0
        complaints = [event["text"] for event in made.browser.pending("complained")]
        expected = [EMPTY_ROOM, *([made.allowed] if made.allowed else [])]
        assert [text for text in complaints if not any(pattern.search(text) for pattern in expected)] == []


def token(user: str, seconds: float, **claims: str) -> str:
    """Return a token that expires so many seconds from now."""
    return jwt.encode({"sub": user, "rooms": [ROOM], "exp": int(time.time() + seconds), **claims}, SECRET, "HS256")


async def test_three_pages_over_webrtc(playground: StartPlayground) -> None:
    """Three pages see each other's nodes, names and cursors over WebRTC alone."""
    here = await playground()
    pages = [await here.page(user) for user in ("ann", "ben", "cem")]
    for page in pages:
        for other in ("ann", "ben", "cem"):
            await page.shows("#people li", other)
        await page.shows("#path", "WebRTC to 2 of 2")
        await page.mode("webrtc")
    await pages[0].add("Kettle")
    for page in pages:
        await page.shows(".node", "Kettle")
        await page.shows("#path", "Edits go directly by WebRTC to 2 of 2.")
    await pages[1].do("hover", ".node")
    await pages[0].shows(".cursor", "ben")
    await pages[0].shows("#delivered", "median")


async def test_falls_back_to_the_sync_server(playground: StartPlayground) -> None:
    """Where WebRTC does not connect, or is switched off, edits arrive by the sync server within five seconds."""
    here = await playground()
    ann, ben = await here.page("ann"), await here.page("ben", script=NO_WEBRTC)
    await ann.shows("#people li", "ben by the server")
    await ann.add("Automatic")
    async with asyncio.timeout(FALLBACK):
        await ben.shows(".node", "Automatic")
    cem = await here.page("cem")
    await ann.shows("#path", "WebRTC to 1 of 2")
    await cem.mode("sync")
    await cem.add("Forced")
    async with asyncio.timeout(FALLBACK):
        await ann.shows(".node", "Forced")
    await ann.shows("#people li", "cem by the server")
    await cem.shows("#stored", "median")
    await cem.shows("#saved", "Saved")


async def test_servers_restart_under_pages(playground: StartPlayground) -> None:
    """Pages return to servers that were restarted: edits go on, and the inbox continues."""
    here = await playground()
    here.allowed = UNREACHABLE
    ann, ben = await here.page("ann"), await here.page("ben")
    await ann.add("Before")
    await ben.shows(".node", "Before")
    await asyncio.gather(*(each.restart() for each in here.servers.values()))
    for page in (ann, ben):
        await page.mode("sync")
        await page.shows("#saved", "Saved")
        for kind in ("signaling", "notification"):
            await page.connected(kind)
    await ann.add("After")
    await ben.shows(".node", "After")
    await ann.do("fill", "#invited", "ben")
    await ann.do("click", "#invite button")
    await ben.shows(".toast", "ann invites you")


async def test_stopped_servers_are_named_and_an_invite_waits_for_them(playground: StartPlayground) -> None:
    """The page says so; an invite waits for the notification server, and nothing else has to be done."""
    here = await playground()
    here.allowed = UNREACHABLE
    ann, ben = await here.page("ann"), await here.page("ben")
    await ben.connected("notification")
    await asyncio.gather(*(each.stop() for each in here.servers.values()))
    await ann.shows("#advice", "The sync server cannot be reached.")
    await ann.do("fill", "#invited", "ben")
    await ann.do("click", "#invite button")
    await ann.shows(".toast", "The invite is sent when the notification server can be reached.")
    await asyncio.gather(*(each.start() for each in here.servers.values()))
    await ben.shows(".toast", "ann invites you")
    await ann.shows("#people li", "ben")
    await ann.hides("#advice")


async def test_a_page_says_that_webrtc_is_blocked(playground: StartPlayground) -> None:
    """A page that uses WebRTC alone and reaches nobody by it says who is in the room, and what to choose."""
    here = await playground()
    await here.page("ann")
    ben = await here.page("ben", script=NO_WEBRTC)
    await ben.connected("signaling")
    await ben.mode("webrtc")
    await ben.shows("#advice", "WebRTC does not reach others in this room yet (ann).")
    await ben.mode("both")
    await ben.shows("#people li", "ann by the server")


async def test_a_name_typed_on_a_slow_line_is_kept(playground: StartPlayground) -> None:
    """A name that is typed before the scripts have arrived is kept, and the page starts when they are there."""
    here = await playground()
    ann = await here.page("ann", start=False, held="**/app.js")
    await ann.do("fill", "#name", "ann")
    assert await ann.do("isDisabled", "#start button")
    await here.browser.call("release", page=ann.name)
    await ann.do("click", "#start button")
    await ann.shows("#people li", "ann you")
    await ann.shows("#add:focus")


async def test_two_users_have_different_colors(playground: StartPlayground) -> None:
    """Of two users whose names mean the same color, one takes another."""
    here = await playground()
    ben, cem = await here.page("ben"), await here.page("cem")
    shared = "li[style*='161, 45, 45']"
    for page, other in ((ben, "cem"), (cem, "ben")):
        await page.shows("#people li", other)
        await page.shows(f"#people:has({shared}):not(:has({shared} ~ {shared}))")


async def test_a_cut_network(playground: StartPlayground) -> None:
    """A page whose network was cut resumes its place; edits that it made meanwhile survive a reload and arrive."""
    here = await playground()
    ann, ben = await here.page("ann"), await here.page("ben")
    await ann.shows("#people li", "ben direct")
    await ben.do("click", "#cut")
    await ben.add("Offline")
    await ben.shows("#path", "The network is cut")
    await ann.hides("#people li", "ben direct")
    await ben.do("click", "#cut")
    await ann.shows(".node", "Offline")
    await ann.shows("#people li", "ben direct")
    assert '"resumed":true' in await ben.log()
    await ben.do("click", "#cut")
    await ben.add("Reloaded")
    await ben.do("reload")
    await ben.start("ben")
    await ann.shows(".node", "Reloaded")


async def test_an_inbox_on_two_devices(playground: StartPlayground) -> None:
    """An invite is a toast on both devices of its user, and what one device reads or deletes is so on the other."""
    here = await playground()
    ann, phone, desk = [await here.page(user) for user in ("ann", "ben", "ben")]
    await ann.do("fill", "#invited", "ben")
    await ann.do("click", "#invite button")
    await ann.shows(".toast", "in the inbox of ben, who is online")
    for device in (phone, desk):
        await device.shows(".toast", "ann invites you to Room of ann You are in this room.")
        await device.shows("#unread", "1")
        await device.do("click", "#bell")
    await phone.do("click", "#notifications button:text('Read')")
    await desk.shows("#unread", "0")
    await desk.do("click", "#notifications button:text('Delete')")
    await phone.shows("#inbox-state", "No notifications yet.")


async def test_one_toast_says_what_came_before_the_inbox_was_connected(playground: StartPlayground) -> None:
    """What was sent before the inbox was connected is one toast: the invite, or the number of unread notifications."""
    here = await playground()
    ann = await here.page("ann")
    toasts = ("ann invites you to Room of ann", "2 unread notifications are in your inbox.")
    for number, expected in enumerate(toasts, 1):
        ben = await here.page("ben", script=LATE_INBOX)
        await ann.do("fill", "#invited", "ben")
        await ann.do("click", "#invite button")
        await ann.shows(".toast >> nth=" + str(number - 1), "in the inbox of ben")
        await ben.do("evaluate", "release()")
        await ben.shows(".toast", expected)
        await ben.shows("#unread", str(number))
        assert await ben.do("evaluate", "document.querySelectorAll('.toast').length") == 1


async def test_an_origin_that_is_not_allowed(playground: StartPlayground) -> None:
    """A page of another origin says of each server that it cannot use it, and keeps edits in the browser."""
    here = await playground(ALLOWED_ORIGINS="https://noodl.example")
    here.allowed = UNREACHABLE
    ann = await here.page("ann")
    await ann.add("Local")
    for kind in KINDS:
        await ann.shows(f"#servers tr:has(th:text('{kind}')) td", "does not allow this page")
    await ann.shows("#path", "Edits reach nobody now")


async def test_a_token_that_expires(playground: StartPlayground) -> None:
    """The page asks for a new token in time, and gives it to all servers on the open connections."""
    here = await playground(**AUTH)
    ann = await here.page("ann", token=token("ann", 40), clock=True)
    for kind in ("signaling", "notification"):
        await ann.connected(kind)
    await ann.shows("#saved", "Saved")
    await here.browser.call("forward", page=ann.name, milliseconds=21_000)
    await ann.do("fill", "#newer", token("ann", 3600))
    await ann.do("click", "#login button")
    await ann.log()
    for message in ("sync ↑ token", "signaling ↑ register", "notification ↑ authenticate"):
        await ann.shows("#log li", message)
    log = await ann.log()
    assert log.count("notification ↑ authenticate") == 2
    assert log.count("signaling ↑ join") == 1


async def test_a_token_that_has_expired(playground: StartPlayground) -> None:
    """A page with an expired token is refused by all servers, asks once, and works with the next token."""
    here = await playground(**AUTH)
    ann = await here.page("ann", token=token("ann", -3600))
    await ann.do("fill", "#newer", token("ann", 3600))
    await ann.do("click", "#login button")
    await ann.shows("#saved", "Saved")
    for kind in ("signaling", "notification"):
        await ann.connected(kind)
    assert not await ann.do("isVisible", "#login")


async def test_a_read_only_user_sees_edits_and_makes_none(playground: StartPlayground) -> None:
    """The page says that the token is read-only, and offers no edit."""
    here = await playground(**AUTH)
    ann = await here.page("ann", token=token("ann", 3600))
    await ann.add("Kettle")
    eve = await here.page("eve", token=token("eve", 3600, access="read"))
    await eve.shows(".node", "Kettle")
    await eve.shows("#advice", "Your token is read-only")
    await eve.shows("#servers tr:has(th:text('signaling')) td:last-child", "not joined: the token is read-only")
    assert await eve.do("isDisabled", "#add")
    await eve.do("press", ".node", "Delete")
    await ann.add("Pot")
    await eve.shows(".node", "Pot")
    await ann.shows(".node", "Kettle")


async def test_the_form_says_who_is_in_a_room(playground: StartPlayground) -> None:
    """Before somebody joins, the page names the people of the room, or says that there are none."""
    here = await playground()
    ann = await here.page("ann")
    await ann.connected("signaling")
    ben = await here.page("ben", start=False)
    await ben.shows("#preview", "Here now: ann")
    await ben.do("fill", "#room", "another-room")
    await ben.do("press", "#room", "Tab")
    await ben.shows("#preview", "Nobody is in this room now.")


async def test_nodes_can_be_edited_with_the_keyboard(playground: StartPlayground) -> None:
    """Nodes are added, renamed, moved, connected, deleted and brought back without a pointer."""
    here = await playground()
    ann, ben = await here.page("ann"), await here.page("ben")
    await ann.add("One")
    left = await ann.do("evaluate", "document.activeElement.style.left")
    await ann.do("press", ":focus", "ArrowRight")
    await ann.add("Two")
    await ann.do("press", ":focus", "c")
    await ann.do("focus", ".node:has-text('One')")
    await ann.do("press", ":focus", "Enter")
    await ben.shows(".node[data-by=ann]", "Two")
    assert await ben.do("evaluate", "document.querySelectorAll('#wires path').length") == 1
    assert await ben.do("evaluate", "document.querySelector('.node').style.left") != left
    await ann.do("press", ".node:has-text('One')", "Delete")
    await ben.hides(".node", "One")
    await ann.do("press", "body", "Control+z")
    await ben.shows(".node", "One")


async def test_the_focus_stays_in_the_inbox(playground: StartPlayground) -> None:
    """When a notification is read or deleted, the focus stays in the list; it is on the bell when the list is empty."""
    here = await playground()
    ann = await here.page("ann")
    for number in ("1", "2"):
        await ann.do("fill", "#invited", "ann")
        await ann.do("press", "#invited", "Enter")
        await ann.shows("#unread", number)
    await ann.do("press", "#bell", "Enter")
    await ann.do("press", "#notifications button:text('Read')", "Enter")
    await ann.shows("#notifications li:nth-child(1) button:text('Delete'):focus")
    await ann.do("press", ":focus", "Enter")
    await ann.shows("#notifications li:only-child button:text('Read'):focus")
    await ann.do("press", "#notifications button:text('Delete')", "Enter")
    await ann.shows("#bell:focus")
    await ann.do("press", ":focus", "Escape")
    await ann.hides("#inbox")


async def test_nodes_can_be_moved_and_connected_by_dragging(playground: StartPlayground) -> None:
    """A node is moved by a drag, and connected by a drag of its dot."""
    here = await playground()
    ann = await here.page("ann")
    await ann.add("One")
    await ann.add("Two")
    await here.browser.call("drag", page=ann.name, selector=".node:has-text('Two')", to=[500, 400])
    left = await ann.do("evaluate", "[...document.querySelectorAll('.node')].at(-1).style.left")
    assert float(left.removesuffix("px")) > 300
    await here.browser.call("drag", page=ann.name, selector=".node:has-text('One') .port", to=[500, 400])
    assert await ann.do("evaluate", "document.querySelectorAll('#wires path').length") == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_no_fault_on_any_page(playground: StartPlayground, scheme: str) -> None:
    """Axe finds nothing on the first page, on a page at work with everything open, and on one as wide as a phone."""
    here = await playground()
    ann = await here.page("ann", start=False, colorScheme=scheme, viewport={"width": 390, "height": 800})
    assert await here.browser.call("accessibility", page=ann.name) == []
    ben = await here.page("ben")
    await ann.start("ann")
    await ann.add("Kettle")
    await ben.do("focus", ".node")
    await ann.shows(".node[data-by=ben]")
    await ben.do("fill", "#invited", "ann")
    await ben.do("click", "#invite button")
    await ann.shows(".toast")
    await ann.do("click", "#bell")
    for summary in ("#messages summary", "#document summary"):
        await ann.do("click", summary)
    await ann.shows("#facts tr", "state vector")
    assert await here.browser.call("accessibility", page=ann.name) == []
    assert await ann.do("evaluate", "document.documentElement.scrollWidth") <= 390
    await ann.do("click", "#bell")  # the inbox does not cover it
    await ann.hides("#inbox")


async def test_each_logged_message_has_its_row(playground: StartPlayground) -> None:
    """A message in the log links to its row of the protocol page, and shows no token."""
    here = await playground(**AUTH)
    shown = token("ann", 3600)
    ann = await here.page("ann", token=shown)
    await ann.shows("#saved", "Saved")
    await ann.add("Kettle")
    await ann.do("fill", "#invited", "ann")
    await ann.do("click", "#invite button")
    await ann.shows(".toast", "ann invites you")
    log = await ann.log()
    assert shown not in log
    assert shown.rpartition(".")[2] not in log
    links = await ann.do("evaluate", "[...new Set([...document.querySelectorAll('#log a')].map(link => link.href))]")
    assert len(links) > 12
    for link in links:
        await ann.do("goto", link)
        assert await ann.do("evaluate", "document.querySelector('tr:has(:target)') !== null"), link
