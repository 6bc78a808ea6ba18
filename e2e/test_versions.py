"""A document to which a version was restored shows in Yjs what the version shows."""

from __future__ import annotations

import asyncio
import base64
import json
import time
import urllib.request
from typing import Any

import jwt
from compacted import compacted
from harness import Server, StartClient, StartServer
from opennoodl_sync.yjs.restore import restoring_update

CLIENT = 2**32 - 1
"""Restores; none of the documents has it."""


async def test_yjs_shows_a_version_that_was_restored(client: StartClient, seeds: range) -> None:
    """Every type and value comes back, and clients that wrote at the same time agree."""
    yjs = await client("compaction")
    for seed in seeds:
        case = await yjs.call("generate", seed=seed, steps=60, laterSteps=20)
        updates = case["updates"]
        then = seed % (len(updates) + 1)
        restoring = restoring_update(compacted(updates), compacted(updates[:then]), CLIENT)
        differences = await yjs.call(
            "compareRestored",
            version=updates[:then],
            document=updates,
            restoring=base64.b64encode(restoring).decode(),
            concurrent=case["later"],
        )
        assert differences == [], f"seed {seed}"


SECRET = "a secret of more than 32 characters, for tests"


def token(**claims: object) -> str:
    """Return a token."""
    return jwt.encode({"sub": "ann", "exp": int(time.time()) + 600, **claims}, SECRET, algorithm="HS256")


async def ask(sync: Server, method: str, path: str) -> dict[str, Any]:
    """Send a service's request to a server, and return the answer."""
    address = sync.url.replace("ws://", "http://") + path
    headers = {"Authorization": f"Bearer {token(services=True)}"}
    request = urllib.request.Request(address, method=method, headers=headers)  # noqa: S310

    def send() -> dict[str, Any]:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            found: dict[str, Any] = json.load(answer)
            return found

    return await asyncio.to_thread(send)


async def versions_of(sync: Server) -> list[dict[str, Any]]:
    """Wait until a document has versions, and return them."""
    async with asyncio.timeout(60):
        while True:
            found: list[dict[str, Any]] = (await ask(sync, "GET", "/rooms/project/versions"))["versions"]
            if found:
                return found
            await asyncio.sleep(0.1)


async def test_a_version_is_restored_while_clients_edit(server: StartServer, client: StartClient) -> None:
    """A document that a vandal has emptied shows its version again, and what users type meanwhile, to all of them.

    Every type and value comes back. A client that was offline keeps what it wrote, in its place. Edits can be undone.
    """
    driver, sync = await client("websocket"), await server("sync", AUTH="jwt", AUTH_SECRET=SECRET)
    room = {"url": sync.url, "room": "project", "version": "3"}
    for name in ("ann", "ben", "cleo"):
        await driver.call("open", name=name, token=token(), **room)
    await driver.call("insert", name="ann", text="hello world")
    await driver.call("everything", name="ann")
    text = await driver.call("text", name="ann")
    for name in ("ben", "cleo"):
        await driver.call("untilText", name=name, text=text)
    await sync.restart()  # a version is made of a document as it is loaded
    version = f"/rooms/project/versions/{(await versions_of(sync))[-1]['time']}"
    then = await driver.call("values", update=(await ask(sync, "GET", version))["update"])
    for name in ("ann", "ben", "cleo"):
        await driver.call("untilSynced", name=name)
    await driver.call("disconnect", name="cleo")
    length = await driver.call("length", name="cleo")
    await driver.call("insert", name="cleo", text=" of noodles", at=length)
    await driver.call("rememberPlace", name="ann", at=length - 5)
    await driver.call("clear", name="ann")
    await driver.call("untilText", name="ben", text="")
    await driver.call("trackEdits", name="ben")
    await driver.call("insert", name="ben", text="nothing is left")
    await driver.call("untilText", name="ann", text="nothing is left")
    await ask(sync, "POST", f"{version}/restore")
    for name in ("ann", "ben"):
        await driver.call("untilText", name=name, text=text)
        assert await driver.call("values", name=name) == then
    # Its element stays deleted. The piece that was made anew in its place begins behind "undone" and an embed.
    assert await driver.call("place", name="ann") == text.index("ritten by") + 1
    await driver.call("insert", name="ben", text="oh, ", at=0)
    await driver.call("insert", name="ben", text="a mistake", at=0)
    await driver.call("undo", name="ben")
    await driver.call("connect", name="cleo")
    for name in ("ann", "ben", "cleo"):
        await driver.call("untilText", name=name, text=f"oh, {text} of noodles")
    values = [await driver.call("values", name=name) for name in ("ann", "ben", "cleo")]
    assert values == [values[0]] * 3
    assert [one for one in values[0] if one[0] != "text"] == [one for one in then if one[0] != "text"]
    await driver.call("undo", name="ben")
    await driver.call("undo", name="ben")  # an edit that was taken back with the restored version
    await driver.call("untilText", name="cleo", text=f"{text} of noodles")
