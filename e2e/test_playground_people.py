"""People in the playground: the form, colors, invites and the inbox."""

from __future__ import annotations

import asyncio
import json

from playground_page import StartPlayground, in_chromium
from websockets.asyncio.client import connect

pytestmark = in_chromium

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
KEEP_JOIN = """
    const Real = globalThis.WebSocket
    globalThis.WebSocket = class extends Real {
        constructor(...args) {
            super(...args)
            this.addEventListener('message', ({ data }) => {
                if (String(data).includes('"resumeToken"')) globalThis.joined = data
            })
        }
        send(data) {
            if (String(data).includes('"type":"join"')) globalThis.join = data
            super.send(data)
        }
    }
"""
"""Keeps what a page says and is told when it joins the room."""


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


async def test_the_form_says_who_is_in_a_room(playground: StartPlayground) -> None:
    """Before somebody joins, the page names the people of the room, or says that there are none; spaces are no name."""
    here = await playground()
    ann = await here.page("ann")
    await ann.connected("signaling")
    ben = await here.page("ben", start=False)
    await ben.shows("#preview", "Here now: ann")
    await ben.do("fill", "#room", "another-room")
    await ben.do("press", "#room", "Tab")
    await ben.shows("#preview", "Nobody is in this room now.")
    await ben.start("   ")
    assert await ben.do("isVisible", "#name:invalid")


async def test_an_inbox_on_two_devices(playground: StartPlayground) -> None:
    """An invite is a toast on both devices of its user, and what one device reads or deletes is so on the other."""
    here = await playground()
    ann, phone, desk = [await here.page(user) for user in ("ann", "ben", "ben")]
    await ann.do("fill", "#invited", "ben")
    # At once: on a busy machine, a toast may be gone before a later look at it.
    await asyncio.gather(
        ann.shows(".toast", "in the inbox of ben, who is online"),
        *(device.shows(".toast", "ann invites you to Room of ann You are in this room.") for device in (phone, desk)),
        ann.do("click", "#invite button"),
    )
    for device in (phone, desk):
        await device.shows("#unread", "1")
        await device.do("click", "#bell")
    await phone.do("click", "#notifications button:text('Read')")
    await desk.shows("#unread", "0")
    await desk.do("click", "#notifications button:text('Delete')")
    await phone.shows("#inbox-state", "No notifications yet.")


async def test_one_toast_says_what_came_before_the_inbox_was_connected(playground: StartPlayground) -> None:
    """One toast tells of all earlier notifications: the invite, or the number of unread notifications."""
    here = await playground()
    toasts = ("ann invites you to Room of ann", "2 unread notifications are in your inbox.")
    for number, expected in enumerate(toasts, 1):
        # A page of each round: on a slow machine, a toast of the first round may be gone before the next one appears.
        ann, ben = await here.page("ann"), await here.page("ben", script=LATE_INBOX)
        await ann.do("fill", "#invited", "ben")
        await asyncio.gather(ann.shows(".toast", "in the inbox of ben"), ann.do("click", "#invite button"))
        await asyncio.gather(ben.shows(".toast", expected), ben.do("evaluate", "release()"))
        await ben.shows("#unread", str(number))
        assert await ben.do("evaluate", "document.querySelectorAll('.toast').length") == 1


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


async def test_a_page_stays_away_when_its_place_was_taken(playground: StartPlayground) -> None:
    """A page whose place in the room another connection resumes says so, does not return, and goes on editing."""
    here = await playground()
    ann = await here.page("ann", script=KEEP_JOIN, clock=True)
    await ann.connected("signaling")
    join, joined = [json.loads(await ann.do("evaluate", name)) for name in ("join", "joined")]
    async with connect(here.servers["signaling"].url) as other:
        await other.send(json.dumps({**join, "resumeToken": joined["resumeToken"]}))
        await ann.shows("#advice", "Another connection has taken the place of this page in the room.")
        await ann.shows("#servers tr:has(th:text('signaling')) td:last-child", "replaced")
        await here.browser.call("forward", page=ann.name, milliseconds=10_000)
        await ann.add("Kettle")
        await ann.shows("#saved", "Saved")
        assert (await ann.log()).count("signaling ↑ join") == 1
