"""A TCP proxy that drops connections, or lets nothing through, when it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class CutLink:
    """Passes bytes on between a port and a target.

    Args:
        target: connects with what is behind it.

    Attributes:
        port: that it listens on.
    """

    def __init__(self, target: Callable[[], Awaitable[Streams]]) -> None:
        self.port = 0
        self._target = target
        self._flows = asyncio.Event()
        self._flows.set()
        self._refuses = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        """Drop all connections, and further ones at once."""
        self._refuses = True
        for writer in list(self._writers):
            writer.transport.abort()

    def stall(self) -> None:
        """Let nothing through, and tell neither side."""
        self._flows.clear()

    def heal(self) -> None:
        """Pass everything on again."""
        self._refuses = False
        self._flows.set()

    async def close(self) -> None:
        """Stop."""
        assert self._server is not None
        self.cut()
        self._flows.set()
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refuses:
            writer.transport.abort()
            return
        try:
            behind = await self._target()
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, behind[1]}
        for source, sink in ((reader, behind[1]), (behind[0], writer)):
            task = asyncio.create_task(self._pass_on(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass_on(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(65_536):
                await self._flows.wait()
                sink.write(data)
                await sink.drain()
        self._writers.discard(sink)
        sink.close()
