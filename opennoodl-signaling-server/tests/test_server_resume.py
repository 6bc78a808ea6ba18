"""Resuming, over sockets: a connection is cut, another takes its place, and the others see nothing."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from opennoodl_signaling.edge.service import Service
from opennoodl_signaling.edge.websocket.connection import Connection

from .conftest import Enter, EnterRaw, StartServer
from .edge.conftest import Configure
from .edge.harness import CLOSE, PING, TIMEOUT, request
from .editor import Editor, news
from .test_server_session import info

X = {"room": "r", "peer": "x", "user": "X"}


async def cut(editor: Editor) -> None:
    """Cut an editor's connection, and wait until its server has noticed."""
    noticed, lost = asyncio.Event(), Connection.connection_lost

    def connection_lost(connection: Connection, exc: Exception | None) -> None:
        lost(connection, exc)
        noticed.set()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Connection, "connection_lost", connection_lost)
        editor.socket.transport.abort()
        async with asyncio.timeout(TIMEOUT):
            await noticed.wait()


async def both(server: Service, enter: Enter) -> tuple[Editor, Editor, str]:
    """Return a peer that looks on, and x, which can resume, with its token."""
    other, x = await enter(server), await enter(server)
    await other.join("r", "o")
    token = (await x.join(**X, resume=True))["resumeToken"]
    assert await other.expect("peer-joined") == news("x", "X")
    return other, x, token


async def test_resumed_client_gets_its_signals_unnoticed(server: Service, enter: Enter) -> None:
    """A client that resumes is in its room with the signals sent meanwhile, and nobody notices."""
    other, x, token = await both(server, enter)
    await cut(x)
    for number in range(3):
        await other.send("signal", to="x", signal=number)
    await other.quiet()
    again = await enter(server)
    answer = await again.join(**X, resumeToken=token)
    assert answer.pop("resumeToken") != token
    assert answer == {"room": "r", "peerId": "x", "peers": [news("o")], "resumed": True}
    for number in range(3):
        assert await again.expect("signal") == {"from": "o", "signal": number}
    await again.send("signal", to="o", signal="hello")
    assert await other.expect("signal") == {"from": "x", "signal": "hello"}
    await other.quiet()
    await again.quiet()


async def test_resume_again_and_again(server: Service, enter: Enter) -> None:
    """A peer may lose its connection as often as it likes."""
    other, x, token = await both(server, enter)
    for _ in range(5):
        await cut(x)
        x = await enter(server)
        answer = await x.join(**X, resumeToken=token)
        assert answer["resumed"] is True
        token = answer["resumeToken"]
    await other.quiet()


@pytest.mark.in_memory
async def test_token_does_not_wait_for_a_half_open_connection(
    server: Service, enter: Enter, enter_raw: EnterRaw
) -> None:
    """With its token, nobody waits for the ping of a connection that is dead and seems open; that gets 4409."""
    other = await enter(server)
    await other.join("r", "o")
    dead = await enter_raw(server, {"type": "join", "room": "r", "peerId": "x", "userId": "X", "resume": True})
    await other.expect("peer-joined")
    app: Any = server.app
    token = app.rooms.rooms["r"].peers["x"].resumption.token
    again = await enter(server)
    assert (await again.join(**X, resumeToken=token))["resumed"] is True
    closed = await dead.frame_of(CLOSE)
    assert closed is not None
    assert closed.code == 4409
    dead.reset()
    await other.quiet()


@pytest.mark.in_memory
async def test_lost_before_it_is_asked(server: Service, enter: Enter) -> None:
    """A connection that is found lost just before its probe is not present."""
    other, *_ = await both(server, enter)
    app: Any = server.app
    again = await enter(server)
    join = app.rooms.join

    def join_(*args: Any) -> Any:
        effects = join(*args)
        asyncio.get_running_loop().call_soon(app.rooms.rooms["r"].peers["x"].peer.abort)
        return effects

    app.rooms.join = join_
    await again.join(**X)
    await other.expect("peer-left")
    await other.expect("peer-joined")
    await other.quiet()


async def test_end_of_the_grace_voids_the_token(start: StartServer, enter: Enter) -> None:
    """When the grace is over the others are told, once, and the token is worth nothing."""
    server = await start(resume_grace=50)
    other, x, token = await both(server, enter)
    await cut(x)
    assert await other.receive() == {"type": "peer-left", "peerId": "x"}
    again = await enter(server)
    assert "resumed" not in await again.join(**X, resumeToken=token)
    assert await other.expect("peer-joined") == news("x", "X")
    await other.quiet()


async def test_grace_ends_with_the_absence(start: StartServer, enter: Enter) -> None:
    """A peer that returned in time does not leave at the end of the grace."""
    failures: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    server = await start(resume_grace=1000)
    other, x, token = await both(server, enter)
    await cut(x)
    again = await enter(server)
    await again.join(**X, resumeToken=token)
    late = await enter(server)
    await late.join("r", "l", resume=True)
    await cut(late)  # its grace ends after the one of x would have
    assert await other.expect("peer-joined") == news("l")
    assert await other.expect("peer-left") == {"peerId": "l"}
    await other.quiet()
    assert failures == []


async def test_default_grace_is_10_seconds(server: Service) -> None:
    """By default, a peer has 10 seconds to come back."""
    app: Any = server.app
    assert app.settings.resume_grace == 10_000


async def test_grace_of_zero_gives_no_tokens(start: StartServer, enter: Enter) -> None:
    """With RESUME_GRACE=0 nobody is waited for, and there are no tokens."""
    server = await start(resume_grace=0)
    other, x = await enter(server), await enter(server)
    await other.join("r", "o")
    assert "resumeToken" not in await x.join(**X, resume=True)
    await other.expect("peer-joined")
    x.socket.transport.abort()
    assert await other.receive() == {"type": "peer-left", "peerId": "x"}


async def test_client_without_the_token_gets_no_signals(server: Service, enter: Enter) -> None:
    """A client without the token gets the place and not the signals; their sender is told, and calls it anew."""
    other, x, _ = await both(server, enter)
    await cut(x)
    await other.send("signal", to="x", signal="for the one before", requestId="s1")
    await other.quiet()
    again = await enter(server)
    assert await again.join(**X) == {"room": "r", "peerId": "x", "peers": [news("o")]}
    lost = await other.expect("error")
    assert (lost["code"], lost["peerId"], lost["requestId"]) == ("peer-not-found", "x", "s1")
    assert await other.expect("peer-left") == {"peerId": "x"}
    assert await other.expect("peer-joined") == news("x", "X")
    await other.quiet()
    await again.quiet()


async def test_same_token_works_after_a_lost_joined(server: Service, enter: Enter, enter_raw: EnterRaw) -> None:
    """If a second cut takes the answer to a resume away, the same token gets all that it would have brought."""
    other, x, token = await both(server, enter)
    await cut(x)
    for number in range(5):
        await other.send("signal", to="x", signal=number)
    await other.quiet()
    deaf = await enter_raw(server, {"type": "join", "room": "r", "peerId": "x", "userId": "X", "resumeToken": token})
    assert await deaf.frame_of(PING) is not None  # it was told all that there was, and answers nothing
    again = await enter(server)
    assert (await again.join(**X, resumeToken=token))["resumed"] is True
    assert [(await again.expect("signal"))["signal"] for _ in range(5)] == [0, 1, 2, 3, 4]
    await again.quiet()
    await other.quiet()


async def test_answered_ping_ends_the_former_token(server: Service, enter: Enter) -> None:
    """A client that answers the ping after its `joined` has that, so the token before is void."""
    other, x, token = await both(server, enter)
    await cut(x)
    again = await enter(server)
    await again.join(**X, resumeToken=token)
    await again.quiet()  # its library has answered the ping by now
    third = await enter(server)
    assert await third.refused("join", room="r", peerId="x", userId="X", resumeToken=token) == "peer-id-taken"
    await again.quiet()
    await other.quiet()


async def test_new_metadata_reaches_everybody(server: Service, enter: Enter) -> None:
    """A peer's new metadata is told to the others, and to those who come later."""
    other, x, _ = await both(server, enter)
    await x.send("metadata", metadata={"name": "Ann"})
    assert await other.expect("peer-updated") == news("x", "X", {"name": "Ann"})
    assert (await x.join(**X, resume=True, metadata={"name": "Ann"}))["peers"] == [news("o")]
    await other.quiet()
    late = await enter(server)
    assert (await late.join("r", "l"))["peers"] == [news("o"), news("x", "X", {"name": "Ann"})]


async def test_metadata_of_a_peer_that_resumes(server: Service, enter: Enter) -> None:
    """Metadata that a peer brings when it resumes is told to the others."""
    other, x, token = await both(server, enter)
    await cut(x)
    again = await enter(server)
    await again.join(**X, resumeToken=token, metadata={"name": "Ann"})
    assert await other.expect("peer-updated") == news("x", "X", {"name": "Ann"})


@pytest.mark.parametrize(
    ("fields", "code"), [({"metadata": "x" * 16_384}, "too-large"), ({}, "missing-field"), ({"metadata": 1}, None)]
)
async def test_metadata_is_bounded_json(
    server: Service, enter: Enter, fields: dict[str, Any], code: str | None
) -> None:
    """Metadata is any JSON of a bounded size."""
    other, x, _ = await both(server, enter)
    if code is None:
        await x.send("metadata", **fields)
        assert (await other.expect("peer-updated"))["metadata"] == 1
    else:
        assert await x.refused("metadata", **fields) == code


async def test_metadata_without_a_room(server: Service, enter: Enter) -> None:
    """Metadata belongs to a peer of a room."""
    assert await (await enter(server)).refused("metadata", metadata={}) == "not-in-room"


async def test_error_names_the_peer(server: Service, enter: Enter) -> None:
    """The error about a signal that nobody gets names whom it was for."""
    a = await enter(server)
    await a.join("r", "a")
    answer = await a.ask("signal", to="b", signal=1, requestId=7)
    assert (answer["code"], answer["peerId"], answer["requestId"]) == ("peer-not-found", "b", 7)


async def test_absent_host_is_shown_as_host(server: Service, enter: Enter) -> None:
    """An absent host is still shown as host."""
    x = await enter(server)
    await x.join(**X, resume=True, session={"title": "T"})
    await (await enter(server)).join("r", "o")
    await x.expect("peer-joined")
    await cut(x)
    seen = await info(server, "r")
    assert (seen["host"]["userId"], seen["participantCount"], seen["title"]) == ("X", 2, "T")


@pytest.mark.in_memory
async def test_stop_leaves_no_timer(start: StartServer, enter: Enter) -> None:
    """A server that stops waits for nobody, and leaves no timer behind."""
    server = await start()
    app: Any = server.app
    other, x, _ = await both(server, enter)
    await cut(x)
    await server.stop()
    assert await other.closed() == 1001
    assert app.rooms.rooms == app.users.devices == app.effects.absent == {}


async def test_malformed_token_is_refused(server: Service, enter: Enter) -> None:
    """A token that is no text, or too long for one, is refused as any other bad field."""
    x = await enter(server)
    for token in (1, [], "x" * 257):
        code = await x.refused("join", room="r", peerId="x", userId="X", resumeToken=token)
        assert code == "invalid-field"
    await x.join(**X, resumeToken=None)


async def test_token_is_neither_logged_nor_told(
    start: StartServer, enter: Enter, configure: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    """No token is logged, and none is told to anybody but the peer itself."""
    configure("debug", "text")
    logging.getLogger("opennoodl").debug("this is logged")
    server = await start()
    other, x, token = await both(server, enter)
    await cut(x)
    again = await enter(server)
    second = (await again.join(**X, resumeToken=token))["resumeToken"]
    await again.refused("signal", to="nobody", signal=1)
    late = await enter(server)
    assert "resumeToken" not in str(await late.join("r", "l"))
    assert await other.expect("peer-joined") == news("l")
    pages = [(await request(server.port, f"GET {path}")).body for path in ("/health", "/metrics", "/session/r/info")]
    said = capsys.readouterr()
    written = said.out + said.err + str(pages)
    assert "this is logged" in written
    assert token not in written
    assert second not in written
