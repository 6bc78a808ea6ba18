"""A TCP proxy that can drop connections, or stop passing bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from .edge.servers import TcpServer

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class CutLink:
    """Passes bytes between a port and a target.

    Args:
        target: connects to the target.
    """

    def __init__(self, target: Callable[[], Awaitable[Streams]]) -> None:
        self._server = TcpServer(self._accept)
        self._target = target
        self._flows = asyncio.Event()
        self._flows.set()
        self._refuses = False

    @property
    def port(self) -> int:
        """The port of the proxy."""
        return self._server.port

    async def start(self) -> None:
        """Listen."""
        await self._server.start()

    def cut(self) -> None:
        """Drop all connections, and further ones at once."""
        self._refuses = True
        self._server.reset()

    def stall(self) -> None:
        """Stop passing bytes, without closing a connection."""
        self._flows.clear()

    def heal(self) -> None:
        """Pass bytes again."""
        self._refuses = False
        self._flows.set()

    async def close(self) -> None:
        """Stop."""
        await self._server.stop()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refuses:
            writer.transport.abort()
            return
        try:
            behind_reader, behind_writer = await self._target()
        except OSError:
            writer.transport.abort()
            return
        try:
            await asyncio.gather(self._pass_on(reader, behind_writer), self._pass_on(behind_reader, writer))
        finally:
            behind_writer.transport.abort()

    async def _pass_on(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(65_536):
                await self._flows.wait()
                sink.write(data)
                await sink.drain()
        sink.close()
