"""The connection: one WebSocket, its messages handed straight to the application.

The websockets library does the protocol, but for the plain case: a message that comes as one whole frame
does not pass through its parser. Its receive queue and its coroutine a message are left out as well:
a complete message goes to the application in the turn of the event loop that read it, and a prepared
frame goes to the transport as it is. Reading and handling in one step also means that no message waits
in memory, so there is no queue to bound; what waits to be written is bounded here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from http import HTTPStatus
from time import perf_counter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from websockets.asyncio.server import Server, ServerConnection
from websockets.exceptions import ConnectionClosed, InvalidMessage, ProtocolError
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import CONNECTING, OPEN, Event
from websockets.server import ServerProtocol
from websockets.typing import StatusLike

from .frames import begins, message_at
from .limits import TokenBucket
from .outbox import Outbox

if TYPE_CHECKING:
    from .application import Application

CLOSE_TIMEOUT = 2.0
"""Seconds that a client has to answer a close frame before its TCP connection is cut."""

MAX_FRAGMENTS = 4096
"""Frames of one message; empty ones would cost memory that no size counts."""

METHODS = (b"GET", b"HEAD", b"OPTIONS")
ALLOW = "GET, HEAD, OPTIONS"


class CloseConnection(Exception):
    """Ends a connection with `code` and a `reason` that its client may read (its first 123 bytes)."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


def encode_frame(payload: bytes, *, text: bool) -> bytes:
    """Return the one unmasked frame (RFC 6455, 5.2) that carries `payload` to any number of clients."""
    opcode = 0x81 if text else 0x82
    size = len(payload)
    if size < 126:
        return bytes((opcode, size)) + payload
    if size < 65_536:
        return bytes((opcode, 126)) + size.to_bytes(2, "big") + payload
    return bytes((opcode, 127)) + size.to_bytes(8, "big") + payload


def _is_utf8(message: bytes) -> bool:
    try:
        message.decode()
    except UnicodeDecodeError:
        return False
    return True


class EdgeProtocol(ServerProtocol):
    """websockets' protocol, except for what it leaves unanswered and what it answers too readily.

    Attributes:
        cors: the headers of answers that tell browsers which pages may read them.
        crowded: whether more waits for the client than it is reading.
        between_messages: whether nothing of an unfinished frame or message is in here; False where that is
            not known, as before the first frame.
    """

    cors: Mapping[str, str] = MappingProxyType({})
    crowded = False
    between_messages = False

    def receive_data(self, data: bytes | bytearray) -> None:
        """Take bytes from the network, and remember the method of a request that turns out unreadable."""
        self.between_messages = False
        if self.state is CONNECTING and not self._method:
            self._method = bytes(data[:16]).partition(b" ")[0]
        super().receive_data(data)

    _method = b""

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
        if frame.opcode is not Opcode.PING or not self.crowded:
            super().recv_frame(frame)
        # A frame is complete, and the parser takes up the next one only if there is more to read.
        self.between_messages = not self.reader.buffer and self.current_size is None

    def release(self) -> None:
        """Let go of itself, after the end: only a full garbage collection, which holds everybody, would find it."""
        self.parser.close()
        self.parser_exc = self.handshake_exc = None  # their tracebacks lead here


class Connection(ServerConnection):
    """One client.

    Attributes:
        client: what the application knows about this client; its own to set.
        address: where the client is, as far as its proxies are trusted.
        farewell: what is done when the TCP connection has ended, if anything.
        path: the request's path without the query, as it was sent (not percent-decoded).
        slow: whether more than ``SLOW_CLIENT_BUFFER`` waits for this client.
        strikes: how many messages in a row were over the rate; the application's to count.
    """

    def __init__(
        self, protocol: EdgeProtocol, server: Server, app: Application, everybody: set[Connection], outbox: Outbox
    ) -> None:
        super().__init__(protocol, server, ping_interval=None, close_timeout=CLOSE_TIMEOUT)
        self.protocol: EdgeProtocol = protocol
        self.app = app
        self._everybody = everybody
        self._outbox = outbox
        self._frames: list[bytes] = []  # for the end of this turn
        self.client: Any = None
        self.address = ""
        self.farewell: Callable[[], None] | None = None
        self.path = ""
        self.slow = False
        self.quiet = False  # nothing has been heard since the last ping
        self.strikes = 0  # messages over the rate
        self.bucket = TokenBucket(app.settings.rate_limit, perf_counter())
        self._taken = False  # the application knows this connection
        self._part = b""  # of a frame whose rest has not come
        self._fragments: list[bytes] | None = None
        self._fragments_text = False
        self._check_scheduled = False
        self._hold_timer: asyncio.TimerHandle | None = None
        self._abort_timer: asyncio.TimerHandle | None = None

    # From the application

    @property
    def alive(self) -> bool:
        """Whether the application still has this connection."""
        return self._taken

    def write(self, frame: bytes) -> None:
        """Send a prepared frame; over ``SLOW_CLIENT_BUFFER``, the application is asked what to do."""
        if self.protocol.state is OPEN:
            self.transport.write(frame)
            if self.paused:
                self._schedule_check()

    def write_soon(self, frame: bytes) -> None:
        """Send a prepared frame at the end of this turn of the event loop, with all others for this client."""
        if self.protocol.state is OPEN:
            if not self._frames:
                self._outbox.add(self)
            self._frames.append(frame)

    def flush(self) -> None:
        """Send what was to be sent soon."""
        frames = self._frames
        if frames:
            self._frames = []
            self.write(frames[0] if len(frames) == 1 else b"".join(frames))

    def overflow(self) -> None:
        """Ask the application at once what to do, if more than ``SLOW_CLIENT_BUFFER`` waits already."""
        if self.paused and not self.slow and self.app.settings.slow_client_buffer:
            self.slow = True
            self.app.slow(self)

    def hold(self, seconds: float) -> None:
        """Read nothing more from this client for so long."""
        self.transport.pause_reading()
        if self._hold_timer is not None:
            self._hold_timer.cancel()
        self._hold_timer = self.loop.call_later(seconds, self._read_on)

    def end(self, code: int, reason: str) -> None:
        """Close with `code`: the application forgets the client at once, the socket goes within seconds."""
        self._detach()
        self.flush()
        if self.protocol.state is OPEN:
            # A close frame has room for 123 bytes of reason.
            self.protocol.send_close(code, reason.encode()[:123].decode(errors="ignore"))
            self.send_data()

    async def answers(self, seconds: float) -> bool:
        """Ping the client; return whether it answers within `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                await (await self.ping())
        except (TimeoutError, ConnectionClosed):
            return False
        return True

    def abort(self) -> None:
        """Cut the TCP connection without a closing handshake."""
        self.transport.abort()

    # From the server

    def take(self) -> None:
        """Hand messages to the application from now on; a connection that ended meanwhile is closed."""
        self._taken = True
        if self.protocol.state is not OPEN:
            self._detach()

    def heartbeat(self) -> None:
        """Ping; cut a client that has been silent since the last ping."""
        if self.protocol.state is not OPEN:
            return
        if self.quiet:
            self.abort()
            return
        self.quiet = True
        self.flush()  # a pong says that everything before its ping has arrived
        self.protocol.send_ping(self.app.heartbeat(self))
        self.send_data()

    @property
    def close_code(self) -> int:
        """The code that this side sent or was sent first; 1006 if the connection was just gone."""
        sent = self.protocol.close_sent
        return 1006 if sent is None else int(sent.code)

    # From websockets and the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; the transport tells when more than ``SLOW_CLIENT_BUFFER`` waits in it."""
        super().connection_made(transport)
        self._everybody.add(self)
        if limit := self.app.settings.slow_client_buffer:
            self.transport.set_write_buffer_limits(limit)

    def data_received(self, data: bytes) -> None:
        """Hand on whole messages, and from the first frame on that is none, feed the protocol.

        A closing connection is forgotten at once, whatever its client does next.
        """
        self.quiet = False
        protocol = self.protocol
        start = 0
        if protocol.between_messages:
            if self._part:
                data, self._part = self._part + data, b""
            # Any message may have made the application end the connection.
            while start < len(data) and protocol.state is OPEN:
                found = message_at(data, start, protocol.max_message_size)
                if found is None:
                    if begins(data, start, protocol.max_message_size):
                        self._part = data[start:]
                        return
                    break
                message, text, start = found
                self._receive(message, text)
        if start < len(data):
            self.flush()  # before anything that the protocol answers, such as a close
            super().data_received(data[start:])
        if protocol.state is OPEN:
            return
        if protocol.state is not CONNECTING:
            self._detach()
        elif protocol.parser_exc is not None:
            self.abort()

    def process_event(self, event: Event) -> None:
        """Pass whole messages on; leave everything else to websockets."""
        if not isinstance(event, Frame):
            super().process_event(event)
            return
        opcode = event.opcode
        if opcode is Opcode.TEXT or opcode is Opcode.BINARY:
            if event.fin:
                self._receive(bytes(event.data), opcode is Opcode.TEXT)
            else:
                self._fragments = [bytes(event.data)]
                self._fragments_text = opcode is Opcode.TEXT
        elif opcode is Opcode.CONT and self._fragments is not None:
            self._fragments.append(bytes(event.data))
            if len(self._fragments) > MAX_FRAGMENTS:
                self.end(1009, "Too many fragments.")
            elif event.fin:
                message, self._fragments = b"".join(self._fragments), None
                self._receive(message, self._fragments_text)
        else:
            super().process_event(event)

    def acknowledge_pings(self, data: bytes) -> None:
        """Pass a pong on."""
        super().acknowledge_pings(data)
        if self._taken:
            self.app.pong(self, data)

    def pause_writing(self) -> None:
        """Ask for a decision about a client that does not read."""
        super().pause_writing()
        self.protocol.crowded = True
        self._schedule_check()

    def resume_writing(self) -> None:
        """Tell the application when a slow client has caught up."""
        super().resume_writing()
        self.protocol.crowded = False
        if self.slow:
            self.slow = False
            if self._taken:
                self.app.drained(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the client."""
        super().connection_lost(exc)
        self._everybody.discard(self)
        if self.farewell is not None:
            self.farewell()
        self._detach()
        for timer in (self._abort_timer, self._hold_timer):
            if timer is not None:
                timer.cancel()
        self.protocol.release()

    # Inside

    def _receive(self, message: bytes, text: bool) -> None:
        if not self._taken:  # the application has ended it
            return
        if text and not message.isascii() and not _is_utf8(message):
            self.end(1007, "A text message must be UTF-8.")
            return
        app = self.app
        started = perf_counter()
        try:
            wait = self.bucket.take(started)
            if not wait:
                self.strikes = 0
            if not wait or app.limited(self, message, wait):
                app.receive(self, message, text)
        except CloseConnection as close:
            self.end(close.code, close.reason)
        except Exception:
            self.logger.exception("a message could not be handled")
            self.end(1011, "The server failed on this message.")
        app.metrics.message_sizes.observe(len(message))
        app.metrics.handling.observe(perf_counter() - started)

    def _read_on(self) -> None:
        if not self.transport.is_closing():
            self.transport.resume_reading()

    def _schedule_check(self) -> None:
        limit = self.app.settings.slow_client_buffer
        if limit and not self._check_scheduled:
            # Event loops that gather writes have not tried to send yet: look again a little later.
            self._check_scheduled = True
            self.loop.call_later(0.001, self._check_slow, limit)

    def _check_slow(self, limit: int) -> None:
        self._check_scheduled = False
        if self._taken and not self.slow and self.transport.get_write_buffer_size() > limit:
            self.slow = True
            self.app.slow(self)

    def _detach(self) -> None:
        if self._abort_timer is None:
            self._abort_timer = self.loop.call_later(CLOSE_TIMEOUT, self.transport.abort)
        if self._taken:
            self._taken = False
            self.app.close(self)
