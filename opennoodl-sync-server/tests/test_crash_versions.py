"""`kill -9` while versions are made and restored."""

from __future__ import annotations

import asyncio
import json
import random
from contextlib import suppress
from pathlib import Path

import pytest
from opennoodl_sync.commands.checks import check_documents
from opennoodl_sync.storage.choose import open_place
from opennoodl_sync.versions.content import unpack
from websockets.exceptions import ConnectionClosed

from .client import Client, Process, join
from .databases import empty_database
from .edge.issuer import SECRET, signed
from .editor import Editor

pytestmark = [pytest.mark.xdist_group("postgresql"), pytest.mark.slow]

TIMEOUT = 120
MOVES = 1013
ROUND = "round {}, "
OFTEN = """
from opennoodl_sync.storage.postgresql import lease
from opennoodl_sync.versions import scheduler
from opennoodl_sync.versions.schedule import Schedule
scheduler.INTERVAL = scheduler.CHECK_INTERVAL = 0.02
Schedule.spacing = property(lambda self: 0)
for name in ("DURATION", "LAPSE_AFTER", "RENEW_INTERVAL", "RETRY_INTERVAL", "RENEW_TIMEOUT"):
    setattr(lease, name, 0.3 * getattr(lease, name))
"""
"""Has a version made of each change, or of each second. The lease of a killed server ends soon."""


@pytest.fixture(params=["leveldb", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return an empty store: a directory, or the URL of a database."""
    return empty_database() if request.param == "postgresql" else str(tmp_path / "data")


async def enter(port: int, number: int) -> Client:
    """Connect a client to the room, when the lease of a killed server has ended."""
    async with asyncio.timeout(TIMEOUT):
        while True:
            client = await join(port, f"room?token={signed()}", number, sync=False)
            try:
                with suppress(ConnectionClosed):
                    await client.step_1()
                await client.until(lambda client=client: client.synced)
            except AssertionError:
                assert client.code == MOVES
            else:
                return client


async def ask(port: int, method: str, path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Send a request, and do not wait for its answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    token = signed(sub="robot", services=True)
    writer.write(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
    await writer.drain()
    return reader, writer


async def times(port: int) -> list[str]:
    """Return the times of the versions that the server lists, when there is one."""
    async with asyncio.timeout(TIMEOUT):
        while True:
            reader, writer = await ask(port, "GET", "/rooms/room/versions")
            _, _, body = (await reader.read()).partition(b"\r\n\r\n")
            writer.close()
            if found := json.loads(body)["versions"]:
                return [version["time"] for version in found]
            await asyncio.sleep(0.1)


async def look(place: str) -> tuple[str, list[str]]:
    """Return the text of the stored document, and those of its versions; nothing is wrong with the store."""
    store = await open_place(place, may_make=False)
    try:
        assert [fault async for fault in check_documents(store)] == []
        text = Editor(99, *(await store.read("room")).updates).text
        versions = (await store.history("room")).versions
        contents = [await store.read_version("room", version.time) for version in versions]
    finally:
        await store.close()
    return text, [Editor(99, unpack(content or b"")).text for content in contents]


async def test_a_kill_leaves_whole_versions(place: str, tmp_path: Path, dice: random.Random, crash_rounds: int) -> None:
    """Every version can be read, and a version that was being restored is in the document as a whole or not at all."""
    before = ""
    seen: set[str] = set()
    database = {"DATABASE_URL": place} if "://" in place else {}
    for number in range(max(2, crash_rounds // 10)):  # each one waits for a version
        process = await Process.start(tmp_path / "data", before=OFTEN, AUTH="jwt", AUTH_SECRET=SECRET, **database)
        writer, reader = [await enter(process.port, 10 * number + one) for one in (1, 2)]
        assert writer.text == before
        await writer.type(ROUND.format(number))
        await reader.shows(ROUND.format(number))
        when = (await times(process.port))[0]
        _, asked = await ask(process.port, "POST", f"/rooms/room/versions/{when}/restore")
        await asyncio.sleep(2 * dice.random())
        await process.kill()
        asked.close()
        for client in (writer, reader):
            await client.socket.close()
        # Also of what is typed after a version was restored.
        whole = before + ROUND.format(number)
        before, versions = await look(place)
        seen.update(versions)
        assert before in seen | {whole}
        assert set(versions) <= seen | {whole}
