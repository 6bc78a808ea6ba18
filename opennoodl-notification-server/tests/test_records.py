"""Notifications, and the texts that stand for times."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from opennoodl_notification.records import Record, milliseconds, timestamp

from .harness import NOW, TYPES, record

END = 253_402_300_799_999
"""The last millisecond of the year 9999."""
times = st.integers(0, END)


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (7, "1970-01-01T00:00:00.007Z"),
        (1_700_000_000_120, "2023-11-14T22:13:20.120Z"),
        (951_782_400_000, "2000-02-29T00:00:00.000Z"),
        (END, "9999-12-31T23:59:59.999Z"),
    ],
)
def test_timestamp_is_iso_8601_in_utc(moment: int, text: str) -> None:
    """A time is ISO 8601 in UTC."""
    assert timestamp(moment) == text
    assert milliseconds(text) == moment


@given(times)
def test_timestamp_has_milliseconds_and_z(moment: int) -> None:
    """Every time has milliseconds and `Z`, as JavaScript's own have."""
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", timestamp(moment))


@given(times)
@example(END)
def test_timestamp_survives_the_round_trip(moment: int) -> None:
    """A time comes back from its text to the millisecond."""
    assert milliseconds(timestamp(moment)) == moment
    assert datetime.fromisoformat(timestamp(moment)).replace(microsecond=0) == datetime.fromtimestamp(
        moment // 1000, UTC
    )


@given(times, times | st.integers(-1500, 1500))
@example(NOW * 1000, 1)
def test_timestamps_sort_as_text(moment: int, other: int) -> None:
    """Texts sort as the times they stand for."""
    if other < END // 2:
        other = min(max(moment + other, 0), END)
    assert (timestamp(moment) < timestamp(other)) == (moment < other)
    assert (timestamp(moment) == timestamp(other)) == (moment == other)


def test_unread_notification_has_no_read_time() -> None:
    """An unread notification has the protocol's names, and no `readAt`."""
    shown = msgspec.json.decode(msgspec.json.encode(record("1", data=b'{"number": 1}', born=7, sequence=8).shown()))
    assert shown == {
        "id": "1",
        "userId": "u",
        "fromUserId": "sender",
        "type": "invite",
        "data": {"number": 1},
        "read": False,
        "createdAt": "2023-11-14T22:13:20.000Z",
        "expiresAt": "2023-12-14T22:13:20.000Z",
    }


def test_read_notification_has_a_read_time() -> None:
    """A read notification has the time of reading."""
    read_at = timestamp(NOW * 1000 + 5)
    shown = record("1", read=True, read_at=read_at).shown()
    assert (shown.read, shown.read_at) == (True, read_at)


def test_shown_is_not_the_record() -> None:
    """The receiver is not shown the fields that only the store needs."""
    shown = record("1", born=7, sequence=8).shown()
    assert not isinstance(shown, Record)
    assert {"born", "sequence"}.isdisjoint(msgspec.json.decode(msgspec.json.encode(shown)))


@pytest.mark.parametrize("kind", TYPES)
def test_record_survives_json(kind: str) -> None:
    """A record comes back from JSON as it was, the data as the bytes they were."""
    one = record("1", type=kind, data=b'{"a" : 1.0, "b":"\\u00fc"}', born=7, sequence=8)
    content = msgspec.json.encode(one)
    assert msgspec.json.decode(content, type=Record) == one
    assert b'{"a" : 1.0, "b":"\\u00fc"}' in content


@pytest.mark.parametrize("field", ["type", "read", "createdAt", "id", "userId"])
def test_incomplete_record_is_refused(field: str) -> None:
    """A record without one of its fields is none."""
    content = msgspec.json.decode(msgspec.json.encode(record("1")))
    del content[field]
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(content, Record)
