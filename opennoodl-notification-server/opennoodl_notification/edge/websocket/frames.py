"""Frames: the one frame that nearly every message is (RFC 6455, 5.2), written and read without a parser.

A message is serialized once for all its receivers. This module reads a message that arrives as one whole frame. It
unmasks a large message part by part as it arrives; the library would copy it twice at its end, and block the event loop
meanwhile. The library's parser gets everything else, and all invalid bytes, so there is one source of errors and close
codes.
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
"""The first byte of a frame that is a whole message (RFC 6455, 5.2): FIN, no reserved bit, the opcode."""
LARGEST_PART = 65_536
"""Bytes of the largest message whose frame is buffered as it arrives; a larger one is a `LargeFrame`."""
LARGE_HEAD = 14
"""Bytes before the payload of a large frame: two, eight of its length, and four of its mask."""
MAX_FRAGMENTS = 4096
"""Most frames of one message: empty frames cost memory that the size of the message does not count."""

Receive = Callable[[bytes, bool], None]
"""Called with each message, and whether it is text."""


def encode_frame(payload: bytes, *, text: bool, head: bytes = b"") -> bytes:
    """Return the one unmasked frame (RFC 6455, 5.2) that carries a message to any number of clients.

    Args:
        payload: the message.
        text: whether it is text.
        head: the first bytes of the message, before `payload`; so a large payload is copied only once.
    """
    opcode = 0x81 if text else 0x82
    size = len(head) + len(payload)
    if size < 126:
        return bytes((opcode, size)) + head + payload
    if size < 65_536:
        return b"".join((bytes((opcode, 126)), size.to_bytes(2, "big"), head, payload))
    return b"".join((bytes((opcode, 127)), size.to_bytes(8, "big"), head, payload))


def message_at(data: bytes, start: int, max_size: int | None) -> tuple[bytes, bool, int] | None:
    """Return the message whose only frame, masked and complete, begins at `start`.

    Args:
        data: bytes of a client.
        start: offset of a frame in `data`.
        max_size: bytes of the largest message; None for no limit.

    Returns:
        the message, whether it is text, and the offset behind its frame; None if there is anything else at `start`.
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
    """Return whether an incomplete frame at `start` may become a message for `message_at`.

    Args:
        data: bytes of a client.
        start: offset of the frame in `data`, before its end.
        max_size: bytes of the largest message; None for no limit.
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
    """A message in one masked frame of more than `LARGEST_PART` bytes, which arrives in parts.

    Args:
        text: whether the message is text.
        mask: the four bytes of the mask.
        size: bytes of the message.

    Attributes:
        text: whether the message is text.
        size: bytes that have arrived.
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
        """Whether all bytes have arrived."""
        return self.size == self._whole

    def add(self, data: bytes, start: int) -> int:
        """Add the bytes of the message that begin at offset `start` of `data`; return the offset behind them."""
        end = min(start + self._whole - self.size, len(data))
        turned = self.size % 4
        self._content.write(apply_mask(data[start:end], self._mask[turned:] + self._mask[:turned]))
        self.size += end - start
        return end

    def message(self) -> bytes:
        """Return the message."""
        return self._content.getvalue()


def large_frame_at(data: bytes, start: int, max_size: int | None) -> LargeFrame | None:
    """Return the large frame that begins at `start`; None if it is another one, or its head is incomplete.

    Args:
        data: bytes of a client.
        start: offset of a frame in `data`, before its end.
        max_size: bytes of the largest message; None for no limit.
    """
    payload = start + LARGE_HEAD
    if data[start] not in (TEXT, BINARY) or len(data) < payload or data[start + 1] != 0xFF:
        return None
    size = int.from_bytes(data[start + 2 : start + 10], "big")
    if size <= LARGEST_PART or (max_size is not None and size > max_size):
        return None
    return LargeFrame(data[start] == TEXT, data[payload - 4 : payload], size)


def is_utf8(message: bytes) -> bool:
    """Return whether a message is valid UTF-8."""
    try:
        message.decode()
    except UnicodeDecodeError:
        return False
    return True


class Reader:
    """Turns the bytes of one client into messages, and buffers incomplete ones.

    Args:
        protocol: the protocol of the connection.
        flow: decides whether messages wait.

    Attributes:
        partial: the bytes of an incomplete frame.
        large: an incomplete large frame.
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
        """Call `receive` with each message at the start of `data` that is a whole frame.

        Returns:
            the remaining bytes. They are for the parser of the protocol, or for `hold` if the flow holds messages. The
            beginning of a frame is buffered here, and nothing remains.
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
        """Add bytes to the large frame; return the offset behind them. Call `receive` if the frame is complete."""
        assert self.large is not None
        large, end = self.large, self.large.add(data, start)
        if large.is_whole:
            self.large = None
            if self._protocol.state is OPEN:
                receive(large.message(), large.text)
        return end

    @property
    def size(self) -> int:
        """Bytes that are buffered, here and in the parser."""
        large = 0 if self.large is None else self.large.size
        return len(self.partial) + large + len(self._held) + self._fragments_size + self._protocol.unparsed

    def hold(self, data: bytes) -> None:
        """Buffer bytes until messages may be received again."""
        self._held += data

    def held(self) -> bytes:
        """Return and forget the bytes of `hold`."""
        data, self._held = self._held, b""
        return data

    def join(self, frame: Frame) -> tuple[bytes, bool] | None:
        """Add a data frame of the parser; return the message that it completes and whether it is text, or None.

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
