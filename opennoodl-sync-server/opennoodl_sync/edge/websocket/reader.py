"""The reader: takes whole messages out of the bytes and the frames of one client.

A message that came as one whole frame is taken without the parser of the websockets library. The parser gets everything
else, and whatever is not valid, so there is one source of errors and close codes.
"""

from __future__ import annotations

from collections.abc import Callable

from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN

from ..errors import CloseConnection
from .flow import ReadFlow
from .frames import begins, message_at
from .protocol import EdgeProtocol

MAX_FRAGMENTS = 4096
"""Frames of one message; empty ones would cost memory that no size counts."""

Receive = Callable[[bytes, bool], None]
"""Takes a message, and whether it is text."""


class Reader:
    """What was read of one client and is no message yet.

    Args:
        protocol: of its connection.
        flow: may hold messages back.
    """

    __slots__ = ("_flow", "_fragments", "_held", "_partial", "_protocol", "_text")

    def __init__(self, protocol: EdgeProtocol, flow: ReadFlow) -> None:
        self._protocol = protocol
        self._flow = flow
        self._partial = b""  # a frame of which a part has come
        self._held = b""
        self._fragments: list[bytes] | None = None
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
        if self._partial:
            data, self._partial = self._partial + data, b""
        start, end = 0, len(data)
        # Any message may have ended the connection, or paused it.
        while start < end and protocol.state is OPEN and not flow.holds_messages:
            found = message_at(data, start, protocol.max_message_size)
            if found is None:
                if not begins(data, start, protocol.max_message_size):
                    break
                self._partial = data[start:]
                return b""
            message, text, start = found
            receive(message, text)
        return data[start:]

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
            return None
        if self._fragments is None:
            return None
        self._fragments.append(bytes(frame.data))
        if len(self._fragments) > MAX_FRAGMENTS:
            raise CloseConnection(1009, "Too many fragments.")
        if not frame.fin:
            return None
        message, self._fragments = b"".join(self._fragments), None
        return message, self._text
