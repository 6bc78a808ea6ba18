"""Helpers of the edge's tests: the modules under test, an application that echoes, and clients that send any bytes."""

from __future__ import annotations

import asyncio
import io
import socket
import struct
from collections.abc import Callable
from email.message import Message
from http.client import parse_headers
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import Mock

PACKAGE = next(Path(__file__).parents[2].glob("opennoodl_*/edge")).parent.name
"""The name of the package beside `tests`: this folder is in three packages."""


def _module(name: str) -> Any:
    return import_module(f"{PACKAGE}.edge.{name}")


application, errors, json_application, limits = map(_module, ("application", "errors", "json_application", "limits"))
command_line, data_files, watchdog = map(_module, ("command_line", "data_files", "watchdog"))
logs, messages, metrics = map(_module, ("logs", "messages", "metrics"))
open_files, refusals, service, settings = map(_module, ("open_files", "refusals", "service", "settings"))
address_limits, client_address, listener = map(
    _module, ("admission.address_limits", "admission.client_address", "admission.listener")
)
listening_socket, origins = map(_module, ("admission.listening_socket", "admission.origins"))
pending, refusal_delay, tls = map(_module, ("admission.pending", "admission.refusal_delay", "admission.tls"))
authenticator, credential = map(_module, ("auth.authenticator", "auth.credential"))
http_client = _module("auth.http_client")
github, identity, jwt_tokens = map(_module, ("auth.github", "auth.identity", "auth.jwt_tokens"))
keys, token_command = map(_module, ("auth.keys", "auth.token_command"))
http_connection, dispatch, query = map(_module, ("http.connection", "http.dispatch", "http.query"))
handshake, request_, routes = map(_module, ("http.handshake", "http.request", "http.routes"))
connection, flow_control, frames = map(_module, ("websocket.connection", "websocket.flow_control", "websocket.frames"))
handler, large_messages, liveness = map(
    _module, ("websocket.handler", "websocket.large_messages", "websocket.liveness")
)
protocol, registry, work = map(_module, ("websocket.protocol", "websocket.registry", "websocket.work"))
Application: Any = application.Application
Handler: Any = handler.Handler

TIMEOUT = 30.0
"""Seconds after which a wait fails its test."""
PROCESS_TIMEOUT = 120.0
"""The same for a process: its start takes half a second of CPU time, and may take 40 s where 40 others want theirs."""
CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
HANDSHAKE = (
    "Host: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
"""The headers of a valid handshake."""
UPGRADE = HANDSHAKE.split("\r\n")[1:-1]
"""The headers of a handshake, without Host."""


class Pause(flow_control.ReadPause):  # type: ignore[misc,name-defined]  # see Echo
    """A read-pause reason of one server."""

    STORAGE = False


class EchoHandler(Handler):  # type: ignore[misc]  # see Echo
    """Passes the events of one connection to an `Echo`."""

    def __init__(self, app: Echo, connection: Any) -> None:
        self.app = app
        self.connection = connection

    def receive(self, message: bytes, text: bool) -> None:
        """Pass a message on."""
        self.app.receive(self.connection, message, text)

    def slow(self) -> None:
        """Pass this on."""
        self.app.slow(self.connection)

    def drained(self) -> None:
        """Pass this on."""
        self.app.drained(self.connection)

    def close(self, *, lost: bool) -> None:
        """Pass this on."""
        self.app.close(self.connection)

    def ping_payload(self) -> bytes:
        """Return the application's payload."""
        return self.app.ping_payload(self.connection)

    def pong(self, payload: bytes) -> None:
        """Pass a pong on."""
        self.app.pong(self.connection, payload)


class Echo(Application):  # type: ignore[misc]  # imported by a name that mypy cannot follow
    """Sends each message back; some messages make it fail.

    Attributes:
        calls: what the edge has called, with the number of the connection: ``("open", 0)``, ...
        got: every message received, in order.
        connections: those that are open, by number.
        numbers: their numbers.
        open_waits: when set, `open` waits for it.
        open_fails: when set, `open` raises it.
        trouble_now: what `trouble` returns; see `fail`.
    """

    title = "Echo"
    about = "It echoes."

    def __init__(self, *, max_message_size: int = 65_536, **values: object) -> None:
        chosen = settings.EdgeSettings(**{"host": "127.0.0.1", "rate_limit": 0, "byte_rate_limit": 0, **values})
        super().__init__(chosen, "1.2.3", max_message_size)
        self.calls: list[tuple[str, int]] = []
        self.got: list[bytes] = []
        self.connections: dict[int, Any] = {}
        self.numbers: dict[Any, int] = {}
        self.open_waits: asyncio.Event | None = None
        self.open_fails: Exception | None = None
        self.trouble_now: Any = None
        self._changed = asyncio.Event()

    async def open(self, connection: Any) -> Any:
        """Number the connection."""
        number = sum(name == "open" for name, _ in self.calls)
        self._note("open", number)
        if self.open_waits is not None:
            await self.open_waits.wait()
        if self.open_fails is not None:
            raise self.open_fails
        self.connections[number] = connection
        self.numbers[connection] = number
        return EchoHandler(self, connection)

    def receive(self, sender: Any, message: bytes, text: bool) -> None:
        """Echo, send to all, or fail, as the message requests."""
        self.got.append(message)
        self._note("receive", self.numbers[sender])
        if message.startswith(b"raise"):
            raise RuntimeError("the application failed")
        if message == b"refuse":
            raise errors.CloseConnection(1008, "Refused.")
        if message == b"end":
            sender.disconnect(1000, "The end.")
            return
        frame = frames.encode_frame(message, text=text)
        for receiver in tuple(self.connections.values()) if message.startswith(b"all ") else (sender,):
            receiver.write(frame)

    def close(self, connection: Any) -> None:
        """Record that the connection has ended."""
        number = self.numbers.pop(connection)
        del self.connections[number]
        self._note("close", number)

    def slow(self, connection: Any) -> None:
        """Close a client that reads too slowly."""
        connection.disconnect(1013, "You read too slowly. Connect again.", "slow-client")

    def drained(self, connection: Any) -> None:
        """Do nothing."""

    def ping_payload(self, connection: Any) -> bytes:
        """Return nothing."""
        return b""

    def pong(self, connection: Any, payload: bytes) -> None:
        """Do nothing."""

    async def stop(self) -> None:
        """Note that the edge has called this, for connection -1."""
        self._note("stop", -1)

    def trouble(self) -> Any:
        """Return what `fail` was called with."""
        return self.trouble_now

    def fail(self, reason: str, *, outside: bool) -> None:
        """Have trouble from now on, in this process or outside of it."""
        self.trouble_now = application.Trouble(reason, outside)

    def health(self) -> dict[str, Any]:
        """Return a number."""
        return {"answer": 42}

    def history(self, number: int) -> list[str]:
        """Return what was called for a connection."""
        return [name for name, of in self.calls if of == number]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until `condition` is true after a call."""
        async with asyncio.timeout(TIMEOUT):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def closed(self, number: int) -> None:
        """Wait until a connection has been closed."""
        await self.until(lambda: ("close", number) in self.calls)

    def _note(self, name: str, number: int) -> None:
        self.calls.append((name, number))
        self._changed.set()


def opened(app: Echo) -> Any:
    """Return a connection of `app` after its handshake, on a transport that keeps what is written."""
    parser = protocol.EdgeProtocol(max_size=app.max_message_size)
    parser.receive_data(f"GET / HTTP/1.1\r\n{HANDSHAKE}\r\n".encode())
    (head,) = parser.events_received()
    parser.send_response(parser.accept(head))
    parser.data_to_send()
    request = request_.HttpRequest(head, "/", "127.0.0.1", parser, 1)
    client = connection.Connection(request, None, app, app.registry, connection.WriteBatch())
    client.transport = Mock(asyncio.Transport)
    return client


class Frame(NamedTuple):
    """A frame of the server."""

    opcode: int
    payload: bytes

    @property
    def code(self) -> int:
        """The code of a close frame."""
        assert self.opcode == CLOSE, self
        return int.from_bytes(self.payload[:2], "big")


class Answer(NamedTuple):
    """An HTTP answer."""

    status: int
    headers: Message
    body: bytes


class Raw:
    """A client that sends any bytes, reads only on request, and answers nothing by itself."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._buffer = b""

    @classmethod
    async def connect(cls, port: int, receive_buffer: int = 0) -> Raw:
        """Open a TCP connection."""
        return cls(await connected(port, receive_buffer))

    async def send(self, data: bytes) -> None:
        """Send bytes unchanged."""
        async with asyncio.timeout(TIMEOUT):
            await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def send_frame(self, opcode: int, payload: bytes = b"", *, fin: bool = True) -> None:
        """Send one frame."""
        await self.send(masked(opcode, payload, fin=fin))

    async def upgrade(self, path: str = "/") -> None:
        """Do the handshake."""
        await self.send(f"GET {path} HTTP/1.1\r\n{HANDSHAKE}\r\n".encode())
        answer = await self.head()
        assert answer.status == 101, answer

    async def head(self) -> Answer:
        """Read an HTTP answer up to its body."""
        while b"\r\n\r\n" not in self._buffer:
            assert await self._more(), f"the answer ends after {self._buffer!r}"
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        return parse(head + b"\r\n\r\n")

    async def frame(self) -> Frame | None:
        """Read one frame; None if the connection has ended."""
        header = await self._exactly(2)
        if header is None:
            return None
        size = header[1]
        if size >= 126:
            extended = await self._exactly(2 if size == 126 else 8)
            size = int.from_bytes(extended or b"", "big")
        payload = await self._exactly(size)
        return None if payload is None else Frame(header[0] & 0x0F, payload)

    async def frame_of(self, opcode: int) -> Frame | None:
        """Read frames up to the first one with `opcode`; None if the connection has ended before."""
        while (frame := await self.frame()) is not None and frame.opcode != opcode:
            pass
        return frame

    async def some(self) -> bytes:
        """Read the next bytes; none if the connection has ended."""
        if not self._buffer:
            await self._more()
        some, self._buffer = self._buffer, b""
        return some

    async def rest(self) -> bytes:
        """Read until the server has ended the connection."""
        while await self._more():
            pass
        rest, self._buffer = self._buffer, b""
        return rest

    def half_close(self) -> None:
        """End the output."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """End the connection with a TCP reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    async def _more(self) -> bool:
        try:
            async with asyncio.timeout(TIMEOUT):
                data = await asyncio.get_running_loop().sock_recv(self.sock, 1 << 20)
        except ConnectionError:
            return False
        self._buffer += data
        return bool(data)

    async def _exactly(self, size: int) -> bytes | None:
        while len(self._buffer) < size:
            if not await self._more():
                return None
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data


async def connected(port: int, receive_buffer: int = 0) -> socket.socket:
    """Return the socket of a new TCP connection."""
    sock = socket.socket()
    sock.setblocking(False)
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    try:
        async with asyncio.timeout(TIMEOUT):
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    except BaseException:
        sock.close()
        raise
    return sock


def masked(opcode: int, payload: bytes = b"", *, fin: bool = True) -> bytes:
    """Return a frame of a client, with a mask of zero, which is valid."""
    size = len(payload)
    if size < 126:
        length = bytes((0x80 | size,))
    elif size < 65_536:
        length = b"\xfe" + size.to_bytes(2, "big")
    else:
        length = b"\xff" + size.to_bytes(8, "big")
    return bytes(((0x80 if fin else 0) | opcode,)) + length + b"\0\0\0\0" + payload


def parse(answer: bytes) -> Answer:
    """Parse an HTTP answer."""
    file = io.BytesIO(answer)
    status = int(file.readline().split()[1])
    headers = parse_headers(file)
    return Answer(status, headers, file.read())


async def request(port: int, line: str, *headers: str, body: bytes = b"") -> Answer:
    """Send ``METHOD path`` with `headers`, and return the answer when the server has ended the connection."""
    head = "".join(f"{header}\r\n" for header in headers)
    raw = await Raw.connect(port)
    with raw.sock:
        await raw.send(f"{line} HTTP/1.1\r\nHost: localhost\r\n{head}\r\n".encode() + body)
        return parse(await raw.rest())
