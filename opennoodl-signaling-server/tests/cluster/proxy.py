"""A TCP proxy between an instance and Redis that can simulate a broken network."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from ..edge.servers import TcpServer


class Proxy:
    """Passes bytes on, unless the link is cut.

    Args:
        port: the port of the server.
    """

    def __init__(self, port: int) -> None:
        self._server = TcpServer(self._serve)
        self._server_port = port
        self._open = asyncio.Event()
        self._open.set()

    @property
    def port(self) -> int:
        """The port of the proxy."""
        return self._server.port

    async def start(self) -> None:
        """Listen."""
        await self._server.start()

    def cut(self) -> None:
        """Drop all bytes and keep the connections open, as a broken network does."""
        self._open.clear()

    def mend(self) -> None:
        """Pass bytes on again. Old connections are reset, because they have lost bytes."""
        self.reset()
        self._open.set()

    def reset(self) -> None:
        """Reset all connections."""
        self._server.reset()

    async def stop(self) -> None:
        """Stop listening, and reset all connections."""
        await self._server.stop()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._server_port)
        except OSError:
            writer.transport.abort()
            return
        try:
            await asyncio.gather(self._pass(reader, server_writer), self._pass(server_reader, writer))
        finally:
            server_writer.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                if self._open.is_set():
                    writer.write(data)
        writer.transport.abort()
