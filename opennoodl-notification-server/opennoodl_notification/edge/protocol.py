"""The protocol: what the websockets library does by itself, but for a few answers."""

from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

from websockets.exceptions import InvalidMessage, ProtocolError, TooManyHeaders
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import CONNECTING
from websockets.server import ServerProtocol
from websockets.typing import StatusLike

METHODS = (b"GET", b"HEAD", b"OPTIONS")
HEAD_SIZE = 16_384
"""Bytes of a request's line and headers, as in Node."""
ALLOW = "GET, HEAD, OPTIONS"
NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class EdgeProtocol(ServerProtocol):
    """websockets' protocol, except for what it leaves unanswered and what it answers too readily.

    Attributes:
        cors: the headers of answers that tell browsers which pages may read them.
        crowded: whether more waits for the client than it is reading.
        between_messages: whether nothing of an unfinished frame or message is in here; False where that is
            not known, as before the first frame.
    """

    # Beside the library's own ones, of which there are so few that all instances share the keys of one dictionary:
    # a few more, and each connection would take 1.3 KB more.
    __slots__ = ("_asked", "_head", "_method", "between_messages", "cors", "crowded")

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.cors: Mapping[str, str] = NO_HEADERS
        self.crowded = False
        self.between_messages = False
        self._method = b""
        self._head = 0  # bytes of the request
        self._asked = False  # the request has come whole

    def receive_data(self, data: bytes | bytearray) -> None:
        """Take bytes from the network, and remember the method of a request that turns out unreadable."""
        self.between_messages = False
        if self.state is not CONNECTING:
            super().receive_data(data)
            return
        if not self._method:
            self._method = bytes(data[:16]).partition(b" ")[0]
        self._head += len(data)
        if self._head <= HEAD_SIZE or self.handshake_exc is not None:
            super().receive_data(data)
            self._asked = self._asked or bool(self.events)
        elif self._asked:  # it is being answered
            self.parser_exc = ProtocolError("much came before the handshake was answered")
        else:
            self.handshake_exc = TooManyHeaders(f"expected no more than {HEAD_SIZE} bytes")
            text = f"The head of a request may have {HEAD_SIZE} bytes.\n"
            self.send_response(self.reject(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, text))

    def reject(self, status: StatusLike, text: str) -> Response:
        """Return a plain-text answer with CORS headers."""
        response = super().reject(status, text)
        response.headers.update(self.cors)
        return response

    def send_eof(self) -> None:
        """End the stream; a request that could not be parsed is told so first."""
        if self.state is CONNECTING and isinstance(self.handshake_exc, InvalidMessage):
            cause = self.handshake_exc.__cause__
            # websockets reads no request bodies and would drop a POST without a word.
            has_body = isinstance(cause, NotImplementedError) or str(cause) == "unsupported request body"
            if has_body and self._method not in METHODS:
                response = self.reject(HTTPStatus.METHOD_NOT_ALLOWED, f"This server answers {ALLOW}.\n")
                response.headers["Allow"] = ALLOW
            else:
                why = "This server reads no request bodies" if has_body else "This is not a valid HTTP/1.1 request"
                response = self.reject(HTTPStatus.BAD_REQUEST, why + ".\n")
            self.writes.append(response.serialize())
        super().send_eof()

    def recv_frame(self, frame: Frame) -> None:
        """Take a frame; not before the handshake is answered, and no ping of a client that does not read."""
        if self.state is CONNECTING:
            raise ProtocolError("a frame came before the handshake was answered")
        if frame.opcode is Opcode.PING and self.crowded:
            self.events.append(frame)
        else:
            super().recv_frame(frame)
        # A frame is complete, and the parser takes up the next one only if there is more to read.
        self.between_messages = not self.reader.buffer and self.current_size is None

    def release(self) -> None:
        """Let go of itself, after the end: only a full garbage collection, which holds everybody, would find it."""
        self.parser.close()
        self.parser_exc = self.handshake_exc = None  # their tracebacks lead here
