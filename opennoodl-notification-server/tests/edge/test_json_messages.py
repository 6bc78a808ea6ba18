"""JSON messages are typed on the way in, and a bad one is explained to its sender without closing anything."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import AsyncIterator
from typing import Annotated, Any

import pytest
from msgspec import Meta
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from .conftest import Connect, Serve
from .harness import Echo, json_messages

Message: Any = json_messages.Message
JsonApplication: Any = json_messages.JsonApplication


class Say(Message, tag="say", frozen=True):  # type: ignore[misc,call-arg]  # see Echo
    """Is said back."""

    text: Annotated[str, Meta(min_length=1, max_length=10)]


class Break(Message, tag="break", frozen=True):  # type: ignore[misc,call-arg]  # see Echo
    """Cannot be done."""


decode = json_messages.Decoder(Say | Break)


class Parrot(JsonApplication, Echo):  # type: ignore[misc]  # see Echo
    """Says back what it understands."""

    decode = decode

    def dispatch(self, connection: Any, incoming: Any, message: bytes) -> None:
        """Say it back, or refuse."""
        if isinstance(incoming, Break):
            raise json_messages.BadMessage("cannot-break", "This does not break.")
        self.send((connection,), incoming)


async def ask(client: ClientConnection, message: str | bytes) -> Any:
    """Send a message; return the answer."""
    await client.send(message)
    return json.loads(await client.recv())


async def until_closed(client: ClientConnection) -> AsyncIterator[str | bytes]:
    """Yield the messages that come before the connection is closed."""
    with contextlib.suppress(ConnectionClosed):
        while True:
            yield await client.recv()


def deep(levels: int) -> str:
    """Return a JSON list that holds a list that holds a list ..."""
    return "[" * levels + "]" * levels


def test_decode() -> None:
    """A message is an object of the type that its `type` names; unknown fields are ignored."""
    assert decode(b' {"more": [1, {"type": "x"}], "text": "hi", "type": "say"}\n') == Say("hi")


def test_names() -> None:
    """Every type has the name by which it is counted."""
    assert decode.names == {Say: "say", Break: "break"}


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b" ",
        b"hello",
        b"[]",
        b"1",
        b'"say"',
        b"null",
        b"{",
        b'{"type": "say", "text": "hi"',
        b'{"type": "say", "text": "hi"}}',
        b'{"type": "say", "text": "hi"} {}',
        b'{"type": "say", "text": "hi", "more": [1,]}',
        b'{"type": "say", "text": "hi", "more": 01}',
        b'{"type": "say", "text": "hi", "more": "\\q"}',
        b'{"type": "say", "text": "hi", "more": NaN}',
        b"{'type': 'say'}",
        b'\xef\xbb\xbf{"type": "say", "text": "hi"}',
        deep(30_000).encode(),
        f'{{"type": "say", "text": "hi", "more": {deep(30_000)}}}'.encode(),
    ],
)
def test_not_json(message: bytes) -> None:
    """What is not one whole JSON object is invalid-json, down to the fields that nobody reads."""
    with pytest.raises(json_messages.BadMessage) as info:
        decode(message)
    assert info.value.code == "invalid-json"


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("{}", "unknown-type"),
        ('{"text": "hi"}', "unknown-type"),
        ('{"type": null}', "unknown-type"),
        ('{"type": 1}', "unknown-type"),
        ('{"type": ["say"]}', "unknown-type"),
        ('{"type": ""}', "unknown-type"),
        ('{"type": "SAY", "text": "hi"}', "unknown-type"),
        ('{"type": "say"}', "missing-field"),
        ('{"type": "say", "text": null}', "invalid-field"),
        ('{"type": "say", "text": 1}', "invalid-field"),
        ('{"type": "say", "text": ""}', "invalid-field"),
        ('{"type": "say", "text": "elevenchars"}', "invalid-field"),
    ],
)
def test_code(message: str, code: str) -> None:
    """A wrong message has a code that tells what is wrong, and a sentence."""
    with pytest.raises(json_messages.BadMessage) as info:
        decode(message.encode())
    assert info.value.code == code
    assert info.value.error.endswith(".")


async def test_answer(serve: Serve, client: Connect) -> None:
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
async def test_error(serve: Serve, client: Connect, message: str, code: str) -> None:
    """A mistake is answered with type, error and code, and the connection goes on."""
    connected = await client(await serve(Parrot))
    answer = await ask(connected, message)
    assert set(answer) == {"type", "error", "code"}
    assert (answer["type"], answer["code"]) == ("error", code)
    assert answer["error"].endswith(".")
    assert (await ask(connected, '{"type": "say", "text": "hi"}'))["text"] == "hi"


REQUEST_IDS = ("0", '"r1"', "null", '""', '{"a": [1]}', "1.5", "9" * 30, '"ü\\u0000"', "false", deep(50))


@pytest.mark.parametrize("message", ['{"type": "nonsense"%s}', '{"type": "say"%s}', '{"type": "break"%s}'])
async def test_request_id(serve: Serve, client: Connect, message: str) -> None:
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


async def test_deep_request_id(serve: Serve, client: Connect) -> None:
    """No depth of a `requestId`, also none near the limits of the recursion, closes anything."""
    connected = await client(await serve(Parrot))
    for levels in range(800, 1000, 2):
        await connected.send(f'{{"type": "break", "requestId": {deep(levels)}}}')
        assert str(await connected.recv()).startswith('{"type":"error",')


async def test_nested_request_id(serve: Serve, client: Connect) -> None:
    """Only the message's own `requestId` is echoed, not one inside of a field."""
    connected = await client(await serve(Parrot))
    assert "requestId" not in await ask(connected, '{"type": "break", "inner": {"requestId": 1}}')


async def test_binary(serve: Serve, client: Connect) -> None:
    """A binary frame is the wrong kind: 1003, even if it holds JSON."""
    connected = await client(await serve(Parrot))
    await connected.send(b'{"type": "say", "text": "hi"}')
    with pytest.raises(ConnectionClosed) as info:
        await connected.recv()
    assert info.value.rcvd is not None
    assert info.value.rcvd.code == 1003


async def test_rate(serve: Serve, client: Connect) -> None:
    """Over the rate, a message is not handled but answered with an error that echoes its `requestId`."""
    running = await serve(Parrot, rate_limit=1)
    connected = await client(running)
    for _ in range(10):
        assert (await ask(connected, '{"type": "say", "text": "hi"}'))["type"] == "say"
    answer = await ask(connected, '{"type": "say", "text": "hi", "requestId": 7}')
    assert (answer["type"], answer["code"]) == ("error", "rate-limited")
    assert running.app.metrics.rate_limited == {"messages": 1}
    assert answer.get("requestId") == 7


async def test_patience(serve: Serve, client: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that does not stop is closed with 1008; another one is served as before."""
    monkeypatch.setattr(json_messages, "PATIENCE", 5)
    running = await serve(Parrot, rate_limit=1)
    connected, other = await client(running), await client(running)
    for _ in range(16):
        await connected.send('{"type": "say", "text": "hi"}')
    answers = [json.loads(answer)["type"] async for answer in until_closed(connected)]
    assert answers == ["say"] * 10 + ["error"] * 5
    assert connected.close_code == 1008
    assert (await ask(other, '{"type": "say", "text": "hi"}'))["type"] == "say"


async def test_byte_rate(serve: Serve, client: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over the rate in bytes, messages are answered with an error as well, and then with 1008."""
    monkeypatch.setattr(json_messages, "PATIENCE", 2)
    running = await serve(Parrot, byte_rate_limit=1, max_message_size=1000)
    connected = await client(running)
    say = json.dumps({"type": "say", "text": "hi", "unknown": "x" * 400})
    for _ in range(5):
        await connected.send(say)
    answers = [json.loads(answer) async for answer in until_closed(connected)]
    assert [answer.get("code") for answer in answers] == [None, None, "rate-limited", "rate-limited"]
    assert answers[-1]["error"].startswith("Too many bytes; wait ")
    assert (connected.close_code, connected.close_reason) == (1008, "Too many bytes.")
    assert running.app.metrics.rate_limited == {"bytes": 3}


async def test_counted(serve: Serve, client: Connect) -> None:
    """Messages are counted by type; the types that clients make up are all counted as one."""
    running = await serve(Parrot)
    connected = await client(running)
    for message in ('{"type": "say", "text": "hi"}', '{"type": "made-up"}', "no JSON", '{"type": "say"}'):
        await ask(connected, message)
    assert running.app.metrics.received == {"say": 1, "unknown": 2, "invalid": 1}
    assert running.app.metrics.sent == {"say": 1, "error": 3}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (rb"\ud83d", rb"\ufffd"),
        (rb"a\uDE00b", rb"a\ufffdb"),
        (rb"\ud83d\ude00", rb"\ud83d\ude00"),
        (rb"\ud83d\ud83d\ude00\ude00", rb"\ufffd\ud83d\ude00\ufffd"),
        (rb"\ude00\ud83d", rb"\ufffd\ufffd"),
        (rb"\\ud83d", rb"\\ud83d"),
        (rb"\\\ud83d", rb"\\\ufffd"),
        (rb"\\ud83d\ude00", rb"\\ud83d\ufffd"),
        (rb"\ud83d\\ude00", rb"\ufffd\\ude00"),
        (rb"\"\n\u00fc\ud83g", rb"\"\n\u00fc\ud83g"),
        (b"\x01", b"\x01"),
    ],
)
def test_lone_surrogates(text: bytes, expected: bytes) -> None:
    """Escaped halves of surrogate pairs are replaced, and nothing else is touched."""
    assert json_messages.replace_lone_surrogates(text) == expected


@pytest.mark.parametrize("text", [rb"\ud83d", rb"\\", rb"\n", rb"\ude00x"])
def test_lone_surrogates_at_once(text: bytes) -> None:
    """However many escapes a message has, no function is called for each of them."""
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    sys.setprofile(count)
    try:
        json_messages.replace_lone_surrogates(text * 1000)
    finally:
        sys.setprofile(None)
    assert calls < 100
