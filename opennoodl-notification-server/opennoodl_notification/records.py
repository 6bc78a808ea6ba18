"""Records: a notification as clients see it, and all that is stored: notifications, inboxes, deletions, sendings.

An inbox counts, numbers and dates its notifications. Knows no store and no message.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from secrets import randbits
from typing import Literal

from msgspec import UNSET, Raw, Struct, UnsetType, structs
from uuid_utils import uuid7

Type = Literal["invite", "mention", "thread", "session", "component", "system"]


class Notification(Struct, frozen=True, rename="camel", kw_only=True):
    """One notification; times are ISO 8601 in UTC with milliseconds and ``Z``, so they sort as texts.

    Attributes:
        id: a UUID.
        user_id: whose inbox it is in.
        from_user_id: who sent it.
        type: what it is about.
        data: the sender's JSON, untouched but for line breaks between its parts, which may have become spaces.
        created_at: when it was sent; unique in its inbox and later than all before it.
        read_at: when it was read, if it was.
        expires_at: from when on it is not shown any more.
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
"""In place of `data` in a record that is written without it."""
RECORD_SIZE = 768
"""Bytes that a notification without data takes in memory, as it was measured; in a file it takes about half."""
PAYLOAD_SIZE = 512
"""Bytes that a payload without its data takes in memory."""
SENDING_SIZE = 512
"""Bytes for what is remembered of a sending, but for its ids."""
INBOX_SIZE = 1024
"""Bytes for which an empty inbox counts."""
DELETION_SIZE = 256
"""Bytes for what is remembered of a notification that is gone."""
HISTORY = 1000
"""Changes of an inbox that a device may have missed and still be told one by one."""
JUMP = 24
"""Bits of the number by which an epoch begins later than it could: hours, less than an empty inbox is kept."""
GAPS = 16
"""Gaps between the numbers of an inbox that are remembered."""


class Record(Notification, frozen=True, rename="camel", kw_only=True, omit_defaults=True):
    """A notification as it is stored, with what its receiver is not shown.

    Attributes:
        born: the sequence number of its inbox when it came in.
        sequence: the one when it changed last.
        payload_id: which payload has its data, if it was sent to several users. A store keeps that data once.
    """

    data: Raw = ABSENT
    born: int = 0
    sequence: int = 0
    payload_id: str | UnsetType = UNSET

    @property
    def size(self) -> int:
        """Return the bytes for which it counts, without its payload."""
        own = memoryview(self.data).nbytes if self.payload_id is UNSET else 0
        return own + record_size(self.user_id, self.from_user_id)

    def mark(self) -> "Mark":
        """Return what marking it has changed."""
        return Mark(self.id, self.user_id, self.read, self.sequence, self.read_at)

    def shown(self) -> Notification:
        """Return what its receiver is shown."""
        return Notification(  # a page has thousands, and a loop over the fields takes seven times as long
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
    """What changes when a notification is marked as read or unread.

    Attributes:
        id: of the notification.
        user_id: whose inbox it is in.
        read: whether it was read.
        sequence: the sequence number of the inbox when it was marked.
        read_at: when it was read, if it was.
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
        """Return the bytes for which it counts."""
        return payload_size(self.data)


class Deletion(Struct, frozen=True, rename="camel"):
    """What is remembered of a notification that is gone, for devices that were away.

    Attributes:
        user_id: whose inbox it was in.
        sequence: the sequence number of the inbox when it went.
        id: of the notification.
        born: the sequence number when it had come in; who was away for longer never knew it.
    """

    user_id: str
    sequence: int
    id: str
    born: int


class Sending(Struct, frozen=True, rename="camel"):
    """What is remembered of a sending with an idempotency key.

    Attributes:
        sender: who sent it.
        key: what the sender called it.
        fingerprint: of what was sent, to whom.
        ids: of the notifications that it led to.
        expires_at: until when the key is remembered.
    """

    sender: str
    key: str
    fingerprint: str
    ids: tuple[str, ...]
    expires_at: str

    @property
    def size(self) -> int:
        """Return the bytes for which it counts."""
        return SENDING_SIZE + len(self.sender) + len(self.key) + 1 + sum(len(id_) + 3 for id_ in self.ids)


class Inbox(Struct, rename="camel", kw_only=True):
    """The state of one inbox: what is known of all its notifications without reading one.

    Attributes:
        user_id: whose it is.
        sequence: the number of its last change, 0 before the first one. Numbers begin after the time in milliseconds,
            so an inbox that was forgotten and is made anew does not repeat one.
        total: notifications in it.
        unread: how many of them are.
        newest: when the newest one ever came in.
        due: when the next one expires; in an empty inbox, when the inbox itself may be forgotten.
        cleared: the number of the change that deleted everything last.
        epoch: the epoch of the store in which it changed last.
        size: bytes for which it counts, with its notifications and what is remembered of those that are gone.
        gone: how many of these are remembered, at most.
        gaps: numbers that this inbox has never used: those after the first of a pair, up to the second. The oldest
            gap comes first.
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
        """Put in a new notification; return it, with the next number and a date after all before it.

        Args:
            sender: who sends it.
            kind: what it is about.
            data: the sender's JSON.
            payload_id: which payload has the data, if it is sent to several users.
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
        """Mark a notification as read or unread, which it was not; return it as it is now."""
        self.advance(epoch, now)
        self.unread += -1 if read else 1
        read_at = timestamp(now) if read else UNSET
        return structs.replace(record, read=read, read_at=read_at, sequence=self.sequence)

    def remove(self, record: Record, *, epoch: int, now: int, ttl: int) -> Deletion:
        """Take out a notification; return what is remembered of it."""
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
        """Take out all notifications."""
        self.advance(epoch, now)
        self.cleared = self.sequence
        self.total = self.unread = self.gone = 0
        self.size = INBOX_SIZE
        self._keep(now + ttl)

    def _keep(self, end: int) -> None:
        """Keep the empty inbox until this time: then no device remembers a number that its next life may use."""
        self.due = timestamp(end)

    def measure(self, sizes: Iterable[int], gone: int) -> None:
        """Find out for how many bytes it counts.

        Args:
            sizes: of the notifications in it.
            gone: how many are remembered that are gone.
        """
        self.gone = gone
        self.size = INBOX_SIZE + DELETION_SIZE * gone + sum(sizes)

    def advance(self, epoch: int, now: int) -> None:
        """Take the next number.

        The first number of an inbox, and the first one in an epoch, leaves a gap after the former one. If the store
        was set back to an older state, the numbers that it has lost are in this gap or far above, so they are neither
        used again nor taken for numbers of today. The gap ends at random, since the clock may have been wrong, and
        since a store can be set back to the same state twice.

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
        """Remember no number so far: something may have changed without one."""
        self.gaps = ((-1, self.sequence),)

    @property
    def horizon(self) -> int:
        """Return the number after which all changes are remembered, deletions included."""
        left, end = HISTORY, self.sequence
        for last, start in reversed(self.gaps):
            if end - start > left:
                break
            left -= end - start
            end = last
        # Before the first of so many gaps there may be gaps that are forgotten.
        return max(end - left, self.gaps[0][1]) if len(self.gaps) == GAPS else end - left

    def remembers(self, since: int) -> bool:
        """Return whether everything that changed after number `since` can still be told."""
        lost = any(last < since <= start for last, start in self.gaps)
        return self.horizon <= since <= self.sequence and not lost


def new_id() -> str:
    """Return an id that begins with the time: a database puts what is new in one place of its index."""
    return str(uuid7())


def sending_size(sender: str, targets: Sequence[str], data: Raw) -> int:
    """Return the bytes for which the notifications of one sending count, with their payload."""
    shared = memoryview(data).nbytes if len(targets) == 1 else payload_size(data)
    return shared + sum(record_size(user, sender) for user in targets)


def record_size(*users: str) -> int:
    """Return the bytes for which a notification without data counts that has these two users."""
    return RECORD_SIZE + sum(len(user.encode()) for user in users)


def payload_size(data: Raw) -> int:
    """Return the bytes for which a payload counts."""
    return PAYLOAD_SIZE + memoryview(data).nbytes


def payloads_of(records: Iterable[Record]) -> dict[str, Payload]:
    """Return the payloads to which records refer, by id."""
    return {
        record.payload_id: Payload(record.payload_id, record.data)
        for record in records
        if record.payload_id is not UNSET
    }


def timestamp(milliseconds: int) -> str:
    """Return the text that notifications carry for a POSIX time in milliseconds."""
    moment = datetime.fromtimestamp(milliseconds // 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{milliseconds % 1000:03d}Z"


def milliseconds(timestamp: str) -> int:
    """Return the POSIX time in milliseconds for a text that `timestamp` returned."""
    return round(datetime.fromisoformat(timestamp).timestamp() * 1000)
