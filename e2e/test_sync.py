"""Documents shared over the sync server by yjs and y-websocket, old and new."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from harness import SOON, Client, Server, StartClient, StartServer

VERSIONS = ("1.5", "3")
# A machine types faster than any limit meant for people.
STORM = {"RATE_LIMIT": 0}


async def open_all(client: Client, server: Server, names: list[str], room: str = "project") -> None:
    """Open y-websocket clients in one process, of both versions by turns."""
    for index, name in enumerate(names):
        await client.call("open", name=name, url=server.url, room=room, version=VERSIONS[index % 2])


async def storm(client: Client, names: list[str], edits: int, *, deletes: bool = False) -> None:
    """Let all of them type at once, each a letter of its own, and end with a last word."""

    async def one(index: int, name: str) -> None:
        letter = "abcdefghij"[index]
        await client.call("storm", name=name, seed=index, letter=letter, edits=edits, deletes=deletes)
        await client.call("finish", name=name, who=name)

    await asyncio.gather(*(one(index, name) for index, name in enumerate(names)))


async def settled_text(client: Client, names: list[str], typists: list[str]) -> str:
    """Return the text on which all agree once they have heard the last word of every typist."""
    await asyncio.gather(*(client.call("untilFinished", name=name, all=typists) for name in names))
    texts = [await client.call("text", name=name) for name in names]
    assert len(set(texts)) == 1, f"they differ: {dict(zip(names, map(len, texts), strict=True))}"
    return str(texts[0])


@pytest.mark.parametrize("versions", [("1.5", "1.5"), ("1.5", "3"), ("3", "3")], ids="-".join)
async def test_two_clients_see_each_others_edits(
    server: StartServer, client: StartClient, versions: tuple[str, str]
) -> None:
    """Each of two editors sees the edits of the other."""
    drivers, sync = [await client("websocket") for _ in versions], await server("sync")
    for driver, name, version in zip(drivers, ("ada", "ben"), versions, strict=True):
        await driver.call("open", name=name, url=sync.url, room="project", version=version)
    ada, ben = drivers
    await ada.call("insert", name="ada", text="from Ada, ")
    await ben.call("untilText", name="ben", text="from Ada, ")
    await ben.call("insert", name="ben", text="from Ben 🎈")
    await ada.call("untilText", name="ada", text="from Ada, from Ben 🎈")


async def test_ten_clients_converge_without_losing_a_letter(server: StartServer, client: StartClient) -> None:
    """Ten editors of both versions that type everywhere at once end with one text that holds all they typed."""
    driver, sync = await client("websocket"), await server("sync", **STORM)
    names = [f"editor {index}" for index in range(10)]
    await open_all(driver, sync, names)
    await storm(driver, names, 60)
    text = await settled_text(driver, names, names)
    assert Counter(text) == dict.fromkeys("abcdefghij", 60)


async def test_ten_clients_converge_with_deletions(server: StartServer, client: StartClient) -> None:
    """Ten editors that type into and delete each other's text end with one text."""
    driver, sync = await client("websocket"), await server("sync", **STORM)
    names = [f"editor {index}" for index in range(10)]
    await open_all(driver, sync, names)
    await storm(driver, names, 60, deletes=True)
    assert await settled_text(driver, names, names) != ""


async def test_a_client_that_joins_during_a_storm_converges(server: StartServer, client: StartClient) -> None:
    """A client that joins while others type gets every edit, also those made during its handshake."""
    typing, joining, sync = await client("websocket"), await client("websocket"), await server("sync", **STORM)
    typists = [f"typist {index}" for index in range(4)]
    joiners = [f"joiner {index}" for index in range(6)]
    await open_all(typing, sync, typists)
    raging = asyncio.create_task(storm(typing, typists, 300))
    await open_all(joining, sync, joiners)
    await raging
    text = await settled_text(typing, typists, typists)
    assert Counter(text) == dict.fromkeys("abcd", 300)
    assert await settled_text(joining, joiners, typists) == text


async def test_rooms_are_apart(server: StartServer, client: StartClient) -> None:
    """Names that only look alike are rooms of their own, and nothing of one reaches another."""
    driver, sync = await client("websocket"), await server("sync")
    rooms = ["team/project", "team%2Fproject", "team", "Team", "team/project/", "tëam"]
    for room in rooms:
        await driver.call("open", name=room, url=sync.url, room=room, version="3", state={"user": room})
        await driver.call("insert", name=room, text=f"text of {room}")
    for room in rooms:
        await driver.call("open", name=f"late {room}", url=sync.url, room=room, version="1.5")
        await driver.call("untilText", name=f"late {room}", text=f"text of {room}")
        await driver.call("untilUsers", name=f"late {room}", users=[room])


async def test_a_late_joiner_sees_the_cursors_of_others(server: StartServer, client: StartClient) -> None:
    """The cursors that others set before somebody came are shown to the newcomer."""
    early, late, sync = await client("websocket"), await client("websocket"), await server("sync")
    await open_all(early, sync, ["ada", "ben"])
    for name in ("ada", "ben"):
        await early.call("setState", name=name, state={"user": name, "cursor": {"x": 7, "y": 9}})
    await late.call("open", name="cleo", url=sync.url, room="project", version="3", state={"user": "cleo"})
    await late.call("untilUsers", name="cleo", users=["ada", "ben", "cleo"])
    states = await late.call("states", name="cleo")
    assert {"user": "ada", "cursor": {"x": 7, "y": 9}} in states


async def test_the_cursor_of_a_killed_client_disappears(server: StartServer, client: StartClient) -> None:
    """A crashed editor's cursor goes after the seconds in which it could have come back, and not only after 30."""
    doomed, staying, sync = await client("websocket"), await client("websocket"), await server("sync")
    for driver, name in ((doomed, "ada"), (staying, "ben")):
        state = {"user": name, "cursor": {"x": 1, "y": 2}}
        await driver.call("open", name=name, url=sync.url, room="project", version="3", state=state)
    await staying.call("untilUsers", name="ben", users=["ada", "ben"])
    await doomed.kill()
    await staying.call("untilUsers", 25.0, name="ben", users=["ben"])


async def test_the_cursor_of_a_closed_editor_disappears_at_once(server: StartServer, client: StartClient) -> None:
    """An editor that closes takes its cursor along, and only its own."""
    driver, sync = await client("websocket"), await server("sync")
    for name in ("ada", "ben", "cleo"):
        await driver.call("open", name=name, url=sync.url, room="project", version="3", state={"user": name})
    await driver.call("untilUsers", name="ben", users=["ada", "ben", "cleo"])
    await driver.call("close", name="ada")
    await driver.call("untilUsers", SOON, name="ben", users=["ben", "cleo"])
    await driver.call("untilUsers", SOON, name="cleo", users=["ben", "cleo"])


async def test_a_shown_edit_survives_a_killed_server(server: StartServer, client: StartClient) -> None:
    """A server that is killed the moment an edit reached somebody has that edit on disk."""
    driver, sync = await client("websocket"), await server("sync")
    await open_all(driver, sync, ["ada", "ben"])
    seen = asyncio.create_task(driver.call("untilText", name="ben", text="seen"))
    await driver.call("insert", name="ada", text="seen")
    await seen
    await sync.kill()
    await driver.kill()  # else they would bring the text back themselves
    await sync.restart()
    fresh = await client("websocket")
    await fresh.call("open", name="cleo", url=sync.url, room="project", version="3")
    assert await fresh.call("text", name="cleo") == "seen"


async def test_edits_made_while_the_server_was_away_arrive(server: StartServer, client: StartClient) -> None:
    """Editors that lose the server go on, come back by themselves, and converge."""
    driver, sync = await client("websocket"), await server("sync")
    await open_all(driver, sync, ["ada", "ben"])
    await sync.kill()
    for name in ("ada", "ben"):
        await driver.event("closed", name=name)
        await driver.call("insert", name=name, text=f"{name} offline, ")
        await driver.call("finish", name=name, who=name)
    await sync.restart()
    text = await settled_text(driver, ["ada", "ben"], ["ada", "ben"])
    assert sorted(text.split(", ")) == ["", "ada offline", "ben offline"]


@pytest.mark.parametrize("how", ["insert", "format", "first", "second"])
async def test_an_edit_within_a_character(server: StartServer, client: StartClient, how: str) -> None:
    """An edit between the halves of an emoji gives one text for all clients, also later and after a restart."""
    driver, sync = await client("websocket"), await server("sync")
    await open_all(driver, sync, ["ada", "ben"])
    await driver.call("insert", name="ada", text="a\U0001f600b\U0001f680")
    await driver.call("untilText", name="ben", text="a\U0001f600b\U0001f680")
    await driver.call("cut", name="ben", how=how)
    await driver.call("insert", name="ben", text=", and on")
    text = await driver.call("text", name="ben")
    await driver.call("untilText", name="ada", text=text)
    await open_all(driver, sync, ["cleo"])
    await driver.call("untilText", name="cleo", text=text)
    await driver.call("insert", name="cleo", text="!")
    for name in ("ada", "ben"):
        await driver.call("untilText", name=name, text=text + "!")
        await driver.call("close", name=name)
    await driver.call("close", name="cleo")
    await sync.restart()
    await open_all(driver, sync, ["dan"])
    await driver.call("untilText", name="dan", text=text + "!")
