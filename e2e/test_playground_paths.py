"""The paths of edits in the playground: WebRTC, the sync server, and what happens without a network."""

from __future__ import annotations

import asyncio

from playground_page import KINDS, ROOM, UNREACHABLE, StartPlayground, in_chromium

pytestmark = in_chromium

NO_WEBRTC = """
    const Real = globalThis.RTCPeerConnection
    globalThis.RTCPeerConnection = class extends Real {
        constructor(config) { super({...config, iceServers: [], iceTransportPolicy: 'relay'}) }
    }
"""
"""A firewall that lets no WebRTC pass: only a relay may be used, and there is none."""
SLOW = 400
"""Milliseconds that a message takes to a server on a slow line."""
SLOW_LINE = f"""
    const Real = globalThis.WebSocket
    globalThis.WebSocket = class extends Real {{
        send(data) {{ setTimeout(() => this.readyState === 1 && super.send(data), {SLOW}) }}
    }}
"""

STORED = f"""new Promise(done => {{
  indexedDB.open('opennoodl/{ROOM}').onsuccess = ({{ target: {{ result: database }} }}) => {{
    const write = database.transaction([...database.objectStoreNames], 'readwrite')
    write.oncomplete = () => {{ database.close(); done() }}
  }}
}})"""
"""Waits until a page has stored what it has written: a transaction of IndexedDB comes after the earlier ones."""


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
    for kind in KINDS:
        await pages[0].shows(f"#servers tr:has(th:text('{kind}')) td:nth-child(2)", "healthy")


async def test_falls_back_to_the_sync_server(playground: StartPlayground) -> None:
    """Where WebRTC does not connect, or is switched off, edits arrive by the sync server."""
    here = await playground()
    ann, ben = await here.page("ann"), await here.page("ben", script=NO_WEBRTC)
    await ann.shows("#people li", "ben by the server")
    await ann.add("Automatic")
    await ben.shows(".node", "Automatic")
    cem = await here.page("cem")
    await ann.shows("#path", "WebRTC to 1 of 2")
    await cem.mode("sync")
    await cem.add("Forced")
    await ann.shows(".node", "Forced")
    await ann.shows("#people li", "cem by the server")


async def test_delivery_times_are_those_of_the_line(playground: StartPlayground) -> None:
    """On a slow line, the times are at least the line's, and each edit is one more point of both plots."""
    here = await playground()
    ann, ben = await here.page("ann"), await here.page("ben", script=SLOW_LINE)
    await ben.mode("sync")
    await ben.shows("#people li", "ann by the server")
    await ben.shows("#saved", "Saved")
    await ben.shows("#stored", "no edit yet")
    seen = {"stored": 0, "delivered": 0}
    for name in ("One", "Two"):
        await ben.add(name)
        await ann.shows(".node", name)
        await ben.shows("#saved", "Saved")
        for plot, before in seen.items():
            points = f"(document.querySelector('#{plot}-plot polyline')?.points.length ?? 0)"
            await ben.until(f"{points} > {max(before, 1)}")
            seen[plot] = await ben.do("evaluate", points)
            shown = str(await ben.do("textContent", f"#{plot}"))
            assert int(shown.partition(" ms, median ")[0]) >= SLOW, shown


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


async def test_a_cut_network(playground: StartPlayground) -> None:
    """A page whose network was cut resumes its place; edits that it made meanwhile survive a reload and arrive."""
    here = await playground()
    ann, ben = await here.page("ann"), await here.page("ben")
    await ann.shows("#people li", "ben by WebRTC")
    await ben.do("click", "#cut")
    await ben.add("Offline")
    await ben.shows("#path", "The network is cut")
    await ann.hides("#people li", "ben by WebRTC")
    await ben.do("click", "#cut")
    await ann.shows(".node", "Offline")
    await ann.shows("#people li", "ben by WebRTC")
    await ben.log()
    await ben.shows("#log li", '"resumed":true')
    await ben.do("click", "#cut")
    await ben.add("Reloaded")
    await ben.do("evaluate", STORED)
    await ben.do("reload")
    await ben.start("ben")
    await ann.shows(".node", "Reloaded")
