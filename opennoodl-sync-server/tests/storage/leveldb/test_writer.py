"""The writer: small batches at once, others in its thread; in order, one at a time, and everybody is told."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from opennoodl_sync.storage.interface import StoreError
from opennoodl_sync.storage.leveldb.database import Database, RecordBatch
from opennoodl_sync.storage.leveldb.writer import LARGE, Writer

from ...disks import Writes

SMALL = b"small"
HUGE = b"x" * LARGE


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> Writes:
    """Watch what is written, and hold it up."""
    return Writes(monkeypatch)


@pytest.fixture
async def database(tmp_path: Path, writes: Writes) -> AsyncIterator[Database]:
    """Return an empty database."""
    database = Database(str(tmp_path))
    yield database
    database.close()


@pytest.fixture
async def lazy(database: Database, writes: Writes) -> AsyncIterator[Writer]:
    """Return a writer that leaves the disk to the operating system."""
    writer = Writer(database, sync=False, failed=lambda: None)
    yield writer
    writes.release()
    await writer.drain()
    writer.close()


@pytest.fixture
async def safe(database: Database, writes: Writes) -> AsyncIterator[Writer]:
    """Return a writer that waits for the disk."""
    writer = Writer(database, sync=True, failed=lambda: None)
    yield writer
    writes.release()
    await writer.drain()
    writer.close()


def put(key: str, value: bytes = SMALL) -> RecordBatch:
    """Return a batch with one record."""
    batch = RecordBatch()
    batch.puts.append((key.encode(), value))
    return batch


class Told:
    """What writers call.

    Attributes:
        names: in the order in which they were told.
        errors: what they were told.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self.errors: dict[str, StoreError | None] = {}

    def __call__(self, name: str) -> Any:
        """Return what notes that `name` was told."""

        def done(error: StoreError | None) -> None:
            self.names.append(name)
            self.errors[name] = error

        return done


def test_a_small_batch_is_written_at_once(lazy: Writer, database: Database, writes: Writes) -> None:
    """Without FSYNC it is on its way to the disk, and who waits is told, when `write` returns."""
    told = Told()
    lazy.write(put("a"), told("a"))
    assert told.errors == {"a": None}
    assert not lazy.busy
    assert database.get(b"a") == SMALL
    assert [(sync, thread) for _, sync, thread in writes.done] == [(False, threading.current_thread())]


async def test_a_large_batch_does_not_hold_up_the_event_loop(lazy: Writer, writes: Writes) -> None:
    """It is written in the writer's thread, and nobody is told before."""
    told = Told()
    writes.hold()
    lazy.write(put("a", HUGE), told("a"))
    await writes.begun()
    assert lazy.busy
    assert told.names == []
    writes.release()
    await lazy.drain()
    assert told.errors == {"a": None}
    assert not lazy.busy
    ((_, sync, thread),) = writes.done
    assert not sync
    assert thread is not threading.current_thread()


async def test_with_fsync_every_batch_is_written_by_the_thread(
    safe: Writer, database: Database, writes: Writes
) -> None:
    """A disk that is waited for takes its time even for a small batch, and an empty one too."""
    told = Told()
    writes.hold()
    safe.write(put("a"), told("a"))
    safe.write(RecordBatch(), told("b"))
    await writes.begun()
    assert told.names == []
    assert database.get(b"a") is None
    writes.release()
    await safe.drain()
    assert told.errors == {"a": None, "b": None}
    assert database.get(b"a") == SMALL
    assert all(sync and thread is not threading.current_thread() for _, sync, thread in writes.done)


async def test_order_is_kept(lazy: Writer, database: Database, writes: Writes) -> None:
    """A small batch behind a large one waits for it: the later one is what is kept."""
    told = Told()
    writes.hold()
    for number, value in enumerate((HUGE, SMALL, HUGE + b"!", b"last")):
        lazy.write(put("key", value), told(str(number)))
    await writes.begun()
    assert told.names == []
    writes.release()
    await lazy.drain()
    assert told.names == ["0", "1", "2", "3"]
    assert database.get(b"key") == b"last"


async def test_one_batch_is_written_at_a_time(safe: Writer, writes: Writes) -> None:
    """Batches under way wait for each other."""
    told = Told()
    for number in range(20):
        safe.write(put(str(number)), told(str(number)))
    await safe.drain()
    assert len(told.names) == 20
    assert writes.at_once == 1


def test_a_failure_is_told_at_once(lazy: Writer, writes: Writes) -> None:
    """A small batch that cannot be written is told as what it is, and the next one is tried."""
    told = Told()
    writes.failure = StoreError("the disk is full")
    lazy.write(put("a"), told("a"))
    lazy.write(put("b"), told("b"))
    assert str(told.errors["a"]) == "the disk is full"
    assert told.errors["b"] is None


async def test_after_a_failure_the_thread_writes(
    lazy: Writer, database: Database, writes: Writes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LevelDB is opened anew before the next batch, which takes its time: that holds up nobody else."""
    told, threads = Told(), list[threading.Thread]()
    real = Database._reopen

    def reopen(database: Database) -> None:
        threads.append(threading.current_thread())
        real(database)

    monkeypatch.setattr(Database, "_reopen", reopen)
    database._failed(StoreError("the disk is full"))
    lazy.write(put("a"), told("a"))
    assert lazy.busy
    await lazy.drain()
    lazy.write(put("b"), told("b"))
    assert told.errors == {"a": None, "b": None}
    (thread,) = threads
    assert thread is not threading.current_thread()


async def test_a_failure_in_the_thread_is_told(safe: Writer, writes: Writes) -> None:
    """A failure is told to those of the batch alone, and the next one is tried."""
    told = Told()
    writes.failure = StoreError("the disk is full")
    for name in ("a", "b"):
        safe.write(put(name), told(name))
    await safe.drain()
    assert str(told.errors["a"]) == "the disk is full"
    assert isinstance(told.errors["a"], StoreError)
    assert told.errors["b"] is None


async def test_an_unexpected_error_is_told_and_logged(safe: Writer, writes: Writes) -> None:
    """Whatever goes wrong in the thread, nobody waits for ever, and the event loop hears of it."""
    told = Told()
    logged: list[BaseException | None] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: logged.append(context.get("exception")))
    writes.failure = ValueError("a mistake")
    safe.write(put("a"), told("a"))
    await safe.drain()
    loop.set_exception_handler(None)
    assert isinstance(told.errors["a"], StoreError)
    assert [type(error) for error in logged] == [ValueError]
    safe.write(put("b"), told("b"))
    await safe.drain()
    assert told.errors["b"] is None


def test_an_unexpected_error_of_a_small_batch_is_told(lazy: Writer, writes: Writes) -> None:
    """Whatever goes wrong with a small batch, nobody waits for ever."""
    told = Told()
    writes.failure = ValueError("a mistake")
    with suppress(ValueError):
        lazy.write(put("a"), told("a"))
    assert isinstance(told.errors.get("a"), StoreError)


async def test_says_when_nothing_is_under_way(safe: Writer, writes: Writes) -> None:
    """`on_idle` is called once for many batches, when everybody was told; also if the last failed."""
    told = Told()
    idle: list[list[str]] = []
    safe.when_idle(lambda: idle.append([*told.names]))
    writes.hold()
    for name in ("a", "b", "c"):
        safe.write(put(name), told(name))
    await writes.begun()
    assert idle == []
    writes.release()
    await safe.drain()
    assert idle == [["a", "b", "c"]]
    writes.failure = StoreError("the disk is full")
    safe.write(put("d"), told("d"))
    await safe.drain()
    assert idle == [["a", "b", "c"], ["a", "b", "c", "d"]]


def test_a_batch_that_is_written_at_once_was_never_under_way(lazy: Writer) -> None:
    """Nobody is kept waiting for a small batch, so nobody is told to go on."""
    idle: list[None] = []
    lazy.when_idle(lambda: idle.append(None))
    lazy.write(put("a"), Told()("a"))
    assert idle == []


async def test_a_batch_may_follow_from_the_result_of_another(safe: Writer, database: Database) -> None:
    """A batch that is given in answer to another one is written, and waited for."""
    told = Told()

    def done(_: StoreError | None) -> None:
        safe.write(put("b"), told("b"))

    safe.write(put("a"), done)
    await safe.drain()
    assert told.errors == {"b": None}
    assert database.get(b"b") == SMALL


async def test_draining_nothing_returns(safe: Writer) -> None:
    """A writer that has nothing to write drains without an error."""
    await safe.drain()
