"""Records: notifications, the texts that stand for times, and the numbers of an inbox.

No number of an inbox is used twice, and none of a lost state is taken for one of today.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import structs
from opennoodl_notification.records import GAPS, HISTORY, JUMP, Inbox, Record, milliseconds, timestamp

from .harness import NOW, TYPES, record

END = 253_402_300_799_999
"""The last millisecond of the year 9999."""
START = 1_700_000_000_000
"""Some time, in milliseconds."""
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


def changed(inbox: Inbox, times: int, epoch: int = 0, now: int = START) -> Inbox:
    """Return an inbox after some changes."""
    for _ in range(times):
        inbox.advance(epoch, now)
    return inbox


def test_first_number_is_after_the_time() -> None:
    """Numbers begin after the time; those before, 0 among them, are none of this inbox's."""
    inbox = changed(Inbox(user_id="u", sequence=0), 2)
    last = inbox.sequence
    assert START + 2 <= last < START + 2 + (1 << JUMP)
    asked = (0, 1, START - 1, last - 3, last - 2, last - 1, last, last + 1)
    assert [since for since in asked if inbox.remembers(since)] == [last - 1, last]


def test_missing_inbox_remembers_only_0() -> None:
    """An inbox that is not there remembers 0 and nothing else."""
    inbox = Inbox(user_id="u", sequence=0)
    assert [since for since in (0, 1, START) if inbox.remembers(since)] == [0]


def test_numbers_continue_in_another_epoch() -> None:
    """In another epoch numbers go on after the time, and former ones are remembered."""
    inbox = changed(Inbox(user_id="u", sequence=0), 3)
    former, later = inbox.sequence, START + (2 << JUMP)
    changed(inbox, 2, epoch=1, now=later)
    last = inbox.sequence
    assert last >= later + 2
    asked = [*range(former - 4, former + 4), *range(last - 3, last + 3)]
    remembered = [since for since in asked if inbox.remembers(since)]
    assert remembered == [former - 2, former - 1, former, last - 1, last]


def test_older_epoch_continues_with_the_newer_numbers() -> None:
    """A server whose epoch is older goes on with the numbers of the newer one."""
    inbox = changed(Inbox(user_id="u", sequence=0), 1, epoch=2)
    first = inbox.sequence
    changed(inbox, 1, epoch=1, now=START + 5000)
    assert (inbox.sequence, inbox.epoch, len(inbox.gaps)) == (first + 1, 2, 1)


@pytest.mark.parametrize("clock", [-5000, 0, 10_000])
def test_lost_numbers_are_not_reused(clock: int) -> None:
    """Numbers that were lost are neither used again nor remembered, wherever the clock is by then."""
    backup = changed(Inbox(user_id="u", sequence=0), 5)
    lost = changed(structs.replace(backup), 400, epoch=1)
    again = changed(backup, 1000, epoch=1, now=START + clock)
    assert not again.remembers(lost.sequence)
    assert again.gaps[-1][1] not in range(lost.gaps[-1][1] - 1000, lost.sequence + 1)


def test_number_of_remembered_changes_is_bounded() -> None:
    """As many changes are remembered as ever, whatever lies between their numbers."""
    inbox = Inbox(user_id="u", sequence=0)
    numbers = []
    for epoch in range(5):
        for _ in range(HISTORY // 4):
            inbox.advance(epoch, START + epoch)
            numbers.append(inbox.sequence)
    assert [number for number in numbers if inbox.remembers(number)] == numbers[-HISTORY - 1 :]


def test_number_of_gaps_is_bounded() -> None:
    """Gaps are bounded in number: what lies before them is not remembered."""
    inbox = Inbox(user_id="u", sequence=0)
    numbers = []
    for epoch in range(3 * GAPS):
        inbox.advance(epoch, START)
        numbers.append(inbox.sequence)
    assert len(inbox.gaps) == GAPS
    assert [number for number in numbers if inbox.remembers(number)] == numbers[-GAPS:]
    assert not any(inbox.remembers(number + 1) for number in numbers[:-1])
