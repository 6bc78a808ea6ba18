"""A PostgreSQL that can be stopped and started, and a TCP link to it that can be cut."""

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
    """A PostgreSQL that can be stopped and started."""

    def __init__(self) -> None:
        self._path = Path(mkdtemp(prefix="opennoodl-postgresql-"))
        atexit.register(shutil.rmtree, self._path, ignore_errors=True)
        self.start()
        self.url = str(self._server.get_uri())

    def start(self) -> None:
        """Start it, at the same place."""
        self._server = start_postgresql(self._path, "stop")

    def stop(self) -> None:
        """Stop it."""
        self._server.cleanup()

    async def processes(self) -> list[int]:
        """Return the ids of the processes that serve clients, and of the one that accepts connections."""
        engine = create_async_engine(sa.make_url(self.url).set(drivername="postgresql+asyncpg"))
        async with engine.connect() as connection:
            rows = await connection.execute(sa.text("select pid from pg_stat_activity where datname is not null"))
            pids = [pid for (pid,) in rows]
        await engine.dispose()
        first = await asyncio.to_thread((self._path / "postmaster.pid").read_text)
        return [int(first.split()[0]), *pids]


def signal_all(pids: list[int], number: int) -> None:
    """Send a signal to those processes that still exist."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


class Link:
    """A TCP link to a database, for one server.

    Attributes:
        url: the URL for the server.
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
        """Drop all bytes and keep the connections open, like a broken network."""
        self._open.clear()

    def mend(self) -> None:
        """Pass bytes again; connections that were cut stay lost."""
        self.reset()
        self._open.set()

    def reset(self) -> None:
        """Reset all connections."""
        self._server.reset()

    async def stop(self) -> None:
        """Stop listening, and reset all connections."""
        await self._server.stop()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._open.wait()
        try:
            back_reader, back_writer = await asyncio.open_unix_connection(self._socket)
        except OSError:  # the database is stopped
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
