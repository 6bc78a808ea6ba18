"""The connection: one WebSocket, which passes each message to its handler at once.

The library websockets implements the protocol, with two exceptions. A message that is one whole frame does not pass
its parser. There is no receive queue: the handler gets a message in the turn of the event loop that read it, and
the transport gets prepared frames. So no message waits in memory. This module bounds the output that waits.

The parts of a connection are classes of their own: `Reader` (bytes to messages), `ReadFlow` and `WriteFlow` (flow
control), `Work` (tasks that messages wait for) and `LivenessCheck` (pings). None of them refers to the connection, so
it is freed without a garbage collection when it has ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import perf_counter, time
from typing import Any

from websockets.asyncio.server import Server, ServerConnection
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import CLOSED, OPEN, Event

from ..auth.identity import Identity
from ..errors import BadMessage, CloseConnection
from ..http.request import HttpRequest
from ..limits import PATIENCE, Pace
from ..refusals import OF_CLOSE_CODE
from .flow_control import EdgePause, ReadFlow, ReadPause, WriteFlow
from .frames import Reader, is_utf8
from .handler import Handler, Host
from .large_messages import LARGE
from .liveness import PAYLOAD, LivenessCheck
from .protocol import EdgeProtocol
from .registry import Connections
from .work import Work

PIECE = 4096
"""Most bytes for the parser at once: one read may have tens of thousands of the smallest frames."""
MESSAGES_OF_A_TURN = 32
"""Messages of one client that are handled before other clients are read: a read may hold thousands."""
CLOSE_TIMEOUT = 2.0
"""Seconds that a client has to answer a close frame before its TCP connection is cut."""
EXPIRED = "Your token has expired. Connect again with a new one."


class WriteBatch:
    """The connections that have frames to write in this turn of the event loop.

    All frames for one connection are one write. A system call costs more than everything else about a small message,
    and in a busy turn one client gets many.
    """

    def __init__(self) -> None:
        self._connections: list[Connection] = []

    def add(self, connection: Connection) -> None:
        """Flush a connection at the end of this turn, when all input is handled."""
        if not self._connections:
            asyncio.get_running_loop().call_soon(self._flush)
        self._connections.append(connection)

    def _flush(self) -> None:
        connections, self._connections = self._connections, []
        for connection in connections:
            connection.flush()


class Connection(ServerConnection):
    """One client.

    Args:
        request: the accepted handshake, with the protocol that has parsed it.
        server: the server object of websockets.
        app: what all connections share.
        connections: all connections.
        write_batch: writes at the end of each turn.

    Attributes:
        address: the address of the client; trusted proxies report it.
        number: of the TCP connection, for the log.
        path: the request's path without the query, as it was sent (not percent-decoded).
        identity: the user that a token of the client proves; None without one.
        user: the user that the application has found; only the application sets it.
    """

    def __init__(
        self,
        request: HttpRequest,
        server: Server,
        app: Host[Connection],
        connections: Connections[Connection],
        write_batch: WriteBatch,
    ) -> None:
        protocol = request.protocol
        super().__init__(protocol, server, ping_interval=None, close_timeout=CLOSE_TIMEOUT)
        self.protocol: EdgeProtocol = protocol
        self.app = app
        self.request: Request | None = request.head
        self.path, self.address, self.number = request.path, request.address, request.number
        self.identity: Identity | None = None
        self.user: str | None = None
        self._connections = connections
        self._write_batch = write_batch
        self._frames: list[bytes] = []  # for the end of this turn
        self._idle = False  # nothing was written since the last `check_idle`
        self._handler: Handler | None = None  # while the application knows this connection
        self._read_flow = ReadFlow()
        self._write_flow = WriteFlow(app.settings.slow_client_buffer)
        self._reader = Reader(protocol, self._read_flow)
        self._messages = 0  # that were handled in this turn of the event loop
        self._handling = 0  # bytes of a message that the application has not handled yet
        self._counted = False  # among the large messages
        self._lost = False
        self._work = Work()
        self._silent = False  # nothing has come since the last heartbeat
        self._liveness = LivenessCheck()
        self._pace = Pace(app.settings.rate_limit, app.settings.byte_rate_limit, app.max_message_size, perf_counter())
        self._strikes = 0  # messages and frames over the rate, one after the other
        self._failed_tokens = 0
        self._deadline: asyncio.TimerHandle | None = None
        self._abort_timer: asyncio.TimerHandle | None = None
        self._when_lost: list[Callable[[], None]] = []

    # Called by the application: writing

    @property
    def is_open(self) -> bool:
        """Whether the application has opened this connection and not closed it."""
        return self._handler is not None

    @property
    def buffered(self) -> int:
        """Bytes of output that the client has not read."""
        return self.transport.get_write_buffer_size()

    @property
    def is_closing(self) -> bool:
        """Whether the TCP connection is closing or closed."""
        return self.transport.is_closing()

    @property
    def slow(self) -> bool:
        """Whether the client has more than ``SLOW_CLIENT_BUFFER`` unread bytes."""
        return self._write_flow.slow

    @property
    def read_pauses(self) -> frozenset[ReadPause]:
        """The reasons why the server does not read from this client; empty if it reads."""
        return self._read_flow.reasons

    def write(self, frame: bytes) -> None:
        """Send a prepared frame. Over ``SLOW_CLIENT_BUFFER``, the connection calls `Handler.slow`."""
        if self.protocol.state is OPEN:
            self._idle = False
            self.transport.write(frame)
            if self.paused:
                self._write_flow.schedule_check(self._check_slow)

    def write_soon(self, frame: bytes) -> None:
        """Send a prepared frame at the end of this turn of the event loop, with all others for this client."""
        if self.protocol.state is OPEN:
            if not self._frames:
                self._write_batch.add(self)
            self._frames.append(frame)

    def flush(self) -> None:
        """Send the frames of `write_soon` now."""
        frames = self._frames
        if frames:
            self._frames = []
            self.write(frames[0] if len(frames) == 1 else b"".join(frames))

    def check_idle(self) -> bool:
        """Return whether the application has written nothing to this client since the last call."""
        idle, self._idle = self._idle, True
        return idle

    def check_slow(self) -> None:
        """Call `Handler.slow` now if there are more than ``SLOW_CLIENT_BUFFER`` unread bytes."""
        if self._handler is not None and self.paused and self._write_flow.begin_slow():
            self._handler.slow()
            self._connections.limit_unread()

    # Called by the application: reading

    def pause_reading(self, reason: ReadPause) -> None:
        """Stop reading from this client until `resume_reading` has been called for each reason."""
        self._read_flow.pause(reason)
        if not self.transport.is_closing():
            self.transport.pause_reading()

    def pause_reading_for(self, seconds: float) -> None:
        """Stop reading from this client for `seconds`, since it is over its rate limit."""
        self.pause_reading(EdgePause.RATE)
        self._read_flow.resume_later(seconds, self.resume_reading)

    def resume_reading(self, reason: ReadPause) -> None:
        """Remove a reason; read again if no reason is left."""
        self._read_flow.resume(reason)
        if not self._read_flow.paused and not self.transport.is_closing():
            self._silent = False  # the server did not read its pongs
            self.transport.resume_reading()
            self.data_received(self._reader.held())

    def work(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run a coroutine while later messages of this client wait, and read nothing more.

        The end of the connection cancels it. It may raise `CloseConnection`.
        """
        self.pause_reading(EdgePause.WORK)
        self._work.start(self._do(work))

    def count_handling(self, size: int) -> None:
        """Set the bytes of a message that the application has not handled yet; 0 when it has."""
        if size != self._handling:  # most messages are handled at once
            self._handling = size
            self._count_large()

    def wait_for_memory(self, waits: bool) -> None:
        """Stop reading, or read again. `LargeMessages` calls this."""
        if waits:
            self.pause_reading(EdgePause.MEMORY)
        else:
            self.resume_reading(EdgePause.MEMORY)

    def count_strike(self) -> int:
        """Count a message or frame over the rate; return the number of consecutive ones."""
        self._strikes += 1
        return self._strikes

    # Called by the application: who the client is, and the end

    def set_identity(self, identity: Identity, *, expires: bool = True) -> None:
        """Set the user of this client.

        Args:
            identity: the user.
            expires: whether the connection is closed when the token expires. This replaces another deadline.
        """
        self.identity = identity
        if expires:
            self.set_deadline(
                None if identity.expires is None else identity.expires - time(), EXPIRED, refusal="token-expired"
            )

    def count_failed_token(self) -> int:
        """Count an invalid token; return the number of those on this connection."""
        self._failed_tokens += 1
        return self._failed_tokens

    @property
    def deadline(self) -> float | None:
        """The time at which the connection will be closed, by the clock of the event loop; None without a deadline."""
        return None if self._deadline is None else self._deadline.when()

    def set_deadline(self, seconds: float | None, reason: str = "", code: int = 1008, refusal: str = "") -> None:
        """Call `disconnect` after `seconds`. A later call replaces this one, and None cancels it."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if seconds is not None:
            self._deadline = self.loop.call_later(max(seconds, 0.0), self.disconnect, code, reason, refusal)

    def disconnect(self, code: int, reason: str, refusal: str = "") -> None:
        """Close: call the handler's `close` at once, and close the TCP connection within `CLOSE_TIMEOUT`.

        Args:
            code: the code of the close frame.
            reason: the reason of the close frame.
            refusal: the code for the log and the metric; if empty, the code of `refusals` for the close code.
        """
        self._note_close(code, refusal)
        self._detach()
        self.flush()
        if self.protocol.state is OPEN:
            # A close frame has room for 123 bytes of reason.
            self.protocol.send_close(code, reason.encode()[:123].decode(errors="ignore"))
            self.send_data()

    def fail(self, error: Exception) -> None:
        """Close because of an error; log it unless it is a `CloseConnection`. Call this in an `except` block."""
        if not isinstance(error, CloseConnection):
            self.logger.exception("a message could not be handled")
            error = CloseConnection(1011, "The server failed on this message.")
        self.disconnect(error.code, error.reason, error.refusal)

    def abort(self, refusal: str = "") -> None:
        """Cut the TCP connection without a closing handshake; log and count the refusal if a code is given."""
        if refusal:
            self.note_refusal(refusal)
        self.transport.abort()

    def note_refusal(self, code: str, **details: str | int) -> None:
        """Log and count a refusal of this client."""
        self.app.refusals.note(code, self.address, self.number, **details)

    def note_error(self, bad: BadMessage) -> None:
        """Count an error that answers a message. Log and count it as a refusal too if it keeps the client out."""
        self.app.metrics.errors[bad.code] += 1
        if bad.refusal in self.app.refusals.reasons:
            self.note_refusal(bad.refusal, error=bad.code)

    # Called by the application: pings

    async def is_alive(self, seconds: float) -> bool:
        """Return whether the client answers a ping within `seconds`. Concurrent callers share one ping."""
        if self.protocol.state is OPEN and self._liveness.begin():
            self.protocol.send_ping(PAYLOAD)
            self.send_data()
        return await self._liveness.wait(seconds)

    def probe(self) -> None:
        """Ping with the handler's payload. The pong proves that everything sent before has arrived."""
        if self.protocol.state is OPEN:
            self.flush()
            self.protocol.send_ping(b"" if self._handler is None else self._handler.ping_payload())
            self.send_data()

    # Called by the service

    def when_lost(self, act: Callable[[], None]) -> None:
        """Call `act` when the TCP connection has ended."""
        self._when_lost.append(act)

    def attach(self, handler: Handler) -> None:
        """Pass messages to a handler from now on; close it if the connection has ended meanwhile."""
        self._handler = handler
        if self.protocol.state is not OPEN:
            self._detach()

    def forget_handshake(self) -> None:
        """Drop the query, which may have a token, and the headers, which each garbage collection would traverse."""
        assert self.request is not None
        self.request.headers.clear()
        self.request.path = self.path

    def heartbeat(self) -> None:
        """Ping; cut a client that has been silent since the last ping, unless it is read-paused."""
        if self.protocol.state is not OPEN:
            return
        if self._silent and not self._read_flow.paused:
            self.abort("heartbeat")
        else:
            self._silent = True
            self.probe()

    @property
    def close_code(self) -> int:
        """The close code that was sent or received first; 1006 without a close frame."""
        sent = self.protocol.close_sent
        return 1006 if sent is None else int(sent.code)

    # Called by websockets and the event loop

    async def handshake(self, *args: Any, **options: Any) -> None:
        """Do nothing: the handshake has ended before a connection exists."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, and do not read until the application has opened this connection.

        The transport calls `pause_writing` when more than ``SLOW_CLIENT_BUFFER`` waits in it.
        """
        super().connection_made(transport)
        self._connections.add(self)
        self.pause_reading(EdgePause.OPENING)
        if limit := self.app.settings.slow_client_buffer:
            self.transport.set_write_buffer_limits(limit)

    def data_received(self, data: bytes) -> None:
        """Receive whole messages; from the first other frame on, pass the bytes to the parser.

        A connection that is closing is detached from its handler at once.
        """
        self._silent = False
        self._messages = 0
        protocol, flow = self.protocol, self._read_flow
        data = self._reader.read(data, self._receive)
        start, end = 0, len(data)
        while start < end:
            if protocol.state is OPEN and flow.holds_messages:
                self._reader.hold(data[start:])
                self._count_large()
                return
            self.flush()  # before the answers of the protocol, such as a close frame
            super().data_received(data[start : start + PIECE])
            start = start + PIECE if protocol.state is OPEN else end  # the rest is ignored
        if protocol.state is not OPEN:
            if protocol.parser_exc is not None:
                self._note_close(self.close_code, "")
            self._detach()
        if end or self._counted or self._reader.partial or self._reader.large is not None:
            self._count_large()

    def process_event(self, event: Event) -> None:
        """Receive the messages of the parser; leave everything else to websockets."""
        if not isinstance(event, Frame):
            super().process_event(event)
            return
        data = event.opcode in (Opcode.TEXT, Opcode.BINARY)
        if not (data and event.fin):
            self._limit_frame(event)
        if not data and event.opcode is not Opcode.CONT:
            super().process_event(event)
            return
        try:
            message = self._reader.join(event)
        except CloseConnection as close:
            self.fail(close)
        else:
            if message is not None:
                self._receive(*message)

    def acknowledge_pings(self, data: bytes) -> None:
        """Pass a pong to the liveness check and the handler."""
        super().acknowledge_pings(data)
        self._liveness.pong(data)
        if self._handler is not None:
            self._handler.pong(data)

    def pause_writing(self) -> None:
        """Schedule the check of a client that does not read, and do not answer its pings."""
        super().pause_writing()
        self.protocol.answer_pings(False)
        self._write_flow.schedule_check(self._check_slow)

    def resume_writing(self) -> None:
        """Answer pings again; tell the handler if the client was slow."""
        super().resume_writing()
        self.protocol.answer_pings(True)
        self.send_data()
        if self._write_flow.end_slow() and self._handler is not None:
            self._handler.drained()

    def connection_lost(self, exc: Exception | None) -> None:
        """Detach the client, and stop everything that waits for it."""
        super().connection_lost(exc)
        self._connections.discard(self)
        self._lost = True
        self.app.large_messages.remove(self)
        self._liveness.end()
        for act in self._when_lost:
            act()
        self._detach()
        self._read_flow.stop()
        for timer in (self._abort_timer, self._deadline):
            if timer is not None:
                timer.cancel()
        self.protocol.release()

    # Inside

    def _receive(self, message: bytes, text: bool) -> None:
        handler = self._handler
        if handler is None:  # the application has closed or refused it
            if self.protocol.state is OPEN and self._pace.take(perf_counter(), len(message)) is not None:
                self.abort()
            return
        if self._work.active:
            self._work.add(message, text)
            return
        if text and not message.isascii() and not is_utf8(message):
            self.disconnect(1007, "A text message must be UTF-8.")
            return
        metrics = self.app.metrics
        started = perf_counter()
        try:
            over = self._pace.take(started, len(message))
            if over is None:
                self._strikes = 0
            else:
                metrics.rate_limited[over.limit] += 1
            if over is None or handler.limited(message, over):
                handler.receive(message, text)
        except Exception as error:
            self.fail(error)
        metrics.message_sizes.observe(len(message))
        metrics.handling.observe(perf_counter() - started)
        self._messages += 1
        if self._messages == MESSAGES_OF_A_TURN:
            self.pause_reading(EdgePause.TURN)
            self.loop.call_soon(self.resume_reading, EdgePause.TURN)

    def _limit_frame(self, frame: Frame) -> None:
        """Count a ping, a pong or a fragment like a message, since it costs as much. Over the rate, read-pause."""
        if frame.opcode is Opcode.PONG and self._liveness.expects(bytes(frame.data)):
            return
        over = self._pace.take(perf_counter(), 0)
        if over is not None and self.protocol.state is OPEN:
            self.app.metrics.rate_limited[over.limit] += 1
            self.pause_reading_for(over.seconds)
            if self.count_strike() > PATIENCE:
                self.disconnect(1008, "Too many frames.", "rate-limit")

    async def _do(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except Exception as error:
            self.fail(error)
        for message, text in self._work.finish():
            self._receive(message, text)
        if not self._work.active:
            self.resume_reading(EdgePause.WORK)

    def _count_large(self) -> None:
        size = self._reader.size + self._handling
        if (size > LARGE or self._counted) and not self._lost:
            self._counted = size > LARGE
            self.app.large_messages.count(self, size, arriving=not self._handling)

    def _note_close(self, code: int, refusal: str) -> None:
        """Log and count the first close of an opened connection, if it is a refusal."""
        refusal = refusal or OF_CLOSE_CODE.get(code, "")
        if self._handler is not None and refusal:
            self.note_refusal(refusal, close=code)

    def _check_slow(self) -> None:
        if self._write_flow.check(self.buffered):
            self.check_slow()

    def _detach(self) -> None:
        if self._abort_timer is None:
            self._abort_timer = self.loop.call_later(CLOSE_TIMEOUT, self.transport.abort)
        handler, self._handler = self._handler, None  # a reference cycle would wait for a garbage collection
        if handler is not None:
            handler.close(lost=self.protocol.state is CLOSED)
        if self._work.cancel():
            self.resume_reading(EdgePause.WORK)  # so that the protocol reads the close frame
