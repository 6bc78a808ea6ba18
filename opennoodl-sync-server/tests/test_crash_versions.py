"""`kill -9` while versions are made and restored."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest
from opennoodl_sync.storage.leveldb.store import LevelDBStore
from opennoodl_sync.versions.content import unpack

from .client import Process, join
from .command_output import faults
from .edge.issuer import SECRET, signed
from .editor import Editor

pytestmark = pytest.mark.slow

TIMEOUT = 120
ROUND = "round {}, "
OFTEN = """
from opennoodl_sync.versions import keeper
from opennoodl_sync.versions.schedule import Schedule
keeper.INTERVAL = keeper.CHECK_INTERVAL = 0.02
Schedule.spacing = property(lambda self: 0)
"""
"""Has a version made of each change, or of each second."""


async def ask(port: int, method: str, path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Send a request, and do not wait for its answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    token = signed(sub="robot", services=True)
    writer.write(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
    await writer.drain()
    return reader, writer


async def has_versions(port: int) -> bool:
    """Return whether the server lists a version of the room."""
    reader, writer = await ask(port, "GET", "/rooms/room/versions")
    async with asyncio.timeout(TIMEOUT):
        answer = await reader.read()
    writer.close()
    return b'"time"' in answer


async def a_version(port: int) -> None:
    """Wait until the server lists a version of the room."""
    for _ in range(10 * TIMEOUT):
        if await has_versions(port):
            return
        await asyncio.sleep(0.1)
    pytest.fail("there is no version")


async def look(path: Path) -> tuple[str, list[str]]:
    """Return the text of the stored document, and those of its versions."""
    store = LevelDBStore(str(path), fsync="false")
    try:
        text = Editor(99, *(await store.read("room")).updates).text
        versions = (await store.history("room")).versions
        contents = [await store.read_version("room", version.time) for version in versions]
    finally:
        await store.close()
    return text, [Editor(99, unpack(content or b"")).text for content in contents]


async def test_a_kill_leaves_whole_versions(tmp_path: Path, dice: random.Random, crash_rounds: int) -> None:
    """Every version can be read, and a version that was being restored is in the document as a whole or not at all."""
    path, before = tmp_path / "data", ""
    seen: set[str] = set()
    for number in range(crash_rounds // 10):  # each one waits for a version
        process = await Process.start(path, before=OFTEN, AUTH="jwt", AUTH_SECRET=SECRET)
        writer, reader = [await join(process.port, f"room?token={signed()}", 10 * number + one) for one in (1, 2)]
        assert writer.text == before
        await writer.type(ROUND.format(number))
        await reader.shows(ROUND.format(number))
        await a_version(process.port)
        _, asked = await ask(process.port, "POST", "/rooms/room/versions/2100-01-01/restore")
        await asyncio.sleep(2 * dice.random())
        await process.kill()
        asked.close()
        for client in (writer, reader):
            await client.socket.close()
        assert await asyncio.to_thread(faults, path) == []
        # Also of what is typed after a version was restored.
        whole = before + ROUND.format(number)
        before, versions = await look(path)
        seen.update(versions)
        assert before in seen | {whole}
        assert set(versions) <= seen | {whole}
