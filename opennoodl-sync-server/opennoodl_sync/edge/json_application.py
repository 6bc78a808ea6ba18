"""An application whose clients send JSON in text frames, and get an error for each bad message."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Generic, TypeVar

import structlog
from msgspec import Struct

from .application import Application
from .auth.credential import credential
from .auth.identity import AuthError, Identity
from .errors import BadMessage, CloseConnection
from .limits import PATIENCE, SETTING_OF, Over
from .messages import Decoder, Error, Message, encode, replace_lone_surrogates, request_id
from .peer import Receiver
from .websocket.connection import Connection
from .websocket.frames import encode_frame
from .websocket.handler import Handler

AUTHENTICATION_TIMEOUT = 10.0
"""Seconds that a connection has to say, or prove, who it is."""
UNPROVEN = "No valid token within ten seconds. Connect again with one."

UNREADABLE = ("unknown", "invalid")
"""The types under which metrics count invalid messages: those without a known type, and the others."""

M = TypeVar("M", bound=Message)

log = structlog.get_logger()


class JsonApplication(Application, Generic[M]):
    """An application whose clients send JSON objects in text frames."""

    decode: Decoder[M]

    @abstractmethod
    def handler(self, connection: Connection) -> JsonHandler[M]:
        """Return what handles the messages of a new connection."""

    async def open(self, connection: Connection) -> JsonHandler[M]:
        """Check the token that came with the handshake, if users have to prove who they are."""
        if self.auth.required:
            connection.set_deadline(AUTHENTICATION_TIMEOUT, UNPROVEN, refusal="authentication-timeout")
            assert connection.request is not None
            token = credential(connection.request)
            if token is not None:
                try:
                    connection.set_identity(await self.identify(connection, token))
                except AuthError as error:
                    self.refuse(connection, BadMessage(error.code, str(error), refusal=error.refusal))
        return self.handler(connection)

    async def prove(self, connection: Connection, token: str | None, user: str) -> Identity:
        """Return the identity of a client that says it is `user`.

        Args:
            connection: the client's.
            token: what the message brought; without it, the connection's identity has to do.
            user: the `userId` that the message names.

        Raises:
            BadMessage: it is not, or cannot be, proven.
            CloseConnection: it has tried that too often.
        """
        try:
            identity = connection.identity if token is None else await self.identify(connection, token)
        except AuthError as error:
            raise BadMessage(error.code, str(error), refusal=error.refusal) from None
        if identity is None:
            text = "This server requires authentication: `token` is missing."
            raise BadMessage("unauthorized", text, refusal="token-missing")
        if identity.user != user:
            text = "The token belongs to another user than `userId`."
            raise BadMessage("unauthorized", text, refusal="token-user")
        return identity

    def refuse(self, receiver: Receiver, bad: BadMessage) -> None:
        """Tell the sender of a bad message."""
        log.debug("refused", code=bad.code)
        receiver.note_error(bad)
        self.send((receiver,), Error(bad.error, bad.code, bad.request_id))

    def send(self, to: tuple[Receiver, ...], message: Struct) -> int:
        """Send one message, encoded once, to every client of `to`; return the bytes of its frame."""
        return self.send_all([(to, message)])

    def send_all(self, messages: Sequence[tuple[tuple[Receiver, ...], Struct]]) -> int:
        """Send messages in this order, each encoded once for all its receivers; return the bytes of their frames."""
        frames = [encode_frame(encode(message), text=True) for _, message in messages]
        for (to, message), frame in zip(messages, frames, strict=True):
            self.metrics.sent[str(message.__struct_config__.tag)] += len(to)
            for receiver in to:
                receiver.write_soon(frame)
        return sum(map(len, frames))


class JsonHandler(Handler, Generic[M]):
    """Handles the messages of one client.

    Args:
        app: the application.
        connection: the client's connection.

    Attributes:
        app: the application.
        connection: the client's connection.
    """

    __slots__ = ("app", "connection")

    def __init__(self, app: JsonApplication[M], connection: Connection) -> None:
        self.app = app
        self.connection = connection

    @abstractmethod
    def dispatch(self, incoming: M, message: bytes) -> None:
        """Handle one typed message, whose text is `message`.

        Raises:
            BadMessage: it cannot be done; the sender is told.
        """

    def receive(self, message: bytes, text: bool) -> None:
        """Decode, count and dispatch one message; answer a bad one with an error."""
        if not text:
            raise CloseConnection(1003, "Binary frames are not supported: send JSON in text frames.")
        app = self.app
        received = app.metrics.received
        try:
            try:
                incoming = app.decode(message)
            except BadMessage as bad:
                if bad.code != "invalid-json" or rb"\u" not in message:
                    raise
                message = replace_lone_surrogates(message)
                incoming = app.decode(message)
        except BadMessage as bad:
            received["unknown" if bad.code in ("unknown-type", "invalid-json") else "invalid"] += 1
            app.refuse(self.connection, bad)
            return
        received[app.decode.names[type(incoming)]] += 1
        try:
            self.dispatch(incoming, message)
        except BadMessage as bad:
            bad.request_id = request_id(message)
            app.refuse(self.connection, bad)

    def limited(self, message: bytes, over: Over) -> bool:
        """Answer a message over the rate with an error, and close a client that does not stop."""
        if self.connection.count_strike() > PATIENCE:
            text = f"Too many {over.limit}: you kept sending over {SETTING_OF[over.limit]}."
            raise CloseConnection(1008, text, "rate-limit")
        error = f"Too many {over.limit}; wait {over.seconds:.3f} seconds."
        self.app.refuse(self.connection, BadMessage("rate-limited", error, request_id(message)))
        return False

    def slow(self) -> None:
        """Close a client that reads too slowly."""
        self.connection.disconnect(1013, "You read too slowly. Connect again.", "slow-client")
