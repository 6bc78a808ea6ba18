"""A notification, as it is kept and as clients see it."""

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
        data: the sender's JSON, untouched.
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


class Record(Notification, frozen=True, rename="camel", kw_only=True):
    """A notification as it is stored, with what its receiver is not shown.

    Attributes:
        idempotency_key: what the sender called this sending, if anything.
    """

    idempotency_key: str | UnsetType = UNSET

    def shown(self) -> Notification:
        """Return what its receiver is shown."""
        return Notification(**{name: getattr(self, name) for name in Notification.__struct_fields__})


def timestamp(milliseconds: int) -> str:
    """Return the text that notifications carry for a POSIX time in milliseconds."""
    moment = datetime.fromtimestamp(milliseconds // 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{milliseconds % 1000:03d}Z"


def milliseconds(timestamp: str) -> int:
    """Return the POSIX time in milliseconds for a text that `timestamp` returned."""
    return round(datetime.fromisoformat(timestamp).timestamp() * 1000)
