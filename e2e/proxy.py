"""A TCP proxy that can refuse, break or silently drop connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from attacks.servers import TcpServer


class Proxy:
    """Forwards TCP connections to a port of this machine.

    Attributes:
        target: the port for new connections.
        met: whether `lose_from` has found its marker.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self._lost = 0  # number of calls of `lose`
        self._marker: bytes | None = None
        self.met = asyncio.Event()
        self._server = TcpServer(self._pass)

    @property
    def port(self) -> int:
        """The port of the proxy."""
        return self._server.port

    @property
    def url(self) -> str:
        """The URL for WebSocket clients."""
        return f"ws://127.0.0.1:{self.port}"

    async def restore(self) -> None:
        """Accept connections, on the previous port if there was one."""
        await self._server.start()

    async def cut(self) -> None:
        """Reset all connections, and accept no more."""
        await self._server.stop()

    def lose(self) -> None:
        """Drop all further bytes of the open connections, and their closes."""
        self._lost += 1

    def lose_from(self, marker: bytes | None) -> None:
        """Forward a connection until the server sends these bytes; drop them and all bytes after them."""
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
    """Run a proxy before a port until the end of the block."""
    proxy = Proxy(target)
    await proxy.restore()
    try:
        yield proxy
    finally:
        await proxy.cut()
