"""A relay: passes the messages of one client to the instance that has its room, and the answers back.

The client's messages are framed again, with a mask. Frames of the other instance are passed on as they are. A relay
only looks for their ends, and answers pings.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from typing import cast

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake
from websockets.frames import Close, CloseCode, Opcode
from websockets.uri import parse_uri

from ..edge.websocket.connection import Connection
from ..edge.websocket.flow_control import ReadPause
from .masking import Masking

CONNECT_TIMEOUT = 3.0
"""Seconds that another instance has for a connection and its handshake."""
MAX_HEAD = 16_384
"""Bytes of the answer to the handshake."""
GONE = "The server of this document cannot be reached now. Connect again."


_masking = Masking()


@cache
def tls_context() -> ssl.SSLContext:
    """Return what other instances' certificates are checked with; made once, since that holds the event loop."""
    return ssl.create_default_context()


class RelayPause(ReadPause):
    """The reason of a relay not to read from its client."""

    UPSTREAM = True
    """The other instance does not read what was passed on."""


class RelayError(Exception):
    """Another instance cannot be reached, or refuses the connection; the text says why."""


class Relay(asyncio.Protocol):
    """Passes on one connection.

    Args:
        connection: of the client.
        instance: the name of the other instance.

    Attributes:
        instance: that name.
    """

    def __init__(self, connection: Connection, instance: str) -> None:
        self.instance = instance
        self._connection = connection
        self._transport: asyncio.Transport | None = None
        self._handshake: ClientProtocol | None = None
        self._open: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._buffer = bytearray()
        self._frames: list[bytes] = []
        self._ended = False

    async def start(self, url: str, target: str, headers: Mapping[str, str]) -> None:
        """Connect.

        Args:
            url: of the other instance.
            target: path and query of the client's request.
            headers: to add to the request.

        Raises:
            RelayError: it could not connect.
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

    # To the other instance

    def send(self, message: bytes) -> None:
        """Pass on a message of the client at the end of this turn, with all others of it: one system call."""
        self._send(Opcode.BINARY, message)

    def leave(self, *, lost: bool) -> None:
        """End, since the client has left; the other instance treats a connection that was lost as its own lost ones."""
        self._ended = True
        if lost:
            self._cut()
        elif self._transport is not None and not self._transport.is_closing():
            self._send(Opcode.CLOSE, Close(CloseCode.NORMAL_CLOSURE, "").serialize())
            self._flush()
            self._transport.close()

    def pause(self) -> None:
        """Stop reading from the other instance, since the client is slow."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def disconnect(self) -> None:
        """Close the client's connection, since the other instance is gone."""
        self._connection.disconnect(1013, GONE, "document-elsewhere")
        self._cut()

    # As one whose client reads output

    @property
    def buffered(self) -> int:
        """Bytes that wait for the client."""
        return self._connection.buffered + len(self._buffer)

    @property
    def is_closing(self) -> bool:
        """Whether the client's TCP connection is closing or closed."""
        return self._connection.is_closing

    def abort(self) -> None:
        """Cut the client's TCP connection."""
        self._connection.abort("slow-client")

    # From the other instance

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are no subclasses of it

    def data_received(self, data: bytes) -> None:
        """Pass on whole frames."""
        self._buffer += data
        if self._open.done():
            self._pass_on()
        else:
            self._take_answer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Close the client's connection, unless the client has left."""
        if not self._open.done():
            self._open.set_exception(RelayError("the connection was lost"))
        elif not self._ended:
            self._connection.disconnect(1013, GONE, "document-elsewhere")

    def pause_writing(self) -> None:
        """Read no more from the client, until the other instance has read."""
        self._connection.pause_reading(RelayPause.UPSTREAM)

    def resume_writing(self) -> None:
        """Read from the client again."""
        self._connection.resume_reading(RelayPause.UPSTREAM)

    def _take_answer(self) -> None:
        """Take the answer to the handshake, and go on with what follows it."""
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
        """Pass on the frames that have come whole; control frames are for the relay."""
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
    """Return the size of the frame at `start`, which a server has sent (RFC 6455, 5.2), or None if it is not whole."""
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
