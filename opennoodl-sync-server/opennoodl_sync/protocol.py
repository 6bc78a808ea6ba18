"""The wire of y-websocket: y-protocols messages in lib0's encoding, parsed with nothing left to chance.

Source of the formats: y-protocols' ``PROTOCOL.md``, ``sync.js`` and ``awareness.js``; lib0's ``encoding.js``.
"""

from enum import IntEnum

ACKNOWLEDGEMENT = 100
"""The number of this server's own message, sent to those that ask for it."""
TOKEN = 101
"""The number of the message with which a client renews its token."""
DENIED = 2
"""The number of the message that refuses something; y-protocols' ``auth.js``."""

MAX_NAME = 256
"""Characters of a room's name, as it stands in the path."""
MAX_SAFE_INTEGER = 2**53 - 1
"""The largest number that lib0 reads."""


class MalformedError(Exception):
    """Bytes that are not what the protocol says; the text names what was wrong."""


class Kind(IntEnum):
    """What a message is about: its first number, and for sync messages its second one."""

    STEP_1 = 0x00
    STEP_2 = 0x01
    UPDATE = 0x02
    AWARENESS = 0x10
    QUERY_AWARENESS = 0x30
    TOKEN = 0x65


NAMES = {kind: kind.name.lower().replace("_", "-") for kind in Kind}
"""What documentation and metrics call a kind."""

STEPS = (Kind.STEP_1, Kind.STEP_2, Kind.UPDATE)
SYNC, AWARENESS, QUERY_AWARENESS = 0, 1, 3


def is_name(text: str) -> bool:
    """Return whether a room may have this name; strangers choose it, and an operator's terminal shows it."""
    return 0 < len(text) <= MAX_NAME and text.isprintable()


def read_varuint(data: bytes, at: int) -> tuple[int, int]:
    """Return the number at offset `at` and the offset behind it.

    Raises:
        MalformedError: the data ends within it, or it is larger than lib0 reads.
    """
    try:
        number = data[at]
        at += 1
        if number < 0x80:
            return number, at
        byte = data[at]
        at += 1
        number += (byte << 7) - 0x80
        if byte < 0x80:
            return number, at
        number -= 0x80 << 7
        shift = 14
        while True:
            byte = data[at]
            at += 1
            number += (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
            if shift > 56:
                raise MalformedError("a number is too large")
    except IndexError:
        raise MalformedError("the message ends within a number") from None
    if number > MAX_SAFE_INTEGER:
        raise MalformedError("a number is too large")
    return number, at


def read_bytes(data: bytes, at: int) -> tuple[bytes, int]:
    """Return the length-prefixed bytes at offset `at` and the offset behind them.

    Raises:
        MalformedError: the data ends within them.
    """
    length, at = read_varuint(data, at)
    end = at + length
    if end > len(data):
        raise MalformedError("the message ends before its content does")
    return data[at:end], end


def write_varuint(number: int) -> bytes:
    """Return `number` in lib0's encoding: seven bits a byte, the lowest first."""
    if number < 0x80:
        return bytes((number,))
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def write_bytes(content: bytes) -> bytes:
    """Return `content` behind its length."""
    return write_varuint(len(content)) + content


def parse(message: bytes) -> tuple[Kind, bytes]:
    """Return what `message` is and its content; what follows the content is ignored, as Yjs does.

    The content is a state vector (`STEP_1`), an update (`STEP_2`, `UPDATE`), an awareness update, or nothing.

    Raises:
        MalformedError: the message is not one that a client sends.
    """
    kind, at = read_varuint(message, 0)
    if kind == SYNC:
        step, at = read_varuint(message, at)
        if step > Kind.UPDATE:
            raise MalformedError(f"there is no sync message {step}; 0, 1 and 2 are known")
        return STEPS[step], read_bytes(message, at)[0]
    if kind == AWARENESS:
        return Kind.AWARENESS, read_bytes(message, at)[0]
    if kind == QUERY_AWARENESS:
        return Kind.QUERY_AWARENESS, b""
    if kind == TOKEN:
        return Kind.TOKEN, read_bytes(message, at)[0]
    raise MalformedError(
        f"there is no message {kind} from clients; 0 (sync), 1 (awareness), 3 (query) and {TOKEN} (token) are known"
    )


def step_1(state_vector: bytes) -> bytes:
    """Return the message that asks for everything behind `state_vector`."""
    return b"\x00\x00" + write_bytes(state_vector)


def step_2(update: bytes) -> bytes:
    """Return the message that answers step 1."""
    return b"".join((b"\x00\x01", write_varuint(len(update)), update))  # it may be large: one copy


def update_message(update: bytes) -> bytes:
    """Return the message that passes an update on."""
    return b"\x00\x02" + write_bytes(update)


def awareness_message(awareness_update: bytes) -> bytes:
    """Return the message that passes awareness states on."""
    return b"\x01" + write_bytes(awareness_update)


def acknowledgement(count: int) -> bytes:
    """Return the message that says: the first `count` sync messages with updates from you are stored."""
    return write_varuint(ACKNOWLEDGEMENT) + write_varuint(count)


def denial(reason: str) -> bytes:
    """Return the message that says why something is not permitted."""
    return bytes((DENIED, 0)) + write_bytes(reason.encode())
