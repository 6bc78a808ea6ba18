"""The requests: what a page holds, and what a device is told that was away."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

import pytest
from opennoodl_notification.edge.messages import encode
from opennoodl_notification.inbox import reading
from opennoodl_notification.inbox.reading import PAGE_SIZE, read
from opennoodl_notification.inbox.store import Changes, Query, ReadableStore
from opennoodl_notification.messages import (
    Authenticate,
    Authenticated,
    Cleared,
    Deleted,
    GetNotifications,
    Notifications,
    Received,
    Updated,
    UpToDate,
    decode,
)
from opennoodl_notification.records import HISTORY, Deletion, Inbox, Record, timestamp
from opennoodl_notification.storage.json_file.contents import Contents

from ..harness import DAY, NOW, record

EARLY = timestamp(NOW * 1000)
LATER = timestamp((NOW + 60 * DAY) * 1000)


class Shelf(ReadableStore):
    """A store that only reads."""

    def __init__(self, **changes: Any) -> None:
        self.contents = Contents()
        self.contents.apply(Changes(**changes))

    async def page(self, user: str, query: Query, now: str) -> list[Record]:
        """Return notifications."""
        return self.contents.page(user, query, now)

    async def changed(self, user: str, since: int) -> list[Record | Deletion]:
        """Return changes."""
        return self.contents.changed(user, since)


def answers(shelf: Shelf, inbox: Inbox, message: Authenticate | GetNotifications, *, behind: bool = False) -> list[Any]:
    """Return what a message is answered."""
    return asyncio.run(read(shelf, inbox, message, EARLY, behind=behind))


def resumed(shelf: Shelf, since: int, sequence: int = 5000, **fields: Any) -> list[Any]:
    """Return what a device is told that knows all up to `since`; unless it has to ask for more, that this is all."""
    inbox = Inbox(user_id="u", sequence=sequence, **fields)
    told = answers(shelf, inbox, Authenticate(user_id="u", since=since))
    if not getattr(told[-1], "has_more", False):
        assert told.pop() == UpToDate(sequence, inbox.unread)
    return told


def numbered(born: int, changed: int = 0, **fields: Any) -> Record:
    """Return the notification that came as change `born` and was changed last as `changed`."""
    return record(f"n{born}", "u", NOW + born, born=born, sequence=changed or born, **fields)


LEAST = len(encode(numbered(1, data=b'""').shown()))
"""Bytes of a notification that says nothing."""


def sized(*sizes: int) -> list[Record]:
    """Return notifications that are shown in so many bytes each, the oldest first."""
    return [numbered(number, data=(b'"%s"' % (b"x" * (size - LEAST)))) for number, size in enumerate(sizes, 1)]


def paged(records: list[Record], **get: Any) -> Notifications:
    """Return the first page of an inbox."""
    shelf = Shelf(added=records)
    inbox = Inbox(user_id="u", sequence=records[-1].sequence, unread=len(records))
    (page,) = answers(shelf, inbox, GetNotifications(**get))
    assert isinstance(page, Notifications)
    return page


@pytest.mark.parametrize(("limit", "shown", "more"), [(1, 1, True), (2, 2, True), (3, 3, False), (4, 3, False)])
def test_page_has_at_most_limit_notifications(limit: int, shown: int, more: bool) -> None:
    """A page has at most `limit`, the newest first, and says exactly whether there is more."""
    page = paged(sized(LEAST, LEAST, LEAST), limit=limit)
    assert [one.id for one in page.notifications] == ["n3", "n2", "n1"][:shown]
    assert page.has_more is more


@pytest.mark.parametrize(
    ("sizes", "shown"),
    [
        ([LEAST, PAGE_SIZE // 2, PAGE_SIZE // 2], 3),  # only the last one brings it over
        ([LEAST, LEAST, PAGE_SIZE // 2, PAGE_SIZE // 2], 3),
        ([LEAST, LEAST, PAGE_SIZE], 2),
        ([LEAST, LEAST, PAGE_SIZE + 1], 1),
        ([LEAST, 3 * PAGE_SIZE], 1),
    ],
)
def test_page_size_in_bytes_is_bounded(sizes: list[int], shown: int) -> None:
    """A page ends with what passes its size, so there is always something on it, and says that there is more."""
    page = paged(sized(*sizes))
    assert len(page.notifications) == shown
    assert page.has_more is (shown < len(sizes))


def test_bounded_pages_miss_nothing() -> None:
    """Pages that end by their size follow on each other."""
    shelf = Shelf(added=sized(*[PAGE_SIZE // 3] * 10))
    inbox, before, seen = Inbox(user_id="u", sequence=10), None, []
    while True:
        (page,) = answers(shelf, inbox, GetNotifications(before=before))
        seen += [one.id for one in page.notifications]
        if not page.has_more:
            break
        before = datetime.fromisoformat(page.notifications[-1].created_at)
    assert seen == [f"n{number}" for number in range(10, 0, -1)]


@pytest.mark.parametrize("number", [399, 400, 401, 450])
def test_page_without_a_limit_has_all_that_fits(number: int) -> None:
    """A page without a limit has all that fits, however much is read from the store at once."""
    page = paged(sized(*[LEAST] * number))
    assert [one.id for one in page.notifications] == [f"n{one}" for one in range(number, 0, -1)]
    assert page.has_more is False


@pytest.mark.parametrize("number", [398, 399, 400, 401, 402])
def test_no_limit_is_bounded(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page without a limit ends by its size, at the same one wherever a portion from the store ends."""
    records = sized(*[LEAST] * 500)
    fitting = [len(encode(record.shown())) for record in records[-number:]]
    monkeypatch.setattr(reading, "PAGE_SIZE", sum(fitting))
    page = paged(records)
    assert (len(page.notifications), page.has_more) == (number + 1, True)
    page = paged(records[-number - 1 :])
    assert (len(page.notifications), page.has_more) == (number + 1, False)


@pytest.mark.parametrize(
    ("before", "shown"),
    [
        ("2023-11-14T22:13:22.000Z", 1),
        ("2023-11-14T22:13:22Z", 1),
        ("2023-11-14t22:13:22z", 1),
        ("2023-11-15T00:13:22+02:00", 1),
        ("2023-11-14T22:13:22.000001Z", 2),  # later than what was created at .000
        ("2023-11-14T22:13:21.999999999Z", 1),
        ("0001-01-01T00:00:00+14:00", 0),
        ("9999-12-31T23:59:59-14:00", 3),
    ],
)
def test_before_takes_any_time_of_rfc_3339(before: str, shown: int) -> None:
    """Any time of RFC 3339 is a `before`, to the fraction of a millisecond and in every zone."""
    message = decode(b'{"type": "get-notifications", "before": "%s"}' % before.encode())
    (page,) = answers(Shelf(added=sized(LEAST, LEAST, LEAST)), Inbox(user_id="u", sequence=9), message)
    assert len(page.notifications) == shown


@pytest.mark.parametrize(
    ("get", "told"),
    [
        ({}, True),
        ({"limit": 3}, True),
        ({"limit": 2}, False),
        ({"unread_only": True}, False),
        ({"types": ["invite"]}, False),
    ],
)
def test_last_page_tells_the_end_of_the_list(get: dict[str, Any], told: bool) -> None:
    """The end of the list is told to a device that reads all of it."""
    shelf, inbox = Shelf(added=sized(LEAST, LEAST, LEAST)), Inbox(user_id="u", sequence=9, unread=3)
    _, *end = answers(shelf, inbox, GetNotifications(**get), behind=True)
    assert end == [UpToDate(9, 3)] * told


def test_first_connection_gets_the_list() -> None:
    """A device that does not resume gets the list, and no `complete`."""
    shelf = Shelf(added=[numbered(5)])
    answer, page = answers(shelf, Inbox(user_id="u", sequence=5, unread=1), Authenticate(user_id="u"))
    assert answer == Authenticated("u", 5, 1)
    assert [one.id for one in page.notifications] == ["n5"]


def test_unknown_inbox_missed_nothing() -> None:
    """A user without an inbox has missed nothing since number 0."""
    assert resumed(Shelf(), 0, sequence=0) == [Authenticated("u", 0, 0, complete=True)]


@pytest.mark.parametrize("since", [0, 5000 - HISTORY - 1, 5001])
def test_unknown_number_is_answered_with_the_list(since: int) -> None:
    """A number that is too old, or was never told, is answered with the list."""
    answer, page = resumed(Shelf(added=[numbered(4999)]), since)
    assert answer.complete is False
    assert [one.id for one in page.notifications] == ["n4999"]


@pytest.mark.parametrize("since", [5000 - HISTORY, 5000])
def test_remembered_changes_are_told_one_by_one(since: int) -> None:
    """The last thousand changes are told one by one."""
    assert resumed(Shelf(added=[numbered(10)]), since) == [Authenticated("u", 5000, 0, complete=True)]


def test_missed_changes_are_ordered_and_numbered() -> None:
    """Missed changes are sent in the order of their last change, with its number and the present count."""
    shelf = Shelf(
        added=[numbered(4900, 4998), numbered(4991), numbered(4992, 4999)],
        deletions=[Deletion("u", 4995, "gone", 4800)],
    )
    _, *told = resumed(shelf, 4990, unread=2)
    assert [(type(one), one.sequence) for one in told] == [
        (Received, 4991),
        (Deleted, 4995),
        (Updated, 4998),
        (Received, 4999),
    ]
    assert {(one.unread_count, one.replayed) for one in told} == {(2, True)}


@pytest.mark.parametrize(("born", "told"), [(4989, 1), (4990, 1), (4991, 0)])
def test_removal_is_told_only_to_devices_that_may_know_it(born: int, told: int) -> None:
    """A deletion is sent only to devices that were connected during the notification's life."""
    shelf = Shelf(deletions=[Deletion("u", 4995, "gone", born)])
    assert len(resumed(shelf, 4990)) == 1 + told


@pytest.mark.parametrize(("born", "kind"), [(4990, Updated), (4991, Received)])
def test_notification_changed_while_away_is_new(born: int, kind: type[Received | Updated]) -> None:
    """A notification that was sent and marked while the device was away is new to the device."""
    _, told = resumed(Shelf(added=[numbered(born, 4995, read=True)]), 4990)
    assert type(told) is kind
    assert told.notification.read is True


@pytest.mark.parametrize(("since", "told"), [(4990, [Cleared, Received]), (4995, [Received]), (4996, [])])
def test_deletion_of_all_is_told_once(since: int, told: list[type]) -> None:
    """That all was deleted is told once, before what came later."""
    _, *events = resumed(Shelf(added=[numbered(4996)]), since, cleared=4995)
    assert [type(event) for event in events] == told


def test_missed_changes_beyond_a_page_are_answered_with_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """Missed changes that do not fit a page are replaced by the list."""
    monkeypatch.setattr(reading, "PAGE_SIZE", 400)
    big = b'"%s"' % (b"x" * 90)
    fits, too_much = (
        Shelf(added=[numbered(4991, data=big)]),
        Shelf(added=[numbered(number, data=big) for number in (4991, 4992, 4993)]),
    )
    assert [type(one) for one in resumed(fits, 4990)] == [Authenticated, Received]
    answer, page = resumed(too_much, 4990)
    assert (answer.complete, page.has_more) == (False, True)


def test_long_ids_count_for_the_page_size() -> None:
    """Long ids count as much as data: what they make too large is answered with the list, which ends where it must."""
    long = {"from_user_id": "😀" * 256, "data": b"1"}
    shelf = Shelf(added=[numbered(number, **long) for number in range(4001, 5001)])
    answer, page = resumed(shelf, 4000)
    assert answer.complete is False
    assert len(encode(page)) < PAGE_SIZE + 2000
    shelf = Shelf(added=[record("x" * 3000 + str(number), born=number, sequence=number) for number in range(200)])
    (page,) = answers(shelf, Inbox(user_id="u", sequence=5000), GetNotifications(limit=200))
    assert page.has_more
    assert len(encode(page)) < PAGE_SIZE + 4000


def test_deletions_count_for_the_page_size() -> None:
    """Messages about deletions count for the page size, too."""
    shelf = Shelf(deletions=[Deletion("u", number, "x" * 1000 + str(number), 1) for number in range(4001, 5001)])
    assert [type(one) for one in resumed(shelf, 4000)] == [Authenticated, Notifications]


def test_expired_is_not_told() -> None:
    """A device that returns does not get expired notifications, even if a failing store could not delete them."""
    shelf = Shelf(added=[numbered(4901, expires_at=EARLY), numbered(4902)])
    _, *told = resumed(shelf, 4900)
    assert [one.notification.id for one in told] == ["n4902"]
