"""Records: a notification as clients see it, and everything that is stored."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Literal

from msgspec import UNSET, Raw, Struct, UnsetType

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
