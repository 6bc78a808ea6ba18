"""Operators disconnect clients, close and open rooms, and see which rooms are large or busy."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from opennoodl_sync.commands import remote
from opennoodl_sync.edge.command_line import CommandError
from opennoodl_sync.pages.rooms import KICKED
from opennoodl_sync.rooms.room import ROOM_CLOSED
from opennoodl_sync.settings import Settings

from .client import Client, Server, running
from .disks import until
from .edge.issuer import SECRET, signed
from .editor import Editor
from .test_pages_versions import RESTORE, TIME, ask, keep

TOKENS: dict[str, Any] = {"auth": "jwt", "auth_secret": SECRET, "versions": "off"}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have refused clients closed at once, and requests answered when their work has ended, on a busy machine too."""
    monkeypatch.setattr("opennoodl_sync.edge.admission.refusal_delay.FIRST", 0.01)
    monkeypatch.setattr("opennoodl_sync.edge.admission.refusal_delay.LONGEST", 0.02)
    monkeypatch.setattr("opennoodl_sync.edge.service.OPEN_TIMEOUT", 60.0)
    monkeypatch.setattr("opennoodl_sync.pages.routes.PATIENCE", 50.0)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    """Run a server with AUTH."""
    async with running(tmp_path / "data", **TOKENS) as server:
        yield server


async def enter(server: Server, number: int, room: str = "room") -> Client:
    """Join a room."""
    return await server.join(f"{room}?token={signed()}", number)


async def try_to_enter(server: Server, number: int) -> Client:
    """Join `room` and wait until that is refused; return the client."""
    client = await server.join(f"room?token={signed()}", number, sync=False)
    await client.ended()
    return client


def told(client: Client) -> tuple[int | None, str, bytes]:
    """Return the code, the reason and the last message that a client was closed with."""
    return client.code, str(client.socket.close_reason), client.messages[-1][3:]


async def test_a_closed_room_lets_nobody_in(server: Server) -> None:
    """Members are told why and disconnected, their changes are kept, and nobody comes in until the room is opened."""
    ann, ben = await enter(server, 1), await enter(server, 2)
    await ann.type("hello")
    await ben.shows("hello")
    assert await ask(server, "POST", "/rooms/room/close") == (200, {"disconnected": 2})
    for client in (ann, ben):
        await client.ended()
        assert told(client) == (1013, ROOM_CLOSED, ROOM_CLOSED.encode())
    assert told(await try_to_enter(server, 3)) == (1013, ROOM_CLOSED, ROOM_CLOSED.encode())
    assert server.app.refusals.counts["room-closed"] == 3
    assert await ask(server, "POST", "/rooms/room/open") == (200, {"disconnected": 0})
    assert (await enter(server, 4)).text == "hello"


async def test_a_room_stays_closed_over_a_restart(tmp_path: Path) -> None:
    """A room that nobody has opened yet can be closed; it stays closed, and takes no place in memory."""
    async with running(tmp_path, **TOKENS) as server:
        assert await ask(server, "POST", "/rooms/room/close") == (200, {"disconnected": 0})
    async with running(tmp_path, room_idle_timeout=0, **TOKENS) as server:
        assert told(await try_to_enter(server, 1))[0] == 1013
        await until(lambda: not server.app.rooms.rooms)
        assert (await ask(server, "GET", "/rooms"))[1]["closed"] == ["room"]


async def test_an_operator_restores_a_room_that_was_vandalized(server: Server) -> None:
    """A version is restored while the room is closed, and again while everybody is connected."""
    ann = await enter(server, 1)
    await ann.type("hello")
    await (await enter(server, 2)).shows("hello")
    await keep(server, ann.doc.get_update())
    eve = await enter(server, 3)
    eve.delete(0, 5)
    await eve.push_edits()
    await ann.until(lambda: ann.text == "")
    assert (await ask(server, "POST", RESTORE))[0] == 200
    await ann.until(lambda: ann.text == "hello")
    await eve.until(lambda: eve.text == "hello")
    eve.delete(0, 5)
    await eve.push_edits()
    await ann.until(lambda: ann.text == "")
    await ask(server, "POST", "/rooms/room/close")
    await eve.ended()
    assert (await ask(server, "POST", RESTORE))[0] == 200
    assert told(await try_to_enter(server, 4))[0] == 1013
    await ask(server, "POST", "/rooms/room/open")
    assert (await enter(server, 5)).text == "hello"


async def test_kicked_clients_may_come_back(server: Server) -> None:
    """The clients of one room are told why and disconnected; they may connect again."""
    ann, cleo = await enter(server, 1), await enter(server, 2, "other")
    await ann.type("hello")
    assert await ask(server, "POST", "/rooms/room/kick") == (200, {"disconnected": 1})
    await ann.ended()
    assert told(ann) == (1013, KICKED, KICKED.encode())
    assert (await enter(server, 3)).text == "hello"
    assert cleo.code is None
    assert await ask(server, "POST", "/rooms/nobody/kick") == (200, {"disconnected": 0})


async def test_stats_show_the_rooms_that_a_token_allows(server: Server) -> None:
    """The largest and the busiest rooms come first, then those with most versions; a token sees only its own rooms."""
    ann, ben = await enter(server, 1, "large"), await enter(server, 2)
    await ann.type("x" * 1000)
    for word in ("one", "two", "three"):
        await ben.type(word)
        await (await enter(server, 3)).shows(word)
    await keep(server, ben.doc.get_update())
    _, stats = await ask(server, "GET", "/rooms")
    assert stats["documents"] == 2
    assert [one["room"] for one in stats["largest"]] == ["large", "room"]
    assert [(one["room"], one["changes"], one["clients"]) for one in stats["busiest"]] == [
        ("room", 3, 4),
        ("large", 1, 1),
    ]
    (most,) = stats["mostVersions"]
    assert (most["room"], most["versions"]) == ("room", 1)
    shown = signed(services=True, rooms=["la*"])
    _, stats = await ask(server, "GET", "/rooms", shown)
    assert (stats["documents"], [one["room"] for one in stats["largest"]], stats["mostVersions"]) == (1, ["large"], [])


async def test_stats_show_few_rooms(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many rooms there are, each list is short."""
    monkeypatch.setattr("opennoodl_sync.pages.rooms.SHOWN", 2)
    monkeypatch.setattr("opennoodl_sync.pages.rooms.MAX_CLOSED", 1)
    for number in range(3):
        ann = await enter(server, number + 1, f"room-{number}")
        await ann.type("x")
        await keep(server, ann.doc.get_update(), room=f"room-{number}")
        await ask(server, "POST", f"/rooms/closed-{number}/close")
    _, stats = await ask(server, "GET", "/rooms")
    lists = [stats[name] for name in ("largest", "busiest", "mostVersions", "closed")]
    assert [len(one) for one in lists] == [2, 2, 2, 1]


@pytest.mark.parametrize(
    ("token", "status"),
    [
        (None, 401),
        (signed(services=True, exp=1), 401),
        (signed(), 403),
        (signed(services=True, rooms=["other"]), 403),
        (signed(services=True, access="read"), 403),
    ],
)
@pytest.mark.parametrize("act", ["kick", "close", "open"])
async def test_only_a_service_disconnects_anybody(server: Server, token: str | None, status: int, act: str) -> None:
    """A token without `services`, for other rooms or for reading alone disconnects nobody and closes nothing."""
    ann = await enter(server, 1)
    code, answer = await ask(server, "POST", f"/rooms/room/{act}", token)
    assert (code, set(answer)) == (status, {"error"})
    assert (await ask(server, "GET", f"/rooms/room/{act}"))[0] == 405
    assert ann.code is None
    assert (await ask(server, "GET", "/rooms"))[1]["closed"] == []


@pytest.mark.parametrize("room", ["a%20b", "a/versions", "%00", "x" * 256, "..%2f"])
async def test_odd_names_of_rooms(server: Server, room: str) -> None:
    """A name is taken as it stands in the path, whatever it has; a longer one is none."""
    assert (await ask(server, "POST", f"/rooms/{room}/close"))[0] == 200
    assert (await ask(server, "GET", "/rooms"))[1]["closed"] == [room]
    assert (await ask(server, "GET", f"/rooms/{room}/versions"))[1] == {"versions": []}
    client = await server.join(f"{room}?token={signed()}", 1, sync=False)
    assert await client.ended() == 1013


async def test_an_operator_can_run_the_commands(server: Server) -> None:
    """`close` asks the server at its URL, with a token that it signs."""
    await enter(server, 1)
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "opennoodl_sync", "close", "room"),
        *("--url", f"http://127.0.0.1:{server.service.port}"),
        env={"AUTH": "jwt", "AUTH_SECRET": SECRET, "PYTHONPATH": ":".join(sys.path)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(60):
        said, _ = await child.communicate()
    assert said.decode() == "the room is closed; disconnected: 1 client\n"


async def test_commands_ask_a_running_server(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator's commands show and restore rooms of a server that holds the data directory."""
    monkeypatch.delenv("TOKEN", raising=False)
    ann = await enter(server, 1)
    await ann.type("hello")
    await (await enter(server, 2)).shows("hello")
    await keep(server, ann.doc.get_update())
    url = f"http://127.0.0.1:{server.service.port}"
    here = remote.server(Settings(**TOKENS), url)

    def run() -> list[object]:
        return [
            remote.change_room(here, "kick", "room"),
            remote.change_room(here, "open", "room"),
            next(remote.stats(here)),
            next(remote.versions(here, "room")).split()[0],
            remote.version(here, "room", TIME, "json"),
            remote.revert(here, "room", TIME).partition(";")[0],
        ]

    assert await asyncio.to_thread(run) == [
        "disconnected: 2 clients",
        "the room is open; disconnected: 0 clients",
        "in memory: 1 document",
        TIME,
        b'{"t":"hello"}',
        f"restored the version of {TIME}",
    ]
    update = await asyncio.to_thread(remote.version, here, "room", TIME, "update")
    assert Editor(3, update).text == "hello"


@pytest.mark.parametrize(
    ("url", "settings", "message"),
    [
        ("localhost:4445", TOKENS, "localhost:4445 is not the URL of a server; accepted is http://host:port or"),
        ("http://127.0.0.1:1", TOKENS, "http://127.0.0.1:1 cannot be reached: "),
        ("", {}, "the server refuses: A token is required, as a bearer token. Set TOKEN to a token with `services`"),
        ("", {"auth": "jwt", "auth_secret": "x" * 32}, "the server refuses: The token is not signed"),
    ],
)
async def test_a_command_that_a_server_does_not_take_says_why(
    server: Server, monkeypatch: pytest.MonkeyPatch, url: str, settings: dict[str, Any], message: str
) -> None:
    """A wrong URL, a server that is away, and a token that is missing or wrong are one line each."""
    monkeypatch.delenv("TOKEN", raising=False)

    def close() -> str:
        at = remote.server(Settings(**settings), url or f"http://127.0.0.1:{server.service.port}")
        return remote.change_room(at, "close", "room")

    with pytest.raises(CommandError) as refused:
        await asyncio.to_thread(close)
    assert str(refused.value).startswith(message)


@pytest.mark.parametrize(
    ("settings", "patched", "said"),
    [
        pytest.param({}, {"pages.routes.PATIENCE": 0.0}, "the server works on it still; `versions` shows", id="202"),
        pytest.param(
            {"max_memory": 2**20},
            {},
            "the server refuses: This version cannot be used: its updates take 200012 bytes; allowed are 131072.",
            id="409",
        ),
        pytest.param(
            {},
            {"edge.admission.address_limits.AddressLimits.allow_request": lambda *_: False},
            "the server refuses: Too many requests from your address.",
            id="429",
        ),
        pytest.param(
            {},
            {"pages.routes.MAX_REQUESTS": 0},
            "the server refuses: Too many requests wait; try again later.",
            id="503",
        ),
    ],
)
async def test_revert_says_what_a_busy_server_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], patched: dict[str, object], said: str
) -> None:
    """A restoration that takes long, and one that a limit refuses, are one line each; what is refused changes nothing.

    A document of more than an eighth of `MAX_MEMORY` is not restored.
    """
    async with running(tmp_path, **TOKENS, **settings) as server:
        ann = await enter(server, 1)
        await ann.type("x" * 200_000)
        await (await enter(server, 2)).shows("x" * 200_000)
        await keep(server, b"\x00\x00")
        for name, value in patched.items():
            monkeypatch.setattr(f"opennoodl_sync.{name}", value)
        at = remote.server(Settings(**TOKENS), f"http://127.0.0.1:{server.service.port}")
        if said.startswith("the server works"):
            assert (await asyncio.to_thread(remote.revert, at, "room", TIME)).startswith(said)
            await ann.until(lambda: ann.text == "")
        else:
            with pytest.raises(CommandError, match=f"^{re.escape(said)}$"):
                await asyncio.to_thread(remote.revert, at, "room", TIME)
            assert ann.text == "x" * 200_000


async def test_a_command_needs_a_server_with_auth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server without AUTH has no such pages, and the command says what it needs."""
    monkeypatch.delenv("TOKEN", raising=False)
    async with running(tmp_path) as server:
        at = remote.server(Settings(), f"http://127.0.0.1:{server.service.port}")
        with pytest.raises(CommandError, match="needs a sync server with AUTH and ENABLE_PERSISTENCE"):
            await asyncio.to_thread(remote.change_room, at, "close", "room")
