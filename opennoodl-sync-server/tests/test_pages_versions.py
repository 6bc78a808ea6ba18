"""Versions beside clients at work: a service lists them and restores one over HTTP."""

from __future__ import annotations

import asyncio
import json
import math
from base64 import b64decode
from collections.abc import AsyncIterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from opennoodl_sync.storage.interface import PersistentStore, Version
from opennoodl_sync.versions.content import unpack
from opennoodl_sync.versions.making import make_version
from opennoodl_sync.versions.times import read
from opennoodl_sync.workers.version_process import make

from .client import Client, Server, running
from .conftest import Disk
from .disks import until
from .edge.issuer import SECRET, signed
from .editor import Editor
from .wire import update_message

TIME = "2026-11-28T09:00:00Z"
LIST, RESTORE = "/rooms/room/versions", f"/rooms/room/versions/{TIME}/restore"


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a restoration answered when it has ended, also on a busy machine."""
    monkeypatch.setattr("opennoodl_sync.edge.service.OPEN_TIMEOUT", 60.0)
    monkeypatch.setattr("opennoodl_sync.pages.routes.PATIENCE", 50.0)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    """Run a server with AUTH that makes no version by itself: tests compare the list of versions."""
    async with running(tmp_path / "data", auth="jwt", auth_secret=SECRET, versions="off") as server:
        yield server


async def ask(server: Server, method: str, path: str, token: str | None = "") -> tuple[int, dict[str, Any]]:
    """Send a request with a service's token, another one, or none; return the status and the answer."""
    shown = signed(sub="robot", services=True) if token == "" else token

    def send() -> tuple[int, dict[str, Any]]:
        connection = HTTPConnection("127.0.0.1", server.service.port, timeout=60)
        headers = {"Accept": "application/json"} | ({} if shown is None else {"Authorization": f"Bearer {shown}"})
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())

    return await asyncio.to_thread(send)


def store_of(server: Server) -> PersistentStore:
    """Return the store of a server."""
    store = server.app._store
    assert isinstance(store, PersistentStore)
    return store


async def keep(server: Server, *updates: bytes, time: str = TIME, room: str = "room") -> None:
    """Keep a version of a room."""
    content = make([*updates])
    await store_of(server).change_versions(room, [(Version(read(time), len(content), -1), content)], [])


async def enter(server: Server, number: int, *known: bytes) -> Client:
    """Join `room` with a token."""
    return await server.join(f"room?token={signed()}", number, *known)


async def test_a_version_is_restored_beside_clients(server: Server) -> None:
    """Connected clients see it, one that was away keeps its changes, and what was there is a version."""
    ann, ben = await enter(server, 1), await enter(server, 2)
    await ann.type("hello world")
    await ben.shows("hello world")
    away = Editor(3, ann.doc.get_update())
    await keep(server, ann.doc.get_update())
    ann.delete(0, 11)
    await ann.push_edits()
    await ann.type("vandal")
    await ben.shows("vandal")
    assert ben.text == "vandal"
    status, answer = await ask(server, "POST", RESTORE)
    assert (status, answer["restored"]["time"]) == (200, TIME)
    for client in (ann, ben):
        await client.until(lambda client=client: client.text == "hello world")  # type: ignore[misc]
    away.write("!", 11)
    back = await enter(server, 3, away.doc.get_update())
    await back.socket.send(update_message(away.updates[-1]))
    await ann.shows("hello world!")
    listed = (await ask(server, "GET", LIST))[1]["versions"]
    assert listed == [answer["restored"], answer["before"]]
    before = await store_of(server).read_version("room", read(answer["before"]["time"]))
    assert before is not None


async def test_an_edit_during_a_restoration_is_kept(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """An edit is either in the version of the state before, or in the document afterwards."""
    ann, ben = await enter(server, 1), await enter(server, 2)
    await ann.type("hello")
    await ben.shows("hello")
    await keep(server, b"\x00\x00")

    async def make_slowly(*arguments: Any) -> tuple[Version, bytes]:
        made = await make_version(*arguments)
        await ann.type("late")
        await ben.shows("late")
        return made

    monkeypatch.setattr("opennoodl_sync.pages.versions.make_version", make_slowly)
    _, answer = await ask(server, "POST", RESTORE)
    await ben.until(lambda: ben.text == "late")
    before = await store_of(server).read_version("room", read(answer["before"]["time"]))
    assert before is not None
    assert Editor(3, unpack(before)).text == "hello"


async def test_two_versions_of_one_second_are_both_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version that is due while one is restored is made after the one of the state before, with a later time."""
    monkeypatch.setattr("opennoodl_sync.versions.scheduler.CHECK_INTERVAL", math.inf)
    monkeypatch.setattr("opennoodl_sync.versions.making.time", lambda: float(read("2026-11-29T00:59:59Z")))
    async with running(tmp_path / "data", auth="jwt", auth_secret=SECRET) as server:
        ann, ben = await enter(server, 1), await enter(server, 2)
        await ann.type("hello")
        await ben.shows("hello")
        await keep(server, b"\x00\x00")
        scheduler = server.app._versions
        assert scheduler is not None
        looks: list[asyncio.Task[None]] = []

        async def make_beside_the_scheduler(*arguments: Any) -> tuple[Version, bytes]:
            made = await make_version(*arguments)
            await ann.type(" world")
            await ben.shows("hello world")
            looks.append(asyncio.create_task(scheduler.check_changed()))
            await until(lambda: scheduler.outcomes["made"] or scheduler._making._waiters)
            return made

        monkeypatch.setattr("opennoodl_sync.pages.versions.make_version", make_beside_the_scheduler)
        assert (await ask(server, "POST", RESTORE))[0] == 200
        await looks[0]
        times = [version.time for version in (await store_of(server).history("room")).versions]
    assert times == [read(TIME), read("2026-11-29T00:59:59Z"), read("2026-11-29T01:00:00Z")]


async def test_a_closed_document_is_restored(server: Server) -> None:
    """A document that nobody has open is loaded, changed, stored, and leaves memory again."""
    ann = await enter(server, 1)
    await ann.type("hello")
    await (await enter(server, 2)).shows("hello")
    await keep(server, ann.doc.get_update())
    ann.delete(0, 5)
    await ann.push_edits()
    later = await enter(server, 3)
    await later.until(lambda: later.text == "")
    for client in server.clients:
        await client.close()
    assert (await ask(server, "POST", RESTORE))[0] == 200
    assert server.app.rooms.rooms["room"] in server.app.rooms._idle
    assert Editor(4, *(await store_of(server).read("room")).updates).text == "hello"
    assert (await enter(server, 5)).text == "hello"


async def test_a_restored_version_changes_nothing_again(server: Server) -> None:
    """A version that the document is already answers at once."""
    ann = await enter(server, 1)
    await ann.type("hello")
    await (await enter(server, 2)).shows("hello")
    await keep(server, ann.doc.get_update())
    assert (await ask(server, "POST", RESTORE))[0] == 200
    assert (await enter(server, 3)).text == "hello"


async def test_a_version_is_shown(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service gets a document as it was, as an update or as JSON; a version beyond the largest answer is refused."""
    ann = await enter(server, 1)
    await ann.type("hello")
    await (await enter(server, 2)).shows("hello")
    await keep(server, ann.doc.get_update())
    path = f"{LIST}/{quote('2026-11-29T00:00:00Z', safe='')}"  # as JavaScript's encodeURIComponent has it
    status, shown = await ask(server, "GET", path)
    assert (status, shown["version"]["time"]) == (200, TIME)
    assert Editor(3, b64decode(shown["update"])).text == "hello"
    status, shown = await ask(server, "GET", path + "?format=json")
    assert (status, shown["content"]) == (200, {"t": "hello"})
    refused = await ask(server, "GET", path + "?format=xml")
    assert refused == (400, {"error": "format is 'xml'; accepted are update and json."})
    assert server.app._pages is not None
    versions = server.app._pages._versions
    monkeypatch.setattr(versions, "_bounds", versions._bounds._replace(answer=10))
    refused = await ask(server, "GET", path)
    assert refused == (413, {"error": "This version has more than 10 bytes; use the command `version`."})


@pytest.mark.parametrize(
    ("token", "status"),
    [
        (None, 401),
        ("nonsense", 401),
        (signed(), 403),
        (signed(services=True, rooms=["other"]), 403),
    ],
)
@pytest.mark.parametrize(("method", "path"), [("GET", LIST), ("GET", f"{LIST}/{TIME}"), ("POST", RESTORE)])
async def test_only_a_service_may_ask(server: Server, method: str, path: str, token: str | None, status: int) -> None:
    """A client without a service's token for the room learns and changes nothing."""
    ann = await enter(server, 1)
    await ann.type("hello")
    await (await enter(server, 2)).shows("hello")
    await keep(server, b"\x00\x00")
    code, answer = await ask(server, method, path, token)
    assert (code, set(answer)) == (status, {"error"})
    assert (await enter(server, 3)).text == "hello"


async def test_a_service_that_may_only_read_restores_nothing(server: Server) -> None:
    """A token with `services` and `"access": "read"` lists versions and restores none."""
    shown = signed(services=True, access="read")
    assert (await ask(server, "GET", LIST, shown))[0] == 200
    assert (await ask(server, "POST", RESTORE, shown))[0] == 403


async def test_mistakes_change_nothing(server: Server) -> None:
    """A mistake is answered with what is accepted."""
    ann = await enter(server, 1)
    await ann.type("hello")
    await (await enter(server, 2)).shows("hello")
    await keep(server, Editor(9).write("lost"))
    answers = [
        await ask(server, method, path)
        for method, path in (
            ("GET", RESTORE),
            ("POST", LIST),
            ("POST", LIST + "/then/restore"),
            ("POST", LIST + "/2020-01-01/restore"),
            ("POST", RESTORE),
        )
    ]
    assert [status for status, _ in answers] == [405, 405, 400, 404, 409]
    assert "accepted is a time such as" in answers[2][1]["error"]
    assert answers[3][1]["error"] == f"no version is as old as 2020-01-01T00:00:00Z; the oldest one is of {TIME}."
    assert "the document lacks changes that the version has" in answers[4][1]["error"]
    assert (await enter(server, 3)).text == "hello"


@pytest.mark.parametrize(
    "when",
    [
        pytest.param("9" * 8000, id="long"),
        *("9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", "%00", "-1"),
    ],
)
async def test_a_time_beyond_all_bounds_is_answered(server: Server, when: str) -> None:
    """A time that is none, or at either end of what a time can be, finds no version and fails nothing."""
    status, answer = await ask(server, "POST", f"{LIST}/{when}/restore")
    assert (status in (400, 404), set(answer)) == (True, {"error"})


async def test_a_full_disk_changes_nothing(disk: Disk, server: Server) -> None:
    """A restoration whose version cannot be stored is answered with 503, and changes nothing; it works later."""
    ann = await enter(server, 1)
    await ann.type("hello")
    await (await enter(server, 2)).shows("hello")
    await keep(server, b"\x00\x00")
    disk.full = True
    status, answer = await ask(server, "POST", RESTORE)
    assert (status, answer["error"].startswith("This is not possible now: ")) == (503, True)
    disk.full = False
    assert ann.text == "hello"
    assert len((await ask(server, "GET", LIST))[1]["versions"]) == 1
    assert (await ask(server, "POST", RESTORE))[0] == 200
    await ann.until(lambda: ann.text == "")


async def test_a_slow_restoration_goes_on(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A restoration that takes long is answered before it has ended, and ends nevertheless."""
    monkeypatch.setattr("opennoodl_sync.pages.routes.PATIENCE", 0.0)
    ann = await enter(server, 1)
    await ann.type("hello")
    await (await enter(server, 2)).shows("hello")
    await keep(server, b"\x00\x00")
    assert await ask(server, "POST", RESTORE) == (202, {"status": "restoring"})
    await ann.until(lambda: ann.text == "")


async def test_waiting_restorations_are_bounded(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that comes while too many wait is refused."""
    monkeypatch.setattr("opennoodl_sync.pages.routes.PATIENCE", 0.0)
    monkeypatch.setattr("opennoodl_sync.pages.routes.MAX_REQUESTS", 1)
    ann = await enter(server, 1)
    await ann.type("hello")
    await (await enter(server, 2)).shows("hello")
    await keep(server, b"\x00\x00")
    assert (await ask(server, "POST", RESTORE))[0] == 202
    refused = await ask(server, "POST", RESTORE)
    assert refused == (503, {"error": "Too many requests wait; try again later."})
    await ann.until(lambda: ann.text == "")


async def test_there_are_no_pages_without_auth(tmp_path: Path) -> None:
    """A server without AUTH has no such pages."""
    async with running(tmp_path) as server:
        assert server.app._pages is None
        connection = HTTPConnection("127.0.0.1", server.service.port, timeout=30)
        await asyncio.to_thread(connection.request, "GET", LIST)
        assert (await asyncio.to_thread(connection.getresponse)).status == 404
