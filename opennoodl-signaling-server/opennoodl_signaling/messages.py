"""Messages: the types of all messages from and to clients, and the error codes.

Two dialects share one socket: the editor's messages, and y-webrtc's (`Subscribe`, `Unsubscribe`, `Publish` and `Ping`).
Values that the server only passes on are not decoded (`msgspec.Raw`).
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from .edge.messages import Decoder, Error, Message
from .session import SessionChange

Id = Annotated[str, Meta(min_length=1, max_length=256)]
Token = Annotated[str, Meta(max_length=256)]


class Join(Message, tag="join", frozen=True, rename="camel"):
    """Enter a room under a peer id."""

    room: Id
    peer_id: Id
    user_id: Id
    metadata: Raw = Raw(b"{}")
    session: SessionChange | None = None
    resume: bool = False
    resume_token: Token | None = None
    token: str | None = None
    received: Annotated[int, Meta(ge=0)] | None = None


class Leave(Message, tag="leave", frozen=True):
    """Leave the room. A `leave` with the name of another room is late and is ignored."""

    room: str | None = None


class Signal(Message, tag="signal", frozen=True):
    """Pass WebRTC signaling data to a peer of the same room."""

    to: Id
    signal: Raw
    request_id: Raw | UnsetType = msgspec.field(default=UNSET, name="requestId")


class Invite(Message, tag="invite", frozen=True, rename="camel"):
    """Invite a user to a room."""

    target_user_id: Id
    room_id: Id
    session_info: Raw = Raw(b"null")


class Register(Message, tag="register", frozen=True, rename="camel"):
    """Receive invites without being in a room."""

    user_id: Id
    token: str | None = None


class AskIceServers(Message, tag="ice-servers", frozen=True):
    """Request the ICE servers, with new credentials."""


class Metadata(Message, tag="metadata", frozen=True):
    """Change the metadata of this peer, which the other peers receive."""

    metadata: Raw


class Session(Message, SessionChange, tag="session", frozen=True, rename="camel"):
    """Change the description of the room. Only its host may do this."""


class Subscribe(Message, tag="subscribe", frozen=True):
    """y-webrtc: receive the messages that are published to topics."""

    topics: list[Id] = msgspec.field(default_factory=list)


class Unsubscribe(Message, tag="unsubscribe", frozen=True):
    """y-webrtc: receive no more messages of topics."""

    topics: list[str] = msgspec.field(default_factory=list)


class Publish(Message, tag="publish", frozen=True):
    """y-webrtc: pass the whole message to every subscriber of a topic."""

    topic: Id


class Ping(Message, tag="ping", frozen=True):
    """y-webrtc: request a `pong`."""


Incoming = (
    Join
    | Leave
    | Signal
    | Metadata
    | Invite
    | Register
    | AskIceServers
    | Session
    | Subscribe
    | Unsubscribe
    | Publish
    | Ping
)

ERRORS = {
    "invalid-json": "The message is not a JSON object.",
    "unknown-type": "The message's `type` is missing or unknown.",
    "missing-field": "A required field is missing.",
    "invalid-field": "A field has the wrong type, is empty, or is too long.",
    "too-large": "A field is larger than allowed.",
    "room-full": "The room or topic is full: `MAX_ROOM_SIZE`, or the host's `maxParticipants`.",
    "too-many-topics": "The connection is subscribed to `MAX_TOPICS` topics.",
    "not-in-room": "The sender is in no room: `join` first.",
    "not-host": "Only the room's host may do this.",
    "peer-not-found": "No peer in the room has this id, or its connection is lost and its queue is full.",
    "peer-id-taken": "Another connection in the room uses this peer id.",
    "unauthorized": "The sender is not authenticated: its token is missing, invalid, expired, or another user's.",
    "auth-unavailable": "The token issuer does not answer, so the token cannot be checked now; try again later.",
    "unavailable": "The shared state is away or being restored, so this is not possible now; try again soon.",
    "forbidden": "The sender's token does not allow this room or topic, or allows only reading.",
    "not-registered": "The sender has no user yet: `join` or `register` first.",
    "rate-limited": "Too many messages; wait and send again.",
}
"""Every error code, with the condition under which it is sent."""


decode: Decoder[Any] = Decoder(Incoming)


# Messages from the server


class PeerInfo(Struct, frozen=True, rename="camel"):
    """The data of a peer that the other peers of its room receive."""

    peer_id: str
    user_id: str
    metadata: Raw


class IceServer(Struct, frozen=True):
    """An ICE server, in the form that `RTCPeerConnection` accepts."""

    urls: Sequence[str]
    username: str | UnsetType = UNSET
    credential: str | UnsetType = UNSET


class Joined(Struct, tag="joined", tag_field="type", frozen=True, rename="camel"):
    """The answer to `join`."""

    room: str
    peer_id: str
    peers: Sequence[PeerInfo]
    ice_servers: Sequence[IceServer] | UnsetType = UNSET
    resume_token: str | UnsetType = UNSET
    resumed: bool | UnsetType = UNSET


class PeerJoined(Struct, tag="peer-joined", tag_field="type", frozen=True, rename="camel"):
    """A peer has entered the room."""

    peer_id: str
    user_id: str
    metadata: Raw


class PeerUpdated(Struct, tag="peer-updated", tag_field="type", frozen=True, rename="camel"):
    """A peer of the room has changed its metadata."""

    peer_id: str
    user_id: str
    metadata: Raw


class PeerLeft(Struct, tag="peer-left", tag_field="type", frozen=True, rename="camel"):
    """A peer has left the room."""

    peer_id: str


class SignalFrom(Struct, tag="signal", tag_field="type", frozen=True):
    """Signaling data from a peer."""

    from_: str = msgspec.field(name="from")
    signal: Raw


class SignalLost(Error, tag="error", tag_field="type", frozen=True):
    """A signal to a peer was not delivered, or will not be delivered."""

    peer_id: str = msgspec.field(default="", name="peerId")


class InviteFrom(Struct, tag="invite", tag_field="type", frozen=True, rename="camel"):
    """A user invites the receiver to a room."""

    from_: str = msgspec.field(name="from")
    room_id: str
    session_info: Raw


class InviteSent(Struct, tag="invite-sent", tag_field="type", frozen=True, omit_defaults=True):
    """The answer to `invite`: whether the user was online."""

    to: str
    delivered: bool
    reason: str | None = None


class Registered(Struct, tag="registered", tag_field="type", frozen=True, rename="camel"):
    """The answer to `register`."""

    user_id: str


class IceServers(Struct, tag="ice-servers", tag_field="type", frozen=True, rename="camel"):
    """The answer to `ice-servers`. Without credentials, there is no time of expiry."""

    ice_servers: Sequence[IceServer]
    expires_at: datetime | UnsetType = UNSET


class Pong(Struct, tag="pong", tag_field="type", frozen=True):
    """The answer to `ping`."""


Outgoing = (
    Joined
    | PeerJoined
    | PeerUpdated
    | PeerLeft
    | SignalFrom
    | InviteFrom
    | InviteSent
    | Registered
    | IceServers
    | Pong
    | Error
)


SENT = (*(str(kind.__struct_config__.tag) for kind in Outgoing.__args__), "publish")
"""The types of messages to clients. `publish` is passed on without decoding."""
