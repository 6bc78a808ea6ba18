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
    """Yjs clients that are connected see it at once; one that is offline keeps what it wrote, in its place."""
    driver, sync = await client("websocket"), await server("sync", AUTH="jwt", AUTH_SECRET=SECRET)
    room = {"url": sync.url, "room": "project", "version": "3"}
    for name in ("ann", "ben", "cleo"):
        await driver.call("open", name=name, token=token(), **room)
    await driver.call("insert", name="ann", text="hello world")
    for name in ("ben", "cleo"):
        await driver.call("untilText", name=name, text="hello world")
    await sync.restart()  # a version is made of a document as it is loaded
    versions = await versions_of(sync)
    for name in ("ann", "ben", "cleo"):
        await driver.call("untilSynced", name=name)
    await driver.call("disconnect", name="cleo")
    await driver.call("insert", name="cleo", text=" of noodles", at=11)
    await driver.call("insert", name="ann", text="vandals wrote ", at=0)
    await driver.call("untilText", name="ben", text="vandals wrote hello world")
    await ask(sync, "POST", f"/rooms/project/versions/{versions[-1]['time']}/restore")
    await driver.call("untilText", name="ann", text="hello world")
    await driver.call("insert", name="ben", text="oh, ", at=0)
    await driver.call("connect", name="cleo")
    for name in ("ann", "ben", "cleo"):
        await driver.call("untilText", name=name, text="oh, hello world of noodles")
