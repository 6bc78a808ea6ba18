"""A network between clients and a server that can be cut and restored, or lose everything and seem to work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Proxy:
    """Passes TCP connections on to a port of this machine, while it is not cut.

    Attributes:
        port: where it listens.
        target: the port that new connections are passed on to.
        met: whether `lose_from` has come into effect.
    """

    def __init__(self, target: int) -> None:
        self.port = 0
        self.target = target
        self._lost = 0  # how often everything was lost
        self._marker: bytes | None = None
        self.met = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._passing: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Where WebSocket clients find it."""
        return f"ws://127.0.0.1:{self.port}"

    async def restore(self) -> None:
        """Take connections, on the port that it had before if it had one."""
        self._server = await asyncio.start_server(self._pass, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Break all connections without a goodbye on either side, and take no more."""
        assert self._server is not None
        self._server.close()
        for writer in self._open:  # also one that is closed already, and waits for a side that reads no more
            writer.transport.abort()
        self._open.clear()
        await asyncio.gather(*self._passing)
        await asyncio.sleep(0)  # until the sockets are closed

    def lose(self) -> None:
        """Let nothing more through on all connections that are open, nor tell one side when the other has gone."""
        self._lost += 1

    def lose_from(self, marker: bytes | None) -> None:
        """Let a connection through until the server sends these bytes; they and all after them are lost."""
        self._marker = marker
        self.met.clear()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            self._open.discard(writer)
            return
        if writer.transport.is_closing():  # it was cut meanwhile
            back.transport.abort()
            return
        self._open.add(back)
        for source, sink in ((reader, back), (there, writer)):
            task = asyncio.create_task(self._copy(source, sink, self._lost, from_server=source is there))
            self._passing.add(task)
            task.add_done_callback(self._passing.discard)

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
