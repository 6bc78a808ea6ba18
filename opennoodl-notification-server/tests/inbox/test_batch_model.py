"""Batches beside plain lists: whatever is done together, each thing happens as if it were alone."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opennoodl_notification.inbox.batch import Outcome
from opennoodl_notification.messages import (
    DeleteAll,
    DeleteNotification,
    MarkAllRead,
    MarkRead,
    MarkUnread,
    RevokeNotification,
    Sent,
)

from .test_batch import Office, gone, to

pytestmark = pytest.mark.slow

ROOM = 3
FORMS: list[Any] = [MarkRead, MarkUnread, DeleteNotification, RevokeNotification]

number = st.integers(0, ROOM + 1)
one = st.tuples(st.sampled_from(FORMS), st.lists(number, min_size=1, max_size=2))
step = st.one_of(st.just("send"), one, one, st.sampled_from([MarkAllRead, DeleteAll]))


class Plain:
    """An inbox as a list of ids, the oldest first, and those of them that were read."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.read: set[str] = set()

    def send(self, id_: str) -> list[str]:
        """Take a notification; return what goes for it: the oldest read one, or else the oldest."""
        out = []
        while len(self.ids) >= ROOM:
            out.append(next((id_ for id_ in self.ids if id_ in self.read), self.ids[0]))
            self.delete(out)
        self.ids.append(id_)
        return out

    def delete(self, ids: list[str]) -> None:
        """Delete notifications."""
        self.ids = [id_ for id_ in self.ids if id_ not in ids]
        self.read.intersection_update(self.ids)

    def change(self, message: Any) -> None:
        """Do what a message says that sends nothing."""
        match message:
            case MarkRead():
                self.read.update(set(message.ids) & set(self.ids))
            case MarkUnread():
                self.read.difference_update(message.ids)
            case MarkAllRead():
                self.read.update(self.ids)
            case DeleteAll():
                self.delete(self.ids)
            case _:
                self.delete(list(message.ids))


def message(chosen: Any, known: list[str]) -> tuple[str, Any]:
    """Return who asks for a step, and what."""
    if chosen == "send":
        return "s", to("u")
    if not isinstance(chosen, tuple):
        return "u", chosen()
    form, numbers = chosen
    ids = tuple(known[-1 - which % len(known)] if known else "nothing" for which in numbers)
    return "s" if form is RevokeNotification else "u", form(notification_ids=ids)


@settings(max_examples=500)
@given(
    st.lists(st.booleans(), min_size=ROOM, max_size=ROOM), st.lists(st.lists(step, min_size=1, max_size=5), max_size=4)
)
def test_inbox_agrees_with_a_plain_list(first: list[bool], batches: list[list[Any]]) -> None:
    """An inbox holds, in order, what a list would that was changed one by one, and makes room in the same way.

    It begins full, some of it read: what goes wrong when room is made is hardly found from an empty inbox.
    """
    office, plain = Office(room=ROOM), Plain()
    known = [office.send() for _ in first]
    plain.ids = known.copy()
    for id_, read in zip(known, first, strict=True):
        if read:
            office.do("u", MarkRead(id_))
            plain.read.add(id_)
    for batch in batches:
        office.now += 1000
        asked = [message(chosen, known) for chosen in batch]
        for (_, what), outcome in zip(asked, office.batch(*asked)[1:], strict=True):
            match outcome:
                case Outcome(replies=[Sent(notification_id=id_)]):
                    known.append(id_)
                    assert gone(outcome) == plain.send(id_)
                case _:
                    plain.change(what)
        assert office.ids() == plain.ids[::-1]
        assert {record.id for record in office.inbox() if record.read} == plain.read
        inbox = office.contents.inboxes.get("u")
        unread = len(plain.ids) - len(plain.read)
        assert inbox is None or (inbox.total, inbox.unread) == (len(plain.ids), unread)


@pytest.mark.parametrize("together", [True, False])
def test_full_after_marking_unread(together: bool) -> None:
    """When the oldest read one is unread again, it is the next read one that goes, in one batch as in several."""
    office = Office(room=3)
    sent = [office.send() for _ in range(3)]
    office.do("u", MarkRead(notification_ids=(sent[1], sent[2])))
    asked: list[tuple[str, Any]] = [("u", MarkUnread(sent[1])), ("s", to("u"))]
    outcomes = office.batch(*asked)[1:] if together else [office.batch(one)[1] for one in asked]
    assert gone(outcomes[1]) == [sent[2]]
