"""Messages: what clients send, typed, and what they are answered."""

from collections.abc import Sequence
from typing import Annotated, Any

from msgspec import Meta, Raw, Struct

from .edge.json_messages import Decoder, Message
from .notification import Notification, Type

Id = Annotated[str, Meta(min_length=1, max_length=256)]
Moment = Annotated[str, Meta(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")]
Limit = Annotated[int, Meta(ge=1, le=200)]


class Authenticate(Message, tag="authenticate", frozen=True, rename="camel"):
    """Say who you are; everything else needs that."""

    user_id: Id


class GetNotifications(Message, tag="get-notifications", frozen=True, rename="camel"):
    """Read the inbox, the newest first; `before` is the `createdAt` of the oldest one known."""

    limit: Limit = 50
    before: Moment | None = None
    unread_only: bool = False


class SendNotification(Message, tag="send-notification", frozen=True, rename="camel"):
    """Put a notification into a user's inbox."""

    target_user_id: Id
    notification_type: Type
    data: Raw = Raw(b"{}")
    idempotency_key: Id | None = None


class ClientForm(Message, frozen=True, rename="camel"):
    """What the editor's `sendNotification` really sends: its `type` says what the notification is about.

    It builds an object with the key `type` twice, and the later one wins.
    """

    target_user_id: Id
    data: Raw = Raw(b"{}")
    idempotency_key: Id | None = None


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


class MarkRead(Message, tag="mark-read", frozen=True, rename="camel"):
    """Mark one notification as read."""

    notification_id: Id


class MarkAllRead(Message, tag="mark-all-read", frozen=True):
    """Mark all of one's notifications as read."""


class DeleteNotification(Message, tag="delete-notification", frozen=True, rename="camel"):
    """Delete one notification."""

    notification_id: Id


class DeleteAll(Message, tag="delete-all", frozen=True):
    """Delete all of one's notifications."""


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
    | MarkAllRead
    | DeleteNotification
    | DeleteAll
)

decode: Decoder[Any] = Decoder(Incoming)

ERRORS = {
    "invalid-json": "The message is not a JSON object.",
    "unknown-type": "The message's `type` is missing or none that this server knows.",
    "missing-field": "A field that the message needs is not there.",
    "invalid-field": "A field has the wrong type, is empty, or is too long.",
    "unauthorized": "The connection has not said who it is: `authenticate` first.",
    "not-found": "You have no notification with this id.",
    "idempotency-conflict": "You used this `idempotencyKey` for another notification.",
    "rate-limited": "Too many messages, or too many notifications sent this hour; wait and send again.",
    "storage-unavailable": "The change could not be stored, and was not made; send it again later.",
}
"""Every error code, and when it is sent."""


# What the server sends


class Authenticated(Struct, tag="authenticated", tag_field="type", frozen=True, rename="camel"):
    """The answer to `authenticate`; `notifications` follows it."""

    user_id: str


class Notifications(Struct, tag="notifications", tag_field="type", frozen=True, rename="camel"):
    """A page of the inbox, the newest first."""

    notifications: Sequence[Notification]
    unread_count: int
    has_more: bool


class Received(Struct, tag="notification", tag_field="type", frozen=True):
    """A new notification, to every device of its user."""

    notification: Notification


class Sent(Struct, tag="notification-sent", tag_field="type", frozen=True, rename="camel"):
    """The answer to `send-notification`: it is stored for good."""

    notification_id: str


class Updated(Struct, tag="notification-updated", tag_field="type", frozen=True):
    """A notification was read, to every device of its user."""

    notification: Notification


class AllRead(Struct, tag="notifications-read", tag_field="type", frozen=True, rename="camel"):
    """Everything was read, to every device of the user."""

    read_at: str
    unread_count: int = 0


class Deleted(Struct, tag="notification-deleted", tag_field="type", frozen=True, rename="camel"):
    """A notification is gone, to every device of its user."""

    notification_id: str


class Cleared(Struct, tag="notifications-cleared", tag_field="type", frozen=True):
    """Everything is gone, to every device of the user."""


Outgoing = Authenticated | Notifications | Received | Sent | Updated | AllRead | Deleted | Cleared
