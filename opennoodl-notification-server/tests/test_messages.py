"""Every message is read, and every answer written, as the protocol page says."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from opennoodl_notification.edge.errors import BadMessage
from opennoodl_notification.edge.messages import Error
from opennoodl_notification.messages import (
    ERRORS,
    AllRead,
    Authenticate,
    Authenticated,
    Cleared,
    ClientForm,
    DeleteAll,
    Deleted,
    DeleteNotification,
    GetNotifications,
    MarkAllRead,
    MarkRead,
    MarkUnread,
    Notifications,
    Received,
    Revoked,
    RevokeNotification,
    SendNotification,
    Sent,
    Updated,
    UpToDate,
    decode,
)

from .harness import TYPES, Json, record

AUTHENTICATE = {"type": "authenticate", "userId": "u"}
GET = {"type": "get-notifications"}
SEND = {"type": "send-notification", "targetUserId": "t", "notificationType": "invite", "data": {}}
MARK = {"type": "mark-read", "notificationId": "n"}
UNMARK = {"type": "mark-unread", "notificationId": "n"}
DELETE = {"type": "delete-notification", "notificationId": "n"}
REVOKE = {"type": "revoke-notification", "notificationId": "n"}
FORMS = [{"type": kind, "targetUserId": "t", "data": {}} for kind in TYPES]
"""What the editor's `sendNotification` sends, where its later `type` wins."""
IDS = [
    (AUTHENTICATE, "userId"),
    (SEND, "targetUserId"),
    *((named, "notificationId") for named in (MARK, UNMARK, DELETE, REVOKE)),
    *((form, "targetUserId") for form in FORMS),
]
"""Messages, and the fields of theirs that are ids and needed."""
KEYS = [(message, "idempotencyKey") for message in (SEND, *FORMS)]
"""Messages, and the fields of theirs that are ids and may be left out."""
EVERY = [
    AUTHENTICATE,
    GET,
    SEND,
    MARK,
    UNMARK,
    DELETE,
    REVOKE,
    *FORMS,
    {"type": "mark-all-read"},
    {"type": "delete-all"},
]


def read(message: Json) -> Any:
    """Decode a message."""
    return decode(json.dumps(message, ensure_ascii=False).encode())


def code(message: Json) -> str:
    """Return the code by which a message is refused."""
    with pytest.raises(BadMessage) as info:
        read(message)
    assert info.value.code in ERRORS
    return info.value.code


def test_authenticate_has_a_user_id() -> None:
    """`authenticate` has a userId."""
    assert read(AUTHENTICATE) == Authenticate("u")


def test_get_notifications_needs_no_field() -> None:
    """`get-notifications` needs nothing."""
    assert read(GET) == GetNotifications(None, None, False)


def test_get_notifications_takes_all_filters() -> None:
    """`get-notifications` may say how many, before when, whether only unread ones, and of which types."""
    before = datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    fields = {"limit": 7, "before": "2023-11-14T22:13:20.000Z", "unreadOnly": True, "types": ["invite", "system"]}
    assert read({**GET, **fields}) == GetNotifications(7, before, True, ("invite", "system"))
    assert read({**GET, "types": TYPES}).types == TYPES


@pytest.mark.parametrize("limit", [1, 2, 50, 200])
def test_limit_is_from_1_to_200(limit: int) -> None:
    """A page has 1 to 200 notifications."""
    assert read({**GET, "limit": limit}).limit == limit


@pytest.mark.parametrize("limit", [0, -1, 201, 10**30, 1.5, "5", True, []])
def test_other_limits_are_refused(limit: object) -> None:
    """Any other limit is refused."""
    assert code({**GET, "limit": limit}) == "invalid-field"


@pytest.mark.parametrize(
    "fields",
    [
        *({"before": 5}, {"before": {}}, {"before": "yesterday"}, {"before": "2023-11-14"}),
        *(
            {"before": "2023-11-14T22:13:20"},
            {"before": "2023-13-14T22:13:20Z"},
            {"unreadOnly": "yes"},
            {"unreadOnly": 1},
        ),
        *({"types": ["x"]}, {"types": ["invite"] * (len(TYPES) + 1)}),
    ],
)
def test_bad_filters_are_refused(fields: Json) -> None:
    """`before` is a time with its zone, `unreadOnly` true or false, and `types` are types, no more than there are."""
    assert code({**GET, **fields}) == "invalid-field"


@pytest.mark.parametrize("kind", TYPES)
def test_send_notification_has_target_type_and_data(kind: str) -> None:
    """`send-notification` has a target, one of six types, and data."""
    send = read({**SEND, "notificationType": kind, "data": {"a": 1}})
    assert isinstance(send, SendNotification)
    assert (send.target_user_id, send.notification_type, send.idempotency_key) == ("t", kind, None)
    assert json.loads(bytes(send.data)) == {"a": 1}


def test_send_notification_may_have_a_key() -> None:
    """`send-notification` may have an idempotencyKey."""
    assert read({**SEND, "idempotencyKey": "k"}).idempotency_key == "k"


@pytest.mark.parametrize("kind", ["party", "", "Invite", "authenticate", 1, None, ["invite"]])
def test_unknown_notification_type_is_refused(kind: object) -> None:
    """Any other type of notification is refused."""
    assert code({**SEND, "notificationType": kind}) == "invalid-field"


@pytest.mark.parametrize("form", FORMS, ids=TYPES)
def test_editors_form_is_a_send_notification(form: Json) -> None:
    """The editor's form of `send-notification` is decoded with the type that it names."""
    message = read({**form, "data": {"a": 1}, "idempotencyKey": "k"})
    assert isinstance(message, ClientForm)
    assert decode.names[type(message)] == form["type"]
    assert (message.target_user_id, message.idempotency_key) == ("t", "k")
    assert json.loads(bytes(message.data)) == {"a": 1}


@pytest.mark.parametrize("form", FORMS, ids=TYPES)
def test_client_form_without_target(form: Json) -> None:
    """Without a targetUserId it is a message that lacks one."""
    assert code({"type": form["type"], "data": {}}) == "missing-field"


@pytest.mark.parametrize("message", [SEND, *FORMS], ids=["send", *TYPES])
@pytest.mark.parametrize(
    "data",
    ['{"a" : 1.0, "b":"\\u00fc"}', '"ü ☃ 😀"', "[1,  2]", "1E+5", "-0.0", "123456789012345678901234567890", "null"],
)
def test_data_keeps_its_bytes(message: Json, data: str) -> None:
    """Data may be any JSON, and is kept as the bytes it came in."""
    text = json.dumps(message).replace('"data": {}', f'"data": {data} ')
    assert bytes(decode(text.encode()).data) == data.encode()


@pytest.mark.parametrize(
    "data", ["", "{", "[1,]", '"\\x"', '"\n"', "01", "1.", "NaN", "Infinity", "tru", "{'a': 1}", '{"a": 1,}']
)
def test_data_must_be_json(data: str) -> None:
    """Data that is no JSON makes the message none, so no receiver is sent what it cannot read."""
    text = json.dumps(SEND).replace('"data": {}', f'"data": {data}')
    with pytest.raises(BadMessage) as info:
        decode(text.encode())
    assert info.value.code == "invalid-json"


def test_mark_and_delete_name_notifications() -> None:
    """Messages about single notifications name them, the others none."""
    assert read(MARK) == MarkRead("n")
    assert read(UNMARK) == MarkUnread("n")
    assert read(DELETE) == DeleteNotification("n")
    assert read(REVOKE) == RevokeNotification("n")
    assert read({"type": "mark-all-read"}) == MarkAllRead()
    assert read({"type": "delete-all"}) == DeleteAll()


@pytest.mark.parametrize(("message", "field"), IDS)
def test_missing_id_is_refused(message: Json, field: str) -> None:
    """A needed id that is not there is missed."""
    assert code({name: value for name, value in message.items() if name != field}) == "missing-field"


@pytest.mark.parametrize(
    ("message", "field", "most"),
    [(SEND, "targetUserId", 100), *((named, "notificationId", 200) for named in (MARK, UNMARK, DELETE, REVOKE))],
)
def test_several_ids_count_once_each(message: Json, field: str, most: int) -> None:
    """In place of one id there may be several, or both; each counts once, up to so many."""
    without = {name: value for name, value in message.items() if name != field}
    name = "targets" if field == "targetUserId" else "ids"
    assert getattr(read({**without, f"{field}s": ["b", "a", "b"]}), name) == ("b", "a")
    assert getattr(read({**message, field: "c", f"{field}s": ["b", "c"]}), name) == ("c", "b")
    read({**without, f"{field}s": [str(number) for number in range(most)]})
    assert code({**without, f"{field}s": [str(number) for number in range(most + 1)]}) == "invalid-field"
    assert code({**without, f"{field}s": []}) == "invalid-field"
    assert code({**without, f"{field}s": ["a", ""]}) == "invalid-field"


def test_since_is_a_number_from_0() -> None:
    """A device may say the last number it knows, which is none below zero."""
    assert read({**AUTHENTICATE, "since": 7}) == Authenticate("u", 7)
    assert code({**AUTHENTICATE, "since": -1}) == code({**AUTHENTICATE, "since": "7"}) == "invalid-field"


def test_missing_notification_type_is_refused() -> None:
    """A notification without a type is refused."""
    assert code({"type": "send-notification", "targetUserId": "t", "data": {}}) == "missing-field"


@pytest.mark.parametrize(("message", "field"), [*IDS, *KEYS])
@pytest.mark.parametrize("value", ["x", "x" * 256, "ü" * 256, "😀" * 256, " ", "__proto__"])
def test_valid_id_is_accepted(message: Json, field: str, value: str) -> None:
    """An id is any text of 1 to 256 characters: it is read without an error."""
    read({**message, field: value})


@pytest.mark.parametrize(("message", "field"), [*IDS, *KEYS])
@pytest.mark.parametrize("value", ["", "x" * 257, "x" * 300, "ü" * 300, 5, True, [], {}, "a\0b"])
def test_bad_id_is_refused(message: Json, field: str, value: object) -> None:
    """An id that is empty, too long, or no text is refused."""
    assert code({**message, field: value}) == "invalid-field"


@pytest.mark.parametrize("message", EVERY)
def test_unknown_fields_are_ignored(message: Json) -> None:
    """Unknown fields are ignored."""
    assert read({**message, "future": {"a": [1]}, "tokens": "t"}) == read(message)


@pytest.mark.parametrize("text", ["", " ", "x", "{", '{"type":"mark-all-read"', "[]", '"a"', "5", "null", "true"])
def test_message_must_be_an_object(text: str) -> None:
    """A message that is no JSON object is refused with `invalid-json`."""
    with pytest.raises(BadMessage) as info:
        decode(text.encode())
    assert info.value.code == "invalid-json"


@pytest.mark.parametrize("kind", ["", "party", "notification", "MARK-READ", 5, None, [], {}])
def test_unknown_type_is_refused_with_the_known_ones(kind: object) -> None:
    """A type that the protocol does not have is refused, and the error says which there are."""
    with pytest.raises(BadMessage) as info:
        read({"type": kind})
    assert info.value.code == "unknown-type"
    assert "send-notification" in info.value.error


def test_message_without_a_type_is_refused() -> None:
    """A message without a type is of none that is known."""
    assert code({}) == "unknown-type"


@pytest.mark.parametrize("request_id", ["r", 7, 0, None, False, {"a": [1]}, ""])
@pytest.mark.parametrize("message", [{}, {"type": "party"}, {"type": "mark-read"}, {**MARK, "notificationId": 5}])
def test_error_carries_the_request_id(message: Json, request_id: object) -> None:
    """An error carries the requestId of the message it is about, whatever that is."""
    with pytest.raises(BadMessage) as info:
        read({**message, "requestId": request_id})
    error = msgspec.json.encode(Error(info.value.error, info.value.code, info.value.request_id))
    assert json.loads(error)["requestId"] == request_id


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_arbitrary_bytes_are_decoded_or_refused(message: bytes) -> None:
    """Nothing that comes makes the decoder fail in any other way."""
    with pytest.raises(BadMessage):
        decode(message)


values: st.SearchStrategy[Any] = (
    st.none() | st.booleans() | st.integers(-9, 300) | st.floats() | st.text(max_size=5) | st.just([]) | st.just({})
)
fields = [
    *("userId", "since", "limit", "before", "unreadOnly", "types", "targetUserId", "targetUserIds"),
    *("notificationType", "data", "notificationId", "notificationIds"),
]
kinds = ["authenticate", "get-notifications", "send-notification", "mark-read", "delete-all", *TYPES]
names = st.sampled_from([*kinds, "revoke-notification"])


@given(names, st.dictionaries(st.sampled_from([*fields, "idempotencyKey", "requestId"]), values))
def test_arbitrary_fields_are_decoded_or_refused(name: str, fields: Json) -> None:
    """A known type with whatever fields is either understood or refused with a code that is documented."""
    with suppress(BadMessage):
        read({"type": name, **fields})
        return
    code({"type": name, **fields})


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (Authenticated("u", 5, 2), '{"type":"authenticated","userId":"u","sequence":5,"unreadCount":2}'),
        (
            Authenticated("u", 5, 2, complete=False),
            '{"type":"authenticated","userId":"u","sequence":5,"unreadCount":2,"complete":false}',
        ),
        (
            Notifications([], 0, False, 5),
            '{"type":"notifications","notifications":[],"unreadCount":0,"hasMore":false,"sequence":5}',
        ),
        (UpToDate(5, 2), '{"type":"up-to-date","sequence":5,"unreadCount":2}'),
        (UpToDate(5, 2, request_id=Raw(b"7")), '{"type":"up-to-date","sequence":5,"unreadCount":2,"requestId":7}'),
        (Sent("n", ["n", "m"]), '{"type":"notification-sent","notificationId":"n","notificationIds":["n","m"]}'),
        (Revoked(["n"]), '{"type":"notification-revoked","notificationIds":["n"]}'),
        (
            AllRead(read_at="t", sequence=5, unread_count=0),
            '{"type":"notifications-read","readAt":"t","sequence":5,"unreadCount":0}',
        ),
        (
            Deleted(notification_id="n", sequence=5, unread_count=1, replayed=True),
            '{"type":"notification-deleted","notificationId":"n","sequence":5,"unreadCount":1,"replayed":true}',
        ),
        (
            Cleared(sequence=5, unread_count=0),
            '{"type":"notifications-cleared","sequence":5,"unreadCount":0}',
        ),
    ],
)
def test_answers_have_the_protocols_names(message: msgspec.Struct, text: str) -> None:
    """Every answer has the protocol's names."""
    assert json.loads(msgspec.json.encode(message)) == json.loads(text)


@pytest.mark.parametrize(("kind", "name"), [(Received, "notification"), (Updated, "notification-updated")])
def test_events_carry_their_notification(kind: type[Received | Updated], name: str) -> None:
    """A notification is in the field of that name."""
    shown = record("n", data=b'{"a" : 1}').shown()
    text = msgspec.json.encode(kind(notification=shown, sequence=5, unread_count=1))
    numbers = {"sequence": 5, "unreadCount": 1}
    assert json.loads(text) == {"type": name, "notification": json.loads(msgspec.json.encode(shown)), **numbers}
    assert b'"data":{"a" : 1}' in text
