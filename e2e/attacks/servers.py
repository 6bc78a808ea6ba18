"""Servers for tests; they leave no connection open."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve

Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


async def _close(server: asyncio.Server | Server) -> None:
    """Close a server when its protocols know every connection that it has accepted.

    asyncio's own loop accepts a connection in one turn, makes its transport in the next one, and calls
    `connection_made` in the one after that. If asyncio's server is closed before the second turn, the connection stays
    open without an owner (CPython issue 109564). Before the third one, websockets' server does not wait for it.
    """
    loop = asyncio.get_running_loop()
    for listening in server.sockets:
        loop.remove_reader(listening)  # uvloop has none, and needs none
    for _ in range(2):
        await asyncio.sleep(0)
    server.close()


@asynccontextmanager
async def websocket_server(handle: Callable[[ServerConnection], Awaitable[None]], **options: Any) -> AsyncIterator[str]:
    """Serve WebSockets on loopback until the end of the block, and yield the URL; `options` are those of `serve`."""
    async with serve(handle, "127.0.0.1", 0, **options) as server:
        try:
            yield f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
        finally:
            await _close(server)


class TcpServer:
    """A server on loopback with a handler for each connection.

    Args:
        handle: serves a connection; the connection is closed when it returns.

    Attributes:
        port: the port of the server.
    """

    def __init__(self, handle: Handle) -> None:
        self.port = 0
        self._handle = handle
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def start(self, tls: ssl.SSLContext | None = None) -> None:
        """Listen; after `stop`, on the same port as before."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, ssl=tls)
        self.port = self._server.sockets[0].getsockname()[1]

    def reset(self) -> None:
        """Abort all connections, and cancel their handlers."""
        for handler, writer in self._open.items():
            writer.transport.abort()
            handler.cancel()

    async def stop(self) -> None:
        """Stop listening, and reset the open connections."""
        if self._server is None:
            return
        await _close(self._server)
        self.reset()
        if self._open:
            await asyncio.wait(list(self._open))
        await asyncio.sleep(0)  # a transport closes its socket in the turn after `abort`

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handler = asyncio.create_task(self._serve(reader, writer))
        self._open[handler] = writer
        handler.add_done_callback(self._open.pop)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._handle(reader, writer)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
