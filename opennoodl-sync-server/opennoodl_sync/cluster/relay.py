"""A relay: forwards the messages of one client to the instance that owns its room, and the answers to the client.

The client's messages are sent in new masked frames. Frames of the other instance are forwarded unchanged. A relay only
finds their ends, and answers pings.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from typing import cast

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake
from websockets.frames import Close, CloseCode, Opcode
from websockets.uri import parse_uri

from ..edge.errors import CloseConnection
from ..edge.limits import Over
from ..edge.websocket.connection import Connection
from ..edge.websocket.flow_control import ReadPause
from ..edge.websocket.handler import Handler
from ..y_protocol import NO_TEXT
from .masking import Masking

CONNECT_TIMEOUT = 3.0
"""Time limit in seconds for the connection to another instance and the handshake."""
MAX_HEAD = 16_384
"""Largest response to the handshake, in bytes."""
GONE = "The server of this document cannot be reached now. Connect again."


_masking = Masking()


@cache
def tls_context() -> ssl.SSLContext:
    """Return the TLS context for other instances. It is made once, since that blocks the event loop."""
    return ssl.create_default_context()


class RelayPause(ReadPause):
    """Reasons of a relay for a read-pause of its client."""

    UPSTREAM = True
    """The other instance does not read the forwarded messages."""


class RelayError(Exception):
    """Another instance cannot be reached, or refuses the connection; the text is the reason."""


class Relay(asyncio.Protocol, Handler):
    """Forwards one connection.

    Args:
        connection: the client's connection.
        instance: the name of the other instance.
        ended: is called with this relay when its client has disconnected.

    Attributes:
        instance: the name of the other instance.
    """

    def __init__(self, connection: Connection, instance: str, ended: Callable[[Relay], None]) -> None:
        self.instance = instance
        self._when_ended = ended
        self._connection = connection
        self._transport: asyncio.Transport | None = None
        self._handshake: ClientProtocol | None = None
        self._open: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._buffer = bytearray()
        self._frames: list[bytes] = []
        self._ended = False

    async def start(self, url: str, target: str, headers: Mapping[str, str]) -> None:
        """Connect to the other instance, and complete the handshake.

        Args:
            url: the URL of the other instance.
            target: path and query of the client's request.
            headers: headers to add to the request.

        Raises:
            RelayError: the connection or the handshake failed.
        """
        uri = parse_uri(url)
        context = tls_context() if uri.secure else None
        self._handshake = ClientProtocol(uri)
        request = self._handshake.connect()
        request.path = target
        request.headers.update(headers)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                loop = asyncio.get_running_loop()
                transport, _ = await loop.create_connection(lambda: self, uri.host, uri.port, ssl=context)
                self._handshake.send_request(request)
                transport.writelines(self._handshake.data_to_send())
                await self._open
        except (OSError, TimeoutError) as error:
            self._cut()
            raise RelayError(str(error) or type(error).__name__) from None
        except BaseException:
            self._cut()
            raise

    # Events of the client's connection

    def receive(self, message: bytes, text: bool) -> None:
        """Forward a message of the client at the end of this turn, with all others of the turn in one system call."""
        if text:
            raise CloseConnection(1003, NO_TEXT)
        self._send(Opcode.BINARY, message)

    def limited(self, message: bytes, over: Over) -> bool:
        """Read more slowly from a client over its rate."""
        self._connection.pause_reading_for(over.seconds)
        return True

    def slow(self) -> None:
        """Stop reading from the other instance, which leaves the client out of the updates then."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def drained(self) -> None:
        """Read from the other instance again."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def close(self, *, lost: bool) -> None:
        """Close the relay, since the client has disconnected; abort it if the client's connection was `lost`."""
        self._when_ended(self)
        self._ended = True
        if lost:
            self._cut()
        elif self._transport is not None and not self._transport.is_closing():
            self._send(Opcode.CLOSE, Close(CloseCode.NORMAL_CLOSURE, "").serialize())
            self._flush()
            self._transport.close()

    # Called by `Peers`

    def disconnect(self) -> None:
        """Close the client's connection, since the other instance cannot be reached."""
        self._connection.disconnect(1013, GONE, "document-elsewhere")
        self._cut()

    # Interface of a reader of output

    @property
    def buffered(self) -> int:
        """Bytes in the client's write buffer."""
        return self._connection.buffered + len(self._buffer)

    @property
    def is_closing(self) -> bool:
        """Whether the client's TCP connection is closing or closed."""
        return self._connection.is_closing

    def abort(self) -> None:
        """Abort the client's TCP connection."""
        self._connection.abort("slow-client")

    # asyncio.Protocol: events of the connection to the other instance

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's class is not a subclass

    def data_received(self, data: bytes) -> None:
        """Forward complete frames, and buffer partial ones."""
        self._buffer += data
        if self._open.done():
            self._pass_on()
        else:
            self._take_answer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Close the client's connection, unless the client has disconnected."""
        if not self._open.done():
            self._open.set_exception(RelayError("the connection was lost"))
        elif not self._ended:
            self._connection.disconnect(1013, GONE, "document-elsewhere")

    def pause_writing(self) -> None:
        """Pause reading from the client, until the other instance reads again."""
        self._connection.pause_reading(RelayPause.UPSTREAM)

    def resume_writing(self) -> None:
        """Resume reading from the client."""
        self._connection.resume_reading(RelayPause.UPSTREAM)

    def _take_answer(self) -> None:
        """Check the response to the handshake, then handle the bytes after it."""
        end = self._buffer.find(b"\r\n\r\n") + 4
        if end < 4:
            if len(self._buffer) > MAX_HEAD:
                self._open.set_exception(RelayError("the answer to the handshake is too long"))
            return
        assert self._handshake is not None
        head = bytes(self._buffer[:end])
        del self._buffer[:end]
        status = head.split(b"\r\n", 1)[0].decode(errors="replace")
        if b" 101 " not in head[:16]:
            self._open.set_exception(RelayError(f"the answer to the handshake is {status}"))
            return
        with suppress(InvalidHandshake):
            self._handshake.receive_data(head)
        if self._handshake.handshake_exc is not None:
            self._open.set_exception(RelayError(str(self._handshake.handshake_exc)))
            return
        self._handshake = None
        self._open.set_result(None)
        self._pass_on()

    def _pass_on(self) -> None:
        """Forward complete frames; handle control frames here."""
        buffer, start, whole = self._buffer, 0, 0
        while (size := _frame_size(buffer, whole)) is not None:
            opcode = buffer[whole] & 0x0F
            if opcode >= Opcode.CLOSE:
                self._write(start, whole)
                self._control(Opcode(opcode), bytes(buffer[whole + 2 : whole + size]))
                start = whole + size
            whole += size
        self._write(start, whole)
        del buffer[:whole]

    def _write(self, start: int, end: int) -> None:
        if end > start:
            self._connection.write(bytes(self._buffer[start:end]))

    def _control(self, opcode: Opcode, data: bytes) -> None:
        if opcode is Opcode.PING:
            self._send(Opcode.PONG, data)
        elif opcode is Opcode.CLOSE:
            close = Close.parse(data)
            self._connection.disconnect(close.code if data else 1013, close.reason)
            if self._transport is not None:
                self._transport.close()

    def _cut(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _send(self, opcode: Opcode, data: bytes) -> None:
        if not self._frames:
            asyncio.get_running_loop().call_soon(self._flush)
        self._frames.append(_masking.frame(opcode, data))

    def _flush(self) -> None:
        frames, self._frames = self._frames, []
        if frames and self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(frames))


def _frame_size(data: bytearray, start: int) -> int | None:
    """Return the size of the unmasked frame at `start` (RFC 6455, 5.2), or None if it is not complete."""
    there = len(data) - start
    if there < 2:
        return None
    length, head = data[start + 1], 2
    if length >= 126:
        head = 4 if length == 126 else 10
        if there < head:
            return None
        length = int.from_bytes(data[start + 2 : start + head], "big")
    return head + length if there >= head + length else None
