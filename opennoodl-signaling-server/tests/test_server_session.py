"""A look through the door: who is in a room, for those who know its name, without joining."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import quote

import pytest
from opennoodl_signaling import session_page
from opennoodl_signaling.edge.service import Service

from .conftest import Enter, StartServer
from .edge.harness import Answer, request

FEATURES = {"audioEnabled": True, "videoEnabled": False, "screenShareEnabled": True}


async def look(server: Service, room: str, method: str = "GET") -> Answer:
    """Look into a room."""
    return await request(server.port, f"{method} /session/{quote(room, safe='')}/info")


async def info(server: Service, room: str) -> Any:
    """Return what can be seen in a room that somebody is in."""
    answer = await look(server, room)
    assert answer.status == 200, answer
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    return json.loads(answer.body)


async def test_preview_shows_session_host_and_participants(server: Service, enter: Enter) -> None:
    """A look shows the session, its host and its participants, with all the fields of the protocol."""
    a, b = await enter(server), await enter(server)
    session = {"title": "T", "description": "D", "maxParticipants": 5, "features": FEATURES}
    await a.join("r", "a", "A", metadata={"name": "Ann", "avatar": "a.png", "color": "red"}, session=session)
    await b.join("r", "b", "B")
    seen = await info(server, "r")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", seen.pop("createdAt"))
    ann = {"id": "A", "userId": "A", "name": "Ann", "avatar": "a.png"}
    assert seen == {
        "roomId": "r",
        "title": "T",
        "projectName": "T",
        "description": "D",
        "host": ann,
        "participants": [ann, {"id": "B", "userId": "B", "name": None, "avatar": None}],
        "participantCount": 2,
        "maxParticipants": 5,
        "features": FEATURES,
        **FEATURES,
        "duration": 0,
    }


async def test_undescribed_session_has_defaults(server: Service, enter: Enter) -> None:
    """A session that nobody described has the server's limit and no features."""
    await (await enter(server)).join("r", "a")
    seen = await info(server, "r")
    assert (seen["title"], seen["description"], seen["maxParticipants"]) == ("", "", 20)
    assert seen["features"] == dict.fromkeys(FEATURES, False)


async def test_looking_is_not_joining(server: Service, enter: Enter) -> None:
    """Nobody in the room notices a look, and it takes no place."""
    a = await enter(server)
    await a.join("r", "a")
    await info(server, "r")
    await a.quiet()
    assert (await info(server, "r"))["participantCount"] == 1


async def test_host_may_describe_the_session_later(server: Service, enter: Enter) -> None:
    """The host may describe the session later; the others may not."""
    a, b = await enter(server), await enter(server)
    await a.join("r", "a")
    await b.join("r", "b", session={"title": "by a guest"})
    await a.expect("peer-joined")
    assert await b.refused("session", title="by a guest") == "not-host"
    await a.send("session", title="by the host", features=FEATURES)
    await a.quiet()
    seen = await info(server, "r")
    assert (seen["title"], seen["features"]) == ("by the host", FEATURES)


@pytest.mark.in_memory
async def test_session_outlives_its_host(server: Service, enter: Enter) -> None:
    """If the host leaves, the session goes on with the peer that has been there longest."""
    a, b, c = [await enter(server) for _ in range(3)]
    await a.join("r", "a", "A", session={"title": "T"})
    created = (await info(server, "r"))["createdAt"]
    await b.join("r", "b", "B")
    await c.join("r", "c", "C")
    await b.expect("peer-joined")
    await a.socket.close()
    await b.expect("peer-left")
    seen = await info(server, "r")
    assert (seen["host"]["userId"], seen["title"], seen["createdAt"]) == ("B", "T", created)
    await b.send("session", title="U")
    await b.quiet()
    assert (await info(server, "r"))["title"] == "U"


@pytest.mark.parametrize(("wanted", "shown"), [(3, 3), (50, 20)])
async def test_lower_max_participants_holds(server: Service, enter: Enter, wanted: int, shown: int) -> None:
    """MaxParticipants can only lower MAX_ROOM_SIZE, and then holds."""
    await (await enter(server)).join("r", "0", session={"maxParticipants": wanted})
    assert (await info(server, "r"))["maxParticipants"] == shown
    for number in range(1, shown):
        await (await enter(server)).join("r", str(number))
    assert await (await enter(server)).refused("join", room="r", peerId="x", userId="x") == "room-full"


@pytest.mark.parametrize("room", ["a/b", "ü 𝄞", "a?b#c", "%2F", "..", " ", "info", "a%", "x" * 256])
async def test_room_of_any_name_is_found(server: Service, enter: Enter, room: str) -> None:
    """A room is found by any name that it may have, percent-encoded."""
    await (await enter(server)).join(room, "a")
    assert (await info(server, room))["roomId"] == room


async def test_empty_and_unknown_rooms_are_404(server: Service, enter: Enter) -> None:
    """A room that never was, one that has been left, and no name at all answer alike: 404."""
    a = await enter(server)
    await a.join("r", "a")
    await a.send("leave")
    await a.quiet()
    answers = [await look(server, room) for room in ("r", "never", "", "x" * 1000)]
    assert {answer.status for answer in answers} == {404}
    assert len({answer.body for answer in answers}) == 1
    for answer in answers:
        del answer.headers["Date"]
    assert len({str(answer.headers) for answer in answers}) == 1
    assert answers[0].headers["Access-Control-Allow-Origin"] == "*"


@pytest.mark.parametrize("accept", ["application/json", "text/html, Application/JSON;q=0.9"])
async def test_json_client_gets_a_json_error(server: Service, accept: str) -> None:
    """A client that asks for JSON by name is told in JSON that nobody is there."""
    answer = await request(server.port, "GET /session/r/info", f"Accept: {accept}")
    assert answer.status == 404
    assert answer.headers["Content-Type"] == "application/json"
    assert json.loads(answer.body) == {"error": "Nobody is in this room."}


@pytest.mark.parametrize("headers", [[], ["Accept: */*"], ["Accept: application/*, application/json5"]])
async def test_other_clients_get_a_text_error(server: Service, headers: list[str]) -> None:
    """Other clients are told in text, so that a page which takes every answer for a session fails to read it."""
    answer = await request(server.port, "GET /session/r/info", *headers)
    assert (answer.status, answer.body) == (404, b"Nobody is in this room.\n")
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-store"


async def test_topics_are_no_rooms(server: Service, enter: Enter) -> None:
    """A topic of y-webrtc has no session."""
    await (await enter(server)).subscribe("t")
    assert (await look(server, "t")).status == 404


@pytest.mark.parametrize("path", ["/session", "/session/r", "/session/r/", "/session/r/info/", "/session/r/more"])
async def test_neighbouring_paths_are_404(server: Service, enter: Enter, path: str) -> None:
    """Around it, there is nothing."""
    await (await enter(server)).join("r", "a")
    assert (await request(server.port, f"GET {path}")).status == 404


async def test_head_of_a_session_has_no_body(server: Service, enter: Enter) -> None:
    """HEAD works here as well."""
    await (await enter(server)).join("r", "a")
    answer = await look(server, "r", "HEAD")
    assert (answer.status, answer.body) == (200, b"")
    assert int(answer.headers["Content-Length"]) > 0


async def test_session_lookups_have_a_rate(server: Service, enter: Enter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guessing names is limited, and hits and misses count alike."""
    await (await enter(server)).join("r", "a")
    monkeypatch.setattr(session_page, "time", lambda: 1_000_000.0)  # so that no minute ends meanwhile
    for _ in range(session_page.LOOKS_PER_MINUTE // 2):
        assert (await look(server, "r")).status == 200
        assert (await look(server, "never")).status == 404
    for room in ("r", "never"):
        answer = await look(server, room)
        assert answer.status == 429
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert (await request(server.port, "GET /health")).status == 200


async def test_rate_of_a_network(start: StartServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole IPv6 network may guess as often as one address."""
    monkeypatch.setattr(session_page, "LOOKS_PER_MINUTE", 2)
    monkeypatch.setattr(session_page, "time", lambda: 1_000_000.0)
    server = await start(trusted_proxies="127.0.0.1")
    looks = [("2001:db8::1", 404), ("2001:db8::2", 404), ("2001:db8::3", 429), ("2001:db8:0:1::1", 404)]
    for address, status in looks:
        answer = await request(server.port, "GET /session/r/info", f"X-Forwarded-For: {address}")
        assert answer.status == status


@pytest.mark.parametrize(
    "metadata",
    ["null", "1", "[]", '"x"', '{"name":1e999}', '{"name":[1]}', "[" * 900 + "]" * 900, '{"a":"\\ud83d\\ude00"}'],
)
async def test_any_metadata_can_be_previewed(server: Service, enter: Enter, metadata: str) -> None:
    """Whatever a peer's metadata is, the others in the room can be seen."""
    a, b = await enter(server), await enter(server)
    await a.join("r", "a", "A", metadata={"name": "Ann"})
    await b.socket.send(f'{{"type":"join","room":"r","peerId":"b","userId":"B","metadata":{metadata}}}')
    await b.expect("joined")
    seen = await info(server, "r")
    assert [participant["userId"] for participant in seen["participants"]] == ["A", "B"]
    assert seen["host"]["name"] == "Ann"


async def test_no_limit_is_shown_as_0(start: StartServer, enter: Enter) -> None:
    """Without any limit, maxParticipants says so with 0, as the settings do."""
    server = await start(max_room_size=0)
    await (await enter(server)).join("r", "a")
    assert (await info(server, "r"))["maxParticipants"] == 0


async def test_another_path_is_answered_with_the_path_of_the_preview(server: Service) -> None:
    """An answer 404 names the session preview among the paths of the server."""
    answer = await request(server.port, "GET /sessions")
    assert answer.status == 404
    assert "/session/<room>/info" in answer.body.decode()
