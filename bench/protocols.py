"""The wire: what clients of the two dialects say, and frames that are ready to be written.

y-websocket's servers take y-protocols messages as they are. Hocuspocus puts the document's name before every
message, so that several documents share a socket, and wants a message of authentication first.
"""

import secrets
from abc import ABC, abstractmethod

STEP_1 = b"\x00\x00\x01\x00"
"""I have nothing: the state vector of an empty document."""
UPDATE = b"\x00\x02"
AWARENESS = b"\x01"
SYNC = (0, 4)
"""Sync, and Hocuspocus' reply to it."""
STEP_2 = 1


def varuint(number: int) -> bytes:
    """Return `number` in lib0's encoding."""
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def read_varuint(data: bytes, at: int) -> tuple[int, int]:
    """Return the number at offset `at`, and the offset behind it."""
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return number, at


def varbytes(content: bytes) -> bytes:
    """Return `content` behind its length."""
    return varuint(len(content)) + content


def frame(payload: bytes, *, binary: bool = True) -> bytes:
    """Return the whole frame, masked as a client's must be, that carries `payload`."""
    size, first = len(payload), 0x82 if binary else 0x81
    if size < 126:
        head = bytes((first, 0x80 | size))
    elif size < 65_536:
        head = bytes((first, 0x80 | 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((first, 0x80 | 127)) + size.to_bytes(8, "big")
    key = secrets.token_bytes(4)
    pad = (key * (size // 4 + 1))[:size]
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(pad, "big")
    return head + key + masked.to_bytes(size, "big")


class Dialect(ABC):
    """How one kind of server is spoken to."""

    @abstractmethod
    def greeting(self, room: str) -> list[bytes]:
        """Return what a client says first; a step 2 is the answer."""

    @abstractmethod
    def update(self, room: str, update: bytes) -> bytes:
        """Return the message that carries a Yjs update."""

    @abstractmethod
    def awareness(self, room: str, update: bytes) -> bytes:
        """Return the message that carries an awareness update."""

    @abstractmethod
    def sync(self, message: bytes) -> bytes | None:
        """Return what stands behind the first number of a sync message; None for any other message."""

    def is_step_2(self, message: bytes) -> bool:
        """Return whether `message` is the answer to step 1."""
        rest = self.sync(message)
        return rest is not None and rest[0] == STEP_2

    def content(self, message: bytes) -> bytes | None:
        """Return the Yjs update in `message`, if it carries one."""
        rest = self.sync(message)
        if rest is None or rest[0] not in (1, 2):
            return None
        size, at = read_varuint(rest, 1)
        return rest[at : at + size]


class Plain(Dialect):
    """y-websocket's own."""

    def greeting(self, room: str) -> list[bytes]:
        """Return step 1."""
        return [STEP_1]

    def update(self, room: str, update: bytes) -> bytes:
        """Return the message that carries a Yjs update."""
        return UPDATE + varbytes(update)

    def awareness(self, room: str, update: bytes) -> bytes:
        """Return the message that carries an awareness update."""
        return AWARENESS + varbytes(update)

    def sync(self, message: bytes) -> bytes | None:
        """Return what stands behind the first number of a sync message."""
        return message[1:] if message[0] in SYNC else None


class Named(Dialect):
    """Hocuspocus'."""

    def greeting(self, room: str) -> list[bytes]:
        """Return a token that every server takes that asks for none, and step 1."""
        name = varbytes(room.encode())
        return [name + b"\x02\x00" + varbytes(b"any") + varbytes(b"4.7.0"), name + STEP_1]

    def update(self, room: str, update: bytes) -> bytes:
        """Return the message that carries a Yjs update."""
        return varbytes(room.encode()) + UPDATE + varbytes(update)

    def awareness(self, room: str, update: bytes) -> bytes:
        """Return the message that carries an awareness update."""
        return varbytes(room.encode()) + AWARENESS + varbytes(update)

    def sync(self, message: bytes) -> bytes | None:
        """Return what stands behind the first number of a sync message."""
        size, at = read_varuint(message, 0)
        at += size
        return message[at + 1 :] if message[at] in SYNC else None
