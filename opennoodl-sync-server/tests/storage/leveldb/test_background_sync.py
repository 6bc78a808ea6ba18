"""What was written reaches the disk itself a second later; nobody waits for it, and a failure is told."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from opennoodl_sync.storage.interface import StoreError
from opennoodl_sync.storage.leveldb import background_sync
from opennoodl_sync.storage.leveldb import files as leveldb_files
from opennoodl_sync.storage.leveldb import store as store_module
from opennoodl_sync.storage.leveldb.database import Database, RecordBatch
from opennoodl_sync.storage.leveldb.store import LevelDBStore

from ...client import Server, running
from ...disks import TIMEOUT, until


class Syncs:
    """What is synced, and how.

    Attributes:
        paths: the files and directories that were synced, in order.
        may_go_on: what a sync waits for; set at first.
        failure: what the next sync fails with, if anything.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.paths: list[Path] = []
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.failure: OSError | None = None
        monkeypatch.setattr(leveldb_files, "sync", self._sync)

    def _sync(self, *paths: Path) -> None:
        assert self.may_go_on.wait(TIMEOUT), "nobody let the sync go on"
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        self.paths += paths

    def logs(self) -> list[str]:
        """Return the names of the logs that were synced."""
        return [path.name for path in self.paths if path.suffix == ".log"]


@pytest.fixture
def syncs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Syncs]:
    """Watch what is synced, and sync without delay."""
    monkeypatch.setattr(background_sync, "INTERVAL", 0.001)
    syncs = Syncs(monkeypatch)
    yield syncs
    syncs.may_go_on.set()


def database_of(server: Server) -> Database:
    """Return the database of a server."""
    assert isinstance(server.app._store, LevelDBStore)
    return server.app._store._database


def put(database: Database, size: int = 1, *, sync: bool = False) -> None:
    """Write one record."""
    batch = RecordBatch()
    batch.puts.append((b"key", bytes(size)))
    database.write(batch, sync=sync)


async def test_the_log_is_synced_after_a_write(tmp_path: Path, syncs: Syncs) -> None:
    """By default, the log is synced after somebody has changed something, and then no more."""
    async with running(tmp_path) as server:
        syncs.paths.clear()
        ann = await server.join("room", 1)
        await ann.type("hello")
        await until(lambda: syncs.logs() and not database_of(server).unsynced)
        syncs.paths.clear()
        for _ in range(20):
            await server.health()
        assert syncs.paths == []


async def test_nobody_waits_for_it(tmp_path: Path, syncs: Syncs) -> None:
    """While the disk is at work on a sync, changes are stored and shown."""
    async with running(tmp_path) as server:
        ann, bob = await server.join("room", 1), await server.join("room", 2)
        syncs.may_go_on.clear()
        await ann.type("one ")
        await until(lambda: not database_of(server).unsynced)
        await ann.type("two")
        await bob.shows("two")
        syncs.may_go_on.set()


@pytest.mark.parametrize("fsync", ["true", "false"])
async def test_not_with_other_settings(tmp_path: Path, syncs: Syncs, fsync: str) -> None:
    """With `true` LevelDB has synced it before, and with `false` nobody does."""
    async with running(tmp_path, fsync=fsync) as server:
        syncs.paths.clear()
        ann, bob = await server.join("room", 1), await server.join("room", 2)
        await ann.type("hello")
        await bob.shows("hello")
        for _ in range(20):
            await server.health()
    assert syncs.paths == []


async def test_a_server_that_stops_syncs(tmp_path: Path, syncs: Syncs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writes of the last second are synced when the server stops in order."""
    monkeypatch.setattr(background_sync, "INTERVAL", 1000.0)
    async with running(tmp_path) as server:
        syncs.paths.clear()
        await (await server.join("room", 1)).type("hello")
        await until(lambda: database_of(server).unsynced)
    assert syncs.logs()


async def test_a_sync_that_fails_is_told_and_made_good(
    tmp_path: Path, syncs: Syncs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """/health says so until LevelDB was opened again, which writes what the operating system has forgotten."""
    monkeypatch.setattr(store_module, "RETRY_INTERVAL", 0.05)
    async with running(tmp_path) as server:
        ann = await server.join("room", 1)
        before = database_of(server)._db
        syncs.failure = OSError(5, "Input/output error")
        await ann.type("hello")
        await until(lambda: database_of(server).failure)
        assert (await server.health())[0] == 503
        await until(lambda: database_of(server).failure is None)
        assert (await server.health())[0] == 200
        assert database_of(server)._db is not before
        assert capsys.readouterr().out.count("could not be synced") == 1
        await (await server.join("room", 2)).shows("hello")


def test_everything_is_synced_after_opening(tmp_path: Path, syncs: Syncs) -> None:
    """LevelDB leaves its first files to the operating system: they, the directory and its name are synced."""
    path = tmp_path / "data"
    Database(str(path)).close()
    assert {path, path.parent, *leveldb_files.data_files(path), path / "CURRENT"} <= set(syncs.paths)


def test_the_name_of_a_new_log_is_synced(tmp_path: Path, syncs: Syncs) -> None:
    """LevelDB syncs what is in a log, and not that it is there: with the first write to a new one, we do that."""
    database = Database(str(tmp_path))
    syncs.paths.clear()
    put(database, sync=True)
    assert syncs.paths == []
    put(database, 5_000_000, sync=True)
    put(database, sync=True)
    assert syncs.paths == [tmp_path]
    database.close()


def test_a_sync_that_failed_is_tried_again(tmp_path: Path, syncs: Syncs) -> None:
    """Until a sync succeeds, there is something that is not synced; what is synced is not synced again."""
    database = Database(str(tmp_path))
    assert not database.unsynced
    put(database)
    syncs.failure = OSError(5, "Input/output error")
    with pytest.raises(StoreError, match="Input/output error"):
        database.sync()
    assert database.unsynced
    assert database.failure
    put(database)
    assert database.failure is None
    database.sync()
    assert not database.unsynced
    database.close()
