"""Data directories are exchangeable with those of y-websocket's own server, in both directions."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness import Client, Server, StartClient, StartServer
from opennoodl_sync.storage.interface import Version
from opennoodl_sync.storage.leveldb.store import LevelDBStore

ROOMS = ("project", "team/project", "team%2Fproject", "a" * 200)


async def text_of(driver: Client, sync: Server, room: str) -> str:
    """Return the text a newcomer is served, without waiting for more than the first sync."""
    await driver.call("open", name=room, url=sync.url, room=room, version="3")
    return str(await driver.call("text", name=room))


async def write(driver: Client, sync: Server, room: str, text: str) -> None:
    """Type at the end of a room's text, each letter when another client has the last: each is stored by itself."""
    shown = await text_of(driver, sync, room)
    await driver.call("open", name=f"observer {room}", url=sync.url, room=room, version="1.5")
    for letter in text:
        await driver.call("insert", name=room, text=letter)
        shown += letter
        await driver.call("untilText", name=f"observer {room}", text=shown)


async def assert_y_leveldb_reads(driver: Client, directory: Path, texts: dict[str, str]) -> None:
    """Check what npm's y-leveldb makes of a directory: names, documents, state vectors."""
    await driver.call("open", directory=str(directory))
    assert sorted(await driver.call("names")) == sorted(texts)
    for name, text in texts.items():
        assert await driver.call("text", name=name) == text
        vectors = await driver.call("vectors", name=name)
        assert vectors["stored"] == vectors["actual"]
    await driver.call("close")


@pytest.mark.parametrize("flush", [False, True], ids=["as it grew", "flushed"])
async def test_a_directory_of_y_leveldb_is_served(
    server: StartServer, client: StartClient, tmp_path: Path, *, flush: bool
) -> None:
    """A community that moves its y-websocket directory over finds every document in it."""
    directory = tmp_path / "moved"
    store, driver = await client("leveldb"), await client("websocket")
    await store.call("open", directory=str(directory))
    for room in ROOMS:
        await store.call("type", name=room, text=f"text of {room}", flush=flush)
    await store.call("close")
    sync = await server("sync", PERSIST_DIR=directory)
    for room in ROOMS:
        assert await text_of(driver, sync, room) == f"text of {room}"


async def test_a_directory_of_ours_is_read_by_y_leveldb(
    server: StartServer, client: StartClient, tmp_path: Path
) -> None:
    """A community can go back: y-leveldb lists every document and reads its text and its state vector."""
    directory = tmp_path / "ours"
    driver, store = await client("websocket"), await client("leveldb")
    sync = await server("sync", PERSIST_DIR=directory)
    for room in ROOMS:
        await write(driver, sync, room, f"text of {room}")
    await sync.stop()
    await assert_y_leveldb_reads(store, directory, {room: f"text of {room}" for room in ROOMS})


async def test_a_directory_of_ours_is_read_by_y_leveldb_after_a_restart(
    server: StartServer, client: StartClient, tmp_path: Path
) -> None:
    """y-leveldb reads the records that a restarted server compacts or appends."""
    directory = tmp_path / "ours"
    driver, store = await client("websocket"), await client("leveldb")
    sync = await server("sync", PERSIST_DIR=directory)
    await write(driver, sync, "project", "before")
    await sync.kill()
    await driver.close()
    await sync.restart()
    second = await client("websocket")
    await write(second, sync, "project", " and after")
    await sync.restart()
    await sync.stop()
    await assert_y_leveldb_reads(store, directory, {"project": "before and after"})


async def test_a_directory_goes_there_and_back_again(server: StartServer, client: StartClient, tmp_path: Path) -> None:
    """y-leveldb, we, y-leveldb, we: each adds to the document, and metadata that is not ours stays."""
    directory = tmp_path / "shared"
    store = await client("leveldb")
    await store.call("open", directory=str(directory))
    await store.call("type", name="project", text="theirs, ")
    await store.call("setMeta", name="project", key="title", value={"en": "Dashboard"})
    await store.call("close")
    first = await client("websocket")
    sync = await server("sync", PERSIST_DIR=directory)
    await write(first, sync, "project", "ours, ")
    await first.close()
    await sync.stop()

    await store.call("open", directory=str(directory))
    assert await store.call("text", name="project") == "theirs, ours, "
    assert await store.call("getMeta", name="project", key="title") == {"en": "Dashboard"}
    await store.call("type", name="project", text="theirs again")
    await store.call("close")
    await sync.start()
    assert await text_of(await client("websocket"), sync, "project") == "theirs, ours, theirs again"


async def test_versions_in_a_directory_are_not_seen_by_y_leveldb(client: StartClient, tmp_path: Path) -> None:
    """y-leveldb reads a document that has versions as if there were none, and takes them with it when it deletes it."""
    directory = tmp_path / "shared"
    store = await client("leveldb")
    await store.call("open", directory=str(directory))
    for name in ("gone", "kept"):
        await store.call("type", name=name, text="before")
    await store.call("close")
    contents = b"\x00\x01" * 50_000
    versions = [(Version(time, len(contents), 5), contents) for time in (1, 2**31)]
    await change_versions(directory, versions)
    await assert_y_leveldb_reads(store, directory, {"gone": "before", "kept": "before"})
    await store.call("open", directory=str(directory))
    await store.call("type", name="kept", text=" and after", flush=True)
    await store.call("setMeta", name="kept", key="title", value="t")
    assert await store.call("metas", name="kept") == {"title": "t"}
    await store.call("clear", name="gone")
    await store.call("close")
    assert await histories(directory) == {"kept": [version for version, _ in versions]}
    await assert_y_leveldb_reads(store, directory, {"kept": "before and after"})


async def change_versions(directory: Path, versions: list[tuple[Version, bytes]]) -> None:
    """Add versions to the documents of a directory."""
    store = LevelDBStore(str(directory), fsync="false")
    for name in ("gone", "kept"):
        await store.change_versions(name, versions, [])
    await store.close()


async def histories(directory: Path) -> dict[str, list[Version]]:
    """Return the versions in a directory by document; all can be read."""
    store = LevelDBStore(str(directory), fsync="false")
    found = {name: history.versions async for name, history in store.histories()}
    for name, versions in found.items():
        for version in versions:
            content = await store.read_version(name, version.time)
            assert content is not None
            assert len(content) == version.size
    await store.close()
    return found
