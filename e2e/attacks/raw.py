"""An attacker's connection: bytes on a TCP socket, with no library that would keep it from doing wrong."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, NamedTuple

from .vitals import connected, metrics

PATIENCE = 30.0
"""Seconds after which what did not come never will."""
CUT = "cut"
"""The outcome for somebody whose connection ends without a word."""
IGNORED = "ignored"
"""The outcome of what has no answer."""
MASK = b"\x01\x02\x03\x04"
KEY = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="
UPGRADE = ("Host: localhost", "Upgrade: websocket", "Connection: Upgrade", KEY, "Sec-WebSocket-Version: 13")

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA


class Frame(NamedTuple):
    """What a server sent."""

    opcode: int
    payload: bytes


def masked(payload: bytes) -> bytes:
    """Return a payload as it travels under `MASK`."""
    size = len(payload)
    key = (MASK * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")


def header(first: int, size: int, mask: int = 0x80) -> bytes:
    """Return how a frame begins that claims to hold `size` bytes; `first` is its first byte."""
    if size < 126:
        return bytes((first, mask | size))
    if size < 65_536:
        return bytes((first, mask | 126)) + size.to_bytes(2, "big")
    return bytes((first, mask | 127)) + size.to_bytes(8, "big")


def frame(payload: bytes, opcode: int = TEXT, *, first: int | None = None) -> bytes:
    """Return a whole masked frame; `first` replaces its first byte."""
    return header(0x80 | opcode if first is None else first, len(payload)) + MASK + masked(payload)


def text(message: object) -> bytes:
    """Return the frame of a JSON message."""
    return frame(json.dumps(message).encode())


def request(path: bytes, *headers: str, method: str = "GET") -> bytes:
    """Return a request, with a path of any bytes."""
    lines = [method.encode() + b" " + path + b" HTTP/1.1", *(line.encode() for line in headers)]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def _end(data: bytes, at: int) -> int:
    """Return where a frame of the server's ends; a place beyond the data if its header is not there yet."""
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
        """Send bytes whenever the server reads them, and go on: so a close is read as soon as it comes.

        A server resets a connection some seconds after its close frame. If the frame has not been read until then, it
        can be lost.
        """
        if not self._writer.transport.is_closing():
            self._writer.write(data)

    async def send(self, data: bytes) -> None:
        """Send bytes and wait until few of them are left here; those that the server does not want are lost."""
        if not self._writer.transport.is_closing():
            with suppress(ConnectionError):
                self._writer.write(data)
                await self._writer.drain()

    async def status(self) -> str:
        """Read an HTTP answer's status; whoever gets none is cut."""
        try:
            async with asyncio.timeout(PATIENCE):
                head = await self._reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return CUT
        return head.split()[1].decode()

    async def some(self) -> bytes:
        """Read what comes next; nothing when the connection has ended."""
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._reader.read(100_000)
        except ConnectionError:
            return b""

    async def rest(self) -> bytes:
        """Read what comes until the connection ends."""
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._reader.read()
        except ConnectionError:
            return b""

    async def upgrade(self, path: bytes, *headers: str) -> str:
        """Ask for a WebSocket; return the status of the answer."""
        await self.send(request(path, *UPGRADE, *headers))
        return await self.status()

    async def next(self) -> Frame | None:
        """Read the server's next frame; None when the connection has ended."""
        try:
            async with asyncio.timeout(PATIENCE):
                first, size = await self._reader.readexactly(2)
                if size > 125:
                    size = int.from_bytes(await self._reader.readexactly(2 if size == 126 else 8), "big")
                return Frame(first & 0x0F, await self._reader.readexactly(size))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def message(self, *wanted: str) -> dict[str, Any]:
        """Read on until a JSON message of one of these types comes."""
        while True:
            came = await self.next()
            assert came is not None, f"the connection ended before {wanted}"
            assert came.opcode != CLOSE, f"closed with {came.payload!r} before {wanted}"
            if came.opcode == TEXT:
                message: dict[str, Any] = json.loads(came.payload)
                if message["type"] in wanted:
                    return message

    async def meets(self, beginning: bytes) -> bool:
        """Return whether a binary message that begins like this comes before two pings are answered."""
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
        """Read on until a binary message begins like this; return the close code if the connection ends before."""
        while True:
            came = await self.next()
            if came is None:
                return CUT
            if came.opcode == CLOSE:
                return str(int.from_bytes(came.payload[:2], "big"))
            if came.opcode == BINARY and came.payload.startswith(beginning):
                return IGNORED

    async def end(self) -> str:
        """Read on until the server ends the connection; return the close code, or that there was none."""
        while True:
            came = await self.next()
            if came is None:
                return CUT
            if came.opcode == CLOSE:
                return str(int.from_bytes(came.payload[:2], "big"))

    async def verdict(self) -> str:
        """Return the code of the first error or the close that comes, or that pings after all are answered.

        A ping may be answered before what came with it, so there are two.
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
        """Read what comes until a ping sent now is answered; return it, or None if the server has closed.

        It must follow another one: only then is what came before the ping handled when that is answered.
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
        """Send nothing more, and read on until the server ends the connection."""
        with suppress(OSError):
            self._writer.write_eof()
        await self.rest()

    async def answer(self) -> str:
        """Return the next message: its type, the code of an error, or the code of a close."""
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
        """Go without a word."""
        # A reset, so that thousands of connections leave no ports behind.
        sock = None if self._writer.transport.is_closing() else self._writer.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


class Target(NamedTuple):
    """What is attacked, and from where.

    Attributes:
        kind: which of the three servers it is.
        port: where it listens.
        address: where the attacker is; empty for anywhere.
        whole: whether an attack that takes long is done whole, and not as a small part of it.
        tls: what a client has to know to speak TLS; None where nobody does.
    """

    kind: str
    port: int
    address: str = ""
    whole: bool = False
    tls: ssl.SSLContext | None = None

    async def metric(self, name: str) -> float:
        """Return a sample of ``/metrics``; what has not been counted is zero."""
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
