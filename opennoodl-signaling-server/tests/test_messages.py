"""Every message of both dialects is read as the protocol page says."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from opennoodl_signaling.edge.errors import BadMessage
from opennoodl_signaling.messages import (
    ERRORS,
    AskIceServers,
    Invite,
    Join,
    Leave,
    Metadata,
    Ping,
    Publish,
    Register,
    Session,
    Signal,
    Subscribe,
    Unsubscribe,
    decode,
)
from opennoodl_signaling.session import Features, SessionInfo

JOIN = {"type": "join", "room": "r", "peerId": "p", "userId": "u"}
SIGNAL = {"type": "signal", "to": "p", "signal": {}}
INVITE = {"type": "invite", "targetUserId": "u", "roomId": "r"}
REGISTER = {"type": "register", "userId": "u"}
IDS = [
    *((JOIN, field) for field in ("room", "peerId", "userId")),
    (SIGNAL, "to"),
    *((INVITE, field) for field in ("targetUserId", "roomId")),
    (REGISTER, "userId"),
    ({"type": "publish", "topic": "t"}, "topic"),
]
"""Messages, and the fields of theirs that are ids."""


def read(message: dict[str, Any]) -> Any:
    """Decode a message."""
    return decode(json.dumps(message, ensure_ascii=False).encode())


def refusal(message: bytes) -> str | None:
    """Return the code by which a message is refused, if it is."""
    try:
        decode(message)
    except BadMessage as bad:
        return bad.code
    return None


def code(message: dict[str, Any]) -> str:
    """Return the code by which a message is refused."""
    refused = refusal(json.dumps(message, ensure_ascii=False).encode())
    assert refused in ERRORS
    return refused


def test_join_has_required_and_optional_fields() -> None:
    """`join` has room, peerId and userId; metadata and session are optional."""
    join = read(JOIN)
    assert (join.room, join.peer_id, join.user_id, join.session) == ("r", "p", "u", None)
    assert bytes(join.metadata) == b"{}"


def test_join_may_describe_the_session() -> None:
    """The host may describe the session in `join`, in part or in full."""
    session = {"title": "T", "description": "D", "maxParticipants": 3, "features": {"audioEnabled": True}}
    join = read({**JOIN, "session": session})
    assert join.session.applied(SessionInfo()) == SessionInfo("T", "D", 3, Features(audio_enabled=True))
    assert read({**JOIN, "session": {}}).session.applied(SessionInfo("T")) == SessionInfo("T")


SESSION = SessionInfo("T", "D", 3, Features(audio_enabled=True, video_enabled=True))


@pytest.mark.parametrize(
    ("change", "changed"),
    [
        ({}, SESSION),
        ({"title": "U"}, SessionInfo("U", "D", 3, SESSION.features)),
        ({"description": None}, SessionInfo("T", "", 3, SESSION.features)),
        ({"maxParticipants": None}, SessionInfo("T", "D", None, SESSION.features)),
        ({"maxParticipants": 5, "title": None}, SessionInfo("", "D", 5, SESSION.features)),
        ({"features": {"audioEnabled": False}}, SessionInfo("T", "D", 3, Features(video_enabled=True))),
        ({"features": {"videoEnabled": None}}, SessionInfo("T", "D", 3, Features(audio_enabled=True))),
        ({"features": None}, SessionInfo("T", "D", 3, Features())),
    ],
)
def test_session_changes_only_named_fields(change: dict[str, Any], changed: SessionInfo) -> None:
    """Only the fields that are named change, in `session` as in `join`; `null` is the default."""
    assert read({"type": "session", **change}).applied(SESSION) == changed
    assert read({**JOIN, "session": change}).session.applied(SESSION) == changed


def test_metadata_keeps_its_bytes() -> None:
    """Metadata is kept as the bytes it came in."""
    join = decode(b'{"type":"join","room":"r","peerId":"p","userId":"u","metadata": {"a" : 1.0, "b":"\\u00fc"} }')
    assert bytes(join.metadata) == b'{"a" : 1.0, "b":"\\u00fc"}'


@pytest.mark.parametrize("fields", [{}, {"room": "r"}, {"room": "r", "peerId": "p"}, {"room": None}])
def test_leave_may_name_the_room(fields: dict[str, Any]) -> None:
    """`leave` may name the room, or not."""
    assert read({"type": "leave", **fields}) == Leave(fields.get("room"))


@pytest.mark.parametrize("signal", [{"sdp": "x"}, [1], "text", 1, 1.50, None, True])
def test_signal_carries_any_json(signal: object) -> None:
    """`signal` carries any JSON."""
    read_signal = read({"type": "signal", "to": "p", "signal": signal})
    assert read_signal.to == "p"
    assert json.loads(bytes(read_signal.signal)) == signal


def test_invite_names_user_and_room() -> None:
    """`invite` names a user and a room; sessionInfo is optional."""
    invite = read(INVITE)
    assert (invite.target_user_id, invite.room_id) == ("u", "r")
    assert bytes(read({**INVITE, "sessionInfo": {"title": "T"}}).session_info) == b'{"title": "T"}'


def test_remaining_messages_are_decoded() -> None:
    """The other messages of both dialects are known."""
    assert read(REGISTER) == Register("u")
    assert read({"type": "session", "title": "T"}) == Session("T")
    assert read({"type": "metadata", "metadata": 1}) == Metadata(Raw(b"1"))
    assert read({"type": "subscribe", "topics": ["a", "b"]}) == Subscribe(["a", "b"])
    assert read({"type": "unsubscribe", "topics": ["a"]}) == Unsubscribe(["a"])
    assert read({"type": "publish", "topic": "t", "data": {"x": 1}}) == Publish("t")
    assert read({"type": "ping"}) == Ping()


def test_ice_servers_request_has_no_fields() -> None:
    """`ice-servers` has no fields; others are ignored."""
    assert read({"type": "ice-servers", "room": "r"}) == AskIceServers()


def test_incoming_types_have_metric_names() -> None:
    """Metrics know every incoming type by its name."""
    assert decode.names == {
        **{Join: "join", Leave: "leave", Signal: "signal", Metadata: "metadata", Invite: "invite"},
        **{
            Register: "register",
            AskIceServers: "ice-servers",
            Session: "session",
            Subscribe: "subscribe",
            Unsubscribe: "unsubscribe",
            Publish: "publish",
            Ping: "ping",
        },
    }


@pytest.mark.parametrize("message", [JOIN, SIGNAL, INVITE, REGISTER])
def test_missing_field_is_refused(message: dict[str, Any]) -> None:
    """Without a field that is not optional, a message is refused as missing-field."""
    for field in message.keys() - {"type"}:
        assert code({name: value for name, value in message.items() if name != field}) == "missing-field"


@pytest.mark.parametrize(("message", "field"), IDS)
@pytest.mark.parametrize("value", ["", "x" * 257, "x" * 300, None, 1, ["x"], {"x": 1}, True])
def test_bad_id_is_refused(message: dict[str, Any], field: str, value: object) -> None:
    """An id is a text of 1 to 256 characters, nothing else."""
    assert code({**message, field: value}) == "invalid-field"


@pytest.mark.parametrize(("message", "field"), IDS)
@pytest.mark.parametrize("value", ["x", "x" * 256, "ü" * 256, "𝄞" * 256, " ", "a/b?c#d", "\x00", "__proto__"])
def test_any_characters_may_form_an_id(message: dict[str, Any], field: str, value: str) -> None:
    """An id may hold any characters, 256 of them: it is read without an error."""
    read({**message, field: value})


@pytest.mark.parametrize(
    "session",
    [
        {"title": "x" * 257},
        {"description": "x" * 4097},
        {"maxParticipants": 0},
        {"maxParticipants": -1},
        {"maxParticipants": "3"},
        {"maxParticipants": 2.5},
        {"features": {"audioEnabled": "yes"}},
        {"features": []},
        "title",
    ],
)
def test_bad_session_is_refused(session: object) -> None:
    """A session is described within bounds, in `join` as in `session`."""
    assert code({**JOIN, "session": session}) == "invalid-field"
    if isinstance(session, dict):
        assert code({"type": "session", **session}) == "invalid-field"


@pytest.mark.parametrize("topics", ["t", [1], [""], ["x" * 300], None, {"t": 1}])
def test_bad_topics_are_refused(topics: object) -> None:
    """Topics are a list of ids."""
    assert code({"type": "subscribe", "topics": topics}) == "invalid-field"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


unknown = st.text().filter(lambda name: name not in Register.__struct_encode_fields__)


@given(fields=st.dictionaries(unknown, json_values, max_size=4))
def test_unknown_fields_are_ignored(fields: dict[str, Any]) -> None:
    """Fields that the protocol does not have are ignored, whatever they hold."""
    assert read({**fields, **REGISTER}) == Register("u")


@given(message=st.binary(max_size=200) | json_values.map(lambda value: json.dumps(value).encode()))
def test_arbitrary_input_is_decoded_or_refused(message: bytes) -> None:
    """Whatever comes is either understood or refused with a code of the list; nothing else is raised."""
    assert refusal(message) in {None, *ERRORS}


@given(value=json_values)
def test_signal_keeps_its_text(value: object) -> None:
    """A signal keeps its text, also where JSON allows another form."""
    text = json.dumps(value, indent=1).encode()
    assert bytes(decode(b'{"type": "signal", "to": "p", "signal": %b}' % text).signal) == text
