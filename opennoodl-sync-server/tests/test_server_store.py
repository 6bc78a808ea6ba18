"""The server and its disk: nothing is shown that could be lost, and nothing is lost when the disk fails."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from opennoodl_sync.edge.errors import StartError
from opennoodl_sync.storage.leveldb import store as store_module
from opennoodl_sync.storage.leveldb.bindings import plyvel
from opennoodl_sync.y_protocol import denial

from .client import running
from .conftest import Disk

JUNK_KEY = bytes.fromhex("000276310004726f6f6d00067570646174650100000001")
"""The key of the second update of "room"."""


def raw(path: Path) -> dict[bytes, bytes]:
    """Return everything in a database that is closed."""
    with plyvel.DB(str(path)) as db:
        return dict(db)


async def test_a_document_that_cannot_be_read_is_not_touched(tmp_path: Path) -> None:
    """Clients of a damaged document are closed with 1011 each time; it stays as it is, and others are served."""
    async with running(tmp_path) as server:
        ann = await server.join("room", 1)
        await ann.type("precious")
        await (await server.join("room", 2)).shows("precious")
    with plyvel.DB(str(tmp_path)) as db:
        db.put(JUNK_KEY, b"junk")
    before = raw(tmp_path)
    async with running(tmp_path) as server:
        for _ in range(2):
            eve = await server.join("room", 3, before[JUNK_KEY[:-1] + b"\0"], sync=False)
            assert await eve.ended() == 1011
            assert eve.messages == [denial(eve.socket.close_reason or "")]
        status, health = await server.health()
        assert (status, health["metrics"]["activeDocuments"]) == (200, 0)
        other = await server.join("other", 4)
        await other.type("fine")
        await (await server.join("other", 5)).shows("fine")
    after = raw(tmp_path)
    assert {key: after[key] for key in before} == before


async def test_when_the_disk_is_full_nobody_is_shown_what_is_not_stored(tmp_path: Path, disk: Disk) -> None:
    """A write that fails closes the room's clients with 1011 before anybody has seen it; other rooms go on."""
    async with running(tmp_path) as server:
        ann, bob = await server.join("room", 1), await server.join("room", 2)
        other = await server.join("other", 3)
        await ann.type("stored ")
        await bob.shows("stored ")
        disk.full = True
        await ann.type("unstored")
        assert await ann.ended() == 1011
        assert await bob.ended() == 1011
        assert bob.text == "stored "
        assert other.code is None
        disk.full = False
    async with running(tmp_path) as server:
        assert (await server.join("room", 4)).text == "stored "


async def test_health_says_that_the_disk_is_full_until_it_is_not(tmp_path: Path, disk: Disk) -> None:
    """While documents cannot be stored ``/health`` is 503 with a reason; when they can, it is 200 again."""
    async with running(tmp_path) as server:
        ann = await server.join("room", 1)
        disk.full = True
        await ann.type("hello")
        await ann.ended()
        status, health = await server.health()
        assert (status, health["status"]) == (503, "failing")
        assert health["reason"]
        assert "room" not in health["reason"]
        disk.full = False
        again = await server.join("room", 1, *ann.updates)
        bob = await server.join("room", 2)
        await bob.agrees(again)
        status, health = await server.health()
        assert (status, health["status"]) == (200, "healthy")
        assert "reason" not in health


async def test_health_recovers_without_anybody_writing(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that has room again is noticed by itself: a host that waits for `/health` sends nobody before."""
    monkeypatch.setattr(store_module, "RETRY_INTERVAL", 0.01)
    async with running(tmp_path) as server:
        ann = await server.join("room", 1)
        disk.full = True
        await ann.type("hello")
        await ann.ended()
        assert (await server.health())[0] == 503
        disk.full = False
        async with asyncio.timeout(30):
            while (await server.health())[0] != 200:
                pass


async def test_nothing_is_lost_when_the_disk_was_full(tmp_path: Path, disk: Disk) -> None:
    """Clients that come back bring what could not be stored, and it is stored then."""
    async with running(tmp_path) as server:
        ann, bob = await server.join("room", 1), await server.join("room", 2)
        await ann.type("stored ")
        await bob.shows("stored ")
        disk.full = True
        await asyncio.gather(ann.type("ann's "), bob.type("bob's "))
        assert {await ann.ended(), await bob.ended()} == {1011}
        # Still full: who comes back early is turned away again.
        early = await server.join("room", 11, ann.doc.get_update(), sync=False)
        assert await early.ended() == 1011
        disk.full = False
        ann = await server.join("room", 21, ann.doc.get_update())
        bob = await server.join("room", 22, bob.doc.get_update())
        for client in (ann, bob):
            await client.has(3)
            assert set(client.text.split()) == {"stored", "ann's", "bob's"}
        assert ann.same(bob)
    async with running(tmp_path) as server:
        assert (await server.join("room", 3)).same(ann)


async def test_two_servers_do_not_share_a_directory(tmp_path: Path) -> None:
    """A second server on the same directory does not start, and the first goes on."""
    async with running(tmp_path) as server:
        with pytest.raises(StartError, match=r"PERSIST_DIR .* in use"):
            async with running(tmp_path):
                pass
        ann, bob = await server.join("room", 1), await server.join("room", 2)
        await ann.type("hello")
        await bob.shows("hello")
