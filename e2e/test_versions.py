"""A document to which a version was restored shows in Yjs what the version shows."""

from __future__ import annotations

import asyncio
import base64
import json
import time
import urllib.request
from typing import Any

import jwt
from compaction import compacted
from harness import PATIENCE, PATIENT, Client, Server, StartClient, StartServer
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
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:  # noqa: S310
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


async def edit_until(done: asyncio.Task[Any], driver: Client, name: str) -> None:
    """Have a client edit one root, until something is done."""
    number = 0
    while not done.done():
        await driver.call("finish", name=name, who=f"{name} {number}")
        number += 1
        await asyncio.sleep(0.02)
    assert (await done)["restored"]


def without(root: str, values: list[Any]) -> list[Any]:
    """Return the values of all roots but one."""
    return [one for one in values if one[0] != root]


async def test_a_version_is_restored_while_clients_edit(server: StartServer, client: StartClient) -> None:
    """A document that a vandal has emptied shows its version again, to three users who edit and to one who was offline.

    Every type and value comes back. Edits made afterwards and offline stay in their places, and can be undone.
    """
    driver, sync = await client("websocket"), await server("sync", AUTH="jwt", AUTH_SECRET=SECRET)
    room = {"url": sync.url, "room": "project", "version": "3"}
    editors, everybody = ("ann", "ben", "dora"), ("ann", "ben", "dora", "cleo")
    for name in everybody:
        await driver.call("open", name=name, token=token(), **room)
    await driver.call("insert", name="ann", text="hello world")
    await driver.call("everything", name="ann")
    text = await driver.call("text", name="ann")
    for name in everybody[1:]:
        await driver.call("untilText", name=name, text=text)
    sync.run(PATIENT)
    await sync.restart()  # a version is made of a document as it is loaded
    version = f"/rooms/project/versions/{(await versions_of(sync))[-1]['time']}"
    then = await driver.call("values", update=(await ask(sync, "GET", version))["update"])
    for name in everybody:
        await driver.call("untilSynced", name=name)
    await driver.call("disconnect", name="cleo")
    length = await driver.call("length", name="cleo")
    await driver.call("insert", name="cleo", text=" of noodles", at=length)
    await driver.call("rememberPlace", name="ann", at=length - 5)
    await driver.call("clear", name="ann")
    for name in editors[1:]:
        await driver.call("untilText", name=name, text="")
    await driver.call("trackEdits", name="ben")
    await driver.call("insert", name="ben", text="nothing is left")
    for name in editors:
        await driver.call("untilText", name=name, text="nothing is left")
    await driver.call("trackEdits", name="dora")
    restoring = asyncio.create_task(ask(sync, "POST", f"{version}/restore"))
    await asyncio.gather(*(edit_until(restoring, driver, name) for name in editors))
    for name in editors:
        await driver.call("finish", name=name, who=name)
    for name in editors:
        await driver.call("untilText", name=name, text=text)
        await driver.call("untilFinished", name=name, all=editors)
        assert without("finished", await driver.call("values", name=name)) == then
    # Its element stays deleted. The piece that was made anew in its place begins behind "undone" and an embed.
    assert await driver.call("place", name="ann") == text.index("ritten by") + 1
    await driver.call("insert", name="ben", text="oh, ", at=0)
    await driver.call("insert", name="ben", text="a mistake", at=0)
    await driver.call("undo", name="ben")
    await driver.call("untilText", name="dora", text=f"oh, {text}")
    await driver.call("insert", name="dora", text="!", at=0)
    await driver.call("connect", name="cleo")
    for name in everybody:
        await driver.call("untilText", name=name, text=f"!oh, {text} of noodles")
    values = [await driver.call("values", name=name) for name in everybody]
    assert values == [values[0]] * 4
    assert without("text", without("finished", values[0])) == without("text", then)
    await driver.call("undo", name="dora")
    await driver.call("undo", name="ben")
    await driver.call("undo", name="ben")  # an edit that was taken back with the restored version
    await driver.call("untilText", name="cleo", text=f"{text} of noodles")
