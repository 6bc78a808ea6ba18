"""Reading: makes the pages of an inbox, and the events that a device has missed."""

import asyncio
from datetime import UTC, datetime, timedelta

from msgspec import structs

from ..edge.messages import encode
from ..messages import (
    Answer,
    Authenticate,
    Authenticated,
    Cleared,
    Deleted,
    Event,
    GetNotifications,
    Incoming,
    Notifications,
    Received,
    Updated,
    UpToDate,
)
from ..records import Deletion, Inbox, Notification, timestamp
from .store import Query, ReadableStore, StoreError

PAGE_SIZE = 1 << 19
"""Bytes of one answer, approximately: it must fit into the write buffer of a slow client."""
PORTION = 200
"""Notifications that are read from the store at a time for a page without a limit."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LAST = datetime(9999, 12, 31, tzinfo=UTC)
"""The earliest and latest possible times of a notification."""


class OutdatedError(StoreError):
    """Another instance has changed the inbox since its state was read: it was not locked, or its lock was lost."""

    def __init__(self) -> None:
        super().__init__("another instance has changed an inbox meanwhile")


async def read(store: ReadableStore, inbox: Inbox, incoming: Incoming, now: str, *, behind: bool) -> list[Answer]:
    """Return the answers to a message that reads `inbox`.

    Args:
        store: stores the notifications.
        inbox: the state of the inbox.
        incoming: the message.
        now: the time.
        behind: whether the device has sent `since` and is reading the list, page by page.

    Raises:
        OutdatedError: the notifications are newer than `inbox`.
        StoreError: the notifications could not be read.
    """
    up_to_date = UpToDate(inbox.sequence, inbox.unread)
    if isinstance(incoming, GetNotifications):
        page = await _page(store, inbox, incoming, now)
        last = behind and not (page.has_more or incoming.unread_only or incoming.types)
        return [page, up_to_date] if last else [page]
    assert isinstance(incoming, Authenticate)
    answer = Authenticated(inbox.user_id, inbox.sequence, inbox.unread)
    if incoming.since is None:
        return [answer, await _page(store, inbox, GetNotifications(), now)]
    remembers = inbox.remembers(incoming.since)
    events = await missed(store, inbox, incoming.since, now) if remembers else None
    if events is not None:
        return [structs.replace(answer, complete=True), *events, up_to_date]
    page = await _page(store, inbox, GetNotifications(), now)
    answers = [structs.replace(answer, complete=False), page]
    return answers if page.has_more else [*answers, up_to_date]


async def _page(store: ReadableStore, inbox: Inbox, get: GetNotifications, now: str) -> Notifications:
    portion = get.limit or PORTION
    before = None if get.before is None else _rounded_up(get.before)
    shown: list[Notification] = []
    size = 0
    while inbox.sequence:
        records = await store.page(inbox.user_id, Query(portion + 1, before, get.unread_only, get.types), now)
        if any(record.sequence > inbox.sequence for record in records):
            raise OutdatedError
        for number, record in enumerate(records[:portion], 1):
            shown.append(record.shown())
            size += len(encode(shown[-1]))
            if size > PAGE_SIZE:
                return Notifications(shown, inbox.unread, len(records) > number, inbox.sequence)
        more = len(records) > portion
        if get.limit or not more:
            return Notifications(shown, inbox.unread, more, inbox.sequence)
        before = shown[-1].created_at
        await asyncio.sleep(0)  # a store in memory never suspends
    return Notifications([], inbox.unread, has_more=False, sequence=0)


def _rounded_up(moment: datetime) -> str:
    """Return a time in the format of notifications, rounded up, so that comparisons have the same result."""
    moment = min(max(moment, EPOCH), LAST)
    return timestamp(-((EPOCH - moment) // timedelta(milliseconds=1)))


async def missed(store: ReadableStore, inbox: Inbox, since: int, now: str) -> list[Event] | None:
    """Return the events after number `since`, which the inbox must remember; None if they are too many.

    Raises:
        OutdatedError: there are changes later than the state `inbox`.
        StoreError: the changes could not be read.
    """
    events: list[Event] = []
    if inbox.sequence == since:
        return events
    if inbox.cleared > since:
        events.append(Cleared(sequence=inbox.cleared, unread_count=inbox.unread, replayed=True))
    for one in await store.changed(inbox.user_id, since):
        if one.sequence > inbox.sequence:
            raise OutdatedError
        if isinstance(one, Deletion):
            if one.born <= since:  # otherwise the device has never known it
                events.append(
                    Deleted(notification_id=one.id, sequence=one.sequence, unread_count=inbox.unread, replayed=True)
                )
        elif one.expires_at > now:  # expired ones get a deletion event later, even if the store cannot delete now
            kind = Received if one.born > since else Updated
            events.append(
                kind(notification=one.shown(), sequence=one.sequence, unread_count=inbox.unread, replayed=True)
            )
    size = 0
    for event in events:
        if size > PAGE_SIZE:
            return None
        size += len(encode(event))
    return events
