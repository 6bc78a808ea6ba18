"""What the playground shows of the servers' work: messages, and the document."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from client_guide import python
from playground_page import AUTH, ROOM, StartPlayground, in_chromium, token
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
