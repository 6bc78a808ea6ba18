"""An editor that does not get into its room leaves a line in the log with the reason, and a count in the metrics."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from time import time
from typing import Any

import pytest
import structlog
from opennoodl_signaling.edge import json_application
from opennoodl_signaling.edge.refusals import EVENT
from opennoodl_signaling.edge.service import Service
from opennoodl_signaling.signaling import REFUSALS

from .conftest import Enter, StartServer
from .edge.issuer import OTHER_SECRET, SECRET, signed
from .editor import Editor

TOKENS: dict[str, Any] = {"auth": "jwt", "auth_secret": SECRET, "auth_audience": "opennoodl"}


def token(**claims: Any) -> str:
    """Return a token for Ann in this server."""
    return signed(**{"aud": "opennoodl", **claims})


def join(**fields: Any) -> dict[str, Any]:
    """Return a message that joins a room."""
    return {"type": "join", "room": "SECRET-room", "peerId": "a", "userId": "ann", **fields}


Act = Callable[[Enter, Service], Awaitable[Editor]]


def sends(*messages: dict[str, Any]) -> Act:
    """Return what connects once for each message, and sends it."""

    async def act(enter: Enter, server: Service) -> Editor:
        for message in messages:
            editor = await enter(server)
            await editor.ask(message["type"], **{name: value for name, value in message.items() if name != "type"})
        return editor

    return act


async def waits(enter: Enter, server: Service) -> Editor:
    """Show no token, and wait for the end."""
    editor = await enter(server)
    assert await editor.closed() == 1008
    return editor


async def topics(enter: Enter, server: Service) -> Editor:
    """Subscribe to more topics than are allowed."""
    editor = await enter(server)
    assert await editor.refused("subscribe", topics=["SECRET-1", "SECRET-2"]) == "too-many-topics"
    return editor


async def second_tab(enter: Enter, server: Service) -> Editor:
    """Resume a connection that is open still, as a tab does that was duplicated."""
    first, second = await enter(server), await enter(server)
    answer = await first.join("SECRET-room", "a", "ann", resume=True)
    await second.join("SECRET-room", "a", "ann", resumeToken=answer["resumeToken"])
    assert await first.closed() == 4409
    return second


async def free_topic(enter: Enter, server: Service) -> Editor:
    """Wait for a topic in which one place becomes free."""
    first, second = await enter(server), await enter(server)
    await first.subscribe("SECRET-topic")
    assert await second.refused("subscribe", topics=["SECRET-topic"]) == "room-full"
    await first.send("unsubscribe", topics=["SECRET-topic"])
    assert await second.closed() == 1013
    return second


async def binary(enter: Enter, server: Service) -> Editor:
    """Send a binary frame, as y-websocket does to the wrong server."""
    editor = await enter(server)
    await editor.socket.send(b"SECRET")
    assert await editor.closed() == 1003
    return editor


SITUATIONS: dict[str, tuple[str, Act, dict[str, Any]]] = {
    "no token": ("token-missing", sends(join()), TOKENS),
    "a token that is none": ("token-invalid", sends(join(token="SECRET")), TOKENS),
    "an expired token": ("token-expired", sends(join(token=token(exp=1))), TOKENS),
    "a token of tomorrow": ("token-not-yet-valid", sends(join(token=token(nbf=time() + 86_400))), TOKENS),
    "a token of another issuer": ("token-signature", sends(join(token=signed(OTHER_SECRET))), TOKENS),
    "a token for another application": ("token-audience", sends(join(token=token(aud="SECRET"))), TOKENS),
    "a token of another user": ("token-user", sends(join(userId="bob", token=token())), TOKENS),
    "a token for another room": ("token-room", sends(join(token=token(rooms=["other"]))), TOKENS),
    "a token that allows only reading": ("token-access", sends(join(token=token(access="read"))), TOKENS),
    "no token at all": ("authentication-timeout", waits, TOKENS),
    "a full room": ("room-full", sends(join(), join(peerId="b")), {"max_room_size": 1}),
    "a taken peer id": ("peer-id-taken", sends(join(), join(userId="bob")), {}),
    "many topics": ("too-many-topics", topics, {"max_topics": 1}),
    "a second tab": ("replaced", second_tab, {"resume_grace": 60_000}),
    "a topic that has room again": ("topic-has-room", free_topic, {"max_room_size": 1}),
    "a binary frame": ("wrong-message-kind", binary, {}),
}


@pytest.mark.parametrize("name", SITUATIONS)
async def test_each_situation_has_a_log_line_and_a_metric(
    start: StartServer, enter: Enter, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Each situation in which an editor does not get in has its line, without what it sent, and its metric."""
    code, act, settings = SITUATIONS[name]
    if code == "authentication-timeout":
        monkeypatch.setattr(json_application, "AUTHENTICATION_TIMEOUT", 0.01)
    server = await start(**settings)
    with structlog.testing.capture_logs() as logged:
        await act(enter, server)
    line = next(line for line in logged if line["event"] == EVENT and line["code"] == code)
    assert (line["log_level"], line["reason"], line["address"]) == (
        "info",
        server.app.refusals.reasons[code],
        "127.0.0.1",
    )
    assert isinstance(line["connection"], int)
    assert "SECRET" not in repr([line for line in logged if line["log_level"] != "debug"])
    assert f'opennoodl_refusals_total{{code="{code}"}} 1.0' in server.app.metrics.text().decode()


def test_every_own_code_has_a_situation() -> None:
    """No code that only this server has is without a test."""
    with_redis = {"unavailable"}  # in cluster/test_failures.py
    assert REFUSALS.keys() <= {code for code, _, _ in SITUATIONS.values()} | with_redis


async def test_other_errors_are_no_refusals(server: Service, enter: Enter) -> None:
    """A message that is merely wrong keeps nobody out: it is counted and has no line."""
    editor = await enter(server)
    with structlog.testing.capture_logs() as logged:
        await editor.refused("nonsense")
    assert [line for line in logged if line["event"] == EVENT] == []
    assert server.app.metrics.errors["unknown-type"] == 1
