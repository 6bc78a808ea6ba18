"""pycrdt-websocket as it comes: its `WebsocketServer` on the websockets library, in memory only.

It is what the sync server's rooms began as, so it is here as a reference and not as a competitor.
"""

import asyncio
import os

import uvloop
from pycrdt.websocket import WebsocketServer
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed


class Channel:
    """One client, as pycrdt's `Channel` wants it."""

    def __init__(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        self._connection = connection
        self.path = connection.request.path

    def __aiter__(self) -> "Channel":
        return self

    async def __anext__(self) -> bytes:
        """Return the next message, until the connection ends."""
        try:
            return await self.recv()
        except ConnectionClosed:
            raise StopAsyncIteration from None

    async def send(self, message: bytes) -> None:
        """Send one message."""
        await self._connection.send(message)

    async def recv(self) -> bytes:
        """Return the next message."""
        return await self._connection.recv(decode=False)


async def main() -> None:
    """Serve until killed."""
    async with WebsocketServer() as server:

        async def handle(connection: ServerConnection) -> None:
            await server.serve(Channel(connection))

        async with serve(handle, "127.0.0.1", int(os.environ["PORT"]), compression=None, max_size=None):
            await asyncio.Event().wait()


uvloop.run(main())
