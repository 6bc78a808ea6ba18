"""Two people typing into one text at once, recorded or invented, replayed through the sync server."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness import HERE, Client, Server, StartClient, StartServer

RECORDING = HERE.parent.parent / "shared" / "data" / "friendsforever.json.gz"
AUTHORS = ["author 0", "author 1"]
# The whole afternoon of two people within seconds.
AT_ONCE = {"RATE_LIMIT": 0}
LONG = 240.0
"""Seconds after which a recorded session of 26,000 edits has not been replayed."""


@pytest.fixture
def recording() -> Path:
    """Name the recorded session, which is not part of this repository."""
    if not RECORDING.exists():
        pytest.skip(f"the recorded session ../shared/data/{RECORDING.name} is not beside this repository")
    return RECORDING


async def load(driver: Client, recording: Path) -> str:
    """Compute the updates of the recording and return the text; merged locally they must give what was recorded."""
    session = await driver.call("load", LONG, path=str(recording))
    assert session["texts"] == [session["endContent"]] * 2
    return str(session["endContent"])


async def invent(driver: Client, seed: int, edits: int = 1500) -> str:
    """Invent a session and return the text on which Yjs agrees without any server."""
    session = await driver.call("invent", seed=seed, edits=edits)
    assert min(session["edits"]) > edits / 3
    assert session["texts"][0] == session["texts"][1] != ""
    return str(session["texts"][0])


async def replay(driver: Client, sync: Server, client: StartClient) -> list[str]:
    """Let both authors type over y-websocket; return what they have in the end, and what a newcomer has later."""
    await driver.call("replay", LONG, url=sync.url, room="project")
    return [*await final_texts(driver, AUTHORS), await text_after_restart(driver, sync, client)]


async def race(driver: Client, sync: Server, client: StartClient) -> list[str]:
    """Let both authors send without waiting for each other; return what readers have, and a newcomer later."""
    readers = ["reader before", "reader after"]
    await driver.call("open", name=readers[0], url=sync.url, room="project")
    await driver.call("race", LONG, url=sync.url, room="project", block=400)
    await driver.call("open", name=readers[1], url=sync.url, room="project")
    return [*await final_texts(driver, readers), await text_after_restart(driver, sync, client)]


async def final_texts(driver: Client, names: list[str]) -> list[str]:
    """Return the texts of these clients once they have heard the last word of both authors."""
    for name in names:
        await driver.call("untilFinished", LONG, name=name, all=AUTHORS)
    return [await driver.call("text", name=name) for name in names]


async def text_after_restart(driver: Client, sync: Server, client: StartClient) -> str:
    """Return what a newcomer is served after a restart, when nobody but the server can have it."""
    await driver.close()
    await sync.restart()
    fresh = await client("websocket")
    await fresh.call("open", name="fresh", url=sync.url, room="project", version="3")
    return str(await fresh.call("text", name="fresh"))


async def test_a_recorded_session_ends_as_it_was_recorded(
    server: StartServer, client: StartClient, recording: Path
) -> None:
    """26,078 keystrokes of two people end, for both and for who comes after a restart, in what they had written."""
    driver, sync = await client("replay"), await server("sync", **AT_ONCE)
    text = await load(driver, recording)
    assert await replay(driver, sync, client) == [text] * 3


async def test_a_recorded_session_may_arrive_out_of_order(
    server: StartServer, client: StartClient, recording: Path
) -> None:
    """The same edits, sent before the server has what they build on, end in the same text."""
    driver, sync = await client("replay"), await server("sync", **AT_ONCE)
    text = await load(driver, recording)
    assert await race(driver, sync, client) == [text] * 3


@pytest.mark.parametrize("seed", [1, 2])
async def test_an_invented_session_ends_as_without_a_server(
    server: StartServer, client: StartClient, seed: int
) -> None:
    """Two clients that type concurrently end with the text that Yjs makes of it without a server."""
    driver, sync = await client("replay"), await server("sync", **AT_ONCE)
    text = await invent(driver, seed)
    assert await replay(driver, sync, client) == [text] * 3


async def test_an_invented_session_may_arrive_out_of_order(server: StartServer, client: StartClient) -> None:
    """Edits that come before those they build on are kept until these come."""
    driver, sync = await client("replay"), await server("sync", **AT_ONCE)
    text = await invent(driver, 3)
    assert await race(driver, sync, client) == [text] * 3


async def test_edits_wait_on_disk_for_what_they_build_on(server: StartServer, client: StartClient) -> None:
    """Edits of one author, stored before a restart, show as soon as the other's come after it."""
    driver, sync = await client("replay"), await server("sync", **AT_ONCE)
    text = await invent(driver, 4, edits=400)
    await driver.call("sendAlone", url=sync.url, room="project", author=1)
    await sync.restart()
    await driver.call("sendAlone", url=sync.url, room="project", author=0)
    await driver.call("open", name="reader", url=sync.url, room="project")
    assert await final_texts(driver, ["reader"]) == [text]
    assert await text_after_restart(driver, sync, client) == text
