"""Editors at their busiest stay within the default rates of the servers."""

from __future__ import annotations

import asyncio
import http.client
import re

from harness import Client, Server, StartClient, StartServer
from test_session import joined
from test_webrtc import connect

MEGABYTE = 2**20


async def limited(server: Server) -> list[str]:
    """Return what a server has counted as over a rate."""

    def get() -> str:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        try:
            connection.request("GET", "/metrics")
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    text = await asyncio.to_thread(get)
    assert "opennoodl_messages_total{" in text  # so that it would say so
    return re.findall(r"^opennoodl_rate_limited_total\{.*(?<! 0\.0)$", text, flags=re.MULTILINE)


async def open_document(editor: Client, server: Server, name: str) -> None:
    """Open the document with y-websocket."""
    await editor.call("open", name=name, url=server.url, room="project", version="3")


async def test_a_paste_in_one_piece(server: StartServer, client: StartClient) -> None:
    """A paste of five megabytes, which y-websocket sends as one message."""
    driver, sync = await client("websocket"), await server("sync")
    for name in ("ada", "ben"):
        await open_document(driver, sync, name)
    await driver.call("insert", name="ada", text="x" * 5 * MEGABYTE)
    await driver.call("finish", name="ada", who="ada")
    await driver.call("untilFinished", name="ben", all=["ada"])
    assert await limited(sync) == []


async def test_a_paste_line_by_line(server: StartServer, client: StartClient) -> None:
    """A paste that an editor turns into 4000 changes, each of which y-websocket sends by itself."""
    driver, sync = await client("websocket"), await server("sync")
    for name in ("ada", "ben"):
        await open_document(driver, sync, name)
    await driver.call("storm", name="ada", seed=1, letter="a line", edits=4000)
    await driver.call("finish", name="ada", who="ada")
    await driver.call("untilFinished", name="ben", all=["ada"])
    assert len(await driver.call("text", name="ben")) == 4000 * len("a line")
    assert await limited(sync) == []


async def test_a_first_sync(server: StartServer, client: StartClient) -> None:
    """Two editors that bring ten megabytes each to a server that has nothing, as after it has lost its disk."""
    driver, sync = await client("websocket"), await server("sync", ENABLE_PERSISTENCE="false")
    for name in ("ada", "ben"):
        await open_document(driver, sync, name)
    await driver.call("insert", name="ada", text="x" * 10 * MEGABYTE)
    await driver.call("finish", name="ada", who="ada")
    await driver.call("untilFinished", name="ben", all=["ada"])
    await sync.restart()
    for name in ("ada", "ben"):
        await driver.call("untilSynced", name=name)
    await open_document(driver, sync, "carl")
    await driver.call("untilFinished", name="carl", all=["ada"])
    assert await limited(sync) == []


async def test_calls_to_five_editors_are_within_the_rate(server: StartServer, client: StartClient) -> None:
    """An editor that calls five others at once, with an offer and its candidates for each."""
    editors, signaling = [await client("session") for _ in range(6)], await server("signaling")
    for number, editor in enumerate(editors):
        await joined(editor, signaling, str(number))
    for number in range(5):
        await editors[-1].event("channel-open", peerId=f"peer-{number}")
    assert await limited(signaling) == []


async def test_y_webrtc_announcements_are_within_the_rate(server: StartServer, client: StartClient) -> None:
    """Four editors with y-webrtc, which announces itself again for everybody who comes."""
    editors, signaling = [await client("webrtc") for _ in range(4)], await server("signaling")
    await connect(editors[0], editors[1], signaling=signaling.url, room="project")
    for editor in editors[2:]:
        await editor.call("open", signaling=signaling.url, room="project")
        await editor.event("synced", synced=True)
    await editors[0].call("insert", text="hello")
    for editor in editors:
        await editor.call("untilText", text="hello")
    assert await limited(signaling) == []
