"""The contents: what the suite of all stores cannot see, because only a journal brings it about."""

from __future__ import annotations

from opennoodl_notification.inbox.store import Changes
from opennoodl_notification.records import HISTORY, Deletion, Inbox, Sending, timestamp
from opennoodl_notification.storage.json_file.contents import Contents

from ...harness import DAY, NOW, record

EARLY, LATER, LATEST = (timestamp((NOW + number) * 1000) for number in range(3))


def contents(**changes: object) -> Contents:
    """Return contents that some changes make."""
    made = Contents()
    made.apply(Changes(**changes))  # type: ignore[arg-type]
    return made


def sending(key: str, expires: str) -> Sending:
    """Return a sending."""
    return Sending("s", key, "f", ("n",), expires)


def test_second_removal_is_ignored() -> None:
    """A removal of a notification that went with its whole inbox is ignored, as a batch may name it."""
    kept = contents(added=[record("n1"), record("n2", "v")], inboxes=[Inbox(user_id="u", sequence=1)])
    kept.apply(Changes(cleared=["u"], removed=["n1", "nothing"]))
    assert len(kept) == 1
    assert kept.records == {"v": {"n2": record("n2", "v")}}


def test_repeated_deletion_is_remembered_once() -> None:
    """A deletion that is remembered is not remembered twice, nor is one before it."""
    kept = contents(deletions=[Deletion("u", 5, "a", 1), Deletion("u", 5, "a", 1), Deletion("u", 4, "b", 1)])
    assert kept.changed("u", 0) == [Deletion("u", 5, "a", 1)]


def test_inboxes_forget_their_history_apart() -> None:
    """The history of one inbox is forgotten without that of another."""
    states = [Inbox(user_id="u", sequence=HISTORY + 1), Inbox(user_id="v", sequence=1)]
    gone = [Deletion("u", 1, "a", 0), Deletion("v", 1, "b", 0), Deletion("u", HISTORY + 1, "c", 0)]
    kept = contents(deletions=gone, inboxes=states)
    assert [one.id for one in kept.changed("u", 0)] == ["c"]
    assert [one.id for one in kept.changed("v", 0)] == ["b"]


def test_reused_key_expires_last() -> None:
    """A key that is used anew is the last to expire, so that none is kept behind it."""
    kept = contents(sendings=[sending("a", EARLY), sending("b", LATER), sending("a", LATEST)])
    kept.clean(LATER)
    assert list(kept.sendings) == [("s", "a")]


def test_snapshot_is_independent_of_later_changes() -> None:
    """A snapshot stays as it is when the contents change, which is what a file is written from meanwhile."""
    kept = contents(added=[record("n1")], inboxes=[Inbox(user_id="u", sequence=1, total=1)])
    before = kept.snapshot()
    kept.apply(Changes(removed=["n1"], inboxes=[Inbox(user_id="u", sequence=2)], added=[record("n2")]))
    assert before.records == [record("n1")]
    assert before.inboxes == [Inbox(user_id="u", sequence=1, total=1)]


def test_update_of_a_missing_notification_is_ignored() -> None:
    """A change of a notification that is not there, as after the loss of a journal, does not bring it back."""
    kept = contents(added=[record("n1")], updated=[record("n2").mark()], inboxes=[Inbox(user_id="u", sequence=1)])
    assert kept.records == {"u": {"n1": record("n1")}}
    assert len(kept) == 1
    kept.apply(Changes(cleared=["u"]))
    assert len(kept) == 0


def test_states_are_corrected_to_their_inboxes() -> None:
    """States are made to fit the notifications in the inboxes; a due time may be too early, but not too late."""
    first, early = record("n").expires_at, timestamp(NOW)
    states = {"u": early, "v": timestamp((NOW + 99 * DAY) * 1000), "w": "", "empty": early}
    inboxes = [Inbox(user_id=user, sequence=7, total=5, unread=5, due=due) for user, due in states.items()]
    added = [record(f"{user}{number}", user, NOW + number, read=number == 0) for user in "uvw" for number in range(2)]
    kept = contents(added=added, inboxes=inboxes)
    kept.correct_states()
    assert {user: inbox.due for user, inbox in kept.inboxes.items()} == {
        **{"u": early, "v": first, "w": first},
        "empty": early,
    }
    assert {(inbox.total, inbox.unread, inbox.newest) for inbox in kept.inboxes.values()} == {
        (2, 1, timestamp((NOW + 1) * 1000)),
        (0, 0, ""),
    }
