"""The editor of the playground: keyboard, pointer and accessibility."""

from __future__ import annotations

import pytest
from playground_page import StartPlayground, in_chromium

pytestmark = in_chromium


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
    await ben.until("document.querySelectorAll('#wires path').length === 1")
    assert await ben.do("evaluate", "document.querySelector('.node').style.left") != left
    await ann.do("press", ".node:has-text('One')", "Delete")
    await ben.hides(".node", "One")
    await ann.do("press", "body", "Control+z")
    await ben.shows(".node", "One")
    await ann.add("Three")
    places = "[...document.querySelectorAll('.node')].map(node => node.style.left + node.style.top)"
    assert len(set(await ann.do("evaluate", places))) == 3


async def test_nodes_can_be_moved_and_connected_by_dragging(playground: StartPlayground) -> None:
    """A node is moved by a drag, and connected by a drag of its dot."""
    here = await playground()
    ann = await here.page("ann")
    await ann.add("One")
    await ann.add("Two")
    await here.browser.call("drag", page=ann.name, selector=".node:has-text('Two')", to=[500, 400])
    await ann.drawn()
    left = await ann.do("evaluate", "[...document.querySelectorAll('.node')].at(-1).style.left")
    assert float(left.removesuffix("px")) > 300
    await here.browser.call("drag", page=ann.name, selector=".node:has-text('One') .port", to=[500, 400])
    await ann.drawn()
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
    for summary in ("#versions summary", "#messages summary", "#document summary"):
        await ann.do("click", summary)
    await ann.shows("#facts tr", "state vector")
    await ann.shows("#versions-state", "This sync server has no AUTH")
    assert await here.browser.call("accessibility", page=ann.name) == []
    assert await ann.do("evaluate", "document.documentElement.scrollWidth") <= 390
    await ann.do("click", "#bell")  # the inbox does not cover it
    await ann.hides("#inbox")
