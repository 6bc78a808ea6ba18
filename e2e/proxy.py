"""A network between clients and a server that can be cut and restored, or lose everything and seem to work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from attacks.servers import TcpServer


class Proxy:
    """Passes TCP connections on to a port of this machine, while it is not cut.

    Attributes:
        target: the port that new connections are passed on to.
        met: whether `lose_from` has come into effect.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self._lost = 0  # how often everything was lost
        self._marker: bytes | None = None
        self.met = asyncio.Event()
        self._server = TcpServer(self._pass)

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._server.port

    @property
    def url(self) -> str:
        """Where WebSocket clients find it."""
        return f"ws://127.0.0.1:{self.port}"

    async def restore(self) -> None:
        """Take connections, on the port that it had before if it had one."""
        await self._server.start()

    async def cut(self) -> None:
        """Break all connections without a goodbye on either side, and take no more."""
        await self._server.stop()

    def lose(self) -> None:
        """Let nothing more through on all connections that are open, nor tell one side when the other has gone."""
        self._lost += 1

    def lose_from(self, marker: bytes | None) -> None:
        """Let a connection through until the server sends these bytes; they and all after them are lost."""
        self._marker = marker
        self.met.clear()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        lost = self._lost
        try:
            await asyncio.gather(
                self._copy(reader, back, lost, from_server=False), self._copy(there, writer, lost, from_server=True)
            )
        finally:
            back.transport.abort()

    async def _copy(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, lost: int, *, from_server: bool
    ) -> None:
        met = False
        try:
            while data := await source.read(65_536):
                if from_server and self._marker is not None and self._marker in data:
                    met = True
                    self.met.set()
                if lost == self._lost and not met:
                    sink.write(data)
                    await sink.drain()
        except ConnectionError:
            pass
        finally:
            if lost == self._lost:
                sink.close()


@asynccontextmanager
async def network(target: int) -> AsyncIterator[Proxy]:
    """Put a proxy before a port, for as long as the block runs."""
    proxy = Proxy(target)
    await proxy.restore()
    try:
        yield proxy
    finally:
        await proxy.cut()
