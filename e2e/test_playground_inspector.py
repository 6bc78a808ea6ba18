"""The playground shows the servers at work: messages, the document and its versions."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

from client_guide import python
from harness import PATIENT
from playground_page import AUTH, ROOM, UNREACHABLE, Page, StartPlayground, in_chromium, token
from pycrdt import Decoder, Doc, Map

pytestmark = in_chromium


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


async def test_the_document_is_shown_from_inside(playground: StartPlayground) -> None:
    """The page shows sizes, state vector and content of the document as another client finds them."""
    here = await playground()
    ann, ben = await here.page("ann"), await here.page("ben")
    await ann.do("click", "#document summary")
    await ann.add("Kettle")
    await ben.shows(".node", "Kettle")
    await ben.add("Pot")
    await ann.shows(".node", "Pot")
    for page in (ann, ben):
        await page.shows("#saved", "Saved")
    found: Doc[Any] = await asyncio.to_thread(python("edit"), here.servers["sync"].url, ROOM, lambda _: None)
    names = ("nodes", "connections", "properties")
    content = {name: found.get(name, type=Map).to_py() for name in names}
    decoder = Decoder(found.get_state())
    clocks = [(decoder.read_var_uint(), decoder.read_var_uint()) for _ in range(decoder.read_var_uint())]
    await ann.shows("#facts tr:has-text('nodes (Y.Map)')", "2")
    await ann.drawn()
    rows = await ann.do("evaluate", "[...document.querySelectorAll('#facts tr')].map(row => "
                        "[row.querySelector('th').textContent, row.querySelector('td').textContent])")  # fmt: skip
    facts = dict(rows)
    assert {name: int(facts[f"{name} (Y.Map)"]) for name in names} == {name: len(content[name]) for name in names}
    assert {name: value for name, value in facts.items() if name.startswith("state vector")} == {
        f"state vector: {client}": f"clock {clock}" for client, clock in clocks
    }
    assert int(facts["client of this page"]) in dict(clocks)
    size = len(found.get_update())  # of another implementation, which writes the same with fewer bytes
    assert size <= int(facts["size as one update"].removesuffix(" bytes")) < 1.5 * size
    assert json.loads(await ann.do("textContent", "#json")) == content


ANSWERS = [
    (409, "application/json", '{"error": "It cannot be restored."}', "It cannot be restored."),
    (429, "text/plain", "Too many requests.", "Too many requests."),
    (503, "application/json", '{"error": "Too many requests wait."}', "Too many requests wait."),
    (202, "application/json", '{"status": "restoring"}', "The restoration takes longer, and goes on."),
]
"""The server's answers to a restoration, and the text of the page for each."""


async def opened_timeline(page: Page) -> None:
    """Open the timeline when the server has a version, which a process of its own makes."""
    async with asyncio.timeout(60):
        while True:
            await page.do("press", "#versions summary", "Enter")
            await page.shows("#timeline:visible, #versions-state:not(:empty):visible")
            if await page.do("isVisible", "#timeline"):
                return
            await page.do("press", "#versions summary", "Enter")
            await asyncio.sleep(0.2)


async def test_a_version_is_shown_and_restored(playground: StartPlayground) -> None:
    """A user whose token allows it sees an earlier version and restores it for all, with the keyboard, on a phone."""
    here = await playground(**AUTH)
    here.allowed = re.compile(f"{UNREACHABLE.pattern}|status of (403|409|429)")
    service = token("ann", 3600, services=True)
    ann = await here.page("ann", token=service, colorScheme="dark", viewport={"width": 390, "height": 800})
    ben = await here.page("ben", token=token("ben", 3600))
    await ann.add("Kettle")
    await ben.shows(".node", "Kettle")
    await ann.shows("#saved", "Saved")
    here.servers["sync"].run(PATIENT)
    await here.servers["sync"].restart()  # a version is made of a document as it is loaded
    await ben.do("press", "#versions summary", "Enter")
    await ben.shows("#versions-state", "“services”")
    await opened_timeline(ann)
    await ann.do("press", ".node", "Delete")
    await ben.hides(".node", "Kettle")
    await ben.add("Pot")
    await ann.shows(".node", "Pot")
    await ann.do("press", "#versions summary", "Enter")
    await opened_timeline(ann)
    await ann.shows("#version-content", "1 node, 0 connections. Deleted since: Kettle. Added since: Pot.")
    await ann.shows("#version-picture text", "Kettle")
    for scheme in ("dark", "light"):
        await ann.do("emulateMedia", {"colorScheme": scheme})
        assert await here.browser.call("accessibility", page=ann.name) == []
    assert await ann.do("evaluate", "document.documentElement.scrollWidth") <= 390
    await ann.do("press", "#restore", "Enter")
    for page in (ann, ben):
        await page.shows(".node", "Kettle")
        await page.hides(".node", "Pot")
    await ann.shows("#versions-state", "is restored. The newest version is what it replaced.")
    await ann.shows("#version:focus")
    await ann.shows("#version-content", "1 node, 0 connections. Deleted since: Pot. Added since: Kettle.")
    await ann.do("press", "#version", "ArrowLeft")
    await ann.shows("#version-content", "1 node, 0 connections.")
    await ann.shows("#version-picture text", "Kettle")
    await ben.add("Later")
    await ann.shows(".node", "Later")
    for status, content_type, body, said in ANSWERS:
        kind = {"status": status, "contentType": content_type, "body": body}
        await here.browser.call("answer", page=ann.name, url="**/restore", **kind)
        await ann.do("press", "#restore", "Enter")
        await ann.shows("#versions-state", said)
        await ann.shows("#restore:enabled")
    await ann.shows(".node", "Later")
