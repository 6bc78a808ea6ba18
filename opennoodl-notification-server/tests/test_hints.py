"""Hints: what one instance tells another is understood there, and fits into what PostgreSQL carries."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from opennoodl_notification import hints
from opennoodl_notification.hints import Change, Growth, Hello, Item, Present, Recount, Sends, changed, pack, unpack
from opennoodl_notification.messages import AllRead, Cleared, Deleted, Event, Received, Updated

from .harness import record

LIMIT = 8000
"""Bytes that PostgreSQL refuses."""
EVENTS: tuple[Event, ...] = (
    Received(notification=record("a").shown(), sequence=8, unread_count=1),
    Updated(notification=record("a", read=True, read_at="then").shown(), sequence=9, unread_count=0),
    AllRead(read_at="then", sequence=10, unread_count=0),
    Deleted(notification_id="a", sequence=11, unread_count=0),
    Cleared(sequence=12, unread_count=0),
)

ids = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=256)
numbers = st.integers(0, 2**53)


def all_of(items: list[Item]) -> list[Item]:
    """Return what arrives of these items, and see that every hint follows its predecessor and is not too long."""
    arrived: list[Item] = []
    for number, text in enumerate(pack("me", 7, items), 7):
        assert len(text.encode()) < LIMIT
        hint = unpack(text)
        assert (hint.instance, hint.number) == ("me", number)
        arrived += hint.items
    return arrived


def test_hint_without_items_announces_the_instance() -> None:
    """A hint without an item says that the instance is there."""
    assert list(pack("me", 7, [])) == ['["me",7]']


def test_events_survive_the_round_trip() -> None:
    """Every kind of event arrives as it was told to devices."""
    (change,) = all_of([changed("u", 7, 12, EVENTS)])
    assert isinstance(change, Change)
    assert hints.events_of(change) == list(EVENTS)


@given(st.lists(st.one_of(st.builds(Present, ids, numbers), st.builds(Sends, ids, ids, numbers, numbers)), max_size=40))
def test_many_items_are_split_into_ordered_hints(items: list[Item]) -> None:
    """Items that do not fit into one hint come in several, in order."""
    sent = [Hello(), Recount(), *items, Growth(-3, 4)]
    assert all_of(sent) == sent


@given(ids, st.integers(0, 9000))
def test_large_change_has_only_its_numbers(user: str, size: int) -> None:
    """A change has its events if they fit into a hint; otherwise it has its numbers alone."""
    event = Received(notification=record("a", data=b'"%s"' % (b"x" * size)).shown(), sequence=8, unread_count=1)
    (change,) = all_of([changed(user, 7, 8, [event])])
    assert isinstance(change, Change)
    assert (change.user, change.before, change.after) == (user, 7, 8)
    if size <= 5000:
        assert change.events is not None
    if size >= hints.MOST:
        assert change.events is None


def test_change_of_many_notifications_has_only_its_numbers() -> None:
    """A change of many notifications has its numbers alone."""
    events = [Deleted(notification_id=f"{number}", sequence=number, unread_count=0) for number in range(1000)]
    assert changed("u", 0, 999, events).events is None


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '["me"]', '[7,"me"]', '["me",7,["later",1]]', '["me",7,["change","u"]]']
)
def test_hint_of_another_version_is_refused(text: str) -> None:
    """A hint of another version is refused as a whole."""
    with pytest.raises((msgspec.MsgspecError, ValueError)):
        unpack(text)


def test_events_of_other_versions() -> None:
    """An event of another version is refused."""
    with pytest.raises(msgspec.MsgspecError):
        hints.events_of(Change("u", 7, 8, (Raw(b'{"type":"later"}'),)))
