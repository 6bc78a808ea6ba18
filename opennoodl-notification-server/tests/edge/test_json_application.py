"""A bad JSON message is answered with an error and closes nothing, unless there are too many."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from .conftest import Connect, Serve
from .harness import Echo, errors, json_application, metrics
from .test_messages import Break, decode, deep

JsonApplication: Any = json_application.JsonApplication
JsonHandler: Any = json_application.JsonHandler


class ParrotHandler(JsonHandler):  # type: ignore[misc]  # see Echo
    """Says back what it understands."""

    def dispatch(self, incoming: Any, message: bytes) -> None:
        """Say it back, or refuse."""
        if isinstance(incoming, Break):
            raise errors.BadMessage("cannot-break", "This does not break.")
        self.app.send((self.connection,), incoming)

    def close(self, *, lost: bool) -> None:
        """Do nothing."""


class Parrot(JsonApplication, Echo):  # type: ignore[misc]  # see Echo
    """Says back what it understands."""

    decode = decode
    labels = metrics.Labels(
        received=(*decode.names.values(), *json_application.UNREADABLE),
        sent=("say", "error"),
        errors=("invalid-json", "unknown-type", "missing-field", "invalid-field", "cannot-break", "rate-limited"),
    )

    def handler(self, connection: Any) -> Any:
        """Return a parrot's handler."""
        return ParrotHandler(self, connection)


async def ask(client: ClientConnection, message: str | bytes) -> Any:
    """Send a message; return the answer."""
    await client.send(message)
    return json.loads(await client.recv())


async def until_closed(client: ClientConnection) -> AsyncIterator[str | bytes]:
    """Yield the messages that come before the connection is closed."""
    with contextlib.suppress(ConnectionClosed):
        while True:
            yield await client.recv()


async def test_good_message_is_handled(serve: Serve, client: Connect) -> None:
    """A good message is handled."""
    connected = await client(await serve(Parrot))
    assert await ask(connected, '{"type": "say", "text": "hi"}') == {"type": "say", "text": "hi"}


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("hello", "invalid-json"),
        ('{"type": "nonsense"}', "unknown-type"),
        ('{"type": "say"}', "missing-field"),
        ('{"type": "say", "text": 1}', "invalid-field"),
        ('{"type": "break"}', "cannot-break"),
    ],
)
async def test_bad_message_is_answered_with_an_error(serve: Serve, client: Connect, message: str, code: str) -> None:
    """A mistake is answered with type, error and code, and the connection goes on."""
    connected = await client(await serve(Parrot))
    answer = await ask(connected, message)
    assert set(answer) == {"type", "error", "code"}
    assert (answer["type"], answer["code"]) == ("error", code)
    assert answer["error"].endswith(".")
    assert (await ask(connected, '{"type": "say", "text": "hi"}'))["text"] == "hi"


REQUEST_IDS = ("0", '"r1"', "null", '""', '{"a": [1]}', "1.5", "9" * 30, '"ü\\u0000"', "false", deep(50))


@pytest.mark.parametrize("message", ['{"type": "nonsense"%s}', '{"type": "say"%s}', '{"type": "break"%s}'])
async def test_error_echoes_the_request_id(serve: Serve, client: Connect, message: str) -> None:
    """An error echoes the `requestId` of the message that caused it, whatever that is."""
    connected = await client(await serve(Parrot))
    for request_id in REQUEST_IDS:
        answer = await ask(connected, message % f', "requestId": {request_id}')
        assert answer["type"] == "error"
        assert answer["requestId"] == json.loads(request_id)


async def test_number_out_of_range(serve: Serve, client: Connect) -> None:
    """A `requestId` that cannot be read is a mistake of its sender like any other, and closes nothing."""
    connected = await client(await serve(Parrot))
    assert (await ask(connected, '{"type": "break", "requestId": 1e999}'))["type"] == "error"
    assert (await ask(connected, '{"type": "say", "text": "hi"}'))["text"] == "hi"


async def test_deeply_nested_request_id_closes_nothing(serve: Serve, client: Connect) -> None:
    """No depth of a `requestId`, also none near the limits of the recursion, closes anything."""
    connected = await client(await serve(Parrot))
    for levels in range(800, 1000, 2):
        await connected.send(f'{{"type": "break", "requestId": {deep(levels)}}}')
        assert str(await connected.recv()).startswith('{"type":"error",')


async def test_nested_request_id_is_not_echoed(serve: Serve, client: Connect) -> None:
    """Only the message's own `requestId` is echoed, not one inside of a field."""
    connected = await client(await serve(Parrot))
    assert "requestId" not in await ask(connected, '{"type": "break", "inner": {"requestId": 1}}')


async def test_binary_frame_closes_with_1003(serve: Serve, client: Connect) -> None:
    """A binary frame is the wrong kind: 1003, even if it holds JSON."""
    connected = await client(await serve(Parrot))
    await connected.send(b'{"type": "say", "text": "hi"}')
    with pytest.raises(ConnectionClosed) as info:
        await connected.recv()
    assert info.value.rcvd is not None
    assert info.value.rcvd.code == 1003


async def test_message_over_the_rate_is_answered_with_an_error(serve: Serve, client: Connect) -> None:
    """Over the rate, a message is not handled but answered with an error that echoes its `requestId`."""
    running = await serve(Parrot, rate_limit=1)
    connected = await client(running)
    for _ in range(10):
        assert (await ask(connected, '{"type": "say", "text": "hi"}'))["type"] == "say"
    answer = await ask(connected, '{"type": "say", "text": "hi", "requestId": 7}')
    assert (answer["type"], answer["code"]) == ("error", "rate-limited")
    assert +running.app.metrics.rate_limited == {"messages": 1}
    assert answer.get("requestId") == 7


async def test_client_that_stays_over_the_rate_is_closed(
    serve: Serve, client: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that does not stop is closed with 1008; another one is served as before."""
    monkeypatch.setattr(json_application, "PATIENCE", 5)
    running = await serve(Parrot, rate_limit=1)
    connected, other = await client(running), await client(running)
    for _ in range(16):
        await connected.send('{"type": "say", "text": "hi"}')
    answers = [json.loads(answer)["type"] async for answer in until_closed(connected)]
    assert answers == ["say"] * 10 + ["error"] * 5
    assert connected.close_code == 1008
    assert (await ask(other, '{"type": "say", "text": "hi"}'))["type"] == "say"


async def test_byte_rate_closes_like_the_message_rate(
    serve: Serve, client: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over the rate in bytes, messages are answered with an error as well, and then with 1008."""
    monkeypatch.setattr(json_application, "PATIENCE", 2)
    running = await serve(Parrot, byte_rate_limit=1, max_message_size=1000)
    connected = await client(running)
    say = json.dumps({"type": "say", "text": "hi", "unknown": "x" * 400})
    for _ in range(5):
        await connected.send(say)
    answers = [json.loads(answer) async for answer in until_closed(connected)]
    assert [answer.get("code") for answer in answers] == [None, None, "rate-limited", "rate-limited"]
    assert answers[-1]["error"].startswith("Too many bytes; wait ")
    assert (connected.close_code, connected.close_reason) == (
        1008,
        "Too many bytes: you kept sending over BYTE_RATE_LIMIT.",
    )
    assert +running.app.metrics.rate_limited == {"bytes": 3}


async def test_messages_are_counted_by_known_type(serve: Serve, client: Connect) -> None:
    """Messages are counted by type; the types that clients make up are all counted as one."""
    running = await serve(Parrot)
    connected = await client(running)
    for message in ('{"type": "say", "text": "hi"}', '{"type": "made-up"}', "no JSON", '{"type": "say"}'):
        await ask(connected, message)
    assert +running.app.metrics.received == {"say": 1, "unknown": 2, "invalid": 1}
    assert +running.app.metrics.sent == {"say": 1, "error": 3}
