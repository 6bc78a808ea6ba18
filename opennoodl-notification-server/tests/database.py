"""A PostgreSQL of a test's own, that can be away for a while, and a link to it that can be cut."""

from __future__ import annotations

import asyncio
import atexit
import os
import shutil
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from .edge.servers import TcpServer
from .places import start_postgresql


class Database:
    """A PostgreSQL that can be away for a while."""

    def __init__(self) -> None:
        self._path = Path(mkdtemp(prefix="opennoodl-postgresql-"))
        atexit.register(shutil.rmtree, self._path, ignore_errors=True)
        self.start()
        self.url = str(self._server.get_uri())

    def start(self) -> None:
        """Be there, at the same place."""
        self._server = start_postgresql(self._path, "stop")

    def stop(self) -> None:
        """Be away."""
        self._server.cleanup()

    async def processes(self) -> list[int]:
        """Return the processes that talk with clients, and the one that lets them in."""
        engine = create_async_engine(sa.make_url(self.url).set(drivername="postgresql+asyncpg"))
        async with engine.connect() as connection:
            rows = await connection.execute(sa.text("select pid from pg_stat_activity where datname is not null"))
            pids = [pid for (pid,) in rows]
        await engine.dispose()
        first = await asyncio.to_thread((self._path / "postmaster.pid").read_text)
        return [int(first.split()[0]), *pids]


def signal_all(pids: list[int], number: int) -> None:
    """Send a signal to processes that are still there."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


class Link:
    """A way over TCP to a database, for one server.

    Attributes:
        url: what the server is given.
    """

    def __init__(self, url: str) -> None:
        self._socket = f"{sa.make_url(url).query['host']}/.s.PGSQL.5432"
        self._open = asyncio.Event()
        self._open.set()
        self._server = TcpServer(self._accept)
        self.url = ""

    async def start(self) -> None:
        """Listen."""
        await self._server.start()
        self.url = f"postgresql://postgres@127.0.0.1:{self._server.port}/postgres"

    def cut(self) -> None:
        """Carry nothing any more, and tell nobody: what is sent is neither delivered nor refused."""
        self._open.clear()

    def mend(self) -> None:
        """Carry again; connections that were cut stay lost."""
        self.reset()
        self._open.set()

    def reset(self) -> None:
        """End all connections at once."""
        self._server.reset()

    async def stop(self) -> None:
        """End."""
        await self._server.stop()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._open.wait()
        try:
            back_reader, back_writer = await asyncio.open_unix_connection(self._socket)
        except OSError:  # the database is away
            writer.transport.abort()
            return
        try:
            await asyncio.gather(self._carry(reader, back_writer), self._carry(back_reader, writer))
        finally:
            back_writer.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                await self._open.wait()
                writer.write(data)
                await writer.drain()
        writer.transport.abort()
