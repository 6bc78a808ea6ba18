"""The server on a disk that takes its time: nothing is shown too early, read too late, or written over."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from opennoodl_sync import sessions as sessions_module
from opennoodl_sync.rooms import records as records_module
from opennoodl_sync.rooms.room import Room
from opennoodl_sync.storage.interface import StoreError
from opennoodl_sync.storage.leveldb.database import Database
from opennoodl_sync.storage.leveldb.documents import LevelDBDocument
from opennoodl_sync.yjs.document import DamagedError

from .client import TIMEOUT, Client, Server, running
from .disks import Writes, until
from .editor import Editor
from .turns import keep, kept
from .wire import update_message


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> Writes:
    """Watch what is written, and hold it up."""
    return Writes(monkeypatch)


async def heard(*clients: Client) -> None:
    """Wait until the server has heard everything that clients have sent, and they what it answered at once."""
    async with asyncio.timeout(TIMEOUT):
        for client in clients:
            await (await client.socket.ping())


async def gone(server: Server, client: Client) -> None:
    """Let a client leave, and wait until the server knows; it is to close what it is told to."""
    (connection,) = server.members("room")
    await client.close()
    async with asyncio.timeout(TIMEOUT):
        await connection.wait_closed()


async def settled(server: Server) -> None:
    """Give a server that does not wait for the disk the time to be wrong."""
    for _ in range(5):
        await server.health()


async def unloaded(server: Server) -> None:
    """Wait until the room has left memory; that is due, and the disk has no part in it."""
    await until(lambda: "room" not in server.app.rooms.rooms)


def on_disk(path: Path) -> str:
    """Return the text of a document whose server has ended."""
    database = Database(str(path))
    text = kept(LevelDBDocument("room", database=database))[0]
    database.close()
    return text


async def test_nothing_is_shown_or_answered_before_it_is_written(tmp_path: Path, writes: Writes) -> None:
    """While the disk is at work on an update, it is in nobody's update and in nobody's step 2."""
    async with running(tmp_path, fsync="true") as server:
        ann, bob = await server.join("room", 1), await server.join("room", 2)
        writes.hold()
        await ann.type("hello")
        await writes.begun()
        carol = await server.join("room", 3, sync=False)
        await carol.step_1()
        await heard(ann, bob, carol)
        assert (bob.text, carol.text) == ("", "")
        assert not carol.synced
        writes.release()
        await bob.shows("hello")
        await carol.shows("hello")
    assert {sync for _, sync, _ in writes.done} == {True}


async def test_a_large_batch_is_not_shown_before_it_is_written_either(tmp_path: Path, writes: Writes) -> None:
    """Without FSYNC as well: what is written by the thread is shown when it has been."""
    async with running(tmp_path) as server:
        ann, bob = await server.join("room", 1), await server.join("room", 2)
        writes.hold()
        await ann.type("x" * 500_000)
        await writes.begun()
        await heard(ann, bob)
        assert bob.text == ""
        writes.release()
        await bob.shows("x")


async def test_others_are_not_held_up_by_a_disk_at_work(tmp_path: Path, writes: Writes) -> None:
    """The event loop goes on: a server whose disk takes its time answers what needs no disk."""
    async with running(tmp_path, fsync="true") as server:
        ann = await server.join("room", 1)
        writes.hold()
        await ann.type("hello")
        await writes.begun()
        status, _ = await server.health()
        assert status == 200
        assert (await server.join("other", 2, sync=False)).code is None
        writes.release()


async def test_updates_during_a_write_are_one_batch(tmp_path: Path, writes: Writes) -> None:
    """However many write while a batch is under way, of whatever rooms, the next one takes it all."""
    async with running(tmp_path, fsync="true") as server:
        clients = [await server.join(str(number), number + 1) for number in range(5)]
        writes.hold()
        await clients[0].type("first ")
        await writes.begun()
        before = len(writes.done)
        for client in clients:
            await client.type("one ", "two")
        await heard(*clients)
        witnesses = [await server.join(str(number), number + 100, sync=False) for number in range(5)]
        for witness in witnesses:
            await witness.step_1()
        writes.release()
        for witness in witnesses:
            await witness.shows("two")
        assert len(writes.done) == before + 2


@pytest.mark.parametrize("last", ["under way", "not begun"])
async def test_a_reopened_room_waits_for_its_last_write(tmp_path: Path, writes: Writes, last: str) -> None:
    """A room that left memory while its last write is under way is not read before that is done, and shows it."""
    async with running(tmp_path, fsync="true", room_idle_timeout=0) as server:
        ann, other = await server.join("room", 1), await server.join("other", 2)
        writes.hold()
        if last == "not begun":  # another batch is under way, so that this one has to wait
            await other.type("first")
            await writes.begun()
        await ann.type("last words")
        if last == "under way":
            await writes.begun()
        await heard(ann)
        await gone(server, ann)
        await unloaded(server)
        bob = await server.join("room", 3, sync=False)
        await bob.step_1()
        await settled(server)
        assert not bob.synced
        writes.release()
        await bob.shows("last words")
        await bob.type(", and more")
        await (await server.join("room", 4)).shows(", and more")
    assert on_disk(tmp_path) == "last words, and more"


async def test_a_compaction_under_way_is_not_written_over(
    tmp_path: Path, writes: Writes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A room opened during its compaction waits for it: nothing of the document is lost."""
    monkeypatch.setattr(records_module, "COMPACT_AFTER", 3)
    async with running(tmp_path, fsync="true", room_idle_timeout=0) as server:
        ann, bob = await server.join("room", 1), await server.join("room", 2)
        for word in ("one ", "two ", "three "):
            await ann.type(word)
            await bob.shows(word)
        await bob.close()
        writes.hold()
        await ann.type("four ")
        await writes.begun()
        await gone(server, ann)
        await unloaded(server)
        carol = await server.join("room", 3, sync=False)
        await carol.step_1()
        await settled(server)
        writes.release()
        await carol.until(lambda: carol.synced)
        await carol.type("five")
        await (await server.join("room", 4)).shows("five")
    assert sorted(on_disk(tmp_path).split()) == ["five", "four", "one", "three", "two"]


async def test_a_failed_room_is_reopened_after_its_write(
    tmp_path: Path, writes: Writes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A room that cannot go on while a batch of it is under way is opened again when that is written."""
    async with running(tmp_path, fsync="true") as server:
        ann = await server.join("room", 1)
        writes.hold()
        await ann.type("written ")
        await writes.begun()
        with monkeypatch.context() as patch:
            patch.setattr(Room, "receive", _fail)
            await ann.type("too much")
            assert await ann.ended() == 1011
        bob = await server.join("room", 2, sync=False)
        await bob.step_1()
        await settled(server)
        writes.release()
        await bob.until(lambda: bob.synced)
        await bob.type("and more")
        await (await server.join("room", 3)).shows("and more")
    assert on_disk(tmp_path) == "written and more"


def _fail(*_: object) -> None:
    raise DamagedError("cannot be built")


async def test_a_room_that_failed_writes_nothing_more(tmp_path: Path, writes: Writes) -> None:
    """Updates that came during a failed write are dropped with it, since they build on it."""
    async with running(tmp_path, fsync="true") as server:
        ann = await server.join("room", 1)
        writes.hold()
        writes.failure = StoreError("the disk is full")
        await ann.type("failed ")
        await writes.begun()
        await ann.type("behind it")
        await heard(ann)
        writes.release()
        assert await ann.ended() == 1011
        again = await server.join("room", 2, ann.doc.get_update())
        await (await server.join("room", 3)).agrees(again)
        assert [len(batch.sealed) for batch, _, _ in writes.done if batch] == [2]
    assert on_disk(tmp_path) == "failed behind it"


async def test_a_fast_client_is_not_read_during_a_write(
    tmp_path: Path, writes: Writes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read from again when the disk has done its work, and everything arrives; others are read from meanwhile."""
    most = 50_000
    monkeypatch.setattr(sessions_module, "MAX_TURN_SIZE", most)
    async with running(tmp_path, fsync="true", rate_limit=0) as server:
        ann = await server.join("room", 1)
        (connection,) = server.members("room")
        bob = await server.join("room", 2)
        writes.hold()
        await bob.type("first ")
        await writes.begun()
        document = server.app.rooms.rooms["room"].document
        for number in range(400):
            ann.put("k", str(number) * 8_000)
        sending = asyncio.create_task(ann.push_edits())
        await until(lambda: not connection.transport.is_reading())
        size = document.turn_size
        assert most <= size < most + 2**20
        for _ in range(3):
            await heard(bob)
        assert document.turn_size == size
        assert not connection.transport.is_reading()
        assert not sending.done()
        writes.release()
        await sending
        await bob.agrees(ann)


async def test_the_rate_does_not_end_the_wait_for_the_disk(
    tmp_path: Path, writes: Writes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client over the rate that also waits for the disk is read again when both are over."""
    monkeypatch.setattr(sessions_module, "MAX_TURN_SIZE", 50_000)
    async with running(tmp_path, fsync="true", rate_limit=0) as server:
        ann = await server.join("room", 1)
        (connection,) = server.members("room")
        writes.hold()
        await ann.type("x" * 60_000)
        await writes.begun()
        await ann.type("y" * 60_000)
        await until(lambda: not connection.transport.is_reading())
        connection.pause_reading_for(0)
        await settled(server)
        assert not connection.transport.is_reading()
        writes.release()
        await until(connection.transport.is_reading)


async def test_a_server_that_stops_waits_for_the_disk(tmp_path: Path, writes: Writes) -> None:
    """A server that stops first writes the batch under way and the one that waits."""
    async with running(tmp_path, fsync="true") as server:
        ann = await server.join("room", 1)
        writes.hold()
        await ann.type("under way, ")
        await writes.begun()
        await ann.type("waiting")
        await heard(ann)
        stopping = asyncio.create_task(server.service.app.stop())
        await asyncio.sleep(0)
        assert not stopping.done()
        writes.release()
        await stopping
    assert on_disk(tmp_path) == "under way, waiting"


async def test_documents_of_many_records_are_opened(tmp_path: Path) -> None:
    """A document that was left with many records is served."""
    database = Database(str(tmp_path))
    ann = Editor(1)
    keep(LevelDBDocument("room", database=database), *(ann.write("word ") for _ in range(700)))
    database.close()
    async with running(tmp_path, fsync="true") as server:
        bob = await server.join("room", 2)
        assert bob.text == ann.text
        await bob.socket.send(update_message(ann.write("last")))
        await (await server.join("room", 3)).shows("last")
        await until(lambda: not server.app.rooms.rooms["room"].records.compacting)
    database = Database(str(tmp_path))
    assert len(LevelDBDocument("room", database=database).records()) <= 2
    database.close()
