"""The memory: what the suite of all stores cannot see, because only a journal brings it about."""

from __future__ import annotations

from opennoodl_notification.inbox import HISTORY, Inbox
from opennoodl_notification.memory import Memory
from opennoodl_notification.notification import Deletion, Sending, timestamp
from opennoodl_notification.store import Changes

from .harness import NOW, record

EARLY, LATER, LATEST = (timestamp((NOW + number) * 1000) for number in range(3))


def memory(**changes: object) -> Memory:
    """Return a memory of some changes."""
    made = Memory()
    made.apply(Changes(**changes))  # type: ignore[arg-type]
    return made


def sending(key: str, expires: str) -> Sending:
    """Return a sending."""
    return Sending("s", key, "f", ("n",), expires)


def test_removed_twice() -> None:
    """What is removed that went with its whole inbox costs nothing: a batch may name it all the same."""
    kept = memory(added=[record("n1"), record("n2", "v")], inboxes=[Inbox(user_id="u", sequence=1)])
    kept.apply(Changes(cleared=["u"], removed=["n1", "nothing"]))
    assert len(kept) == 1
    assert kept.records == {"v": {"n2": record("n2", "v")}}


def test_deletion_again() -> None:
    """A deletion that is remembered is not remembered twice, nor is one before it."""
    kept = memory(deletions=[Deletion("u", 5, "a", 1), Deletion("u", 5, "a", 1), Deletion("u", 4, "b", 1)])
    assert kept.changed("u", 0) == [Deletion("u", 5, "a", 1)]


def test_history_of_each() -> None:
    """What is forgotten of one inbox is not forgotten of another."""
    kept = memory(deletions=[Deletion("u", 1, "a", 0), Deletion("v", 1, "b", 0), Deletion("u", HISTORY + 1, "c", 0)])
    assert [one.id for one in kept.changed("u", 0)] == ["c"]
    assert [one.id for one in kept.changed("v", 0)] == ["b"]


def test_sending_again() -> None:
    """A key that is used anew is the last to expire, so that none is kept behind it."""
    kept = memory(sendings=[sending("a", EARLY), sending("b", LATER), sending("a", LATEST)])
    kept.clean(LATER)
    assert list(kept.sendings) == [("s", "a")]


def test_snapshot() -> None:
    """A snapshot stays as it is when the memory changes, which is what a file is written from meanwhile."""
    kept = memory(added=[record("n1")], inboxes=[Inbox(user_id="u", sequence=1, total=1)])
    before = kept.snapshot()
    kept.apply(Changes(removed=["n1"], inboxes=[Inbox(user_id="u", sequence=2)], added=[record("n2")]))
    assert before.records == [record("n1")]
    assert before.inboxes == [Inbox(user_id="u", sequence=1, total=1)]
