"""Signaling: decodes the messages of both dialects, checks permissions, and calls the domain."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Iterable
from functools import partial

from . import __version__
from .edge.auth.identity import Identity
from .edge.errors import BadMessage
from .edge.json_application import UNREADABLE, JsonApplication, JsonHandler
from .edge.messages import request_id
from .edge.metrics import Labels
from .edge.websocket.connection import Connection
from .ice import Ice
from .messages import ERRORS, SENT, AskIceServers, Incoming, Invite, Join, Publish, Register, Subscribe, decode
from .rooms.model import Client
from .rooms.rooms import REPLACED
from .settings import Settings

REFUSALS = {
    "room-full": "the room or topic has MAX_ROOM_SIZE or its host's `maxParticipants`",
    "peer-id-taken": "another user in the room has the peer id",
    "too-many-topics": "the connection is subscribed to MAX_TOPICS topics",
    "replaced": "a newer connection of the same user took the peer id, as a second tab does",
    "topic-has-room": "a full topic has room again, so y-webrtc is to connect again",
    "unavailable": "Redis is away, or was away while the client was in a room",
}
"""The codes of refusals that only this server has."""


class Signaling(JsonApplication[Incoming]):
    """Both dialects of signaling on one socket.

    Args:
        settings: the settings of the server.
    """

    title = "OpenNoodl signaling server"
    pages = (*JsonApplication.pages, "/session/<room>/info")
    about = (
        "It helps editors find each other for WebRTC; no project data passes through it.\n"
        "Connect an editor, or y-webrtc's `signaling` option, to this address as ws:// or wss://."
    )

    labels = Labels(
        received=(*decode.names.values(), *UNREADABLE),
        sent=SENT,
        errors=ERRORS,
        limits=("session-info",),
        close_codes=frozenset({REPLACED}),
    )
    own_refusals = REFUSALS
    decode = decode

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, __version__, settings.max_message_size)
        self.ice = Ice(settings)


class SignalingHandler(JsonHandler[Incoming]):
    """Checks what one client may do, and does it.

    Args:
        app: the server.
        connection: the client's connection.
        client: the client.

    Attributes:
        client: the client.
    """

    __slots__ = ("client",)

    def __init__(self, app: Signaling, connection: Connection, client: Client) -> None:
        super().__init__(app, connection)
        self.client = client

    @abstractmethod
    def act(self, incoming: Incoming, message: bytes) -> Awaitable[None] | None:
        """Carry out a message that the client is allowed to send.

        Args:
            incoming: the decoded message.
            message: the bytes of the message.

        Returns:
            an awaitable that ends before the next message of the client is handled, or None. It raises no
            `BadMessage`.

        Raises:
            BadMessage: the message cannot be carried out; the sender gets the error.
        """

    @abstractmethod
    def new_topics(self, names: Iterable[str]) -> Iterable[str]:
        """Return the topics in `names` that the client would subscribe to: new ones, up to its limit."""

    def dispatch(self, incoming: Incoming, message: bytes) -> None:
        """Check whether the client may send a message, and carry it out."""
        connection = self.connection
        if self.app.auth.required:
            match incoming:
                case Join() | Register():
                    connection.work(partial(self._prove, incoming, message))
                    return
                case Publish(topic=topic):
                    if topic not in self.client.topics:
                        _permit(connection.identity, topic)
                case Subscribe(topics=names):
                    # Every name is compared with all patterns of the token, so their number is bounded first.
                    for name in self.new_topics(names):
                        _permit(connection.identity, name)
                case Invite(room_id=room):
                    if connection.identity is not None and not connection.identity.allows(room):
                        raise BadMessage("forbidden", "Your token is not for this room, so you cannot invite into it.")
                case AskIceServers():
                    identity = connection.identity
                    if identity is not None and (identity.access != "write" or not identity.rooms):
                        raise BadMessage(
                            "forbidden", "Your token allows no room for writing, so you get no ICE servers."
                        )
        waits = self.act(incoming, message)
        if waits is not None:
            connection.work(partial(_finish, waits))

    async def _prove(self, incoming: Join | Register, message: bytes) -> None:
        """Check the token of a `join` or `register`, and carry out the message."""
        app, connection, client = self.app, self.connection, self.client
        try:
            identity = await app.prove(connection, incoming.token, incoming.user_id)
            # A new token can allow less than the last one. It must allow every room that the connection is in.
            for name in _entered(client, incoming):
                _permit(identity, name)
            try:
                waits = self.act(incoming, message)
                if waits is not None:
                    await waits
            finally:
                # After a refused join the client is still in its former room, which this token may not allow.
                if all(map(identity.allows, _entered(client))):
                    connection.set_identity(identity)
        except BadMessage as bad:
            bad.request_id = request_id(message)
            app.refuse(connection, bad)


async def _finish(waits: Awaitable[None]) -> None:
    await waits


def _permit(identity: Identity | None, name: str) -> None:
    """Check whether a user may enter a room or topic.

    Args:
        identity: the user; None if the client is not authenticated.
        name: the name of the room or topic.

    Raises:
        BadMessage: the user may not enter it.
    """
    if identity is None:
        text = "Authenticate first: connect with a token, or send `register` with `token`."
        raise BadMessage("unauthorized", text, refusal="token-missing")
    if not identity.allows(name):
        raise BadMessage("forbidden", "Your token is not for this room.", refusal="token-room")
    if identity.access != "write":
        text = "Your token allows only reading, which peers cannot enforce: use the sync server."
        raise BadMessage("forbidden", text, refusal="token-access")


def _entered(client: Client, incoming: Join | Register | None = None) -> set[str]:
    """Return the rooms and topics of a client, as they are after `incoming`."""
    if isinstance(incoming, Join):
        return client.topics | {incoming.room}
    return client.topics | ({client.room.name} if client.room is not None else set())
