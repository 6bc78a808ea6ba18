"""The playground beside programs that are not playgrounds, and in a browser that keeps nothing."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from client_guide import python
from playground_page import ROOM, StartPlayground, in_chromium
from pycrdt import Array, Doc, Encoder, Map
from websockets.asyncio.client import connect

pytestmark = in_chromium

MARKUP = "<img src=x onerror=alert(1)>"
NO_STRING = {"toString": 1}
"""A value that JavaScript cannot convert to a string."""
STATES = [
    5,
    [],
    {"user": "ben"},
    {"user": {"name": NO_STRING, "color": NO_STRING}},
    {"user": {"name": MARKUP, "color": "url(//x.example)"}, "cursor": {"x": "1", "y": 1}, "selected": {}, "seen": "x"},
    {"user": {"name": "long" * 100, "color": None}, "cursor": 5, "direct": {}, "seen": {"1": "x"}},
]
"""Awareness states, of which the last two have a name."""
DATA = [
    "x",
    None,
    5,
    {"sessionTitle": NO_STRING, "sessionId": 5},
    {"sessionTitle": MARKUP, "sessionId": "javascript:x"},
]
"""Contents of invites."""
NO_STORAGE = """
    for (const name of ['localStorage', 'sessionStorage', 'indexedDB']) {
        const get = () => { throw new DOMException('Access is denied for this document.', 'SecurityError') }
        Object.defineProperty(globalThis, name, { get })
    }
"""
"""A browser that blocks the storage of a page, as Chromium does where cookies are blocked."""


def write_other_types(doc: Doc[Any]) -> None:
    """Write what the playground writes, with other types and with markup, and a list of another app."""
    nodes, names = doc.get("nodes", type=Map), doc.get("properties", type=Map)
    values: list[object] = [None, 5, "x", {"x": "1", "y": None}, Map()]
    for number, value in enumerate(values):
        nodes[f"other-{number}"] = value
    nodes["far"], names["far/name"] = {"x": 1e9, "y": -1e9}, MARKUP
    nodes["plain"], names["plain/name"] = {"x": 300.0, "y": 300.0}, NO_STRING
    doc.get("connections", type=Map).update({"a": None, "b": {"from": 5, "to": "far"}})
    doc.get("list", type=Array).append("Milk")


def awareness(client: int, state: object) -> bytes:
    """Return the message by which a client sets its state."""
    update = Encoder()
    for number in (1, client, 1):
        update.write_var_uint(number)
    update.write_var_string(json.dumps(state))
    message = Encoder()
    message.write_var_uint(1)
    message.write_var_uint(len(update.to_bytes()))
    return message.to_bytes() + update.to_bytes()


async def test_data_of_other_programs_does_no_harm(playground: StartPlayground) -> None:
    """Values of other types are left out, and markup is shown as text; the page goes on."""
    here = await playground()
    ann = await here.page("ann")
    await ann.shows("#saved", "Saved")
    await ann.do("click", "#document summary")
    await asyncio.to_thread(python("edit"), here.servers["sync"].url, ROOM, write_other_types)
    async with connect(f"{here.servers['sync'].url}/{ROOM}") as document:
        for client, state in enumerate(STATES, 1):
            await document.send(awareness(client, state))
        async with connect(here.servers["notification"].url) as inbox:
            await inbox.send(json.dumps({"type": "authenticate", "userId": MARKUP}))
            for data in DATA:
                request = {"type": "send-notification", "targetUserId": "ann", "notificationType": "invite"}
                await inbox.send(json.dumps({**request, "data": data}))
            await ann.shows("#unread", str(len(DATA)))
            assert await ann.do("evaluate", "document.querySelectorAll('.toast').length") <= 4
        await ann.shows(".node", MARKUP)
        await ann.shows(".node", "Node")
        await ann.shows("#people li:nth-child(3)")
        await ann.do("click", "#bell")
        await ann.shows("#notifications li:nth-child(4)", f"{MARKUP} invites you to a room")
        await ann.shows("#notifications li:nth-child(1)", f"{MARKUP} invites you to {MARKUP}")
        assert await ann.do("evaluate", "document.querySelector('#notifications a').protocol") == "http:"
        await ann.do("click", "#bell")
        await ann.shows("#facts tr:has-text('list (of another app)')", "0 keys, length 1")
        await ann.add("Kettle")
        await ann.shows("#saved", "Saved")
        assert await ann.do("evaluate", "document.querySelectorAll('.node').length") == 3
        assert await ann.do("evaluate", "document.querySelectorAll('#people li').length") == 3
        assert await ann.do("evaluate", "document.querySelectorAll('img').length") == 0


async def test_a_browser_without_storage(playground: StartPlayground) -> None:
    """A page whose browser blocks its storage says what is not kept, and works."""
    here = await playground()
    ann = await here.page("ann", script=NO_STORAGE)
    await ann.shows(".toast", "This browser keeps nothing for this page.")
    await ann.add("Kettle")
    await ann.shows("#saved", "Saved")
    await ann.do("fill", "#invited", "ann")
    await ann.do("click", "#invite button")
    await ann.shows("#unread", "1")
    await ann.do("click", "#bell")
    await ann.shows("#inbox-state", "This browser has no space for this inbox.")
