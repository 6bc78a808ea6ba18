"""Inboxes: what is sent is there, in order, until it is deleted or expires."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

import pytest
from msgspec import Raw
from opennoodl_notification.edge.json_messages import BadMessage
from opennoodl_notification.inbox import Inboxes
from opennoodl_notification.messages import (
    AllRead,
    Cleared,
    Deleted,
    GetNotifications,
    Notifications,
    Received,
    SendNotification,
    Sent,
    Updated,
)
from opennoodl_notification.notification import Type, timestamp

from .harness import DAY, NOW, TYPES, record

TTL = 30 * DAY


@pytest.fixture
def inboxes() -> Inboxes:
    """Return empty inboxes without limits."""
    return Inboxes([], 30, 0, 0)


def send(inboxes: Inboxes, user: str = "u", now: float = NOW, kind: Type = "invite", data: bytes = b"{}") -> str:
    """Send a notification; return its id."""
    reply = inboxes.send("sender", SendNotification(user, kind, Raw(data)), now).reply
    assert isinstance(reply, Sent)
    return reply.notification_id


def get(inboxes: Inboxes, user: str = "u", now: float = NOW, **query: Any) -> Notifications:
    """Read a page."""
    outcome = inboxes.get(user, GetNotifications(**query), now)
    assert isinstance(outcome.reply, Notifications)
    assert outcome.events == ()
    return outcome.reply


def ids(inboxes: Inboxes, user: str = "u", now: float = NOW, **query: Any) -> list[str]:
    """Return the ids on a page."""
    return [notification.id for notification in get(inboxes, user, now, **query).notifications]


def pages(inboxes: Inboxes, limit: int, **query: Any) -> list[str]:
    """Return the ids on all pages, each asked for by the last time of the one before."""
    found: list[str] = []
    before = None
    while True:
        page = get(inboxes, limit=limit, before=before, **query)
        found += [notification.id for notification in page.notifications]
        assert len(found) <= len(inboxes), "a notification is on two pages"
        assert len(page.notifications) == limit or not page.has_more
        if not page.has_more:
            return found
        before = page.notifications[-1].created_at


def code(call: Any, *args: Any) -> str:
    """Return the code by which a call is refused."""
    with pytest.raises(BadMessage) as info:
        call(*args)
    return info.value.code


def test_empty(inboxes: Inboxes) -> None:
    """Who has never been sent anything has an empty inbox."""
    assert get(inboxes) == Notifications([], 0, False)
    assert len(inboxes) == 0


@pytest.mark.parametrize("kind", TYPES)
def test_send(inboxes: Inboxes, kind: Type) -> None:
    """What is sent is told the receiver as it will be read, and its id the sender."""
    outcome = inboxes.send("s", SendNotification("u", kind, Raw(b'{"a" : 1.0}')), NOW + 0.25)
    ((user, event),) = outcome.events
    assert user == "u"
    assert isinstance(event, Received)
    one = event.notification
    assert outcome.reply == Sent(one.id)
    assert get(inboxes).notifications == [one]
    assert (one.user_id, one.from_user_id, one.type, one.read) == ("u", "s", kind, False)
    assert bytes(one.data) == b'{"a" : 1.0}'
    assert one.created_at == timestamp(NOW * 1000 + 250)
    assert one.expires_at == timestamp((NOW + TTL) * 1000 + 250)


def test_ids(inboxes: Inboxes) -> None:
    """Every notification has a UUID of its own, also where the same is sent twice."""
    sent = [send(inboxes) for _ in range(100)]
    assert len(set(sent)) == 100
    assert all(str(UUID(id_)) == id_ for id_ in sent)


def test_inboxes_are_apart(inboxes: Inboxes) -> None:
    """Nobody reads what was sent to another."""
    mine, other = send(inboxes, "u"), send(inboxes, "v")
    assert (ids(inboxes, "u"), ids(inboxes, "v"), ids(inboxes, "sender")) == ([mine], [other], [])


def test_newest_first(inboxes: Inboxes) -> None:
    """A page has the newest first."""
    sent = [send(inboxes, now=NOW + second) for second in range(5)]
    assert ids(inboxes, now=NOW + 5) == sent[::-1]


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 6, 7, 20])
@pytest.mark.parametrize("step", [0, 0.0001, 0.0005, 1, -1])
def test_pages(inboxes: Inboxes, limit: int, step: float) -> None:
    """Pages show each notification once, also those of one moment and those sent while the clock went back."""
    sent = [send(inboxes, now=NOW + number * step) for number in range(6)]
    assert pages(inboxes, limit) == sent[::-1]


def test_pages_at_one_moment_for_two(inboxes: Inboxes) -> None:
    """Times are unique in each inbox alone: another's does not delay mine."""
    for user in ("u", "v"):
        send(inboxes, user)
    assert get(inboxes, "u").notifications[0].created_at == get(inboxes, "v").notifications[0].created_at


def test_pages_while_sent(inboxes: Inboxes) -> None:
    """What comes while pages are read is on none of those still to come, and moves none."""
    sent = [send(inboxes) for _ in range(4)]
    first = get(inboxes, limit=2)
    send(inboxes)
    assert ids(inboxes, limit=2, before=first.notifications[-1].created_at) == [sent[1], sent[0]]


def test_pages_while_deleted(inboxes: Inboxes) -> None:
    """What is deleted while pages are read moves none of those still to come."""
    sent = [send(inboxes) for _ in range(5)]
    first = get(inboxes, limit=2)
    inboxes.delete("u", sent[3], NOW)
    assert ids(inboxes, limit=2, before=first.notifications[-1].created_at) == [sent[2], sent[1]]


@pytest.mark.parametrize(("limit", "more"), [(1, True), (2, True), (3, False), (4, False)])
def test_has_more(inboxes: Inboxes, limit: int, more: bool) -> None:
    """`hasMore` says whether there is anything on a next page."""
    for _ in range(3):
        send(inboxes)
    assert get(inboxes, limit=limit).has_more is more


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_unread_only(inboxes: Inboxes, limit: int) -> None:
    """`unreadOnly` leaves out what was read, over all pages, and `hasMore` knows."""
    sent = [send(inboxes) for _ in range(5)]
    for id_ in (sent[0], sent[3]):
        inboxes.mark_read("u", id_, NOW)
    assert pages(inboxes, limit, unread_only=True) == [sent[4], sent[2], sent[1]]


def test_unread_count(inboxes: Inboxes) -> None:
    """`unreadCount` is of the whole inbox, whatever the page shows."""
    sent = [send(inboxes) for _ in range(4)]
    inboxes.mark_read("u", sent[1], NOW)
    for query in ({}, {"limit": 1}, {"unread_only": True}, {"before": get(inboxes).notifications[2].created_at}):
        assert get(inboxes, **query).unread_count == 3


def test_mark_read(inboxes: Inboxes) -> None:
    """What was read says when, and tells all devices."""
    id_ = send(inboxes)
    outcome = inboxes.mark_read("u", id_, NOW + 1)
    (shown,) = get(inboxes).notifications
    assert (outcome.reply, outcome.events) == (None, (("u", Updated(shown)),))
    assert (shown.read, shown.read_at) == (True, timestamp((NOW + 1) * 1000))
    assert get(inboxes).unread_count == 0


def test_mark_read_again(inboxes: Inboxes) -> None:
    """Marking again changes nothing and answers the same."""
    id_ = send(inboxes)
    first = inboxes.mark_read("u", id_, NOW + 1)
    inboxes.commit()
    assert inboxes.mark_read("u", id_, NOW + 2) == first
    assert inboxes.changes() == {}


def test_mark_read_keeps_the_order(inboxes: Inboxes) -> None:
    """A notification stays where it is when it is read."""
    sent = [send(inboxes) for _ in range(3)]
    inboxes.mark_read("u", sent[1], NOW)
    assert ids(inboxes) == sent[::-1]


def test_mark_all_read(inboxes: Inboxes) -> None:
    """Everything unread is read now; what was read before keeps its time."""
    sent = [send(inboxes) for _ in range(3)]
    other = send(inboxes, "v")
    inboxes.mark_read("u", sent[0], NOW + 1)
    read_at = timestamp((NOW + 2) * 1000)
    assert inboxes.mark_all_read("u", NOW + 2).events == (("u", AllRead(read_at, 0)),)
    page = get(inboxes)
    assert [one.read_at for one in page.notifications] == [read_at, read_at, timestamp((NOW + 1) * 1000)]
    assert page.unread_count == 0
    assert not get(inboxes, "v").notifications[0].read
    assert ids(inboxes, "v") == [other]


def test_mark_all_read_of_nothing(inboxes: Inboxes) -> None:
    """Devices are told also where there was nothing to read, since one of them waits for it."""
    outcome = inboxes.mark_all_read("u", NOW)
    assert outcome.events == (("u", AllRead(timestamp(NOW * 1000))),)
    assert inboxes.changes() == {}


def test_delete(inboxes: Inboxes) -> None:
    """What is deleted is gone."""
    sent = [send(inboxes) for _ in range(3)]
    assert inboxes.delete("u", sent[1], NOW) == (None, (("u", Deleted(sent[1])),))
    assert ids(inboxes) == [sent[2], sent[0]]
    assert len(inboxes) == 2


def test_delete_all(inboxes: Inboxes) -> None:
    """A user's inbox is emptied, and no other."""
    for _ in range(3):
        send(inboxes)
    other = send(inboxes, "v")
    assert inboxes.delete_all("u") == (None, (("u", Cleared()),))
    assert (ids(inboxes), ids(inboxes, "v"), len(inboxes)) == ([], [other], 1)


@pytest.mark.parametrize("call", ["mark_read", "delete"])
def test_not_found(inboxes: Inboxes, call: str) -> None:
    """Another's notification, a deleted one and one that never was are the same: not found."""
    other, deleted = send(inboxes, "v"), send(inboxes)
    inboxes.delete("u", deleted, NOW)
    errors = set()
    for id_ in (other, deleted, "nothing"):
        with pytest.raises(BadMessage) as info:
            getattr(inboxes, call)("u", id_, NOW)
        errors.add((info.value.code, info.value.error))
    assert [code for code, _ in errors] == ["not-found"]
    assert get(inboxes, "v").unread_count == 1


@pytest.mark.parametrize("late", [0, 0.001, 1, DAY - 1])
def test_expired_is_not_shown(inboxes: Inboxes, late: float) -> None:
    """From its expiry on, a notification is in no page and no count."""
    old = send(inboxes)
    new = send(inboxes, now=NOW + DAY)
    assert ids(inboxes, now=NOW + TTL - 0.001) == [new, old]
    page = get(inboxes, now=NOW + TTL + late)
    assert [one.id for one in page.notifications] == [new]
    assert page.unread_count == 1


@pytest.mark.parametrize("call", ["mark_read", "delete"])
def test_expired_is_not_found(inboxes: Inboxes, call: str) -> None:
    """An expired notification cannot be marked or deleted: it is not there."""
    id_ = send(inboxes)
    assert code(getattr(inboxes, call), "u", id_, NOW + TTL) == "not-found"


def test_expired_is_removed_when_read(inboxes: Inboxes) -> None:
    """Reading an inbox removes what has expired in it, for good."""
    id_ = send(inboxes)
    inboxes.commit()
    assert ids(inboxes, now=NOW + TTL) == []
    assert inboxes.changes() == {id_: None}
    assert ids(inboxes, now=NOW) == []


def test_expire(inboxes: Inboxes) -> None:
    """The cleanup removes what has expired in all inboxes, and nothing else."""
    old = {send(inboxes, user) for user in ("u", "v")}
    new = send(inboxes, now=NOW + 1)
    inboxes.commit()
    inboxes.expire(NOW + TTL)
    assert inboxes.changes() == dict.fromkeys(old)
    assert len(inboxes) == 1
    assert ids(inboxes) == [new]


def test_expiry_counts_from_sending(inboxes: Inboxes) -> None:
    """A notification keeps its expiry when it is read, and when TTL_DAYS changes."""
    id_ = send(inboxes)
    inboxes.mark_read("u", id_, NOW + DAY)
    kept = inboxes.changes()[id_]
    assert kept is not None
    again = Inboxes([kept], 1, 0, 0)
    assert ids(again, now=NOW + TTL - 1) == [id_]
    assert ids(again, now=NOW + TTL) == []


def test_clock_going_backwards(inboxes: Inboxes) -> None:
    """What is sent after the clock was set back is still the newest."""
    first = send(inboxes)
    second = send(inboxes, now=NOW - 3600)
    newest, oldest = get(inboxes).notifications
    assert (newest.id, oldest.id) == (second, first)
    assert newest.created_at > oldest.created_at


def test_any_order_of_records() -> None:
    """What is stored may come in any order, and is read by its times."""
    records = [record(str(number), created=NOW + number) for number in range(9)]
    for order in (records[::-1], records[4:] + records[:4], records[::2] + records[1::2]):
        assert ids(Inboxes(order, 30, 0, 0)) == [str(number) for number in range(8, -1, -1)]


def test_records_are_no_changes() -> None:
    """What comes from the store need not be stored."""
    assert Inboxes([record("1")], 30, 0, 0).changes() == {}


def test_data_does_not_keep_the_message(inboxes: Inboxes) -> None:
    """Data is a copy: the message it came in is not kept for 30 days."""
    message = bytearray(b'{"x":[1,2]}')
    inboxes.send("s", SendNotification("u", "invite", Raw(memoryview(message)[5:10])), NOW)
    message[6:7] = b"9"
    assert re.fullmatch(rb"\[1,2\]", bytes(get(inboxes).notifications[0].data))
