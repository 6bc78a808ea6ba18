"""Pages on PostgreSQL: a request for a document that another instance has is passed on to that one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from .client import Client, Server, running
from .edge.issuer import SECRET, signed
from .test_pages_versions import LIST, RESTORE, TIME, ask, keep
from .test_two_servers import two

pytestmark = [pytest.mark.xdist_group("postgresql"), pytest.mark.slow]
TOKENS: dict[str, Any] = {"auth": "jwt", "auth_secret": SECRET, "versions": "off"}


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a request answered when its work has ended, also on a busy machine."""
    monkeypatch.setattr("opennoodl_sync.edge.admission.refusal_delay.FIRST", 0.01)
    monkeypatch.setattr("opennoodl_sync.edge.admission.refusal_delay.LONGEST", 0.02)
    monkeypatch.setattr("opennoodl_sync.edge.service.OPEN_TIMEOUT", 60.0)
    monkeypatch.setattr("opennoodl_sync.pages.routes.PATIENCE", 50.0)
    monkeypatch.setattr("opennoodl_sync.cluster.peers.ASK_TIMEOUT", 50.0)
    monkeypatch.setattr("opennoodl_sync.cluster.relay.CONNECT_TIMEOUT", 50.0)


async def vandalized(server: Server) -> Client:
    """Return a client in `room`, which has a version with another text."""
    ann = await server.join(f"room?token={signed()}", 1)
    await ann.type("hello")
    await (await server.join(f"room?token={signed()}", 2)).shows("hello")
    await keep(server, ann.doc.get_update())
    ann.delete(0, 5)
    await ann.push_edits()
    await ann.type("vandal")
    await (await server.join(f"room?token={signed()}", 3)).shows("vandal")
    return ann


async def test_a_version_is_restored_by_any_instance(tmp_path: Path, url: str) -> None:
    """The owner restores it, and makes one version of what was there; the lists of both agree."""
    async with two(tmp_path, url, **TOKENS) as (one, other):
        ann = await vandalized(one)
        status, answer = await ask(other, "POST", RESTORE)
        assert (status, answer["restored"]["time"]) == (200, TIME)
        await ann.until(lambda: ann.text == "hello")
        listed = [await ask(server, "GET", LIST) for server in (one, other)]
        assert listed == [(200, {"versions": [answer["restored"], answer["before"]]})] * 2
        assert "room" not in other.app.rooms.rooms


async def test_an_error_of_the_owner_is_passed_back(tmp_path: Path, url: str) -> None:
    """The status and the sentence of the owner's refusal reach the one who asked; a token is needed at both."""
    async with two(tmp_path, url, **TOKENS) as (one, other):
        await vandalized(one)
        path = "/rooms/room/versions/2020-01-01/restore"
        assert await ask(other, "POST", path) == await ask(one, "POST", path)
        assert (await ask(other, "POST", RESTORE, signed()))[0] == 403


async def test_an_owner_that_cannot_be_asked_is_named(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without CLUSTER_SECRET, or if the owner does not answer, nothing is changed and the answer says why."""
    alone = {"database_url": url, **TOKENS}
    async with running(tmp_path, **alone) as one, running(tmp_path, **alone) as other:
        ann = await vandalized(one)
        status, answer = await ask(other, "POST", RESTORE)
        assert (status, "CLUSTER_SECRET" in answer["error"]) == (409, True)
        assert ann.text == "vandal"
    async with two(tmp_path, url, **TOKENS) as (one, other):
        await one.join(f"room?token={signed()}", 4)
        monkeypatch.setattr("opennoodl_sync.cluster.peers.ASK_TIMEOUT", 0.0001)
        status, answer = await ask(other, "POST", RESTORE)
        assert (status, answer["error"]) == (503, "The server of this document cannot be reached now. Connect again.")


async def test_a_room_is_closed_at_its_owner(tmp_path: Path, url: str) -> None:
    """A room that another instance has open is closed there; no instance lets anybody in until it is opened again."""
    async with two(tmp_path, url, **TOKENS) as (one, other):
        ann = await one.join(f"room?token={signed()}", 1)
        ben = await other.join(f"room?token={signed()}", 2)
        assert await ask(other, "POST", "/rooms/room/close") == (200, {"disconnected": 2})
        assert [await client.ended() for client in (ann, ben)] == [1013, 1013]
        for server in (one, other):
            client = await server.join(f"room?token={signed()}", 3, sync=False)
            assert await client.ended() == 1013
        assert await ask(other, "POST", "/rooms/room/open") == (200, {"disconnected": 0})
        await other.join(f"room?token={signed()}", 4)
        assert await ask(other, "POST", "/rooms/room/kick") == (200, {"disconnected": 1})
        assert "room" not in other.app.rooms.rooms
