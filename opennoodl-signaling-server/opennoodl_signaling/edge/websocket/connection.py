"""The connection: one WebSocket, its messages handed straight to the application.

The websockets library does the protocol, but a message that is one whole frame does not pass through its parser,
and there is no receive queue: it goes to the application in the turn of the event loop that read it, and a prepared
frame to the transport as it is. So no message waits; what waits to be written is bounded here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from time import perf_counter, time
from typing import TYPE_CHECKING, Any

from websockets.asyncio.server import Server, ServerConnection
from websockets.frames import Frame, Opcode
from websockets.protocol import CONNECTING, OPEN, Event

from ..auth.identity import Identity
from ..errors import CloseConnection
from ..limits import LEAST_PAUSE, PATIENCE, Pace
from .flow import EdgePause, ReadPause
from .frames import begins, is_utf8, message_at
from .liveness import PAYLOAD, Liveness
from .outbox import Outbox
from .protocol import EdgeProtocol

if TYPE_CHECKING:
    from ..application import Application
    from .registry import Connections

PIECE = 4096
"""Bytes that the protocol is given at once: a read may hold tens of thousands of its smallest frames."""
NO_PAUSE: frozenset[ReadPause] = frozenset()
CLOSE_TIMEOUT = 2.0
"""Seconds that a client has to answer a close frame before its TCP connection is cut."""
EXPIRED = "Your token has expired. Connect again with a new one."
MAX_FRAGMENTS = 4096
"""Frames of one message; empty ones would cost memory that no size counts."""


class Connection(ServerConnection):
    """One client.

    Attributes:
        session: what the application keeps for this client; only the application sets it.
        peer: the other end of the TCP connection, empty if it was gone already.
        address: where the client is, as far as its proxies are trusted.
        identity: whom the client has proven to be, if it has.
        attempts: how many tokens it has shown that prove nothing; the application's to count.
        path: the request's path without the query, as it was sent (not percent-decoded).
        slow: whether more than ``SLOW_CLIENT_BUFFER`` waits for this client.
        strikes: how many messages in a row were over the rate; the application's to count.
    """

    def __init__(
        self, protocol: EdgeProtocol, server: Server, app: Application, connections: Connections, outbox: Outbox
    ) -> None:
        super().__init__(protocol, server, ping_interval=None, close_timeout=CLOSE_TIMEOUT)
        self.protocol: EdgeProtocol = protocol
        self.app = app
        self._connections = connections
        self._outbox = outbox
        self._frames: list[bytes] = []  # for the end of this turn
        self.session: Any = None
        self.peer = self.address = self.path = ""
        self.identity: Identity | None = None
        self.attempts = 0
        self._when_lost: list[Callable[[], None]] = []
        self.slow = self.silent = False  # nothing has been heard since the last ping
        self.strikes = 0  # messages over the rate
        rates = app.settings.rate_limit, app.settings.byte_rate_limit
        self.pace = Pace(*rates, app.max_message_size, perf_counter())
        self._attached = False  # the application knows this connection
        self._part = self._unread = b""  # of a frame; what came with a message that others, or it, have to wait for
        self._fragments: list[bytes] | None = None
        self._fragments_text = False
        self._check_scheduled = False
        self._liveness = Liveness()
        self._pauses = NO_PAUSE
        self._holds_messages = False  # for one of these reasons
        self._rate_timer: asyncio.TimerHandle | None = None
        self._abort_timer: asyncio.TimerHandle | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._work: asyncio.Task[None] | None = None
        self._waiting: Sequence[tuple[bytes, bool]] = ()  # messages of the same piece

    # From the application

    @property
    def is_open(self) -> bool:
        """Whether the application still has this connection."""
        return self._attached

    @property
    def buffered(self) -> int:
        """Bytes that wait for this client."""
        return self.transport.get_write_buffer_size()

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

    def check_slow(self) -> None:
        """Call `Application.slow` now, if more than ``SLOW_CLIENT_BUFFER`` waits already."""
        if self.paused and not self.slow and self.app.settings.slow_client_buffer:
            self.slow = True
            self.app.slow(self)
            self._connections.limit_unread()

    def pause_reading(self, reason: ReadPause) -> None:
        """Stop reading from this client, until `resume_reading` was called for every reason."""
        self._pauses |= {reason}
        self._holds_messages = self._holds_messages or reason.holds_messages
        if not self.transport.is_closing():
            self.transport.pause_reading()

    def resume_reading(self, reason: ReadPause) -> None:
        """Read again, unless there is another reason not to."""
        self._pauses = self._pauses - {reason} or NO_PAUSE
        self._holds_messages = any(left.holds_messages for left in self._pauses)
        if not self._pauses and not self.transport.is_closing():
            self.silent = False  # as far as the server could notice
            self.transport.resume_reading()
            unread, self._unread = self._unread, b""
            self.data_received(unread)

    def pause_reading_for(self, seconds: float) -> None:
        """Stop reading from this client for so long, as with one over its rate limit."""
        self.pause_reading(EdgePause.RATE)
        if self._rate_timer is not None:
            self._rate_timer.cancel()
        self._rate_timer = self.loop.call_later(max(seconds, LEAST_PAUSE), self.resume_reading, EdgePause.RATE)

    def work(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do something that takes a while; messages that come meanwhile wait, and what is not here yet is not read.

        It is cancelled when the connection ends. It may raise `CloseConnection`.
        """
        self.pause_reading(EdgePause.WORK)
        self._work = self.loop.create_task(self._do(work))

    def set_identity(self, identity: Identity) -> None:
        """Take the client to be this user from now on, until the proof of it ends."""
        self.identity = identity
        self.set_deadline(None if identity.expires is None else identity.expires - time(), EXPIRED)

    def set_deadline(self, seconds: float | None, reason: str = "", code: int = 1008) -> None:
        """Close with `code` after so many seconds; a later call with other ones, or None, takes the place of this."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if seconds is not None:
            self._deadline = self.loop.call_later(max(seconds, 0.0), self.disconnect, code, reason)

    def when_lost(self, act: Callable[[], None]) -> None:
        """Have something done when the TCP connection has ended."""
        self._when_lost.append(act)

    def disconnect(self, code: int, reason: str) -> None:
        """Close with `code`: the application forgets the client at once, the socket goes within seconds."""
        self._detach()
        self.flush()
        if self.protocol.state is OPEN:
            # A close frame has room for 123 bytes of reason.
            self.protocol.send_close(code, reason.encode()[:123].decode(errors="ignore"))
            self.send_data()

    def fail(self, error: Exception) -> None:
        """Close for what a message has led to; what is no `CloseConnection` is logged. Call it while handling that."""
        if not isinstance(error, CloseConnection):
            self.logger.exception("a message could not be handled")
            error = CloseConnection(1011, "The server failed on this message.")
        self.disconnect(error.code, error.reason)

    async def is_alive(self, seconds: float) -> bool:
        """Return whether the client answers a ping within `seconds`; if it has one to answer already, that one."""
        if self.protocol.state is OPEN and self._liveness.begin():
            self.protocol.send_ping(PAYLOAD)
            self.send_data()
        return await self._liveness.wait(seconds)

    def probe(self) -> None:
        """Ping with the payload that the application wants; the pong says that all that was sent before has arrived."""
        if self.protocol.state is OPEN:
            self.flush()
            self.protocol.send_ping(self.app.heartbeat(self))
            self.send_data()

    def abort(self) -> None:
        """Cut the TCP connection without a closing handshake."""
        self.transport.abort()

    # From the server

    def attach(self) -> None:
        """Hand messages to the application from now on; a connection that ended meanwhile is closed."""
        self._attached = True
        if self.protocol.state is not OPEN:
            self._detach()

    def heartbeat(self) -> None:
        """Ping; cut a client that has been silent since the last ping, unless it is not read from."""
        if self.protocol.state is not OPEN:
            return
        if self.silent and not self._pauses:
            self.abort()
            return
        self.silent = True
        self.probe()

    @property
    def close_code(self) -> int:
        """The code that this side sent or was sent first; 1006 if the connection was just gone."""
        sent = self.protocol.close_sent
        return 1006 if sent is None else int(sent.code)

    # From websockets and the event loop

    async def handshake(self, *args: Any, **options: Any) -> None:
        """Answer the requests that the client sends one behind the other, until one is a handshake or the last."""
        await super().handshake(*args, **options)
        while request := self.protocol.next_request():
            await asyncio.sleep(0)  # others have their turn in between
            self.request = self.response = None
            self.request_rcvd = self.loop.create_future()
            self.data_received(request)
            await super().handshake(*args, **options)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; the transport tells when more than ``SLOW_CLIENT_BUFFER`` waits in it."""
        super().connection_made(transport)
        self.peer = (transport.get_extra_info("peername") or ("",))[0]  # event loops fail at this after the end
        self._connections.add(self)
        if limit := self.app.settings.slow_client_buffer:
            self.transport.set_write_buffer_limits(limit)

    def data_received(self, data: bytes) -> None:
        """Hand on whole messages, and from the first frame on that is none, feed the protocol.

        A closing connection is forgotten at once, whatever its client does next.
        """
        self.silent = False
        protocol = self.protocol
        start = 0
        if protocol.between_messages:
            if self._part:
                data, self._part = self._part + data, b""
            # Any message may have made the application end the connection or wait, or have been too fast.
            while start < len(data) and protocol.state is OPEN and not self._holds_messages:
                found = message_at(data, start, protocol.max_message_size)
                if found is None:
                    if begins(data, start, protocol.max_message_size):
                        self._part = data[start:]
                        return
                    break
                message, text, start = found
                self._receive(message, text)
        while start < len(data):
            if protocol.state is OPEN and self._holds_messages:
                self._unread += data[start:]
                return
            self.flush()  # before anything that the protocol answers, such as a close
            super().data_received(data[start : start + PIECE])
            start = start + PIECE if protocol.state in (OPEN, CONNECTING) else len(data)  # the rest is nothing to us
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
        data = opcode is Opcode.TEXT or opcode is Opcode.BINARY
        if data and event.fin:
            self._receive(bytes(event.data), opcode is Opcode.TEXT)
            return
        # Pings and parts of messages cost as much as messages, and there is nobody to be told.
        asked = opcode is Opcode.PONG and self._liveness.expects(bytes(event.data))
        over = None if asked else self.pace.take(perf_counter(), 0)
        if over is not None and self.protocol.state is OPEN:
            self.app.metrics.rate_limited[over.limit] += 1
            self.strikes += 1
            self.pause_reading_for(over.seconds)
            if self.strikes > PATIENCE:
                self.disconnect(1008, "Too many frames.")
        if data:
            self._fragments, self._fragments_text = [bytes(event.data)], opcode is Opcode.TEXT
        elif opcode is Opcode.CONT and self._fragments is not None:
            self._fragments.append(bytes(event.data))
            if len(self._fragments) > MAX_FRAGMENTS:
                self.disconnect(1009, "Too many fragments.")
            elif event.fin:
                message, self._fragments = b"".join(self._fragments), None
                self._receive(message, self._fragments_text)
        else:
            super().process_event(event)

    def acknowledge_pings(self, data: bytes) -> None:
        """Pass a pong on."""
        super().acknowledge_pings(data)
        self._liveness.pong(data)
        if self._attached:
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
            if self._attached:
                self.app.drained(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the client."""
        super().connection_lost(exc)
        self._connections.discard(self)
        self._liveness.end()
        for act in self._when_lost:
            act()
        self._detach()
        for timer in (self._abort_timer, self._rate_timer, self._deadline):
            if timer is not None:
                timer.cancel()
        self.protocol.release()

    # Inside

    def _receive(self, message: bytes, text: bool) -> None:
        if not self._attached:  # the application has ended or refused it
            if self.protocol.state is OPEN and self.pace.take(perf_counter(), len(message)) is not None:
                self.abort()
            return
        if self._work is not None:
            self._waiting = [*self._waiting, (message, text)]
            return
        if text and not message.isascii() and not is_utf8(message):
            self.disconnect(1007, "A text message must be UTF-8.")
            return
        app = self.app
        started = perf_counter()
        try:
            over = self.pace.take(started, len(message))
            if over is None:
                self.strikes = 0
            else:
                app.metrics.rate_limited[over.limit] += 1
            if over is None or app.limited(self, message, over):
                app.receive(self, message, text)
        except Exception as error:
            self.fail(error)
        app.metrics.message_sizes.observe(len(message))
        app.metrics.handling.observe(perf_counter() - started)

    async def _do(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except Exception as error:
            self.fail(error)
        self._work = None
        waiting, self._waiting = self._waiting, ()
        for position, (message, text) in enumerate(waiting, 1):
            self._receive(message, text)
            if self._work is not None:  # the rest waits for this one
                self._waiting = waiting[position:]
                return
        self.resume_reading(EdgePause.WORK)

    def _schedule_check(self) -> None:
        limit = self.app.settings.slow_client_buffer
        if limit and not self._check_scheduled:
            # Event loops that gather writes have not tried to send yet: look again a little later.
            self._check_scheduled = True
            self.loop.call_later(0.001, self._check_slow, limit)

    def _check_slow(self, limit: int) -> None:
        self._check_scheduled = False
        if self._attached and self.transport.get_write_buffer_size() > limit:
            self.check_slow()

    def _detach(self) -> None:
        if self._abort_timer is None:
            self._abort_timer = self.loop.call_later(CLOSE_TIMEOUT, self.transport.abort)
        if self._attached:
            self._attached = False
            self.app.close(self)
        work = self._work
        if work is not None and work is not asyncio.current_task(self.loop):
            self._work = None
            work.cancel()
            self.resume_reading(EdgePause.WORK)  # for what the protocol has to read yet
