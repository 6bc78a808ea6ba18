"""Directories whose updates were merged, by us or by y-leveldb, are exchangeable as well, with all that waits."""

from __future__ import annotations

import asyncio
import base64
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from harness import PATIENCE, Client, Server, StartClient, StartServer
from opennoodl_sync.rooms.room import Room
from opennoodl_sync.storage.leveldb.store import LevelDBStore
from opennoodl_sync.yjs.compaction import compact_records
from opennoodl_sync.yjs.lib0 import finish
from opennoodl_sync.yjs.segment_index import write_index
from pycrdt import Doc, Text
from test_leveldb import assert_y_leveldb_reads, text_of, write

LONG = "a text of more letters than a document may have records when it is left"


async def operator(directory: Path, *command: str, update: bytes = b"") -> str:
    """Carry out a command of the sync server on a directory; return what it says."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "opennoodl_sync",
        *command,
        env={**os.environ, "PERSIST_DIR": str(directory)},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await process.communicate(update)
    assert process.returncode == 0
    return said.decode()


async def unloaded(sync: Server) -> None:
    """Wait until all documents have left memory."""
    async with asyncio.timeout(PATIENCE):
        while (await sync.health())["metrics"]["activeDocuments"]:
            pass


async def assert_merged(store: Client, directory: Path, name: str) -> None:
    """Check that y-leveldb finds one update, and a state vector that it trusts without reading that."""
    await store.call("open", directory=str(directory))
    clocks = await store.call("clocks", name=name)
    assert clocks["updates"] == [clocks["vector"]]
    vectors = await store.call("vectors", name=name)
    assert vectors["stored"] == vectors["actual"]
    assert await store.call("clocks", name=name) == clocks, "y-leveldb did not trust the state vector"
    await store.call("close")


async def test_y_leveldb_edits_a_document_that_the_server_merged(
    server: StartServer, client: StartClient, tmp_path: Path
) -> None:
    """We merge when a room is left; y-leveldb reads that and adds to it; we read all of it and merge again."""
    directory = tmp_path / "shared"
    store, first, second = await client("leveldb"), await client("websocket"), await client("websocket")
    sync = await server("sync", PERSIST_DIR=directory, ROOM_IDLE_TIMEOUT=0)
    await write(first, sync, "project", LONG)
    await first.close()
    await unloaded(sync)
    await sync.stop()
    await assert_merged(store, directory, "project")

    await store.call("open", directory=str(directory))
    await store.call("type", name="project", text=", theirs")
    await store.call("close")
    await sync.start()
    assert await text_of(second, sync, "project") == LONG + ", theirs"
    await write(second, sync, "project", ", ours, in many letters again")
    await second.close()
    await unloaded(sync)
    await sync.stop()
    await assert_merged(store, directory, "project")
    await assert_y_leveldb_reads(store, directory, {"project": LONG + ", theirs, ours, in many letters again"})


async def test_y_leveldb_edits_a_document_that_compact_merged(client: StartClient, tmp_path: Path) -> None:
    """`compact` leaves one update of every document, which y-leveldb reads, adds to, and gives back."""
    store = await client("leveldb")
    await store.call("open", directory=str(tmp_path))
    for name in ("one", "two"):
        await store.call("type", name=name, text=f"text of {name}")
    await store.call("close")
    await operator(tmp_path, "compact")
    for name in ("one", "two"):
        await assert_merged(store, tmp_path, name)
    await store.call("open", directory=str(tmp_path))
    await store.call("type", name="one", text=", theirs")
    await store.call("close")
    assert "all documents are sound" in await operator(tmp_path, "check")
    assert '"text of one, theirs"' in await operator(tmp_path, "export", "one", "--format", "json")


async def test_a_document_that_y_leveldb_merged_is_served_and_edited(
    server: StartServer, client: StartClient, tmp_path: Path
) -> None:
    """y-leveldb merges what we wrote, and adds to it; we serve that, and go on behind it."""
    directory = tmp_path / "shared"
    store, first, second = await client("leveldb"), await client("websocket"), await client("websocket")
    sync = await server("sync", PERSIST_DIR=directory)
    await write(first, sync, "project", "ours, ")
    await first.close()
    await sync.stop()
    await store.call("open", directory=str(directory))
    await store.call("flush", name="project")
    await store.call("close")
    await assert_merged(store, directory, "project")
    await sync.start()
    assert await text_of(second, sync, "project") == "ours, "
    await write(second, sync, "project", "ours again")
    await sync.stop()
    await assert_y_leveldb_reads(store, directory, {"project": "ours, ours again"})
    await store.call("open", directory=str(directory))
    await store.call("type", name="project", text=", theirs", flush=True)
    await store.call("close")
    assert '"ours, ours again, theirs"' in await operator(directory, "export", "project", "--format", "json")
    assert "all documents are sound" in await operator(directory, "check")


def updates() -> list[bytes]:
    """Return three updates, each of which builds upon the one before."""
    doc: Doc[Any] = Doc(client_id=7)
    made: list[bytes] = []
    text = doc.get("text", type=Text)
    subscription = doc.observe(lambda event: made.append(event.update))
    for word in ("one ", "two ", "three"):
        text.insert(len(str(text)), word)
    doc.unobserve(subscription)
    return made


async def test_a_pending_update_survives_merges_by_both(client: StartClient, tmp_path: Path) -> None:
    """An update that waits for another one survives our merging, theirs, and ours again, and is whole in the end."""
    first, second, third = updates()
    store = await client("leveldb")
    await store.call("open", directory=str(tmp_path))
    await store.call("store", name="project", update=base64.b64encode(first).decode())
    await store.call("close")
    await operator(tmp_path, "import", "project", "-", update=third)
    await operator(tmp_path, "compact")
    await assert_y_leveldb_reads(store, tmp_path, {"project": "one "})
    await store.call("open", directory=str(tmp_path))
    await store.call("flush", name="project")
    await store.call("close")
    assert '"one "' in await operator(tmp_path, "export", "project", "--format", "json")
    await operator(tmp_path, "compact")
    assert "all documents are sound" in await operator(tmp_path, "check")
    await store.call("open", directory=str(tmp_path))
    await store.call("store", name="project", update=base64.b64encode(second).decode())
    assert await store.call("text", name="project") == "one two three"
    await store.call("close")
    assert '"one two three"' in await operator(tmp_path, "export", "project", "--format", "json")
    await operator(tmp_path, "compact")
    await assert_merged(store, tmp_path, "project")


async def store_parts(directory: Path, name: str, *, without_last: int) -> int:
    """Compact a document in parts, and store them without the last ones; return the number of its records."""
    store = LevelDBStore(str(directory), fsync="false")
    records, stored = await store.open(name)
    records.part_size = 1
    room = Room(name, records)
    finish(room.load(stored))
    finish(room.begin_compaction())
    while not room.records.parts_left:
        part = finish(room.next_part())
        segment, _ = finish(compact_records(finish(segment.write()) for segment in part.segments))
        update = finish(segment.write())
        room.end_part(part, update, segment, finish(write_index(segment, [update])))
    while room.records.parts_left > without_last:
        batch = store.writer.batch()
        room.flush(batch)
        await store.store(batch)
    number = len((await store.read(name)).updates)
    await store.close()
    return number


@pytest.mark.parametrize(("without_last", "number"), [(0, 4), (1, 28), (3, 26)])
@pytest.mark.parametrize("flush", [False, True], ids=["appended", "flushed"])
async def test_y_leveldb_edits_a_document_in_parts(
    server: StartServer, client: StartClient, tmp_path: Path, *, without_last: int, number: int, flush: bool
) -> None:
    """y-leveldb reads one that we have compacted, or were compacting, and adds to it; we read and compact all of it."""
    directory = tmp_path / "shared"
    store = await client("leveldb")
    await store.call("open", directory=str(directory))
    texts = ("first ", "second ", "third ", "fourth")
    for text in texts:
        await store.call("type", name="project", text=text)
    await store.call("close")
    assert await store_parts(directory, "project", without_last=without_last) == number
    written = "".join(texts)
    await assert_y_leveldb_reads(store, directory, {"project": written})
    await store.call("open", directory=str(directory))
    await store.call("type", name="project", text=" theirs", flush=flush)
    await store.call("close")
    sync = await server("sync", PERSIST_DIR=directory)
    await write(await client("websocket"), sync, "project", " ours")
    await sync.stop()
    assert await operator(directory, "check")
    assert await store_parts(directory, "project", without_last=0) < 8
    await assert_y_leveldb_reads(store, directory, {"project": f"{written} theirs ours"})
