"""JSON messages: typed on the way in, explained when they are wrong. For servers that speak JSON."""

import re
from abc import abstractmethod
from typing import Any, Generic, TypeVar

import msgspec
import structlog
from msgspec import UNSET, Raw, Struct, UnsetType

from .application import Application
from .auth import credential
from .connection import CloseConnection, Connection
from .frames import encode_frame
from .identity import AuthError, Identity
from .limits import PATIENCE, Over

AUTHENTICATION_TIMEOUT = 10.0
"""Seconds that a connection has to say, or prove, who it is."""

log = structlog.get_logger()
encode = msgspec.json.Encoder().encode


class Message(Struct, tag_field="type", frozen=True):
    """Anything a client sends. Its class's tag is the message's `type`; unknown fields are ignored."""


class Error(Struct, tag="error", tag_field="type", frozen=True):
    """The answer to a message that was not right; `requestId` is that of the message, if it had one."""

    error: str
    code: str
    request_id: Raw | UnsetType = msgspec.field(default=UNSET, name="requestId")


class BadMessage(Exception):
    """A message that is answered with an error and changes nothing.

    Args:
        code: for programs, in kebab-case.
        error: the sentence for people.
        request_id: the message's ``requestId``, to be echoed.
    """

    def __init__(self, code: str, error: str, request_id: Raw | UnsetType = UNSET) -> None:
        super().__init__(code, error)
        self.code = code
        self.error = error
        self.request_id = request_id


class _Envelope(Struct):
    """As much of a bad message as its answer needs."""

    type: object = UNSET
    request_id: Raw | UnsetType = msgspec.field(default=UNSET, name="requestId")


M = TypeVar("M", bound=Message)


class Decoder(Generic[M]):
    """Decodes messages of known types.

    Args:
        kinds: the union of the types.
    """

    def __init__(self, kinds: Any) -> None:
        self._decoder: msgspec.json.Decoder[M] = msgspec.json.Decoder(kinds)
        self.names = {kind: str(kind.__struct_config__.tag) for kind in kinds.__args__}
        """The name of every type, as metrics count it."""

    def __call__(self, message: bytes) -> M:
        """Return the typed message.

        Raises:
            BadMessage: it is not one, with a code that says why.
        """
        try:
            return self._decoder.decode(message)
        except (msgspec.DecodeError, RecursionError) as error:
            raise self._explain(message, error) from None

    def _explain(self, message: bytes, error: Exception) -> BadMessage:
        try:
            envelope = msgspec.json.decode(message, type=_Envelope)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return BadMessage("invalid-json", "A message must be one JSON object.")
        known = sorted(self.names.values())
        if envelope.type not in known:
            return BadMessage("unknown-type", f"`type` must be one of: {', '.join(known)}.", envelope.request_id)
        code = "missing-field" if "missing required field" in str(error) else "invalid-field"
        return BadMessage(code, f"{error}.", envelope.request_id)


class JsonApplication(Application, Generic[M]):
    """An application whose clients send JSON objects in text frames."""

    decode: Decoder[M]

    async def open(self, connection: Connection) -> None:
        """Look at the token that came with the handshake, if one had to come sooner or later."""
        if not self.auth.required:
            return
        connection.deadline(AUTHENTICATION_TIMEOUT, "Send your token within ten seconds of connecting.")
        assert connection.request is not None
        token = credential(connection.request)
        if token is not None:
            try:
                connection.admit(await self.identify(connection, token))
            except AuthError as error:
                self.refuse(connection, BadMessage(error.code, str(error)))

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
            raise BadMessage(error.code, str(error)) from None
        if identity is None:
            raise BadMessage("unauthorized", "This server lets in only who proves who they are: `token` is missing.")
        if identity.user != user:
            raise BadMessage("unauthorized", "The token is another user's than `userId` says.")
        return identity

    @abstractmethod
    def dispatch(self, connection: Connection, incoming: M, message: bytes) -> None:
        """Handle one typed message, whose text is `message`.

        Raises:
            BadMessage: it cannot be done; the sender is told.
        """

    def receive(self, connection: Connection, message: bytes, text: bool) -> None:
        """Decode, count and dispatch one message; answer a bad one with an error."""
        if not text:
            raise CloseConnection(1003, "Messages are JSON in text frames.")
        received = self.metrics.received
        try:
            try:
                incoming = self.decode(message)
            except BadMessage as bad:
                if bad.code != "invalid-json":
                    raise
                message = replace_lone_surrogates(message)
                incoming = self.decode(message)
        except BadMessage as bad:
            received["unknown" if bad.code in ("unknown-type", "invalid-json") else "invalid"] += 1
            self.refuse(connection, bad)
            return
        received[self.decode.names[type(incoming)]] += 1
        try:
            self.dispatch(connection, incoming, message)
        except BadMessage as bad:
            bad.request_id = request_id(message)
            self.refuse(connection, bad)

    def limited(self, connection: Connection, message: bytes, over: Over) -> bool:
        """Answer a message over the rate with an error, and close a client that does not stop."""
        connection.strikes += 1
        if connection.strikes > PATIENCE:
            raise CloseConnection(1008, f"Too many {over.limit}.")
        error = f"Too many {over.limit}; wait {over.seconds:.3f} seconds."
        self.refuse(connection, BadMessage("rate-limited", error, request_id(message)))
        return False

    def refuse(self, connection: Connection, bad: BadMessage) -> None:
        """Tell the sender of a bad message."""
        log.debug("refused", code=bad.code)
        self.send((connection,), Error(bad.error, bad.code, bad.request_id))

    def send(self, to: tuple[Connection, ...], message: Struct) -> None:
        """Send one message, encoded once, to every connection of `to`."""
        frame = encode_frame(encode(message), text=True)
        self.metrics.sent[str(message.__struct_config__.tag)] += len(to)
        for connection in to:
            connection.write_soon(frame)


_HEX = rb"[0-9a-fA-F]"
_HIGH, _LOW = rb"\\u[dD][89abAB]" + _HEX * 2, rb"\\u[dD][c-fC-F]" + _HEX * 2
# A function for each match would be called ten thousand times for one message. These need none.
_LONE_HIGH = re.compile(_HIGH + b"(?!%b)" % _LOW)
_LONE_LOW = re.compile(b"(?<!%b)" % _HIGH + _LOW)
_BACKSLASH = b"\x01"
"""What stands for an escaped backslash meanwhile; no JSON text has this character."""


def replace_lone_surrogates(message: bytes) -> bytes:
    """Return `message` with U+FFFD in place of escaped halves of surrogate pairs.

    JavaScript writes such a half where a text was cut within an emoji. It is no character, and the decoder
    refuses it; its sender means no harm and would not know what was wrong.
    """
    if _BACKSLASH in message:
        return message
    # After this, every backslash is the start of an escape.
    message = message.replace(rb"\\", _BACKSLASH)
    message = _LONE_LOW.sub(rb"\\ufffd", _LONE_HIGH.sub(rb"\\ufffd", message))
    return message.replace(_BACKSLASH, rb"\\")


def request_id(message: bytes) -> Raw | UnsetType:
    """Return the ``requestId`` of a message as the bytes it came in, or UNSET if it has none."""
    if b"requestId" not in message:
        return UNSET
    try:
        return msgspec.json.decode(message, type=_Envelope).request_id
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return UNSET
