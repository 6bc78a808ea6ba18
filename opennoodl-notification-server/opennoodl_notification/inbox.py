"""The inboxes: who has which notifications, and what changes mean to whom. Knows no socket and no disk.

All reads come from here; the store only makes changes last. Changes are made at once and collected, and
either kept by `commit`, when they are stored, or taken back by `rollback`. Between a change and its commit
nobody may be shown anything: whoever calls does not go on before.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple
from uuid import uuid4

import msgspec
from msgspec import Raw, structs

from .edge.json_messages import BadMessage
from .edge.limits import Quota
from .messages import (
    AllRead,
    Cleared,
    Deleted,
    GetNotifications,
    Notifications,
    Outgoing,
    Received,
    SendNotification,
    Sent,
    Updated,
)
from .notification import Record, milliseconds, timestamp

DAY = 86_400_000
"""Milliseconds."""
SPARE_DEPTH = 64
"""Levels of nesting that JSON from clients must leave free."""
Changes = dict[str, Record | None]
"""What is to be stored: by id, the new state, or None for what is gone."""


class Outcome(NamedTuple):
    """What an operation leads to.

    Attributes:
        reply: for the connection that asked, if it gets one of its own.
        events: for every device of a user.
    """

    reply: Outgoing | None = None
    events: tuple[tuple[str, Outgoing], ...] = ()


class Inboxes:
    """All inboxes.

    Args:
        records: what is stored, in any order.
        ttl_days: after which a new notification expires.
        max_per_user: notifications in one inbox; 0 means any number.
        sends_per_hour: of one user; 0 means any number.
    """

    def __init__(self, records: Iterable[Record], ttl_days: int, max_per_user: int, sends_per_hour: int) -> None:
        self._ttl = ttl_days * DAY
        self._max_per_user = max_per_user
        self._sends = Quota(sends_per_hour, 3600)
        self._inboxes: dict[str, dict[str, Record]] = {}
        self._keys: dict[tuple[str, str], str] = {}
        self._users: dict[str, str] = {}  # whose inbox a notification is in
        self._before: Changes = {}  # how what has changed was before
        self._counted: list[str] = []  # whose sends were counted since the last commit
        for record in sorted(records, key=lambda record: record.created_at):
            self._put(record)
        self._before.clear()

    def __len__(self) -> int:
        return len(self._users)

    def get(self, user: str, get: GetNotifications, now: float) -> Outcome:
        """Read a page of the inbox."""
        self._expire(user, now)
        unread = 0
        page: list[Record] = []
        more = False
        for record in reversed(self._inboxes.get(user, {}).values()):
            unread += not record.read
            if (get.before is not None and record.created_at >= get.before) or (get.unread_only and record.read):
                continue
            if len(page) < get.limit:
                page.append(record)
            else:
                more = True
        return Outcome(Notifications([record.shown() for record in page], unread, more))

    def send(self, sender: str, send: SendNotification, now: float) -> Outcome:
        """Put a notification into an inbox.

        Raises:
            BadMessage: `rate-limited`, `invalid-field` or `idempotency-conflict`.
        """
        key = send.idempotency_key
        known = self._find(self._keys.get((sender, key))) if key is not None else None
        if known is not None and known.expires_at <= timestamp(int(now * 1000)):
            self._drop(known)
            known = None
        if known is not None:
            if (known.user_id, known.type, known.data) != (send.target_user_id, send.notification_type, send.data):
                raise BadMessage("idempotency-conflict", "This idempotencyKey was used for another notification.")
            return Outcome(Sent(known.id))
        if not _can_be_stored(send.data):
            raise BadMessage("invalid-field", "`data` is nested too deeply.")
        if not self._sends.allow(sender, now):
            raise BadMessage("rate-limited", "You have sent as many notifications as one user may in an hour.")
        self._counted.append(sender)
        user = send.target_user_id
        self._expire(user, now)
        created = self._moment(user, now)
        record = Record(
            id=str(uuid4()),
            user_id=user,
            from_user_id=sender,
            type=send.notification_type,
            data=send.data.copy(),  # not a view that keeps the whole message
            read=False,
            created_at=timestamp(created),
            expires_at=timestamp(created + self._ttl),
        )
        if key is not None:
            record = structs.replace(record, idempotency_key=key)
        events: list[tuple[str, Outgoing]] = [(user, Deleted(gone.id)) for gone in self._make_room(user)]
        self._put(record)
        events.append((user, Received(record.shown())))
        return Outcome(Sent(record.id), tuple(events))

    def mark_read(self, user: str, id_: str, now: float) -> Outcome:
        """Mark one notification as read; marking it again changes nothing.

        Raises:
            BadMessage: `not-found`.
        """
        record = self._own(user, id_, now)
        if not record.read:
            record = structs.replace(record, read=True, read_at=timestamp(int(now * 1000)))
            self._put(record)
        return Outcome(events=((user, Updated(record.shown())),))

    def mark_all_read(self, user: str, now: float) -> Outcome:
        """Mark everything as read."""
        self._expire(user, now)
        read_at = timestamp(int(now * 1000))
        for record in list(self._inboxes.get(user, {}).values()):
            if not record.read:
                self._put(structs.replace(record, read=True, read_at=read_at))
        return Outcome(events=((user, AllRead(read_at)),))

    def delete(self, user: str, id_: str, now: float) -> Outcome:
        """Delete one notification.

        Raises:
            BadMessage: `not-found`.
        """
        self._drop(self._own(user, id_, now))
        return Outcome(events=((user, Deleted(id_)),))

    def delete_all(self, user: str) -> Outcome:
        """Delete everything."""
        for record in list(self._inboxes.get(user, {}).values()):
            self._drop(record)
        return Outcome(events=((user, Cleared()),))

    def expire(self, now: float) -> None:
        """Delete everything that has expired."""
        for user in list(self._inboxes):
            self._expire(user, now)

    def changes(self) -> Changes:
        """Return what changed since the last commit or rollback."""
        return {id_: self._find(id_) for id_ in self._before}

    def commit(self) -> None:
        """Keep the changes: they are stored."""
        self._before.clear()
        self._counted.clear()

    def rollback(self) -> None:
        """Take the changes back: they could not be stored."""
        for sender in self._counted:
            self._sends.give_back(sender)
        self._counted.clear()
        before, self._before = self._before, {}
        for id_ in before:
            current = self._find(id_)
            if current is not None:
                self._drop(current)
        users = set()
        for record in before.values():
            if record is not None:
                self._put(record)
                users.add(record.user_id)
        for user in users:  # what was put back came in at the end
            inbox = self._inboxes[user]
            self._inboxes[user] = dict(sorted(inbox.items(), key=lambda item: item[1].created_at))
        self._before.clear()

    def _own(self, user: str, id_: str, now: float) -> Record:
        self._expire(user, now)
        record = self._inboxes.get(user, {}).get(id_)
        if record is None:
            raise BadMessage("not-found", "You have no notification with this notificationId.")
        return record

    def _find(self, id_: str | None) -> Record | None:
        user = self._users.get(id_ or "")
        return None if user is None or id_ is None else self._inboxes[user][id_]

    def _moment(self, user: str, now: float) -> int:
        """Return the time in milliseconds, or one later than that of the newest in the inbox."""
        newest = next(reversed(self._inboxes.get(user, {}).values()), None)
        moment = int(now * 1000)
        return moment if newest is None else max(moment, milliseconds(newest.created_at) + 1)

    def _make_room(self, user: str) -> Iterator[Record]:
        inbox = self._inboxes.get(user, {})
        while self._max_per_user and len(inbox) >= self._max_per_user:
            oldest = next((record for record in inbox.values() if record.read), next(iter(inbox.values())))
            self._drop(oldest)
            yield oldest

    def _expire(self, user: str, now: float) -> None:
        moment = timestamp(int(now * 1000))
        for record in [record for record in self._inboxes.get(user, {}).values() if record.expires_at <= moment]:
            self._drop(record)

    def _put(self, record: Record) -> None:
        self._before.setdefault(record.id, self._find(record.id))
        self._inboxes.setdefault(record.user_id, {})[record.id] = record
        self._users[record.id] = record.user_id
        if isinstance(record.idempotency_key, str):
            self._keys[record.from_user_id, record.idempotency_key] = record.id

    def _drop(self, record: Record) -> None:
        self._before.setdefault(record.id, record)
        inbox = self._inboxes[record.user_id]
        del inbox[record.id], self._users[record.id]
        if not inbox:
            del self._inboxes[record.user_id]
        if isinstance(record.idempotency_key, str):
            self._keys.pop((record.from_user_id, record.idempotency_key), None)


def _can_be_stored(data: Raw) -> bool:
    """Return whether `data` can be read again from within a file, where it is nested some levels deeper."""
    try:
        msgspec.json.decode(b"[" * SPARE_DEPTH + data + b"]" * SPARE_DEPTH, type=Raw)
    except RecursionError:
        return False
    return True
