"""Messages: the types of the clients' messages and of the server's answers."""

from collections.abc import Sequence
from datetime import datetime
from functools import cached_property
from typing import Annotated, Any, ClassVar

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from .edge.messages import Decoder, Error, Message
from .records import Notification, Type

# PostgreSQL cannot store NUL in a text.
Id = Annotated[str, Meta(min_length=1, max_length=256, pattern=r"^[^\x00]*$")]
Targets = Annotated[tuple[Id, ...], Meta(min_length=1, max_length=100)]
Ids = Annotated[tuple[Id, ...], Meta(min_length=1, max_length=200)]
Moment = Annotated[datetime, Meta(tz=True)]
Limit = Annotated[int, Meta(ge=1, le=200)]
Types = Annotated[tuple[Type, ...], Meta(max_length=6)]
SequenceNumber = Annotated[int, Meta(ge=0)]


class ClientMessage(Message, frozen=True, rename="camel", kw_only=True):
    """Anything a client sends; the answer has its `requestId`."""

    reads: ClassVar[bool] = False
    """Whether the message only reads."""

    request_id: Raw | UnsetType = UNSET


class Authenticate(ClientMessage, tag="authenticate", frozen=True, rename="camel"):
    """Authenticate; all other messages need this. `since` is the last known `sequence`: resume after it."""

    reads = True

    user_id: Id
    since: SequenceNumber | None = None
    token: str | None = None


class GetNotifications(ClientMessage, tag="get-notifications", frozen=True, rename="camel"):
    """Read the inbox, the newest first: those created before `before`, at most `limit` of them."""

    reads = True

    limit: Limit | None = None
    before: Moment | None = None
    unread_only: bool = False
    types: Types = ()


class SendNotification(ClientMessage, tag="send-notification", frozen=True, rename="camel", dict=True):
    """Put a notification into the inbox of a user, or of each of several."""

    notification_type: Type
    target_user_id: Id | None = None
    target_user_ids: Targets | None = None
    data: Raw = Raw(b"{}")
    idempotency_key: Id | None = None

    def __post_init__(self) -> None:
        """Check that there is a receiver."""
        if not self.targets:
            raise ValueError("Object missing required field `targetUserId` (or `targetUserIds`)")

    @cached_property
    def targets(self) -> tuple[str, ...]:
        """The receivers, without repetitions."""
        return _all_of(self.target_user_id, self.target_user_ids)


class ClientForm(ClientMessage, frozen=True, rename="camel"):
    """The message that the editor's `sendNotification` really sends: its `type` is the subject of the notification.

    The editor builds an object with the key `type` twice, and the later one wins.
    """

    target_user_id: Id
    data: Raw = Raw(b"{}")
    idempotency_key: Id | None = None

    def as_send(self) -> SendNotification:
        """Return the equivalent `send-notification`."""
        kind: Any = self.__struct_config__.tag
        key = self.idempotency_key
        return SendNotification(
            kind, self.target_user_id, data=self.data, idempotency_key=key, request_id=self.request_id
        )


class ClientInvite(ClientForm, tag="invite", frozen=True, rename="camel"):
    """`send-notification` of an invite, as the editor sends it."""


class ClientMention(ClientForm, tag="mention", frozen=True, rename="camel"):
    """`send-notification` of a mention, as the editor sends it."""


class ClientThread(ClientForm, tag="thread", frozen=True, rename="camel"):
    """`send-notification` of a thread, as the editor sends it."""


class ClientSession(ClientForm, tag="session", frozen=True, rename="camel"):
    """`send-notification` of a session, as the editor sends it."""


class ClientComponent(ClientForm, tag="component", frozen=True, rename="camel"):
    """`send-notification` of a component, as the editor sends it."""


class ClientSystem(ClientForm, tag="system", frozen=True, rename="camel"):
    """`send-notification` of a system message, as the editor sends it."""


class Named(ClientMessage, frozen=True, rename="camel", dict=True):
    """A message about one or several notifications."""

    notification_id: Id | None = None
    notification_ids: Ids | None = None

    def __post_init__(self) -> None:
        """Check that there is an id."""
        if not self.ids:
            raise ValueError("Object missing required field `notificationId` (or `notificationIds`)")

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """The ids, without repetitions."""
        return _all_of(self.notification_id, self.notification_ids)


class MarkRead(Named, tag="mark-read", frozen=True):
    """Mark notifications as read."""


class MarkUnread(Named, tag="mark-unread", frozen=True):
    """Mark notifications as unread again."""


class MarkAllRead(ClientMessage, tag="mark-all-read", frozen=True):
    """Mark all of one's notifications as read."""


class DeleteNotification(Named, tag="delete-notification", frozen=True):
    """Delete notifications."""


class DeleteAll(ClientMessage, tag="delete-all", frozen=True):
    """Delete all of one's notifications."""


class RevokeNotification(Named, tag="revoke-notification", frozen=True):
    """Take back notifications that one has sent."""


def _all_of(one: str | None, several: tuple[str, ...] | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys((() if one is None else (one,)) + (several or ())))


Incoming = (
    Authenticate
    | GetNotifications
    | SendNotification
    | ClientInvite
    | ClientMention
    | ClientThread
    | ClientSession
    | ClientComponent
    | ClientSystem
    | MarkRead
    | MarkUnread
    | MarkAllRead
    | DeleteNotification
    | DeleteAll
    | RevokeNotification
)

decode: Decoder[Any] = Decoder(Incoming)

ERRORS = {
    "invalid-json": "The message is not a JSON object.",
    "unknown-type": "The message's `type` is missing or unknown.",
    "missing-field": "A required field is missing.",
    "invalid-field": "A field has the wrong type, is empty, or is too long.",
    "data-too-large": "`data` has more than `MAX_DATA_SIZE` bytes.",
    "unauthorized": "The connection is not authenticated: send `authenticate` first, with `token` if `AUTH` is set. "
    "Or it belongs to another user.",
    "auth-unavailable": "The token issuer does not answer, so the token cannot be checked now; try again later.",
    "forbidden": "Only a token with the claim `services` may send `system` notifications.",
    "too-many-connections": "The user has `MAX_CONNECTIONS_PER_USER` connections; close one and `authenticate` again.",
    "not-found": "No notification with this id is in your inbox or was sent by you.",
    "idempotency-conflict": "You used this `idempotencyKey` for another notification within the last 24 hours.",
    "rate-limited": "Too many messages a second, or too many notifications or bytes in an hour; wait and send again.",
    "storage-full": "`MAX_STORED_SIZE` is reached; send again when notifications were deleted or have expired.",
    "storage-unavailable": "The change could not be stored; send it again later, best under an `idempotencyKey`.",
}
"""Every error code, and when it is sent."""


# Messages from the server


class Answer(Struct, tag_field="type", frozen=True, rename="camel", kw_only=True):
    """A message that may be the answer to a request, and then has its `requestId`."""

    request_id: Raw | UnsetType = UNSET


class Authenticated(Answer, tag="authenticated", frozen=True):
    """The answer to `authenticate`.

    If the device gave `since` and `complete` is true, what it missed follows; otherwise `notifications` does.
    """

    user_id: str
    sequence: int
    unread_count: int
    complete: bool | UnsetType = UNSET


class Notifications(Answer, tag="notifications", frozen=True):
    """A page of the inbox, the newest first."""

    notifications: Sequence[Notification]
    unread_count: int
    has_more: bool
    sequence: int


class UpToDate(Answer, tag="up-to-date", frozen=True):
    """The device that gave `since` has everything up to `sequence`, which it may remember now."""

    sequence: int
    unread_count: int


class Event(Answer, frozen=True, kw_only=True):
    """A change of an inbox, to every device of its user.

    Attributes:
        sequence: its number in this inbox; a later change has a greater one.
        unread_count: unread notifications in the inbox after it.
        replayed: true if the device missed the event while it was disconnected.
    """

    sequence: int
    unread_count: int
    replayed: bool | UnsetType = UNSET


class Received(Event, tag="notification", frozen=True, kw_only=True):
    """A new notification."""

    notification: Notification


class Updated(Event, tag="notification-updated", frozen=True, kw_only=True):
    """A notification was marked as read or unread."""

    notification: Notification


class AllRead(Event, tag="notifications-read", frozen=True, kw_only=True):
    """Everything was read."""

    read_at: str


class Deleted(Event, tag="notification-deleted", frozen=True, kw_only=True):
    """A notification is gone: deleted, revoked, expired, or put out by newer ones."""

    notification_id: str


class Cleared(Event, tag="notifications-cleared", frozen=True, kw_only=True):
    """Everything is gone."""


class Sent(Answer, tag="notification-sent", frozen=True):
    """The answer to `send-notification`: it is stored for good."""

    notification_id: str
    notification_ids: Sequence[str]


class Revoked(Answer, tag="notification-revoked", frozen=True):
    """The answer to `revoke-notification`: it is deleted from all inboxes."""

    notification_ids: Sequence[str]


SENT = (
    *(
        str(kind.__struct_config__.tag)
        for kind in (
            Authenticated,
            Notifications,
            UpToDate,
            Received,
            Updated,
            AllRead,
            Deleted,
            Cleared,
            Sent,
            Revoked,
            Error,
        )
    ),
)
"""The types of messages to clients."""
