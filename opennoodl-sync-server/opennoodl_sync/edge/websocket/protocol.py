"""The protocol: that of the library websockets, with some other answers to requests."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

from websockets.exceptions import InvalidHeaderValue, InvalidMessage, ProtocolError, SecurityError, TooManyHeaders
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import CONNECTING, OPEN
from websockets.server import ServerProtocol
from websockets.typing import StatusLike, Subprotocol

from ..auth.credential import TOKEN_PROTOCOL

METHODS = (b"GET", b"HEAD", b"OPTIONS")
HEAD_SIZE = 16_384
"""Bytes of a request's line and headers, as in Node."""
HEAD_END = b"\r\n\r\n"
MAX_PIPELINED = 16
"""Requests that a client may send without waiting for the answers; the last answer closes the connection."""
ALLOW = "GET, HEAD, OPTIONS"
TLS_HANDSHAKE = b"\x16\x03"
"""The first bytes of a client that begins TLS (RFC 8446, 5.1)."""
VERSION = "13"
"""The version of the WebSocket protocol (RFC 6455, 4.1)."""
NO_HEADERS: Mapping[str, str] = MappingProxyType({})
RETRY_AFTER = "10"
"""The header Retry-After of answers 429 and 503, in seconds."""
CHALLENGE = 'Bearer realm="opennoodl"'
"""The header WWW-Authenticate of an answer 401 (RFC 6750, 3)."""


class EdgeProtocol(ServerProtocol):
    """The protocol of websockets, which also answers invalid requests, and lets pings of clients that do not read wait.

    Args:
        cors: the CORS headers of answers, until `set_cors`.
        options: the options of websockets.

    Attributes:
        between_messages: whether the parser has no part of a frame or message; False if this is not known.
    """

    # Slots, since the library's own attributes are so few that all instances share the keys of one dictionary. With
    # some more, each connection would take 1.3 KB more.
    __slots__ = (
        "_answered",
        "_answers_pings",
        "_asked",
        "_cors",
        "_head",
        "_method",
        "_persistent",
        "_tail",
        "_unanswered",
        "_unread",
        "between_messages",
    )

    def __init__(self, cors: Mapping[str, str] = NO_HEADERS, **options: Any) -> None:
        super().__init__(**options)
        self._cors = cors
        self._answers_pings = True
        self._unanswered: bytes | None = None  # the last ping
        self.between_messages = False
        self._answered = 0  # number of answered requests
        self._method = self._tail = b""  # the last bytes, which may be part of the end of the head
        self._head = 0  # bytes of the request so far
        self._asked = self._persistent = False  # the request is complete; the client keeps the connection
        self._unread = b""  # bytes behind the request

    def set_cors(self, headers: Mapping[str, str]) -> None:
        """Set the CORS headers of the next answers."""
        self._cors = headers

    @property
    def unparsed(self) -> int:
        """Bytes of an unfinished frame."""
        return len(self.reader.buffer)

    @property
    def unreadable(self) -> str:
        """The code of the refusal of an invalid request; empty if the request is valid so far."""
        error = self.handshake_exc
        if error is None:
            return ""
        if self._method.startswith(TLS_HANDSHAKE):
            return "tls-to-http"
        return "headers-too-large" if isinstance(error, SecurityError) else "bad-request"

    def answer_pings(self, answers: bool) -> None:
        """Answer pings from now on, and the last one that has come meanwhile (RFC 6455, 5.5.3); or let them wait."""
        self._answers_pings = answers
        if answers and self._unanswered is not None:
            ping, self._unanswered = self._unanswered, None
            if self.state is OPEN:
                self.send_pong(ping)

    def receive_data(self, data: bytes | bytearray) -> None:
        """Parse bytes. Before the handshake is answered, parse one request at a time."""
        self.between_messages = False
        if self.state is not CONNECTING:
            super().receive_data(data)
            return
        if not self._method:
            self._method = bytes(data[:16]).partition(b" ")[0]
        self._head += len(data)
        if self.handshake_exc is not None:
            super().receive_data(data)
        elif self._method.startswith(TLS_HANDSHAKE):
            self.handshake_exc = ProtocolError("TLS to a port without TLS")
            self.send_response(self.reject(HTTPStatus.BAD_REQUEST, "This port has no TLS: use http:// or ws://.\n"))
        elif self._head <= HEAD_SIZE:
            if self._asked:
                self._unread += data
            else:
                self._receive_head(bytes(data))
        elif self._asked:  # the request is being answered
            self.parser_exc = ProtocolError("much came before the handshake was answered")
        else:
            self.handshake_exc = TooManyHeaders(f"expected no more than {HEAD_SIZE} bytes")
            text = f"The request line and headers may have {HEAD_SIZE} bytes together.\n"
            self.send_response(self.reject(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, text))

    def _receive_head(self, data: bytes) -> None:
        """Parse a request's head; buffer the bytes behind it until the request is answered."""
        seen = self._tail + data
        end = seen.find(HEAD_END) + len(HEAD_END) - len(self._tail) if HEAD_END in seen else len(data)
        self._tail = seen[-len(HEAD_END) + 1 :]
        super().receive_data(data[:end])
        request = self.events[0] if self.events else None
        if isinstance(request, Request):
            self._asked, self._persistent = True, _persists(request)
            self._unread = data[end:]
        elif end < len(data):
            super().receive_data(data[end:])

    def next_request(self) -> bytes:
        """Return the bytes behind an answered request, which begin the next one; empty if the connection closes."""
        if self.state is not CONNECTING or self.eof_sent or not self._asked:
            return b""
        unread, self._unread = self._unread, b""
        self._method = self._tail = b""
        self._head, self._asked = 0, False
        self.accept_called = False
        return unread.lstrip(b"\r\n")  # RFC 9112, 2.2

    def accept(self, request: Request) -> Response:
        """Return the answer to a handshake: 101, or the refusal of an invalid one."""
        response = super().accept(request)
        error = self.handshake_exc
        if isinstance(error, InvalidHeaderValue) and error.name == "Sec-WebSocket-Version":
            text = f"This server supports version {VERSION} of the WebSocket protocol.\n"
            response = self.reject(HTTPStatus.UPGRADE_REQUIRED, text)
            response.headers["Upgrade"] = "websocket"
            response.headers["Sec-WebSocket-Version"] = VERSION
        elif self._unread and error is None:
            self.handshake_exc = ProtocolError("a frame came before the handshake was answered")
            text = "A client must wait for the response to its handshake before it sends data.\n"
            response = self.reject(HTTPStatus.BAD_REQUEST, text)
        return response

    def select_subprotocol(self, subprotocols: Sequence[Subprotocol]) -> Subprotocol | None:
        """Return the first offered subprotocol without a token; the first one if all have tokens.

        A browser that offers subprotocols fails the connection if the answer has none. The servers behave the same with
        each subprotocol.
        """
        return next(
            (name for name in subprotocols if not name.startswith(TOKEN_PROTOCOL)), next(iter(subprotocols), None)
        )

    def send_response(self, response: Response) -> None:
        """Send the answer to a request. Keep the TCP connection open if the client has sent another request."""
        self._answered += 1
        goes_on = response.status_code != HTTPStatus.SWITCHING_PROTOCOLS and self._unread.lstrip(b"\r\n")
        if goes_on and self.handshake_exc is None and self._answered < MAX_PIPELINED and self._persistent:
            del response.headers["Connection"]
            self.writes.append(response.serialize())
            self.parser = self.parse()
            next(self.parser)
        else:
            super().send_response(response)
            self.between_messages = response.status_code == HTTPStatus.SWITCHING_PROTOCOLS

    def reject(self, status: StatusLike, text: str) -> Response:
        """Return a plain-text answer with CORS headers, and with the headers of its status."""
        response = super().reject(status, text)
        response.headers.update(self._cors)
        if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
            response.headers["Retry-After"] = RETRY_AFTER
        elif status == HTTPStatus.UNAUTHORIZED:
            response.headers["WWW-Authenticate"] = CHALLENGE
        return response

    def respond(self, status: HTTPStatus, body: bytes, kind: str) -> Response:
        """Return an answer with a body of the content type `kind`; caches must not store it."""
        response = self.reject(status, "")
        response.body = body
        del response.headers["Content-Type"], response.headers["Content-Length"]
        response.headers.update({"Content-Type": kind, "Content-Length": str(len(body)), "Cache-Control": "no-store"})
        return response

    def send_eof(self) -> None:
        """End the output; before that, answer a request that could not be parsed."""
        if self.state is CONNECTING and isinstance(self.handshake_exc, InvalidMessage):
            cause = self.handshake_exc.__cause__
            # websockets reads no request bodies, and would drop a POST without an answer.
            has_body = isinstance(cause, NotImplementedError) or str(cause) == "unsupported request body"
            if has_body and self._method not in METHODS:
                response = self.reject(
                    HTTPStatus.METHOD_NOT_ALLOWED, f"Method not allowed. This server answers {ALLOW}.\n"
                )
                response.headers["Allow"] = ALLOW
            else:
                why = "This server reads no request bodies" if has_body else "This is not a valid HTTP/1.1 request"
                response = self.reject(HTTPStatus.BAD_REQUEST, why + ".\n")
            self.writes.append(response.serialize())
        super().send_eof()

    def recv_frame(self, frame: Frame) -> None:
        """Handle a frame; while the client does not read, keep its last ping."""
        if frame.opcode is Opcode.PING and not self._answers_pings:
            self._unanswered = bytes(frame.data)
            self.events.append(frame)
        else:
            super().recv_frame(frame)
        # A frame is complete. The parser begins the next one only if there are more bytes.
        self.between_messages = not self.reader.buffer and self.current_size is None

    def release(self) -> None:
        """Break the reference cycles at the end: a full garbage collection, which blocks the loop, is not needed."""
        self.parser.close()
        self.parser_exc = self.handshake_exc = None  # their tracebacks refer to this object


def _persists(request: Request) -> bool:
    """Return whether the client expects its TCP connection to stay open after the answer (RFC 9112, 9.3)."""
    options = ",".join(request.headers.get_all("Connection")).lower().split(",")
    return request.protocol == "HTTP/1.1" and "close" not in map(str.strip, options)
