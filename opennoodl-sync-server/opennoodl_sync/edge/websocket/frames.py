"""Frames: the one frame that nearly every message is (RFC 6455, 5.2), written and read without a parser.

A message is serialized once for all its receivers. A message that arrives as one whole frame is taken out of the bytes
here. A larger one that comes in parts is unmasked part by part: the library would copy all of it twice at its end, and
hold the event loop for as long. The parser of the library gets everything else, and whatever is not valid, so there is
one source of errors and close codes.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN

from ..errors import CloseConnection
from .flow_control import ReadFlow
from .protocol import EdgeProtocol

try:
    from websockets.speedups import apply_mask
except ImportError:  # as the library does where it was not compiled
    from websockets.utils import apply_mask

TEXT, BINARY = 0x81, 0x82
"""How a frame that is a whole message begins (RFC 6455, 5.2): FIN, no reserved bit, the opcode."""
LARGEST_PART = 65_536
"""Bytes of the largest message whose frame is kept as it came until all of it is there."""
LARGE_HEAD = 14
"""Bytes before the payload of a frame that is larger: two, eight of its length, and the mask."""
MAX_FRAGMENTS = 4096
"""Frames of one message; empty ones would cost memory that no size counts."""

Receive = Callable[[bytes, bool], None]
"""Takes a message, and whether it is text."""


def encode_frame(payload: bytes, *, text: bool, head: bytes = b"") -> bytes:
    """Return the one unmasked frame (RFC 6455, 5.2) that carries a message to any number of clients.

    Args:
        payload: the message.
        text: whether it is text.
        head: stands before `payload` in the message; a large payload is copied only once.
    """
    opcode = 0x81 if text else 0x82
    size = len(head) + len(payload)
    if size < 126:
        return bytes((opcode, size)) + head + payload
    if size < 65_536:
        return b"".join((bytes((opcode, 126)), size.to_bytes(2, "big"), head, payload))
    return b"".join((bytes((opcode, 127)), size.to_bytes(8, "big"), head, payload))


def message_at(data: bytes, start: int, max_size: int | None) -> tuple[bytes, bool, int] | None:
    """Return the message whose one masked frame begins at `start` and is all there.

    Args:
        data: what a client sent.
        start: where in it a frame begins.
        max_size: bytes of the largest message; None for any.

    Returns:
        the message, whether it is text, and where its frame ends; None if anything else is at `start`.
    """
    payload = start + 6  # after two bytes and the mask
    if len(data) < payload:
        return None
    text = data[start] == TEXT
    size = data[start + 1] - 0x80  # negative without the mask bit
    if (not text and data[start] != BINARY) or size < 0:
        return None
    if size > 125:
        extended = 2 if size == 126 else 8
        payload += extended
        size = int.from_bytes(data[start + 2 : start + 2 + extended], "big")
    end = payload + size
    if end > len(data) or (max_size is not None and size > max_size):
        return None
    return apply_mask(data[payload:end], data[payload - 4 : payload]), text, end


def begins(data: bytes, start: int, max_size: int | None) -> bool:
    """Return whether what is at `start`, and is no message yet, may be one for `message_at` when more has come.

    Args:
        data: what a client sent.
        start: where in it a frame begins; before its end.
        max_size: bytes of the largest message; None for any.
    """
    left = len(data) - start
    if data[start] not in (TEXT, BINARY):
        return False
    if left < 2:
        return True
    size = data[start + 1] - 0x80
    if size > 125:
        extended = 2 if size == 126 else 8
        if left < 2 + extended:
            return True
        size = int.from_bytes(data[start + 2 : start + 2 + extended], "big")
    if size < 0 or (max_size is not None and size > max_size):
        return False
    return size <= LARGEST_PART or left < LARGE_HEAD


class LargeFrame:
    """A message whose one masked frame is larger than `LARGEST_PART` and arrives in parts.

    Args:
        text: whether it is text.
        mask: of the frame.
        size: of the message.

    Attributes:
        text: whether it is text.
        size: bytes that have come.
    """

    __slots__ = ("_content", "_mask", "_whole", "size", "text")

    def __init__(self, text: bool, mask: bytes, size: int) -> None:
        self.text = text
        self.size = 0
        self._mask = mask
        self._whole = size
        self._content = BytesIO()  # gives its bytes without another copy

    @property
    def is_whole(self) -> bool:
        """Whether all of it has come."""
        return self.size == self._whole

    def add(self, data: bytes, start: int) -> int:
        """Take what of the message is in `data` from offset `start` on; return the offset behind it."""
        end = min(start + self._whole - self.size, len(data))
        turned = self.size % 4
        self._content.write(apply_mask(data[start:end], self._mask[turned:] + self._mask[:turned]))
        self.size += end - start
        return end

    def message(self) -> bytes:
        """Return the message."""
        return self._content.getvalue()


def large_frame_at(data: bytes, start: int, max_size: int | None) -> LargeFrame | None:
    """Return the frame that begins at `start` if it is one of those, and all before its payload is there.

    Args:
        data: what a client sent.
        start: where in it a frame begins; before its end.
        max_size: bytes of the largest message; None for any.
    """
    payload = start + LARGE_HEAD
    if data[start] not in (TEXT, BINARY) or len(data) < payload or data[start + 1] != 0xFF:
        return None
    size = int.from_bytes(data[start + 2 : start + 10], "big")
    if size <= LARGEST_PART or (max_size is not None and size > max_size):
        return None
    return LargeFrame(data[start] == TEXT, data[payload - 4 : payload], size)


def is_utf8(message: bytes) -> bool:
    """Return whether a message is text."""
    try:
        message.decode()
    except UnicodeDecodeError:
        return False
    return True


class Reader:
    """What was read of one client and is no message yet.

    Args:
        protocol: of its connection.
        flow: may hold messages back.

    Attributes:
        partial: a frame of which a part has come.
        large: a large frame of which a part has come.
    """

    __slots__ = ("_flow", "_fragments", "_fragments_size", "_held", "_protocol", "_text", "large", "partial")

    def __init__(self, protocol: EdgeProtocol, flow: ReadFlow) -> None:
        self._protocol = protocol
        self._flow = flow
        self.partial = b""
        self.large: LargeFrame | None = None
        self._held = b""
        self._fragments: list[bytes] | None = None
        self._fragments_size = 0
        self._text = False  # the message of these fragments is text

    def read(self, data: bytes, receive: Receive) -> bytes:
        """Hand on the messages at the start of `data` that are whole frames.

        Returns:
            the rest, which is for `parse` or, if the flow holds messages, for `hold`; nothing if there is none, or
            if it is the beginning of such a frame, which is kept.
        """
        protocol, flow = self._protocol, self._flow
        if not protocol.between_messages:
            return data
        start = 0
        if self.large is not None:
            if flow.holds_messages and protocol.state is OPEN:
                return data
            start = self._read_large(data, 0, receive)
        elif self.partial:
            data, self.partial = self.partial + data, b""
        end = len(data)
        # Any message may have ended the connection, or paused it.
        while start < end and protocol.state is OPEN and not flow.holds_messages:
            found = message_at(data, start, protocol.max_message_size)
            if found is not None:
                message, text, start = found
                receive(message, text)
                continue
            self.large = large_frame_at(data, start, protocol.max_message_size)
            if self.large is not None:
                start = self._read_large(data, start + LARGE_HEAD, receive)
                continue
            if not begins(data, start, protocol.max_message_size):
                break
            self.partial = data[start:]
            return b""
        return data[start:]

    def _read_large(self, data: bytes, start: int, receive: Receive) -> int:
        """Take bytes of a large frame; hand on its message if it ends, and the connection has not been closed."""
        assert self.large is not None
        large, end = self.large, self.large.add(data, start)
        if large.is_whole:
            self.large = None
            if self._protocol.state is OPEN:
                receive(large.message(), large.text)
        return end

    @property
    def size(self) -> int:
        """Bytes that are kept, here and in the parser."""
        large = 0 if self.large is None else self.large.size
        return len(self.partial) + large + len(self._held) + self._fragments_size + self._protocol.unparsed

    def hold(self, data: bytes) -> None:
        """Keep bytes until messages are handed on again."""
        self._held += data

    def held(self) -> bytes:
        """Return the bytes that were kept, and keep them no more."""
        data, self._held = self._held, b""
        return data

    def join(self, frame: Frame) -> tuple[bytes, bool] | None:
        """Take a data frame from the parser; return the message that ends with it, and whether that is text.

        Raises:
            CloseConnection: the message has too many fragments.
        """
        if frame.opcode is not Opcode.CONT:
            text = frame.opcode is Opcode.TEXT
            if frame.fin:
                return bytes(frame.data), text
            self._fragments, self._text = [bytes(frame.data)], text
            self._fragments_size = len(frame.data)
            return None
        if self._fragments is None:
            return None
        self._fragments.append(bytes(frame.data))
        self._fragments_size += len(frame.data)
        if len(self._fragments) > MAX_FRAGMENTS:
            raise CloseConnection(1009, "Too many fragments.")
        if not frame.fin:
            return None
        message, self._fragments, self._fragments_size = b"".join(self._fragments), None, 0
        return message, self._text
