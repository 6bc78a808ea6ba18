"""A network that is cut and comes back: who notices, and who does not."""

from __future__ import annotations

import asyncio

import pytest
from harness import PATIENCE, SOON, Client, StartClient, StartServer
from proxy import network
from test_session import joined, message
from test_webrtc import connect

LONG = {"RESUME_GRACE": 60_000}
"""A longer grace, since all takes longer on a busy machine."""


async def enter(editor: Client, url: str, name: str, **options: bool) -> None:
    """Connect and join over a network, able to resume or not."""
    await editor.call("connect", url=url)
    await editor.call("join", room="session", peerId=f"peer-{name}", userId=f"user-{name}", name=name, **options)
    await editor.event("joined")


async def talk(**editors: Client) -> None:
    """Find out that the channels between editors, given by name, carry messages both ways."""
    for name, editor in editors.items():
        for other in editors.keys() - {name}:
            await editor.call("say", peerId=f"peer-{other}", text=f"from {name}")
            await editors[other].event("channel-data", peerId=f"peer-{name}", text=f"from {name}")


async def test_an_editor_that_resumes_is_not_missed(server: StartServer, client: StartClient) -> None:
    """The others see nothing of a cut and keep their channels; peers that joined meanwhile are connected afterwards."""
    ada, ben, cleo = [await client("session") for _ in range(3)]
    signaling = await server("signaling", **LONG)
    async with network(signaling.port) as cable:
        await joined(ada, signaling, "ada")
        await enter(ben, cable.url, "ben", resume=True)
        await ada.event("channel-open", peerId="peer-ben")
        await ben.event("channel-open", peerId="peer-ada")
        await cable.cut()
        await ben.event("closed", code=1006)
        listed = await joined(cleo, signaling, "cleo")
        assert [peer["peerId"] for peer in listed["peers"]] == ["peer-ada", "peer-ben"]
        await cleo.event("channel-open", peerId="peer-ada")
        await cable.restore()
        again = await message(ben, "joined")
        assert again["resumed"] is True
        assert [peer["peerId"] for peer in again["peers"]] == ["peer-ada"]
        assert (await message(ben, "peer-joined"))["peerId"] == "peer-cleo"
        for editor, other in ((ben, "cleo"), (cleo, "ben")):
            await editor.event("channel-open", peerId=f"peer-{other}")
        await talk(ada=ada, ben=ben, cleo=cleo)
        for editor in (ada, ben, cleo):
            assert editor.pending("peer-left") == editor.pending("channel-closed") == []
        assert (await message(ada, "peer-joined"))["peerId"] == "peer-ben"
        assert (await message(ada, "peer-joined"))["peerId"] == "peer-cleo"
        assert ada.pending("peer-joined") == []


async def test_an_editor_that_counts_misses_nothing(server: StartServer, client: StartClient) -> None:
    """Messages to a connection that only seemed open are sent again, so a peer that joined meanwhile is connected."""
    ada, ben, cleo = [await client("session") for _ in range(3)]
    signaling = await server("signaling", **LONG)
    async with network(signaling.port) as cable:
        await joined(ada, signaling, "ada")
        await enter(ben, cable.url, "ben", resume=True, count=True)
        for editor, other in ((ada, "ben"), (ben, "ada")):
            await editor.event("channel-open", peerId=f"peer-{other}")
        cable.lose()
        await joined(cleo, signaling, "cleo")
        await cleo.event("channel-open", peerId="peer-ada")  # by now, it has called ben as well
        await ben.call("drop")
        again = await message(ben, "joined")
        assert again["resumed"] is True
        assert [peer["peerId"] for peer in again["peers"]] == ["peer-ada"]
        assert (await message(ben, "peer-joined"))["peerId"] == "peer-cleo"
        for editor, other in ((ben, "cleo"), (cleo, "ben")):
            await editor.event("channel-open", peerId=f"peer-{other}")
        await talk(ada=ada, ben=ben, cleo=cleo)
        for editor in (ada, ben, cleo):
            assert editor.pending("peer-left") == editor.pending("channel-closed") == []


async def test_an_editor_that_is_cut_off_twice_misses_nothing(server: StartServer, client: StartClient) -> None:
    """If a second cut takes the answer to a resume away, the next one brings all that both would have brought."""
    ada, ben, cleo = [await client("session") for _ in range(3)]
    signaling = await server("signaling", **LONG)
    async with network(signaling.port) as cable:
        await joined(ada, signaling, "ada")
        await enter(ben, cable.url, "ben", resume=True)
        for editor, other in ((ada, "ben"), (ben, "ada")):
            await editor.event("channel-open", peerId=f"peer-{other}")
        await cable.cut()
        await joined(cleo, signaling, "cleo")
        await cleo.event("channel-open", peerId="peer-ada")  # by now, it has called ben as well
        cable.lose_from(b'"type":"joined"')
        await cable.restore()
        async with asyncio.timeout(PATIENCE):
            await cable.met.wait()
        cable.lose_from(None)
        await ben.call("drop")
        assert (await message(ben, "joined"))["resumed"] is True
        assert (await message(ben, "peer-joined"))["peerId"] == "peer-cleo"
        for editor, other in ((ben, "cleo"), (cleo, "ben")):
            await editor.event("channel-open", peerId=f"peer-{other}")
        await talk(ada=ada, ben=ben, cleo=cleo)
        for editor in (ada, ben, cleo):
            assert editor.pending("peer-left") == editor.pending("channel-closed") == []


async def test_an_editor_that_starts_afresh_is_called_anew(server: StartServer, client: StartClient) -> None:
    """An editor that crashed and comes back under its name without a token reaches those who had called it."""
    ada, ben, again, signaling = *[await client("session") for _ in range(3)], await server("signaling")
    async with network(signaling.port) as cable:
        await enter(ben, cable.url, "ben", resume=True)
        await joined(ada, signaling, "ada")  # and calls ben
        await ada.event("channel-open", peerId="peer-ben")
        await cable.cut()
        await ben.kill()
        await joined(again, signaling, "ben")
        assert (await message(ada, "peer-left"))["peerId"] == "peer-ben"
        assert (await message(ada, "peer-joined"))["peerId"] == "peer-ben"
        await again.event("channel-open", peerId="peer-ada")
        await ada.event("channel-open", peerId="peer-ben")
        await talk(ada=ada, ben=again)


async def test_an_editor_that_stays_away_has_left(server: StartServer, client: StartClient) -> None:
    """After the grace the others are told once; an editor that returns later joins and connects as a new one."""
    ada, ben, signaling = await client("session"), await client("session"), await server("signaling", RESUME_GRACE=200)
    async with network(signaling.port) as cable:
        await joined(ada, signaling, "ada")
        await enter(ben, cable.url, "ben", resume=True)
        await ada.event("channel-open")
        await cable.cut()
        assert (await message(ada, "peer-left"))["peerId"] == "peer-ben"
        await cable.restore()
        assert "resumed" not in await message(ben, "joined")
        await ada.event("channel-closed")
        await ada.event("channel-open", peerId="peer-ben")
        assert ada.pending("peer-left") == []


async def test_an_editor_that_does_not_resume_has_left(server: StartServer, client: StartClient) -> None:
    """The editor as it is does not ask to resume: the others are told of a cut at once, and of its coming back."""
    ada, ben, signaling = await client("session"), await client("session"), await server("signaling")
    async with network(signaling.port) as cable:
        await joined(ada, signaling, "ada")
        await enter(ben, cable.url, "ben")
        assert (await message(ada, "peer-joined"))["peerId"] == "peer-ben"
        await ada.event("channel-open")
        await cable.cut()
        assert (await message(ada, "peer-left"))["peerId"] == "peer-ben"
        await cable.restore()
        await enter(ben, cable.url, "ben")
        assert (await message(ada, "peer-joined"))["peerId"] == "peer-ben"
        await ada.event("channel-open", peerId="peer-ben")


VERSIONS = pytest.mark.parametrize("version", ["1.5", "3"])


async def open_two(driver: Client, ada: str, ben: str, version: str) -> None:
    """Open a document twice, each with a cursor, and wait until they see each other."""
    for name, url in (("ada", ada), ("ben", ben)):
        await driver.call("open", name=name, url=url, room="project", version=version, state={"user": name})
    for name in ("ada", "ben"):
        await driver.call("untilUsers", name=name, users=["ada", "ben"])


@VERSIONS
async def test_the_cursor_of_a_lost_client_stays(server: StartServer, client: StartClient, version: str) -> None:
    """Nobody misses a client that comes back within seconds, and it sees the others as soon as it is back."""
    driver, sync = await client("websocket"), await server("sync")
    async with network(sync.port) as cable:
        await open_two(driver, sync.url, cable.url, version)
        await cable.cut()
        await driver.event("closed", name="ben")
        await cable.restore()
        await driver.call("untilUsers", SOON, name="ben", users=["ada", "ben"])
        await driver.call("setState", name="ben", state={"user": "ben, who is back"})
        await driver.call("untilUsers", SOON, name="ada", users=["ada", "ben, who is back"])
        assert [event for event in driver.pending("left") if event["name"] == "ada"] == []


@VERSIONS
async def test_cursors_come_back_at_once(server: StartServer, client: StartClient, version: str) -> None:
    """A client that had left and comes back is seen at once and sees the others at once, though no cursor has moved."""
    driver, sync = await client("websocket"), await server("sync")
    await open_two(driver, sync.url, sync.url, version)
    await driver.call("disconnect", name="ben")
    await driver.call("untilUsers", SOON, name="ada", users=["ada"])
    await driver.call("connect", name="ben")
    for name in ("ada", "ben"):
        await driver.call("untilUsers", SOON, name=name, users=["ada", "ben"])


async def test_documents_survive_a_cut(server: StartServer, client: StartClient) -> None:
    """y-webrtc goes on while the signaling server is out of reach, and finds newcomers when that is back."""
    ada, ben, cleo, signaling = *[await client("webrtc") for _ in range(3)], await server("signaling")
    async with network(signaling.port) as cable:
        options = {"signaling": cable.url, "room": "project"}
        await connect(ada, ben, **options)
        await cable.cut()
        await asyncio.gather(*(editor.call("untilSignaling", connected=False) for editor in (ada, ben)))
        await ada.call("insert", text="while it was cut, ")
        await ben.call("untilText", text="while it was cut, ")
        await cable.restore()
        await asyncio.gather(*(editor.call("untilSignaling", connected=True) for editor in (ada, ben)))
        await cleo.call("open", **options)
        await cleo.event("synced", synced=True)
        await cleo.call("untilText", text="while it was cut, ")
        await ben.call("insert", text="and after")
        texts = [editor.call("untilText", text="while it was cut, and after") for editor in (ada, ben, cleo)]
        await asyncio.gather(*texts)
        for editor in (ada, ben, cleo):
            assert [event for event in editor.pending("peers") if event["removed"]] == []
