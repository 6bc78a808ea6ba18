"""JSON messages: decoded into typed objects, and explained when they are wrong. Loads nothing that has a socket."""

import re
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from .errors import BadMessage

encode = msgspec.json.Encoder().encode


class Message(Struct, tag_field="type", frozen=True):
    """Anything a client sends. Its class's tag is the message's `type`; unknown fields are ignored."""


class Error(Struct, tag="error", tag_field="type", frozen=True):
    """The answer to a message that was not right; `requestId` is that of the message, if it had one."""

    error: str
    code: str
    request_id: Raw | UnsetType = msgspec.field(default=UNSET, name="requestId")


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


_HEX = rb"[0-9a-fA-F]"
_HIGH, _LOW = rb"\\u[dD][89abAB]" + _HEX * 2, rb"\\u[dD][c-fC-F]" + _HEX * 2
# A function for each match would be called ten thousand times for one message. These need none.
_LONE_HIGH = re.compile(_HIGH + b"(?!%b)" % _LOW)
_LONE_LOW = re.compile(b"(?<!%b)" % _HIGH + _LOW)
_BACKSLASH = b"\x01"
"""Replaces an escaped backslash for a moment; no JSON text has this character."""


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
