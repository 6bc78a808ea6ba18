"""The playground and what the servers do not allow: origins, tokens and read-only users."""

from __future__ import annotations

from playground_page import AUTH, KINDS, UNREACHABLE, StartPlayground, in_chromium, token

pytestmark = in_chromium


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
    await ann.shows("#login-reason", "The former one expires in")
    await ann.do("fill", "#newer", token("ann", 3600))
    await ann.do("click", "#login button")
    await ann.log()
    for message in ("sync ↑ token", "signaling ↑ register", "notification ↑ authenticate"):
        await ann.shows("#log li", message)
    await ann.until("document.getElementById('log').textContent.split('notification ↑ authenticate').length === 3")
    assert (await ann.log()).count("signaling ↑ join") == 1


async def test_a_token_that_has_expired(playground: StartPlayground) -> None:
    """A page with an expired token says so for each server, asks once, and works with the next token."""
    here = await playground(**AUTH)
    ann = await here.page("ann", token=token("ann", -3600))
    await ann.shows("#login-reason", "The former one has expired.")
    for kind in KINDS:
        await ann.shows(f"#servers tr:has(th:text('{kind}')) td:last-child", "refused: ")
    assert await here.browser.call("accessibility", page=ann.name) == []
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
