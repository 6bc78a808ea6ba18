"""The requests: what each message needs to see, and what it does in a batch or reads from the store."""

from collections.abc import Sequence
from typing import Any

from msgspec import structs

from .batch import Batch, Outcome
from .edge.json_messages import encode
from .inbox import Inbox
from .messages import (
    Authenticate,
    Authenticated,
    Cleared,
    ClientForm,
    DeleteAll,
    Deleted,
    DeleteNotification,
    Event,
    GetNotifications,
    Incoming,
    MarkAllRead,
    MarkRead,
    MarkUnread,
    Notifications,
    Outgoing,
    Received,
    RevokeNotification,
    SendNotification,
    Updated,
    decode,
)
from .notification import Deletion, Notification
from .store import Needs, Query, Store

PAGE_SIZE = 1 << 19
"""Bytes of one answer, or a little more: it has to fit into what may wait for a slow client."""


def normal(incoming: Incoming) -> Incoming:
    """Return `send-notification` for what the editor sends in its place, and anything else as it is."""
    if isinstance(incoming, ClientForm):
        kind: Any = decode.names[type(incoming)]
        return SendNotification(
            kind, incoming.target_user_id, data=incoming.data, idempotency_key=incoming.idempotency_key
        )
    return incoming


def need(needs: Needs, user: str, incoming: Incoming) -> None:
    """Add to `needs` what a message of `user` needs."""
    match incoming:
        case SendNotification(idempotency_key=key):
            needs.users.update(incoming.targets)
            if key is not None:
                needs.sendings.add((user, key))
        case RevokeNotification():
            needs.revoked.update(incoming.ids)
        case MarkRead() | DeleteNotification():
            needs.users[user] += 0
            needs.ids.update(incoming.ids)
        case MarkUnread():
            # These may be the ones that would have made room: others that were read have to be there in their place.
            needs.users[user] += len(incoming.ids)
            needs.ids.update(incoming.ids)
        case MarkAllRead():
            needs.users[user] += 0
            needs.unread.add(user)
        case _:
            needs.users[user] += 0


def change(batch: Batch, user: str, incoming: Incoming, address: str) -> Outcome:
    """Do what a message asks for that changes something.

    Args:
        batch: what it becomes a part of.
        user: who asks.
        incoming: the message.
        address: where it comes from.

    Raises:
        BadMessage: it cannot be done, and nothing was changed.
    """
    match incoming:
        case SendNotification():
            return batch.send(user, incoming, address)
        case MarkRead():
            return batch.mark(user, incoming.ids, read=True)
        case MarkUnread():
            return batch.mark(user, incoming.ids, read=False)
        case MarkAllRead():
            return batch.mark_all_read(user)
        case DeleteNotification():
            return batch.delete(user, incoming.ids)
        case DeleteAll():
            return batch.delete_all(user)
        case RevokeNotification():
            return batch.revoke(user, incoming.ids)
    raise AssertionError(incoming)


async def read(store: Store, inbox: Inbox, incoming: Incoming, now: str) -> list[Outgoing]:
    """Return the answers to a message that reads `inbox`.

    Raises:
        StoreError: they could not be read.
    """
    if isinstance(incoming, GetNotifications):
        return [await _page(store, inbox, incoming, now)]
    assert isinstance(incoming, Authenticate)
    answer = Authenticated(inbox.user_id, inbox.sequence, inbox.unread)
    if incoming.since is None:
        return [answer, await _page(store, inbox, GetNotifications(), now)]
    missed = await _missed(store, inbox, incoming.since, now)
    if missed is None:
        return [structs.replace(answer, complete=False), await _page(store, inbox, GetNotifications(), now)]
    return [structs.replace(answer, complete=True), *missed]


async def _page(store: Store, inbox: Inbox, get: GetNotifications, now: str) -> Notifications:
    query = Query(get.limit + 1, get.before, get.unread_only, get.types)
    records = await store.page(inbox.user_id, query, now)
    shown = [record.shown() for record in records[: get.limit]]
    fitting = _fitting(shown)
    return Notifications(shown[:fitting], inbox.unread, len(records) > fitting, inbox.sequence)


def _fitting(parts: Sequence[Notification | Event]) -> int:
    """Return how many of the first parts of an answer may be in it."""
    size = 0
    for number, part in enumerate(parts, 1):
        size += len(encode(part))
        if size > PAGE_SIZE:
            return number
    return len(parts)


async def _missed(store: Store, inbox: Inbox, since: int, now: str) -> list[Event] | None:
    """Return what changed after number `since`, or None if that is not known any more, or is too much."""
    if not inbox.remembers(since):
        return None
    events: list[Event] = []
    if inbox.cleared > since:
        events.append(Cleared(sequence=inbox.cleared, unread_count=inbox.unread, replayed=True))
    for one in await store.changed(inbox.user_id, since):
        if isinstance(one, Deletion):
            if one.born <= since:  # else the device has never known it
                events.append(
                    Deleted(notification_id=one.id, sequence=one.sequence, unread_count=inbox.unread, replayed=True)
                )
        elif one.expires_at > now:  # else its deletion will be told; a store that fails can be read, and not cleaned up
            kind = Received if one.born > since else Updated
            events.append(
                kind(notification=one.shown(), sequence=one.sequence, unread_count=inbox.unread, replayed=True)
            )
    return None if _fitting(events) < len(events) else events
