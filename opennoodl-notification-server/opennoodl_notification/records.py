"""Records: notifications as clients see them, and the stored records: notifications, inboxes, deletions, sendings.

An inbox counts, numbers and dates its notifications. This module knows neither stores nor messages.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from secrets import randbits
from typing import Literal

from msgspec import UNSET, Raw, Struct, UnsetType, structs
from uuid_utils import uuid7

Type = Literal["invite", "mention", "thread", "session", "component", "system"]


class Notification(Struct, frozen=True, rename="camel", kw_only=True):
    """One notification. Times are ISO 8601 in UTC with milliseconds and ``Z``, so they sort as texts.

    Attributes:
        id: a UUID.
        user_id: the receiver, who owns the inbox.
        from_user_id: the sender.
        type: the subject of the notification.
        data: the sender's JSON; only line breaks between its tokens may have become spaces.
        created_at: the time of sending; unique in its inbox and later than all earlier ones.
        read_at: the time when it was marked as read; None if it is unread.
        expires_at: the time of its deletion.
    """

    id: str
    user_id: str
    from_user_id: str
    type: Type
    data: Raw
    read: bool
    created_at: str
    expires_at: str
    read_at: str | UnsetType = UNSET


ABSENT = Raw(b"")
"""Takes the place of `data` in a record that is stored without it."""
RECORD_SIZE = 768
"""Bytes of memory of a notification without data (measured); about half as many in a file."""
PAYLOAD_SIZE = 512
"""Bytes of memory of a payload without its data."""
SENDING_SIZE = 512
"""Bytes of the record of a sending, without its ids."""
INBOX_SIZE = 1024
"""Bytes that an empty inbox counts."""
DELETION_SIZE = 256
"""Bytes that the record of a deletion counts."""
HISTORY = 1000
"""Largest number of missed changes of an inbox that are replayed to a device one by one."""
JUMP = 24
"""Bits of the random number by which an epoch's first number is higher: hours, less than the life of an empty inbox."""
GAPS = 16
"""Gaps between the numbers of an inbox that are stored."""


class Record(Notification, frozen=True, rename="camel", kw_only=True, omit_defaults=True):
    """A stored notification, with fields that its receiver does not see.

    Attributes:
        born: the sequence number of its inbox when it was added.
        sequence: the sequence number of its last change.
        payload_id: the id of the payload with its data, if it was sent to several users. A store keeps that data once.
    """

    data: Raw = ABSENT
    born: int = 0
    sequence: int = 0
    payload_id: str | UnsetType = UNSET

    @property
    def size(self) -> int:
        """Return the bytes that it counts, without its payload."""
        own = memoryview(self.data).nbytes if self.payload_id is UNSET else 0
        return own + record_size(self.user_id, self.from_user_id)

    def mark(self) -> "Mark":
        """Return the record of the change to its mark."""
        return Mark(self.id, self.user_id, self.read, self.sequence, self.read_at)

    def shown(self) -> Notification:
        """Return the notification as its receiver sees it."""
        return Notification(  # explicit fields: a loop is seven times as slow, and a page has thousands
            id=self.id,
            user_id=self.user_id,
            from_user_id=self.from_user_id,
            type=self.type,
            data=self.data,
            read=self.read,
            created_at=self.created_at,
            expires_at=self.expires_at,
            read_at=self.read_at,
        )


class Mark(Struct, frozen=True, rename="camel"):
    """The change when a notification is marked as read or unread.

    Attributes:
        id: the id of the notification.
        user_id: the owner of the inbox.
        read: whether it is now read.
        sequence: the sequence number of this change.
        read_at: the time when it was marked as read, or None.
    """

    id: str
    user_id: str
    read: bool
    sequence: int
    read_at: str | UnsetType = UNSET


class Payload(Struct, frozen=True, rename="camel"):
    """The data of one sending to several users. It is deleted with the last notification that refers to it."""

    id: str
    data: Raw

    @property
    def size(self) -> int:
        """Return the bytes that it counts."""
        return payload_size(self.data)


class Deletion(Struct, frozen=True, rename="camel"):
    """The record of a deleted notification, for devices that were offline.

    Attributes:
        user_id: the owner of the inbox.
        sequence: the sequence number of the deletion.
        id: the id of the notification.
        born: the sequence number at which it was added; a device that knows only earlier numbers never had it.
    """

    user_id: str
    sequence: int
    id: str
    born: int


class Sending(Struct, frozen=True, rename="camel"):
    """The record of a sending with an idempotency key.

    Attributes:
        sender: the user who sent it.
        key: the sender's idempotency key.
        fingerprint: a hash of the content and the receivers.
        ids: the ids of its notifications.
        expires_at: the time until which the record is stored.
    """

    sender: str
    key: str
    fingerprint: str
    ids: tuple[str, ...]
    expires_at: str

    @property
    def size(self) -> int:
        """Return the bytes that it counts."""
        return SENDING_SIZE + len(self.sender) + len(self.key) + 1 + sum(len(id_) + 3 for id_ in self.ids)


class Inbox(Struct, rename="camel", kw_only=True):
    """The state of one inbox, without its notifications.

    Attributes:
        user_id: the owner of the inbox.
        sequence: the number of its last change; 0 before the first one. Numbers begin after the time in milliseconds,
            so an inbox that is deleted and created again repeats no number.
        total: the number of its notifications.
        unread: the number of its unread notifications.
        newest: the time of the newest notification that was ever added.
        due: the time at which the next notification expires; of an empty inbox, the time of its own deletion.
        cleared: the number of the last change that deleted all notifications.
        epoch: the epoch of the store at its last change.
        size: the bytes that it counts, with its notifications and its records of deletions.
        gone: upper limit of the number of these records.
        gaps: pairs of numbers: those after the first, up to and with the second, were never used. The oldest gap comes
            first.
    """

    user_id: str
    sequence: int
    total: int = 0
    unread: int = 0
    newest: str = ""
    due: str = ""
    cleared: int = 0
    epoch: int = 0
    size: int = 0
    gone: int = 0
    gaps: tuple[tuple[int, int], ...] = ()

    def add(
        self, *, sender: str, kind: Type, data: Raw, payload_id: str | UnsetType, epoch: int, now: int, ttl: int
    ) -> Record:
        """Add a new notification; return its record, with the next number and a time later than all earlier ones.

        Args:
            sender: the user who sends it.
            kind: the subject of the notification.
            data: the sender's JSON.
            payload_id: the id of the payload with the data, if it is sent to several users.
            epoch: the epoch of the store.
            now: the time in milliseconds.
            ttl: milliseconds until it expires.
        """
        created, created_at = now, timestamp(now)
        if created_at <= self.newest:
            created = milliseconds(self.newest) + 1
            created_at = timestamp(created)
        self.advance(epoch, now)
        record = Record(
            id=new_id(),
            user_id=self.user_id,
            from_user_id=sender,
            type=kind,
            data=data,
            read=False,
            created_at=created_at,
            expires_at=timestamp(created + ttl),
            born=self.sequence,
            sequence=self.sequence,
            payload_id=payload_id,
        )
        self.size = (self.size or INBOX_SIZE) + record.size
        self.due = min(self.due, record.expires_at) if self.total else record.expires_at
        self.total += 1
        self.unread += 1
        self.newest = created_at
        return record

    def mark(self, record: Record, *, read: bool, epoch: int, now: int) -> Record:
        """Change the mark of a notification to read or unread; return the changed record."""
        self.advance(epoch, now)
        self.unread += -1 if read else 1
        read_at = timestamp(now) if read else UNSET
        return structs.replace(record, read=read, read_at=read_at, sequence=self.sequence)

    def remove(self, record: Record, *, epoch: int, now: int, ttl: int) -> Deletion:
        """Remove a notification; return the record of its deletion."""
        self.advance(epoch, now)
        self.total -= 1
        self.unread -= not record.read
        gone = min(self.gone + 1, HISTORY)
        size = self.size - record.size + DELETION_SIZE * (gone - self.gone)
        self.size = size if self.total else INBOX_SIZE + DELETION_SIZE * gone
        self.gone = gone
        if not self.total:
            self._keep(now + ttl)
        return Deletion(self.user_id, self.sequence, record.id, record.born)

    def clear(self, *, epoch: int, now: int, ttl: int) -> None:
        """Remove all notifications."""
        self.advance(epoch, now)
        self.cleared = self.sequence
        self.total = self.unread = self.gone = 0
        self.size = INBOX_SIZE
        self._keep(now + ttl)

    def _keep(self, end: int) -> None:
        """Keep the empty inbox until this time. After that, no device knows a number that a new inbox may use."""
        self.due = timestamp(end)

    def measure(self, sizes: Iterable[int], gone: int) -> None:
        """Set `size` and `gone`.

        Args:
            sizes: the bytes that each notification counts.
            gone: the number of records of deletions.
        """
        self.gone = gone
        self.size = INBOX_SIZE + DELETION_SIZE * gone + sum(sizes)

    def advance(self, epoch: int, now: int) -> None:
        """Use the next sequence number.

        The first number of an inbox in an epoch leaves a gap after the previous number. If the store was restored to an
        older state, the numbers that it has lost are in this gap or far above it. Therefore they are neither used again
        nor mistaken for present numbers. The end of the gap is random, since the clock may have been wrong, and since a
        store can be restored to the same state twice.

        Args:
            epoch: the epoch of the store.
            now: the time in milliseconds.
        """
        if self.epoch < epoch or not self.sequence:
            start = max(now, self.sequence) + randbits(JUMP)
            self.gaps = (*self.gaps, (self.sequence or -1, start))[-GAPS:]
            self.sequence, self.epoch = start, epoch
        self.sequence += 1

    def forget(self) -> None:
        """Make all numbers so far unusable for resuming, since there may be changes without a number."""
        self.gaps = ((-1, self.sequence),)

    @property
    def horizon(self) -> int:
        """Return the number after which all changes are known, deletions included."""
        left, end = HISTORY, self.sequence
        for last, start in reversed(self.gaps):
            if end - start > left:
                break
            left -= end - start
            end = last
        # Older gaps than the first of `GAPS` may have been dropped.
        return max(end - left, self.gaps[0][1]) if len(self.gaps) == GAPS else end - left

    def remembers(self, since: int) -> bool:
        """Return whether all changes after number `since` can still be sent."""
        lost = any(last < since <= start for last, start in self.gaps)
        return self.horizon <= since <= self.sequence and not lost


def new_id() -> str:
    """Return an id that begins with the time, so that a database adds new ones at one place of its index."""
    return str(uuid7())


def sending_size(sender: str, targets: Sequence[str], data: Raw) -> int:
    """Return the bytes that the notifications of one sending count, with their payload."""
    shared = memoryview(data).nbytes if len(targets) == 1 else payload_size(data)
    return shared + sum(record_size(user, sender) for user in targets)


def record_size(*users: str) -> int:
    """Return the bytes that a notification without data counts, with these two users."""
    return RECORD_SIZE + sum(len(user.encode()) for user in users)


def payload_size(data: Raw) -> int:
    """Return the bytes that a payload counts."""
    return PAYLOAD_SIZE + memoryview(data).nbytes


def payloads_of(records: Iterable[Record]) -> dict[str, Payload]:
    """Return the payloads of records, by id."""
    return {
        record.payload_id: Payload(record.payload_id, record.data)
        for record in records
        if record.payload_id is not UNSET
    }


def timestamp(milliseconds: int) -> str:
    """Return the text of a POSIX time in milliseconds, as notifications have it."""
    moment = datetime.fromtimestamp(milliseconds // 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{milliseconds % 1000:03d}Z"


def milliseconds(timestamp: str) -> int:
    """Return the POSIX time in milliseconds of a text from `timestamp`."""
    return round(datetime.fromisoformat(timestamp).timestamp() * 1000)
