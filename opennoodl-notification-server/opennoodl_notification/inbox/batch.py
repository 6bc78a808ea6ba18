"""A batch: the changes of messages to inboxes, and the events for devices. Knows no socket and no disk.

`Batch` works on the records that `requirements.need` has listed and the store has loaded, and returns changes for the
store. Nothing is sent until the changes are stored. If they cannot be stored, the batch is dropped without an effect.
"""

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from heapq import heapify, heappop, heappush
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, Raw, UnsetType

from ..edge.errors import BadMessage
from ..messages import (
    AllRead,
    Answer,
    Cleared,
    DeleteAll,
    Deleted,
    DeleteNotification,
    Event,
    Incoming,
    MarkAllRead,
    MarkRead,
    MarkUnread,
    Received,
    Revoked,
    RevokeNotification,
    SendNotification,
    Sent,
    Updated,
)
from ..records import (
    INBOX_SIZE,
    SENDING_SIZE,
    Deletion,
    Inbox,
    Record,
    Sending,
    new_id,
    payload_size,
    sending_size,
    timestamp,
)
from .send_quota import SendQuota
from .store import Changes, Loaded

DAY = 86_400_000
"""Milliseconds for which idempotency keys are stored."""
SPARE_DEPTH = 64
"""Levels of nesting that JSON from clients must leave free."""


class StorageFull(BadMessage):
    """The limit of the stored bytes does not allow a sending."""

    def __init__(self) -> None:
        super().__init__("storage-full", "MAX_STORED_SIZE is reached: nothing more can be stored.")


class Outcome(NamedTuple):
    """The result of an operation.

    Attributes:
        replies: answers for the connection of the request, if there are any besides events.
        events: events for every device of a user.
        answered: whether the events are the answer to the connection of the request.
    """

    replies: Sequence[Answer] = ()
    events: Sequence[tuple[str, Event]] = ()
    answered: bool = False


class Batch:
    """Operations on inboxes, one after the other.

    Args:
        loaded: the records from the store.
        now: the time, in milliseconds.
        ttl_days: days until a new notification expires.
        room: limit of notifications in one inbox; 0 means no limit.
        quota: counts the notifications that users send.
        free: bytes until the limit of the store; None means no limit.
        expiry: the time by which notifications expire, if it differs from `now`.

    Attributes:
        inboxes: the states of all inboxes of the batch, by user.
        sends: entries for quotas: user, address, number of notifications, and their bytes.
        expired: events about expired notifications; send them before all others.
        growth: the change of the number of notifications.
        grown: the change of the stored bytes.
    """

    def __init__(
        self,
        loaded: Loaded,
        now: int,
        ttl_days: int,
        room: int,
        quota: SendQuota,
        *,
        free: int | None = None,
        expiry: str | None = None,
    ) -> None:
        self.inboxes = loaded.inboxes
        self._records: dict[str, dict[str, Record]] = {user: {} for user in loaded.inboxes}
        for record in loaded.records:
            if record.user_id in self._records:
                self._records[record.user_id][record.id] = record
        self._oldest: dict[str, list[tuple[bool, str, str]]] = {}  # by user: a heap of notifications to delete first
        self._sendings = loaded.sendings
        self._epoch = loaded.epoch
        self._now = now
        self._expiry = timestamp(now) if expiry is None else expiry
        self._ttl = ttl_days * DAY
        self._room = room
        self._quota = quota
        self._free = free
        self.sends: list[tuple[str, str, int, int]] = []
        self._changed: set[str] = set()  # users
        self._cleared: set[str] = set()  # users
        self._added: set[str] = set()
        self._updated: set[str] = set()
        self._removed: list[str] = []
        self._deletions: list[Deletion] = []
        self._new_sendings: list[Sending] = []
        self._payloads: dict[str, int] = {}  # by id: sizes of new payloads
        self.growth = 0
        self.grown = 0
        self.expired = self._expire(loaded.due)

    def inbox(self, user: str) -> Inbox:
        """Return the state of an inbox; a missing one is empty."""
        return self.inboxes.get(user) or Inbox(user_id=user, sequence=0)

    def handle(self, user: str, incoming: Incoming, address: str) -> Outcome:
        """Do the operation of a message that changes something.

        Args:
            user: the user of the request.
            incoming: the message.
            address: the address of the connection.

        Raises:
            BadMessage: it is not possible, and nothing was changed.
        """
        match incoming:
            case SendNotification():
                return self.send(user, incoming, address)
            case MarkRead(ids=ids):
                return self.mark(user, ids, read=True)
            case MarkUnread(ids=ids):
                return self.mark(user, ids, read=False)
            case MarkAllRead():
                return self.mark_all_read(user)
            case DeleteNotification(ids=ids):
                return self.delete(user, ids)
            case DeleteAll():
                return self.delete_all(user)
            case RevokeNotification(ids=ids):
                return self.revoke(user, ids)
        raise AssertionError(incoming)

    def send(self, sender: str, send: SendNotification, address: str) -> Outcome:
        """Add a notification to inboxes.

        Args:
            sender: the user who sends it.
            send: the message, with the receivers.
            address: the address of the sender's connection.

        Raises:
            BadMessage: `rate-limited`, `storage-full`, `invalid-field` or `idempotency-conflict`.
        """
        key, targets, fingerprint = send.idempotency_key, send.targets, ""
        if key is not None:
            fingerprint = _fingerprint(send)
            known = self._sendings.get((sender, key))
            if known is not None and known.expires_at > self._expiry:
                if known.fingerprint != fingerprint:
                    raise BadMessage("idempotency-conflict", "This idempotencyKey was used for another notification.")
                return Outcome([Sent(known.ids[0], known.ids)])
        if not _can_be_stored(send.data):
            raise BadMessage("invalid-field", "`data` is nested too deeply.")
        overhead = self._overhead(targets)
        size = sending_size(sender, targets, send.data)
        if self._free is not None and self.grown + size + overhead > self._free:
            raise StorageFull
        if not self._quota.allow(sender, address, len(targets), size, self._now / 1000):
            text = "You, or the users at your address, have sent as many notifications or bytes as an hour allows."
            raise BadMessage("rate-limited", text)
        self.sends.append((sender, address, len(targets), size))
        events: list[tuple[str, Event]] = []
        data = send.data.copy()  # shared by all receivers; a view would keep the whole message in memory
        payload_id: str | UnsetType = UNSET
        if len(targets) > 1:
            payload_id = new_id()
            self._payloads[payload_id] = payload_size(data)
            self.grown += self._payloads[payload_id]
        new = {"sender": sender, "kind": send.notification_type, "data": data, "payload_id": payload_id}
        ids = tuple(self._deliver(user, new, events) for user in targets)
        if key is not None:
            sending = Sending(sender, key, fingerprint, ids, timestamp(self._now + DAY))
            self.grown += sending.size - (0 if known is None else known.size)
            self._sendings[sender, key] = sending
            self._new_sendings.append(sending)
        return Outcome([Sent(ids[0], ids)], events)

    def _overhead(self, targets: Sequence[str]) -> int:
        """Return the bytes that a sending may need besides its notifications: for new inboxes, and for its key."""
        new = sum(not self.inbox(user).size for user in targets)
        return INBOX_SIZE * new + SENDING_SIZE + 512 + 64 * len(targets)

    def mark(self, user: str, ids: Iterable[str], *, read: bool) -> Outcome:
        """Mark notifications as read or unread; deleted ones are ignored.

        For notifications that have the mark already, only the requesting connection gets an event, with the final
        numbers.

        Raises:
            BadMessage: `not-found` if all were deleted.
        """
        inbox, own = self.inbox(user), self._own(user, ids)
        events: list[tuple[str, Event]] = []
        for record in own:
            if record.read != read:
                shown = self._mark(inbox, record, read=read).shown()
                event = Updated(notification=shown, sequence=inbox.sequence, unread_count=inbox.unread)
                events.append((user, event))
        replies = [
            Updated(notification=record.shown(), sequence=inbox.sequence, unread_count=inbox.unread)
            for record in own
            if record.read == read
        ]
        return Outcome(replies, events, answered=True)

    def mark_all_read(self, user: str) -> Outcome:
        """Mark all notifications as read. All unread notifications of the user must be loaded."""
        inbox = self.inbox(user)
        unread = [record for record in self._records.get(user, {}).values() if not record.read]
        for record in unread:
            self._mark(inbox, record, read=True)
        event = AllRead(read_at=timestamp(self._now), sequence=inbox.sequence, unread_count=inbox.unread)
        return Outcome(events=[(user, event)], answered=True) if unread else Outcome([event])

    def delete(self, user: str, ids: Iterable[str]) -> Outcome:
        """Delete notifications; already deleted ones are ignored.

        Raises:
            BadMessage: `not-found` if all were deleted before.
        """
        return Outcome(events=[self._remove(record) for record in self._own(user, ids)], answered=True)

    def delete_all(self, user: str) -> Outcome:
        """Delete all notifications of a user."""
        inbox = self.inbox(user)
        if not inbox.total:
            return Outcome([Cleared(sequence=inbox.sequence, unread_count=0)])
        self.growth -= inbox.total
        self.grown -= inbox.size
        inbox.clear(epoch=self._epoch, now=self._now, ttl=self._ttl)
        self.grown += inbox.size
        self._changed.add(user)
        self._cleared.add(user)
        gone = self._records.pop(user)
        self._records[user] = {}
        self._added -= gone.keys()
        self._updated -= gone.keys()
        self._deletions = [deletion for deletion in self._deletions if deletion.user_id != user]
        return Outcome(events=[(user, Cleared(sequence=inbox.sequence, unread_count=0))], answered=True)

    def revoke(self, sender: str, ids: Iterable[str]) -> Outcome:
        """Delete notifications that `sender` has sent from the inboxes of their receivers; deleted ones are ignored.

        Raises:
            BadMessage: `not-found` if all were deleted before.
        """
        events = self.remove_sent(sender, ids)
        if not events:
            raise BadMessage("not-found", "You have sent no notification with this notificationId, or it is gone.")
        return Outcome([Revoked([event.notification_id for _, event in events])], events)

    def remove_sent(self, sender: str, ids: Iterable[str]) -> list[tuple[str, Deleted]]:
        """Delete those of these notifications that `sender` has sent; return the events for their receivers."""
        found = [records[id_] for id_ in ids for records in self._records.values() if id_ in records]
        return [self._remove(record) for record in found if record.from_user_id == sender]

    def changes(self) -> Changes | None:
        """Return the changes to store; None if there are none. Every change also changes the state of an inbox."""
        inboxes = [self.inboxes[user] for user in self._changed]
        idle = [inbox for inbox in self.inboxes.values() if not inbox.total and inbox.due <= self._expiry]
        forgotten = [inbox for inbox in idle if inbox.user_id not in self._changed]
        if not inboxes and not forgotten:
            return None
        records = [record for records in self._records.values() for record in records.values()]
        self.grown -= sum(inbox.size for inbox in forgotten)
        added = [record for record in records if record.id in self._added]
        unused = self._payloads.keys() - {record.payload_id for record in added}  # deleted again
        self.grown -= sum(self._payloads.pop(id_) for id_ in unused)
        return Changes(
            cleared=list(self._cleared),
            removed=self._removed,
            updated=[record.mark() for record in records if record.id in self._updated],
            added=added,
            deletions=self._deletions,
            sendings=self._new_sendings,
            inboxes=inboxes,
            forgotten=[inbox.user_id for inbox in forgotten],
        )

    def drop(self) -> None:
        """Take sendings back from the quotas, since the batch could not be stored."""
        for sent in self.sends:
            self._quota.give_back(*sent)
        self.sends.clear()

    def _deliver(self, user: str, new: dict[str, Any], events: list[tuple[str, Event]]) -> str:
        """Add a notification to an inbox; delete others if it is full; return its id."""
        inbox = self.inboxes.get(user)
        if inbox is None:
            inbox = self.inboxes[user] = Inbox(user_id=user, sequence=0)
            self._records[user] = {}
        while self._room and inbox.total >= self._room:
            events.append(self._remove(self._next_to_evict(user)))
        before = inbox.size
        record = inbox.add(**new, epoch=self._epoch, now=self._now, ttl=self._ttl)
        shown = record.shown()
        self.grown += inbox.size - before
        self.growth += 1
        self._put(record)
        self._added.add(record.id)
        self._changed.add(user)
        events.append((user, Received(notification=shown, sequence=inbox.sequence, unread_count=inbox.unread)))
        return record.id

    def _put(self, record: Record) -> None:
        self._records[record.user_id][record.id] = record
        if record.user_id in self._oldest:
            heappush(self._oldest[record.user_id], _rank(record))

    def _next_to_evict(self, user: str) -> Record:
        """Return the notification to delete first: the oldest read one, otherwise the oldest."""
        records = self._records[user]
        if user not in self._oldest:
            self._oldest[user] = [_rank(record) for record in records.values()]
            heapify(self._oldest[user])
        while True:
            rank = heappop(self._oldest[user])
            record = records.get(rank[-1])
            if record is not None and rank == _rank(record):  # otherwise it was deleted or marked since
                return record

    def _own(self, user: str, ids: Iterable[str]) -> list[Record]:
        records = self._records.get(user, {})
        own = [records[id_] for id_ in ids if id_ in records]
        if not own:
            raise BadMessage("not-found", "You have no notification with this notificationId.")
        return own

    def _mark(self, inbox: Inbox, record: Record, *, read: bool) -> Record:
        marked = inbox.mark(record, read=read, epoch=self._epoch, now=self._now)
        self._put(marked)
        if record.id not in self._added:
            self._updated.add(record.id)
        self._changed.add(inbox.user_id)
        return marked

    def _remove(self, record: Record) -> tuple[str, Deleted]:
        inbox = self.inboxes[record.user_id]
        before = inbox.size
        self._deletions.append(inbox.remove(record, epoch=self._epoch, now=self._now, ttl=self._ttl))
        self.grown += inbox.size - before
        self.growth -= 1
        self._changed.add(inbox.user_id)
        del self._records[record.user_id][record.id]
        self._updated.discard(record.id)
        if record.id in self._added:
            self._added.remove(record.id)
        else:
            self._removed.append(record.id)
        event = Deleted(notification_id=record.id, sequence=inbox.sequence, unread_count=inbox.unread)
        return inbox.user_id, event

    def _expire(self, due: dict[str, str]) -> list[tuple[str, Event]]:
        records = [record for records in self._records.values() for record in records.values()]
        expired = [record for record in records if record.expires_at <= self._expiry]
        expired.sort(key=lambda record: record.created_at)
        events: list[tuple[str, Event]] = [self._remove(record) for record in expired]
        for user, moment in due.items():
            self.inboxes[user].due = moment
            self._changed.add(user)
        return events


def _rank(record: Record) -> tuple[bool, str, str]:
    return (not record.read, record.created_at, record.id)


def _fingerprint(send: SendNotification) -> str:
    content = (send.targets, send.notification_type, send.data)
    return blake2b(msgspec.json.encode(content), digest_size=16).hexdigest()


def _can_be_stored(data: Raw) -> bool:
    """Return whether `data` can be decoded from a file, where it is nested some levels deeper."""
    try:
        msgspec.json.decode(b"[" * SPARE_DEPTH + data + b"]" * SPARE_DEPTH, type=Raw)
    except RecursionError:
        return False
    return True
