"""Inboxes: how much fits in, what is sent only once, and what is taken back."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import Raw
from opennoodl_notification.edge.json_messages import BadMessage
from opennoodl_notification.inbox import Changes, Inboxes, Outcome
from opennoodl_notification.messages import Deleted, GetNotifications, Notifications, Received, SendNotification, Sent
from opennoodl_notification.notification import Notification, Record

from .harness import DAY, NOW

TTL = 30 * DAY


def ask(
    inboxes: Inboxes,
    user: str = "u",
    key: str | None = None,
    *,
    data: bytes = b"{}",
    sender: str = "s",
    now: float = NOW,
) -> Outcome:
    """Send a notification."""
    return inboxes.send(sender, SendNotification(user, "invite", Raw(data), key), now)


def send(inboxes: Inboxes, user: str = "u", key: str | None = None, **fields: Any) -> str:
    """Send a notification; return its id."""
    reply = ask(inboxes, user, key, **fields).reply
    assert isinstance(reply, Sent)
    return reply.notification_id


def refused(inboxes: Inboxes, *args: Any, **fields: Any) -> str:
    """Send a notification that is refused; return the error's code."""
    with pytest.raises(BadMessage) as info:
        ask(inboxes, *args, **fields)
    return info.value.code


def shown(inboxes: Inboxes, user: str = "u") -> list[Notification]:
    """Return the inbox."""
    reply = inboxes.get(user, GetNotifications(limit=200), NOW).reply
    assert isinstance(reply, Notifications)
    return list(reply.notifications)


def ids(inboxes: Inboxes, user: str = "u") -> list[str]:
    """Return the ids in the inbox."""
    return [notification.id for notification in shown(inboxes, user)]


def copy(inboxes: Inboxes, records: dict[str, Record]) -> Changes:
    """Commit the changes of `inboxes` to `records`; return them."""
    changes = inboxes.changes()
    for id_, record in changes.items():
        if record is None:
            records.pop(id_, None)
        else:
            records[id_] = record
    inboxes.commit()
    return changes


# A full inbox


def test_full_of_unread() -> None:
    """A full inbox loses its oldest, and its devices are told before they are told of the new one."""
    inboxes = Inboxes([], 30, 3, 0)
    sent = [send(inboxes) for _ in range(3)]
    outcome = ask(inboxes)
    gone, came = outcome.events
    assert gone == ("u", Deleted(sent[0]))
    assert isinstance(came[1], Received)
    assert ids(inboxes) == [came[1].notification.id, sent[2], sent[1]]


def test_full_with_read() -> None:
    """What was read goes first, the oldest of it before the others."""
    inboxes = Inboxes([], 30, 4, 0)
    sent = [send(inboxes) for _ in range(4)]
    for id_ in (sent[3], sent[1]):
        inboxes.mark_read("u", id_, NOW)
    gone = [ask(inboxes).events[0][1] for _ in range(3)]
    assert gone == [Deleted(sent[1]), Deleted(sent[3]), Deleted(sent[0])]


def test_full_of_expired() -> None:
    """What has expired takes no room."""
    inboxes = Inboxes([], 30, 2, 0)
    send(inboxes)
    kept = send(inboxes, now=NOW + DAY)
    outcome = ask(inboxes, now=NOW + TTL)
    assert [type(event) for _, event in outcome.events] == [Received]
    assert ids(inboxes)[1:] == [kept]


def test_full_is_of_one_user() -> None:
    """Another's full inbox costs nobody anything."""
    inboxes = Inboxes([], 30, 1, 0)
    mine = send(inboxes, "u")
    for _ in range(3):
        send(inboxes, "v")
    assert ids(inboxes, "u") == [mine]


def test_lowered_limit() -> None:
    """An inbox over a limit that was lowered shrinks with the next notification."""
    records: dict[str, Record] = {}
    inboxes = Inboxes([], 30, 0, 0)
    sent = [send(inboxes) for _ in range(5)]
    copy(inboxes, records)
    again = Inboxes(records.values(), 30, 2, 0)
    outcome = ask(again)
    assert [event for _, event in outcome.events[:-1]] == [Deleted(id_) for id_ in sent[:4]]
    assert ids(again)[1:] == [sent[4]]


def test_no_limit() -> None:
    """0 means any number."""
    inboxes = Inboxes([], 30, 0, 0)
    for _ in range(1500):
        send(inboxes)
    assert len(inboxes) == 1500


# A sender's hour


def test_sends_per_hour() -> None:
    """A user may send so many an hour, to whomever; another user may too."""
    inboxes = Inboxes([], 30, 0, 2)
    send(inboxes, "u")
    send(inboxes, "v")
    assert refused(inboxes, "w") == "rate-limited"
    assert len(inboxes) == 2
    send(inboxes, "w", sender="other")


def test_next_hour() -> None:
    """After an hour one may send again."""
    inboxes = Inboxes([], 30, 0, 1)
    send(inboxes)
    assert refused(inboxes) == "rate-limited"
    send(inboxes, now=NOW + 3600)


def test_sending_the_same_again_is_free() -> None:
    """Sending the same again under its key does not count, and works where nothing more may be sent."""
    inboxes = Inboxes([], 30, 0, 1)
    id_ = send(inboxes, key="k")
    assert [send(inboxes, key="k") for _ in range(3)] == [id_] * 3


def test_not_done_does_not_count() -> None:
    """What could not be stored was not sent: it takes nothing of the sender's hour."""
    inboxes = Inboxes([], 30, 0, 1)
    send(inboxes)
    inboxes.rollback()
    send(inboxes)
    assert refused(inboxes) == "rate-limited"


# The same again


def test_same_key() -> None:
    """The same again under its key is sent once: same answer, no event, no change."""
    inboxes = Inboxes([], 30, 0, 0)
    id_ = send(inboxes, key="k", data=b'{"a":1}')
    inboxes.commit()
    assert ask(inboxes, key="k", data=b'{"a":1}') == Outcome(Sent(id_))
    assert inboxes.changes() == {}
    assert ids(inboxes) == [id_]


@pytest.mark.parametrize("other", [{"user": "v"}, {"data": b"[]"}])
def test_conflict(other: dict[str, Any]) -> None:
    """A key that was used for something else is refused."""
    inboxes = Inboxes([], 30, 0, 0)
    send(inboxes, key="k")
    assert refused(inboxes, key="k", **other) == "idempotency-conflict"
    assert len(inboxes) == 1


def test_conflict_of_type() -> None:
    """A key that was used for a notification of another type is refused."""
    inboxes = Inboxes([], 30, 0, 0)
    send(inboxes, key="k")
    with pytest.raises(BadMessage) as info:
        inboxes.send("s", SendNotification("u", "system", Raw(b"{}"), "k"), NOW)
    assert info.value.code == "idempotency-conflict"


def test_keys_are_the_senders() -> None:
    """Two senders may use one key."""
    inboxes = Inboxes([], 30, 0, 0)
    assert send(inboxes, key="k", sender="a") != send(inboxes, key="k", sender="b", data=b"[]")


def test_no_key() -> None:
    """Without a key, the same again is another notification."""
    inboxes = Inboxes([], 30, 0, 0)
    assert send(inboxes) != send(inboxes)


def test_key_after_reading() -> None:
    """A notification that was read is not sent again either."""
    inboxes = Inboxes([], 30, 0, 0)
    id_ = send(inboxes, key="k")
    inboxes.mark_read("u", id_, NOW)
    inboxes.mark_all_read("u", NOW)
    assert send(inboxes, key="k") == id_


def test_key_after_restart() -> None:
    """Keys are stored: the same again after a restart is sent once."""
    records: dict[str, Record] = {}
    inboxes = Inboxes([], 30, 0, 0)
    id_ = send(inboxes, key="k", data=b'{"a" : 1.0}')
    copy(inboxes, records)
    again = Inboxes(records.values(), 30, 0, 0)
    assert send(again, key="k", data=b'{"a" : 1.0}') == id_
    assert refused(again, key="k") == "idempotency-conflict"


def test_expired_key() -> None:
    """What has expired is no answer, whether or not it has been removed: the same again is sent."""
    inboxes = Inboxes([], 30, 0, 0)
    old = send(inboxes, key="k")
    outcome = ask(inboxes, key="k", now=NOW + TTL)
    assert outcome.reply != Sent(old)
    assert len(outcome.events) == 1


# Taken back


def state(inboxes: Inboxes) -> tuple[Any, ...]:
    """Return everything that can be seen of three users."""
    assert inboxes.changes() == {}
    return (len(inboxes), *(shown(inboxes, user) for user in "uvw"))


@pytest.fixture
def full() -> Inboxes:
    """Return inboxes with stored notifications for u and v; u's is full."""
    inboxes = Inboxes([], 30, 4, 0)
    for number in range(4):
        send(inboxes, "u", key=f"k{number}", data=b"[%d]" % number)
    send(inboxes, "v", key="v")
    inboxes.mark_read("u", ids(inboxes)[1], NOW)
    inboxes.commit()
    return inboxes


def undo(inboxes: Inboxes, *actions: Any) -> None:
    """Do something, take it back, and see that nothing has changed."""
    before = state(inboxes)
    for action in actions:
        action(inboxes)
    assert inboxes.changes()
    inboxes.rollback()
    assert state(inboxes) == before
    for number, id_ in enumerate(reversed(ids(inboxes))):
        assert ask(inboxes, key=f"k{number}", data=b"[%d]" % number) == Outcome(Sent(id_))
    send(inboxes, "w")  # what goes on from here is as if nothing had been
    assert len(inboxes.changes()) == 1


def mark(inboxes: Inboxes) -> None:
    """Read u's oldest, if there is any."""
    for id_ in ids(inboxes)[-1:]:
        inboxes.mark_read("u", id_, NOW)


def delete(inboxes: Inboxes) -> None:
    """Delete u's second, if there is any."""
    for id_ in ids(inboxes)[1:2]:
        inboxes.delete("u", id_, NOW)


ACTIONS: dict[str, Any] = {
    "send": lambda inboxes: send(inboxes, "w", key="for w"),
    "send-to-full": lambda inboxes: send(inboxes, "u", key="for u"),
    "mark": mark,
    "mark-all": lambda inboxes: inboxes.mark_all_read("u", NOW),
    "delete": delete,
    "delete-all": lambda inboxes: inboxes.delete_all("u"),
    "expire": lambda inboxes: inboxes.expire(NOW + TTL + 3600),
}


@pytest.mark.parametrize("second", [None, *ACTIONS])
@pytest.mark.parametrize("first", ACTIONS)
def test_rollback(full: Inboxes, first: str, second: str | None) -> None:
    """What was taken back has never been, in content, order and keys; nor have two changes, one over the other."""
    undo(full, ACTIONS[first], *([] if second is None else [ACTIONS[second]]))


def test_rollback_of_a_key_used_again(full: Inboxes) -> None:
    """A key that was free again belongs to its former notification again."""
    undo(full, ACTIONS["delete-all"], lambda inboxes: send(inboxes, "u", key="k0", data=b'"other"'))


def test_rollback_of_everything(full: Inboxes) -> None:
    """All changes together are taken back, and again when they are made again."""
    for action in (*ACTIONS.values(), *ACTIONS.values()):
        action(full)
    full.rollback()
    undo(full, *ACTIONS.values())


def test_rollback_of_nothing(full: Inboxes) -> None:
    """Where nothing was changed nothing is taken back."""
    before = state(full)
    full.rollback()
    assert state(full) == before


def test_rollback_keeps_what_was_committed(full: Inboxes) -> None:
    """What was committed stays."""
    id_ = send(full, "w")
    full.commit()
    full.mark_read("w", id_, NOW)
    full.rollback()
    (one,) = shown(full, "w")
    assert (one.id, one.read) == (id_, False)


def test_changes() -> None:
    """Changes are the last state of each notification, or that it is gone."""
    records: dict[str, Record] = {}
    inboxes = Inboxes([], 30, 0, 0)
    read, deleted, short = send(inboxes), send(inboxes), send(inboxes)
    inboxes.delete("u", short, NOW)
    first = copy(inboxes, records)
    assert (set(first), first[short]) == ({read, deleted, short}, None)
    inboxes.mark_read("u", read, NOW)
    inboxes.delete("u", deleted, NOW)
    second = copy(inboxes, records)
    assert (set(second), second[deleted]) == ({read, deleted}, None)
    assert [record.read for record in records.values()] == [True]
    assert inboxes.changes() == {}
