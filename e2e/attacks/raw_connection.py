"""An attacker's connection: bytes on a TCP socket, without a library that would prevent errors."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, NamedTuple

from .resource_usage import connected, metrics

PATIENCE = 30.0
"""Time limit of a wait, in seconds."""
CUT = "cut"
"""The outcome of a connection that ends without an answer."""
IGNORED = "ignored"
"""The outcome of a message that has no answer."""
MASK = b"\x01\x02\x03\x04"
KEY = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="
UPGRADE = ("Host: localhost", "Upgrade: websocket", "Connection: Upgrade", KEY, "Sec-WebSocket-Version: 13")

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA


class Frame(NamedTuple):
    """A frame of the server."""

    opcode: int
    payload: bytes


def masked(payload: bytes) -> bytes:
    """Return a payload masked with `MASK`."""
    size = len(payload)
    key = (MASK * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")


def header(first: int, size: int, mask: int = 0x80) -> bytes:
    """Return the header of a frame with `size` bytes; `first` is its first byte."""
    if size < 126:
        return bytes((first, mask | size))
    if size < 65_536:
        return bytes((first, mask | 126)) + size.to_bytes(2, "big")
    return bytes((first, mask | 127)) + size.to_bytes(8, "big")


def frame(payload: bytes, opcode: int = TEXT, *, first: int | None = None) -> bytes:
    """Return a complete masked frame; `first` replaces its first byte."""
    return header(0x80 | opcode if first is None else first, len(payload)) + MASK + masked(payload)


def text(message: object) -> bytes:
    """Return the frame of a JSON message."""
    return frame(json.dumps(message).encode())


def request(path: bytes, *headers: str, method: str = "GET") -> bytes:
    """Return a request; its path may have any bytes."""
    lines = [method.encode() + b" " + path + b" HTTP/1.1", *(line.encode() for line in headers)]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def _end(data: bytes, at: int) -> int:
    """Return the offset after a frame of the server; beyond the data if its header is not complete."""
    if len(data) < at + 2:
        return at + 2
    size = data[at + 1]
    if size < 126:
        return at + 2 + size
    payload = at + (4 if size == 126 else 10)
    return payload + (int.from_bytes(data[at + 2 : payload], "big") if len(data) >= payload else 0)


class Raw:
    """One TCP connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._pings = 0
        self._behind_pong = b""  # what came with the last pong that was waited for, perhaps a part of a frame

    def write(self, data: bytes) -> None:
        """Write bytes without waiting, so that a close frame is read as soon as it arrives.

        A server resets a connection some seconds after its close frame. A close frame that has not been read by then
        can be lost.
        """
        if not self._writer.transport.is_closing():
            self._writer.write(data)

    async def send(self, data: bytes) -> None:
        """Send bytes, and wait until the write buffer is small; errors are ignored."""
        if not self._writer.transport.is_closing():
            with suppress(ConnectionError):
                self._writer.write(data)
                await self._writer.drain()

    async def status(self) -> str:
        """Read the status of an HTTP response; `CUT` if there is none."""
        try:
            async with asyncio.timeout(PATIENCE):
                head = await self._reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return CUT
        return head.split()[1].decode()

    async def some(self) -> bytes:
        """Read the next bytes; empty at the end of the connection."""
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._reader.read(100_000)
        except ConnectionError:
            return b""

    async def rest(self) -> bytes:
        """Read all bytes until the end of the connection."""
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._reader.read()
        except ConnectionError:
            return b""

    async def upgrade(self, path: bytes, *headers: str) -> str:
        """Request a WebSocket; return the status of the response."""
        await self.send(request(path, *UPGRADE, *headers))
        return await self.status()

    async def next(self) -> Frame | None:
        """Read the server's next frame; None at the end of the connection."""
        try:
            async with asyncio.timeout(PATIENCE):
                first, size = await self._reader.readexactly(2)
                if size > 125:
                    size = int.from_bytes(await self._reader.readexactly(2 if size == 126 else 8), "big")
                return Frame(first & 0x0F, await self._reader.readexactly(size))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def message(self, *wanted: str) -> dict[str, Any]:
        """Read until a JSON message of one of these types."""
        while True:
            came = await self.next()
            assert came is not None, f"the connection ended before {wanted}"
            assert came.opcode != CLOSE, f"closed with {came.payload!r} before {wanted}"
            if came.opcode == TEXT:
                message: dict[str, Any] = json.loads(came.payload)
                if message["type"] in wanted:
                    return message

    async def meets(self, beginning: bytes) -> bool:
        """Return whether a binary message with this beginning arrives before two pings are answered."""
        met = False
        for _ in range(2):
            self._pings += 1
            ping = str(self._pings).encode()
            await self.send(frame(ping, PING))
            while (came := await self.next()) != (PONG, ping):
                assert came is not None, "the connection ended"
                met = met or (came.opcode == BINARY and came.payload.startswith(beginning))
        return met

    async def until(self, beginning: bytes) -> str:
        """Read until a binary message with this beginning; return the close code if the connection ends before."""
        while True:
            came = await self.next()
            if came is None:
                return CUT
            if came.opcode == CLOSE:
                return str(int.from_bytes(came.payload[:2], "big"))
            if came.opcode == BINARY and came.payload.startswith(beginning):
                return IGNORED

    async def end(self) -> str:
        """Read until the server ends the connection; return the close code, or `CUT` without one."""
        while True:
            came = await self.next()
            if came is None:
                return CUT
            if came.opcode == CLOSE:
                return str(int.from_bytes(came.payload[:2], "big"))

    async def verdict(self) -> str:
        """Return the code of the first error or close; or `IGNORED` if two pings are answered before.

        A ping may be answered before the messages that arrived with it, so there are two.
        """
        self._pings += 2
        first, second = str(self._pings).encode(), str(self._pings + 1).encode()
        self.write(frame(first, PING))
        while True:
            came = await self.next()
            if came is None:
                return CUT
            if came.opcode == CLOSE:
                return str(int.from_bytes(came.payload[:2], "big"))
            if came == (PONG, first):
                self.write(frame(second, PING))
            if came == (PONG, second):
                return IGNORED
            if came.opcode == TEXT:
                message = json.loads(came.payload)
                if message["type"] == "error":
                    return str(message["code"])

    async def drained(self) -> bytes | None:
        """Read until a new ping is answered; return the bytes, or None if the server has closed.

        Another ping must precede it: only then were all messages before that one handled.
        """
        self._pings += 1
        pong = b"%08d" % self._pings
        await self.send(frame(pong, PING))
        came, at, self._behind_pong = self._behind_pong, 0, b""
        try:
            async with asyncio.timeout(PATIENCE):
                while data := await self._reader.read(100_000):
                    came += data
                    while (end := _end(came, at)) <= len(came):
                        if came[at] == 0x80 | CLOSE:
                            return None
                        if came[at] == 0x80 | PONG and came[end - 8 : end] == pong:
                            self._behind_pong = came[end:]
                            return came[:end]
                        at = end
        except ConnectionError:
            pass
        return None

    async def finish(self) -> None:
        """Send nothing more, and read until the server ends the connection."""
        with suppress(OSError):
            self._writer.write_eof()
        await self.rest()

    async def answer(self) -> str:
        """Return the next message as a word: its type, an error code, or a close code."""
        while True:
            came = await self.next()
            if came is None:
                return CUT
            if came.opcode == CLOSE:
                return str(int.from_bytes(came.payload[:2], "big"))
            if came.opcode == TEXT:
                message = json.loads(came.payload)
                return str(message["code"] if message["type"] == "error" else message["type"])

    def leave(self) -> None:
        """Abort the connection."""
        # With a reset, so that thousands of connections leave no ports in TIME_WAIT.
        sock = None if self._writer.transport.is_closing() else self._writer.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


class Target(NamedTuple):
    """The attacked server, and the attacker's address.

    Attributes:
        kind: which of the three servers it is.
        port: where it listens.
        address: where the attacker is; empty for anywhere.
        whole: whether an attack that takes long is done whole, and not as a small part of it.
        tls: the TLS context of a client; None without TLS.
    """

    kind: str
    port: int
    address: str = ""
    whole: bool = False
    tls: ssl.SSLContext | None = None

    async def metric(self, name: str) -> float:
        """Return a sample of ``/metrics``; zero if it is missing."""
        return (await metrics(self.port, self.tls)).get(name, 0.0)

    @property
    def path(self) -> bytes:
        """Where this server takes WebSockets."""
        return b"/attacked" if self.kind == "sync" else b"/"

    def tcp(self) -> AbstractAsyncContextManager[Raw]:
        """Connect, over TLS where that is spoken, and leave at the end of the block."""
        return self._connected(self.tls)

    def wire(self) -> AbstractAsyncContextManager[Raw]:
        """Connect over TCP alone, and leave at the end of the block."""
        return self._connected(None)

    @asynccontextmanager
    async def _connected(self, tls: ssl.SSLContext | None) -> AsyncIterator[Raw]:
        raw = Raw(*await connected(self.port, tls, self.address))
        try:
            yield raw
        finally:
            raw.leave()

    @asynccontextmanager
    async def websocket(self, path: bytes = b"", *headers: str) -> AsyncIterator[Raw]:
        """Connect with a WebSocket."""
        async with self.tcp() as raw:
            status = await raw.upgrade(path or self.path, *headers)
            assert status == "101", f"the handshake was answered with {status}"
            yield raw

    @property
    def handshake(self) -> bytes:
        """The request for a WebSocket."""
        return request(self.path, *UPGRADE)

    @property
    def message(self) -> bytes:
        """A frame with a small message that changes nothing and is answered."""
        match self.kind:
            case "signaling":
                return text({"type": "ping"})
            case "sync":
                return frame(b"\x03", BINARY)
            case _:
                return text({"type": "get-notifications", "limit": 1})
