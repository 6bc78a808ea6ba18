"""Whatever a client sends, it alone bears the consequences, and the others' traffic goes on."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from opennoodl_signaling.edge.service import Service

from .conftest import Enter, EnterRaw, StartServer
from .edge.harness import CLOSE, TEXT
from .editor import Editor

LONG = "x" * 300


class Talk:
    """Two peers that go on talking, whatever somebody else does."""

    def __init__(self, a: Editor, b: Editor) -> None:
        self.a = a
        self.b = b

    async def goes_on(self) -> None:
        """Find out that both dialects still work for them, and that they were told nothing else."""
        await self.a.send("signal", to="b", signal="offer")
        assert await self.b.expect("signal") == {"from": "a", "signal": "offer"}
        await self.b.send("publish", topic="t", data=1)
        for editor in (self.a, self.b):
            assert await editor.expect("publish") == {"topic": "t", "data": 1, "clients": 2}
            await editor.quiet()


@pytest.fixture
async def talk(server: Service, enter: Enter) -> Talk:
    """Return two peers of a room and a topic."""
    a, b = await enter(server), await enter(server)
    await a.join("r", "a", "A")
    await b.join("r", "b", "B")
    await a.expect("peer-joined")
    await a.subscribe("t")
    await b.subscribe("t")
    return Talk(a, b)


BAD: list[tuple[str, str]] = [
    ("", "invalid-json"),
    ("hello", "invalid-json"),
    ('{"type": "join"', "invalid-json"),
    ("[]", "invalid-json"),
    ('"join"', "invalid-json"),
    ("null", "invalid-json"),
    ("42", "invalid-json"),
    ("[" * 20_000, "invalid-json"),
    ('{"type": "publish", "topic": "t", "data": "a\nb"}', "invalid-json"),
    ('{"type": "publish", "topic": "t", "data": tru}', "invalid-json"),
    ('{"type": "signal", "to": "a", "signal": "\\x"}', "invalid-json"),
    ('{"type": "publish", "topic": "t"} {}', "invalid-json"),
    ("{}", "unknown-type"),
    ('{"type": "nonsense"}', "unknown-type"),
    ('{"type": ["join"]}', "unknown-type"),
    ('{"type": "joined", "room": "r"}', "unknown-type"),
    ('{"type": "error"}', "unknown-type"),
    ('{"type": "join", "room": "r"}', "missing-field"),
    ('{"type": "signal", "to": "a"}', "missing-field"),
    ('{"type": "invite", "targetUserId": "A"}', "missing-field"),
    ('{"type": "register"}', "missing-field"),
    ('{"type": "publish"}', "missing-field"),
    ('{"type": "join", "room": 1, "peerId": "x", "userId": "X"}', "invalid-field"),
    ('{"type": "join", "room": "r", "peerId": "", "userId": "X"}', "invalid-field"),
    (f'{{"type": "join", "room": "{LONG}", "peerId": "x", "userId": "X"}}', "invalid-field"),
    (f'{{"type": "join", "room": "r", "peerId": "{LONG}", "userId": "X"}}', "invalid-field"),
    (f'{{"type": "register", "userId": "{LONG}"}}', "invalid-field"),
    (f'{{"type": "subscribe", "topics": ["{LONG}"]}}', "invalid-field"),
    ('{"type": "subscribe", "topics": "t"}', "invalid-field"),
    ('{"type": "leave", "room": 7}', "invalid-field"),
    ('{"type": "signal", "to": "a", "signal": 1}', "not-in-room"),
    ('{"type": "session", "title": "mine"}', "not-in-room"),
    ('{"type": "invite", "targetUserId": "A", "roomId": "r"}', "not-registered"),
    ('{"type": "join", "room": "r", "peerId": "a", "userId": "X"}', "peer-id-taken"),
]


@pytest.mark.parametrize(("message", "code"), BAD, ids=[f"{code}-{message[:40]!r}" for message, code in BAD])
async def test_mistake_is_answered_to_its_sender_alone(
    server: Service, enter: Enter, talk: Talk, message: str, code: str
) -> None:
    """A mistake is answered with an error to its sender alone, who may go on."""
    sender = await enter(server)
    await sender.socket.send(message)
    assert (await sender.expect("error"))["code"] == code
    await talk.goes_on()
    await sender.join("elsewhere", "x")


MISTAKES: list[tuple[str, dict[str, Any], str]] = [
    ("nonsense", {}, "unknown-type"),
    ("join", {"room": "r"}, "missing-field"),
    ("register", {"userId": LONG}, "invalid-field"),
    ("signal", {"to": "nobody", "signal": 1}, "not-in-room"),
    ("session", {"title": "mine"}, "not-in-room"),
    ("invite", {"targetUserId": "A", "roomId": "r"}, "not-registered"),
]


@pytest.mark.parametrize(("kind", "fields", "code"), MISTAKES)
async def test_error_echoes_its_request_id(
    server: Service, enter: Enter, kind: str, fields: dict[str, Any], code: str
) -> None:
    """An error echoes the `requestId` of the message that caused it."""
    sender = await enter(server)
    for request_id in ("id-1", 17, None, {"n": 1}):
        assert await sender.refused(kind, **fields, requestId=request_id) == (code, request_id)


async def test_refusals_inside_a_room(server: Service, enter: Enter, talk: Talk) -> None:
    """A guest that signals nobody or describes the session is told, with its `requestId`, and stays."""
    assert await talk.b.refused("signal", to="nobody", signal=1, requestId=1) == ("peer-not-found", 1)
    assert await talk.b.refused("session", title="mine", requestId=2) == ("not-host", 2)
    await talk.goes_on()


async def test_binary_frame_closes_the_client(server: Service, enter: Enter, talk: Talk) -> None:
    """A binary frame closes with 1003."""
    sender = await enter(server)
    await sender.socket.send(b'{"type":"ping"}')
    assert await sender.closed() == 1003
    await talk.goes_on()


async def test_invalid_utf8_closes_the_client(server: Service, enter_raw: EnterRaw, talk: Talk) -> None:
    """A text frame that is not UTF-8 closes with 1007."""
    sender = await enter_raw(server)
    await sender.send_frame(TEXT, b'{"type":"publish","topic":"t","data":"\xff"}')
    closed = await sender.frame_of(CLOSE)
    assert closed is not None
    assert closed.code == 1007
    await talk.goes_on()


async def test_message_over_64_kib_closes_its_sender(server: Service, enter: Enter, talk: Talk) -> None:
    """A message over 64 KiB closes with 1009, and none of it is relayed."""
    sender = await enter(server)
    await sender.socket.send(json.dumps({"type": "publish", "topic": "t", "data": "x" * 65_536}))
    assert await sender.closed() == 1009
    await talk.goes_on()


async def test_message_of_64_kib_is_relayed(server: Service, enter: Enter, talk: Talk) -> None:
    """A message of 64 KiB is relayed."""
    message = '{"type":"publish","topic":"t","data":"%s"}'
    await talk.a.socket.send(message % ("x" * (65_536 - len(message) + 2)))
    for editor in (talk.a, talk.b):
        await editor.expect("publish")
    await talk.goes_on()


async def test_message_size_can_be_set(start: StartServer, enter: Enter) -> None:
    """MAX_MESSAGE_SIZE may be set, and 0 means no limit."""
    small, any_size = await start(max_message_size=100), await start(max_message_size=0, slow_client_buffer=0)
    sender = await enter(small)
    await sender.send("ping", more="x" * 100)
    assert await sender.closed() == 1009
    sender = await enter(any_size)
    assert await sender.ask("ping", more="x" * 1_000_000) == {"type": "pong"}


async def test_peer_of_a_bad_client(server: Service, enter: Enter, talk: Talk) -> None:
    """The peers of a client that is closed for its mistake are told that it has left, like of any other."""
    sender = await enter(server)
    await sender.join("r", "x")
    for editor in (talk.a, talk.b):
        await editor.expect("peer-joined")
    await sender.socket.send(b"binary")
    for editor in (talk.a, talk.b):
        assert await editor.expect("peer-left") == {"peerId": "x"}


@pytest.mark.parametrize("metadata", [None, 1, "text", [1], {"name": 1}, {"name": {"deep": []}}, True])
async def test_metadata_may_be_any_json(server: Service, enter: Enter, talk: Talk, metadata: object) -> None:
    """Metadata may be any JSON; it reaches the others as it is."""
    sender = await enter(server)
    await sender.join("r", "x", metadata=metadata)
    for editor in (talk.a, talk.b):
        assert (await editor.expect("peer-joined"))["metadata"] == metadata


@pytest.mark.in_memory
async def test_client_over_the_rate_is_told(start: StartServer, enter: Enter) -> None:
    """A client over RATE_LIMIT is told with its `requestId`, while another one is served."""
    server = await start(rate_limit=1)
    fast, other = await enter(server), await enter(server)
    for _ in range(10):
        await fast.quiet()
    assert await fast.refused("ping", requestId=3) == ("rate-limited", 3)
    await other.quiet()


async def test_many_bad_clients_disturb_nobody(server: Service, enter: Enter, talk: Talk) -> None:
    """Many bad clients at once are no more than one."""
    senders = [await enter(server) for _ in range(20)]
    for sender in senders:
        for message, _ in BAD:
            await sender.socket.send(message)
    await talk.goes_on()
    codes = await asyncio.gather(*(_codes(sender) for sender in senders))
    assert codes == [[code for _, code in BAD]] * 20
    await talk.goes_on()


async def _codes(sender: Editor) -> list[str]:
    """Receive as many errors as there are bad messages; return their codes."""
    return [(await sender.expect("error"))["code"] for _ in BAD]
