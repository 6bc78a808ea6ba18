"""A batch does with inboxes what messages ask for, and its changes make that last."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, Raw
from opennoodl_notification.edge.errors import BadMessage
from opennoodl_notification.inbox.batch import Batch, Outcome
from opennoodl_notification.inbox.requirements import need
from opennoodl_notification.inbox.send_quota import SendQuota
from opennoodl_notification.inbox.store import Loaded, Needs, Query
from opennoodl_notification.messages import (
    Deleted,
    DeleteNotification,
    MarkAllRead,
    MarkRead,
    Received,
    RevokeNotification,
    SendNotification,
    Sent,
    Updated,
)
from opennoodl_notification.records import (
    HISTORY,
    INBOX_SIZE,
    Inbox,
    Record,
    milliseconds,
    payload_size,
    record_size,
    timestamp,
)
from opennoodl_notification.storage.json_file.contents import Contents

from ..harness import DAY, NOW

TTL = 30
"""Days."""
ADDRESS = "192.0.2.1"


class Office:
    """Inboxes in memory, whose batches are of any size."""

    def __init__(self, room: int = 0, sends: int = 0) -> None:
        self.contents = Contents()
        self.now = NOW * 1000
        self.room = room
        self.sends = SendQuota(sends)

    def batch(self, *asked: tuple[str, Any]) -> list[Outcome | BadMessage]:
        """Do several things in one batch, and keep what changed."""
        batch, outcomes = self.unfinished(*asked)
        changes = batch.changes()
        if changes is not None:
            self.contents.apply(changes)
        return [Outcome(events=batch.expired), *outcomes]

    def unfinished(self, *asked: tuple[str, Any]) -> tuple[Batch, list[Outcome | BadMessage]]:
        """Do several things in one batch, and keep nothing."""
        needs = Needs(timestamp(self.now), self.room)
        for user, message in asked:
            need(needs, user, message, address=ADDRESS, quota=self.sends, now=self.now)
        batch = Batch(self.contents.load(needs), self.now, TTL, self.room, self.sends)
        outcomes: list[Outcome | BadMessage] = []
        for user, message in asked:
            try:
                outcomes.append(batch.handle(user, message, ADDRESS))
            except BadMessage as bad:
                outcomes.append(bad)
        return batch, outcomes

    def do(self, user: str, message: Any) -> Outcome:
        """Do one thing that is not refused."""
        outcome = self.batch((user, message))[1]
        assert isinstance(outcome, Outcome), outcome
        return outcome

    def send(self, user: str = "u") -> str:
        """Send a notification; return its id."""
        (sent,) = self.do("s", to(user)).replies
        assert isinstance(sent, Sent)
        return sent.notification_id

    def inbox(self, user: str = "u") -> list[Record]:
        """Return an inbox, the newest first."""
        return self.contents.page(user, Query(1000), timestamp(self.now))

    def ids(self, user: str = "u") -> list[str]:
        """Return the ids in an inbox, the newest first."""
        return [record.id for record in self.inbox(user)]


def to(*users: str, data: bytes = b"{}", key: str | None = None) -> SendNotification:
    """Return a message that sends to users."""
    return SendNotification("invite", target_user_ids=users, data=Raw(data), idempotency_key=key)


def gone(outcome: Outcome | BadMessage) -> list[str]:
    """Return the ids of what an outcome deletes."""
    assert isinstance(outcome, Outcome)
    return [event.notification_id for _, event in outcome.events if isinstance(event, Deleted)]


def code(outcome: Outcome | BadMessage) -> str:
    """Return why something was refused."""
    assert isinstance(outcome, BadMessage)
    return outcome.code


def test_times_of_one_moment_keep_the_order() -> None:
    """Notifications of one moment, or after a step back of the clock, get different times in their order."""
    office = Office()
    sent = [office.send() for _ in range(3)]
    office.now -= 5000
    sent += [office.send(), office.send()]
    times = [record.created_at for record in office.inbox()]
    assert office.ids() == sent[::-1]
    assert times == sorted(set(times), reverse=True)


def test_ids_sort_in_the_order_they_were_given() -> None:
    """Ids are UUIDs that sort as they were given, so that a database's index of them grows in one place."""
    office = Office()
    sent = [office.send() for _ in range(100)]
    assert {UUID(id_).version for id_ in sent} == {7}
    assert sent == sorted(set(sent))


def test_times_are_of_an_inbox() -> None:
    """Another inbox does not push the time."""
    office = Office()
    office.send("v")
    office.send("u")
    assert office.inbox("u")[0].created_at == office.inbox("v")[0].created_at == timestamp(office.now)


def test_time_of_a_deleted_notification_is_not_reused() -> None:
    """The time of what was deleted does not come again, so no page can miss what comes after it."""
    office = Office()
    first = office.send()
    created = office.inbox()[0].created_at
    office.do("u", DeleteNotification(first))
    office.send()
    assert office.inbox()[0].created_at > created


def test_expiry_counts_from_its_time() -> None:
    """A notification whose time was moved forward expires as much later."""
    office = Office()
    office.send()
    office.send()
    newest = office.inbox()[0]
    assert milliseconds(newest.expires_at) - milliseconds(newest.created_at) == TTL * DAY * 1000


def test_data_is_no_view() -> None:
    """A stored notification does not keep the message alive that brought it."""
    message = memoryview(b'{"all":"the rest of the message","data":[1]}')
    raw = Raw(message[40:43])
    office = Office()
    office.do("s", SendNotification("invite", "u", data=raw))
    assert bytes(office.inbox()[0].data) == b"[1]"
    assert memoryview(office.inbox()[0].data).obj is not message.obj


@pytest.mark.parametrize("together", [True, False])
def test_full_inbox_loses_its_oldest(together: bool) -> None:
    """A full inbox loses its oldest, in one batch as in several, and devices are told before what comes."""
    office = Office(room=3)
    sent = [office.send() for _ in range(3)]
    asked = [("s", to("u"))] * 2
    outcomes = office.batch(*asked)[1:] if together else [office.batch(one)[1] for one in asked]
    assert [gone(outcome) for outcome in outcomes] == [[sent[0]], [sent[1]]]
    for outcome in outcomes:
        assert isinstance(outcome, Outcome)
        assert [type(event) for _, event in outcome.events] == [Deleted, Received]
    assert len(office.ids()) == 3
    assert office.ids()[-1] == sent[2]


def test_oldest_read_notification_goes_first() -> None:
    """The oldest read one goes first, also one that was read in the same batch."""
    office = Office(room=4)
    sent = [office.send() for _ in range(4)]
    office.do("u", MarkRead(sent[2]))
    outcomes = office.batch(("u", MarkRead(sent[1])), ("s", to("u")), ("s", to("u")), ("s", to("u")))
    assert [gone(outcome) for outcome in outcomes[2:]] == [[sent[1]], [sent[2]], [sent[0]]]


def test_full_after_marking_all() -> None:
    """After `mark-all-read` in the same batch it is the oldest that goes."""
    office = Office(room=3)
    sent = [office.send() for _ in range(3)]
    office.do("u", MarkRead(sent[1]))
    outcomes = office.batch(("u", MarkAllRead()), ("s", to("u")), ("s", to("u")))
    assert [gone(outcome) for outcome in outcomes[2:]] == [[sent[0]], [sent[1]]]


def test_lowered_limit_applies_to_the_next_notification() -> None:
    """When the limit was lowered, the next notification makes room for itself."""
    office = Office()
    sent = [office.send() for _ in range(10)]
    office.room = 3
    assert gone(office.batch(("s", to("u")))[1]) == sent[:8]
    assert len(office.ids()) == 3


def test_expired_notifications_make_room_first() -> None:
    """Expired notifications are evicted first."""
    office = Office(room=2)
    old = [office.send() for _ in range(2)]
    office.now += TTL * DAY * 1000 + 10
    expired, outcome = office.batch(("s", to("u")))
    assert gone(expired) == old
    assert gone(outcome) == []


def test_expired_is_not_found() -> None:
    """An expired notification is not found by any request, and is announced as deleted."""
    office = Office()
    old = office.send()
    office.now += TTL * DAY * 1000
    expired, read, revoked = office.batch(("u", MarkRead(old)), ("s", RevokeNotification(old)))
    assert gone(expired) == [old]
    assert code(read) == code(revoked) == "not-found"


def test_another_users_notification_is_not_found() -> None:
    """An id of another's notification is not found, and that one's inbox is not touched."""
    office = Office()
    other = office.send("v")
    office.now += TTL * DAY * 1000  # it has expired, but nobody has asked for that inbox
    assert code(office.batch(("u", MarkRead(other)))[1]) == "not-found"
    assert office.contents.counts().notifications == 1


def test_same_key_in_one_batch() -> None:
    """The same sending twice in one batch is one notification."""
    office = Office()
    first, second = office.batch(("s", to("u", key="k")), ("s", to("u", key="k")))[1:]
    assert isinstance(first, Outcome)
    assert second == Outcome(first.replies)
    assert len(office.ids()) == 1


def test_keys_are_the_senders() -> None:
    """Two senders may use one key."""
    office = Office()
    office.batch(("s", to("u", key="k")), ("t", to("u", key="k")))
    assert len(office.ids()) == 2


@pytest.mark.parametrize(
    "other", [to("v", key="k"), to("u", data=b"1", key="k"), SendNotification("thread", "u", idempotency_key="k")]
)
def test_same_key_with_other_contents_is_a_conflict(other: SendNotification) -> None:
    """The same key for another user, data or type is a conflict, which sends nothing."""
    office = Office(sends=2)
    office.do("s", to("u", key="k"))
    assert code(office.batch(("s", other))[1]) == "idempotency-conflict"
    assert len(office.ids()) == 1
    office.send("w")  # and counts for nothing


def test_quota_of_a_dropped_batch() -> None:
    """Sends that could not be stored do not count for the quota."""
    office = Office(sends=2)
    batch, outcomes = office.unfinished(("s", to("u", "v")), ("s", to("w")))
    assert isinstance(outcomes[0], Outcome)
    assert code(outcomes[1]) == "rate-limited"
    batch.drop()
    office.do("s", to("u", "v"))
    assert code(office.batch(("s", to("w")))[1]) == "rate-limited"


def test_dropped_batch_changes_nothing() -> None:
    """A batch that is not stored has changed nothing that a later one sees."""
    office = Office(room=2)
    sent = [office.send() for _ in range(2)]
    office.unfinished(("u", MarkAllRead()), ("s", to("u")), ("u", DeleteNotification(sent[0])))
    assert office.ids() == sent[::-1]
    assert not any(record.read for record in office.inbox())
    assert (office.contents.inboxes["u"].total, office.contents.inboxes["u"].unread) == (2, 2)


def test_forgotten_inbox_does_not_reuse_numbers() -> None:
    """An empty inbox is forgotten after the time in which notifications expire, and its numbers do not come again."""
    office = Office()
    office.do("u", DeleteNotification(office.send()))
    last = office.contents.inboxes["u"].sequence
    office.now += TTL * DAY * 1000 - 1
    office.batch(("u", MarkAllRead()))
    assert "u" in office.contents.inboxes
    office.now += 1
    office.batch(("u", MarkAllRead()))
    assert "u" not in office.contents.inboxes
    assert office.contents.counts() == (0, 0, 0, 0, 0)
    office.send()
    assert not office.contents.inboxes["u"].remembers(last)


def test_data_that_is_too_deep_is_refused() -> None:
    """Data that could not be read again from within a file is refused."""
    office = Office()
    assert code(office.batch(("s", to("u", data=b"[" * 5000 + b"]" * 5000)))[1]) == "invalid-field"


@given(st.integers(0, 10**15), st.integers(-5, HISTORY + 5))
def test_inbox_remembers_its_last_thousand_changes(sequence: int, behind: int) -> None:
    """An inbox remembers its last thousand changes, and none that it has not had."""
    inbox = Inbox(user_id="u", sequence=sequence)
    assert inbox.remembers(sequence - behind) == (0 <= behind <= HISTORY)


def test_notification_marked_already_is_answered() -> None:
    """An already marked notification is answered to the sender of the request, with the state after the other marks."""
    office = Office()
    sent = [office.send() for _ in range(4)]
    office.do("u", MarkRead(notification_ids=tuple(sent[:2])))
    outcome = office.do("u", MarkRead(notification_ids=tuple(sent)))
    events = [event for _, event in outcome.events]
    told = [
        [(one.notification.id, one.notification.read, one.unread_count) for one in some if isinstance(one, Updated)]
        for some in (outcome.replies, events)
    ]
    assert told == [[(sent[0], True, 0), (sent[1], True, 0)], [(sent[2], True, 1), (sent[3], True, 0)]]
    assert {one.sequence for one in outcome.replies if isinstance(one, Updated)} == {events[-1].sequence}
    again = office.do("u", MarkRead(notification_ids=tuple(sent)))
    assert (len(again.replies), again.events) == (4, [])


def test_one_text_for_all_receivers() -> None:
    """The data of a sending to several users is in memory once and counts once, and has an id of its own."""
    batch = Batch(Loaded(), NOW * 1000, 30, 0, SendQuota(0))
    batch.send("s", SendNotification("thread", target_user_ids=("a", "b", "c"), data=Raw(b'"text"')), "192.0.2.1")
    first, *others = batch.changes().added
    assert all(record.data is first.data and record.payload_id == first.payload_id for record in others)
    assert len(others) == 2
    assert isinstance(first.payload_id, str)
    assert batch.grown == 3 * (INBOX_SIZE + record_size("a", "s")) + payload_size(first.data)


def test_data_for_one_user_is_stored_with_its_notification() -> None:
    """The data of a sending to one user is the notification's own."""
    batch = Batch(Loaded(), NOW * 1000, 30, 0, SendQuota(0))
    batch.send("s", SendNotification("thread", target_user_ids=("a", "a"), data=Raw(b'"text"')), "192.0.2.1")
    (only,) = batch.changes().added
    assert only.payload_id is UNSET
    assert batch.grown == INBOX_SIZE + only.size == INBOX_SIZE + record_size("a", "s") + 6


def test_sending_without_notifications_stores_no_payload() -> None:
    """A sending of which nothing is left at the end of its batch counts for no payload."""
    office = Office()
    batch, _ = office.unfinished(("s", to("a", "b", data=b"1")))
    sizes = batch.grown
    batch.delete_all("a")
    batch.delete_all("b")
    assert batch.changes().added == []
    assert 0 < batch.grown < sizes
    assert batch.grown == 2 * INBOX_SIZE
