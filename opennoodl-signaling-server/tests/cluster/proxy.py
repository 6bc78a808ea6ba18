"""A TCP proxy between an instance and Redis, whose link can be cut."""

from __future__ import annotations

import asyncio
from contextlib import suppress


class Proxy:
    """Passes bytes on, unless the link is cut.

    Args:
        port: of the server.

    Attributes:
        port: where the proxy listens.
    """

    def __init__(self, port: int) -> None:
        self.port = 0
        self._server_port = port
        self._server: asyncio.Server | None = None
        self._open = asyncio.Event()
        self._open.set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        """Drop every byte and keep the connections, as a broken network does."""
        self._open.clear()

    def mend(self) -> None:
        """Pass bytes on again; connections from before are reset, since bytes of theirs are lost."""
        self.reset()
        self._open.set()

    def reset(self) -> None:
        """Reset all connections."""
        for writer in self._writers:
            writer.transport.abort()

    async def stop(self) -> None:
        """Stop listening, and reset all connections."""
        if self._server is not None:
            self._server.close()
            self.reset()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._server_port)
        except OSError:
            writer.transport.abort()
            self._writers.discard(writer)
            return
        self._writers.add(server_writer)
        await asyncio.gather(self._pass(reader, server_writer), self._pass(server_reader, writer))
        self._writers -= {writer, server_writer}

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                if self._open.is_set():
                    writer.write(data)
        writer.transport.abort()
