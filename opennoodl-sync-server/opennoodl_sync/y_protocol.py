"""The wire of y-websocket: y-protocols messages in lib0's encoding, parsed with nothing left to chance.

Source of the formats: y-protocols' ``PROTOCOL.md``, ``sync.js`` and ``awareness.js``; lib0's ``encoding.js``.
"""

from enum import Enum

from .yjs.lib0 import MalformedError, read_bytes, read_varuint, write_bytes, write_varuint

ACKNOWLEDGEMENT = 100
"""The number of this server's own message, sent to those that ask for it."""
TOKEN = 101
"""The number of the message with which a client renews its token."""
DENIED = 2
"""The number of the message that refuses something; y-protocols' ``auth.js``."""

KEEPALIVE = bytes((1, 1, 0))
"""An awareness message about no client: y-protocols' client takes it, and nothing changes."""

NO_TEXT = "Text frames are not supported: send y-protocols messages in binary frames."
"""The reason of the close of a client that sends text."""

MAX_NAME = 256
"""Characters of a room's name, as it stands in the path."""


class Kind(Enum):
    """The kind of a message.

    Attributes:
        label: what documentation and metrics call it.
    """

    STEP_1 = "step-1"
    STEP_2 = "step-2"
    UPDATE = "update"
    AWARENESS = "awareness"
    QUERY_AWARENESS = "query-awareness"
    TOKEN = "token"  # noqa: S105  # a name, and no token

    def __init__(self, label: str) -> None:
        self.label = label  # `value` takes several times as long to read


STEPS = (Kind.STEP_1, Kind.STEP_2, Kind.UPDATE)
"""The sync messages, by their number."""
SYNC, AWARENESS, QUERY_AWARENESS = 0, 1, 3


def is_name(text: str) -> bool:
    """Return whether a room may have this name; strangers choose it, and an operator's terminal shows it."""
    return 0 < len(text) <= MAX_NAME and text.isprintable()


def parse(message: bytes) -> tuple[Kind, bytes]:
    """Return what `message` is and its content; what follows the content is ignored, as Yjs does.

    The content is a state vector (`STEP_1`), an update (`STEP_2`, `UPDATE`), an awareness update, or nothing.

    Raises:
        MalformedError: the message is not one that a client sends.
    """
    if message[:2] == b"\0\2":  # as nearly all messages begin
        size = len(message) - 3
        if 0 < size < 0x80 and message[2] == size:  # a length of one byte, and nothing behind the content
            return Kind.UPDATE, message[3:]
        return Kind.UPDATE, read_bytes(message, 2)[0]
    kind, at = read_varuint(message, 0)
    if kind == SYNC:
        step, at = read_varuint(message, at)
        if step >= len(STEPS):
            raise MalformedError(f"unknown sync message type {step}; accepted are 0, 1 and 2")
        return STEPS[step], read_bytes(message, at)[0]
    if kind == AWARENESS:
        return Kind.AWARENESS, read_bytes(message, at)[0]
    if kind == QUERY_AWARENESS:
        return Kind.QUERY_AWARENESS, b""
    if kind == TOKEN:
        return Kind.TOKEN, read_bytes(message, at)[0]
    raise MalformedError(
        f"unknown message type {kind}; accepted are 0 (sync), 1 (awareness), 3 (query) and {TOKEN} (token)"
    )


def step_1(state_vector: bytes) -> bytes:
    """Return the message that asks for everything behind `state_vector`."""
    return b"".join((b"\x00\x00", write_varuint(len(state_vector)), state_vector))


def step_2(update: bytes) -> bytes:
    """Return the message that answers step 1."""
    return b"".join((b"\x00\x01", write_varuint(len(update)), update))  # it may be large: one copy


def update_message(update: bytes) -> bytes:
    """Return the message that passes an update on."""
    return update_head(len(update)) + update


def update_head(size: int) -> bytes:
    """Return what the message that passes an update on has before the update, which has `size` bytes."""
    return bytes((0, 2, size)) if size < 0x80 else b"\x00\x02" + write_varuint(size)


def awareness_message(awareness_update: bytes) -> bytes:
    """Return the message that passes awareness states on."""
    return b"\x01" + write_bytes(awareness_update)


def acknowledgement(count: int) -> bytes:
    """Return the message that says: the first `count` sync messages with updates from you are stored."""
    return write_varuint(ACKNOWLEDGEMENT) + write_varuint(count)


def denial(reason: str) -> bytes:
    """Return the message that says why something is not permitted."""
    return bytes((DENIED, 0)) + write_bytes(reason.encode())
