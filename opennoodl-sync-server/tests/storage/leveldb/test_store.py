"""The store in LevelDB: what it does when the disk fails, and that it says so."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from opennoodl_sync.storage.interface import StoreError
from opennoodl_sync.storage.leveldb import store as module
from opennoodl_sync.storage.leveldb.database import Database
from opennoodl_sync.storage.leveldb.documents import LevelDBDocument
from opennoodl_sync.storage.leveldb.store import LevelDBStore

from ...conftest import Disk
from ...disks import until
from ...editor import Editor
from .test_damage import numbered, reopened

DAMAGED = "The stored data is damaged, so documents cannot be written to disk."


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again soon."""
    monkeypatch.setattr(module, "RETRY_INTERVAL", 0.01)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[LevelDBStore]:
    """Return an empty store."""
    store = LevelDBStore(str(tmp_path / "data"), fsync="false")
    yield store
    await store.close()


async def written(store: LevelDBStore, text: str = "x") -> StoreError | None:
    """Write something to a document; return what that failed with."""
    document, _ = await store.open("room")
    batch, came = store.writer.batch(), asyncio.Queue[StoreError | None]()
    document.append([Editor(1).write(text)], lambda: b"\x00", batch)
    store.writer.write(batch, came.put_nowait)
    return await asyncio.wait_for(came.get(), 30)


async def test_a_disk_that_failed_is_tried_again(
    disk: Disk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also when nobody writes; the log says once that nothing can be written, however often that is tried."""
    store = LevelDBStore(str(tmp_path / "data"), fsync="false")
    disk.full = True
    assert await written(store) is not None
    for _ in range(3):
        await until(lambda: store._retry is not None)
        await until(lambda: store._retry is None)
    assert store.failure == "Documents cannot be written to disk."
    disk.full = False
    await until(lambda: store.failure is None)
    assert capsys.readouterr().out.count("Documents cannot be written to disk.") == 1
    assert await written(store) is None
    await store.close()


async def test_damage_that_a_merge_meets_is_said_and_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """LevelDB writes nothing more then: it is opened anew in the writer's thread, and the log names the damage."""
    path = tmp_path / "data"
    for _ in range(2):  # into a table each
        numbered(path, 4)
        reopened(path)
    table = min(path.glob("*.ldb"))
    data = bytearray(table.read_bytes())
    data[20] ^= 1
    table.write_bytes(data)
    threads = list[threading.Thread]()
    real = Database._reopen

    def reopen(database: Database) -> None:
        threads.append(threading.current_thread())
        real(database)

    monkeypatch.setattr(Database, "_reopen", reopen)
    store = LevelDBStore(str(path), fsync="false")
    with pytest.raises(StoreError):
        store._database.shrink()
    store._database.failure, store._database._must_reopen = None, False  # LevelDB merges by itself, and tells nobody
    batch = store.writer.batch()
    batch.puts.append((b"key", b"value"))
    came = asyncio.Queue[StoreError | None]()
    store.writer.write(batch, came.put_nowait)
    assert isinstance(await asyncio.wait_for(came.get(), 30), StoreError)
    assert store.failure == DAMAGED
    await until(lambda: threads)
    assert threading.current_thread() not in threads
    assert capsys.readouterr().out.count(DAMAGED) == 1
    await store.close()


async def test_names_are_of_documents_with_many_updates(store: LevelDBStore) -> None:
    """Only those with more than so many are named."""
    for name, count in (("few", 2), ("many", 3)):
        document, _ = await store.open(name)
        batch = store.writer.batch()
        document.append([b"update"] * count, lambda: b"\x00", batch)
        store.writer.write(batch, lambda _: None)
    assert [name async for name in store.names(2)] == ["many"]


async def test_a_document_in_parts_is_read_up_to_an_update(store: LevelDBStore) -> None:
    """A part may have later updates, so they are all read, with the number of the last one."""
    records, _ = await store.open("room")
    assert isinstance(records, LevelDBDocument)
    for update in (b"a", b"b"):
        batch = store.writer.batch()
        records.append([update], lambda: b"\x00", batch)
        await store.store(batch)
    batch = store.writer.batch()
    records.append_part(b"part of ab", b"index", batch)
    records.append([b"later"], lambda: b"\x00", batch)
    await store.store(batch)
    assert await store.read_until("room", 1) == ([b"a", b"b", b"part of ab", b"later"], 3)
    batch = store.writer.batch()
    records.replace(1, [b"rest of ab"], b"\x00", b"index of the rest", batch)
    await store.store(batch)
    assert await store.read_until("room", 1) == ([b"rest of ab", b"part of ab", b"later"], 3)
    assert await store.read_until("room", 2) == ([b"rest of ab", b"part of ab"], 2)
    assert await store.read_until("room", 9) == ([b"rest of ab", b"part of ab", b"later"], 3)
    assert (await store.read("room")).indexes == {0: b"index of the rest", 1: b"index"}
