"""Database engines: URLs, drivers, and the settings of each new connection."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from ...edge.errors import StartError
from ...settings import DATABASES
from .postgresql import SCHEMES, arguments, is_postgresql

DRIVERS = {
    **dict.fromkeys(SCHEMES, "postgresql+asyncpg"),
    **dict.fromkeys(("sqlite", "sqlite+aiosqlite"), "sqlite+aiosqlite"),
}
"""The driver of each accepted kind of URL."""
TIMEOUT = 5
"""Time limit in seconds for an answer of a database."""
IDLE_TIMEOUT = 3
"""Seconds after which PostgreSQL ends the transaction of an instance that hangs, and so frees its locks."""
UNNAMED: dict[str, Any] = {
    "statement_cache_size": 0,
    "prepared_statement_cache_size": 0,
    "prepared_statement_name_func": lambda: "",
}
"""Arguments for connections without named prepared statements, for poolers that share connections among clients."""


def normalized(url: str) -> str:
    """Return a normal form of a URL: the path of SQLite's file, or the arguments of PostgreSQL's driver."""
    if is_postgresql(url):
        return str(arguments(url, TIMEOUT)["dsn"])
    return str(Path(str(sqlite_url(url).database)).resolve())


def sqlite_url(text: str) -> sa.URL:
    """Return the URL of a SQLite database in a file.

    Raises:
        StartError: the text is not such a URL.
    """
    try:
        url = sa.make_url(text)
    except (ArgumentError, ValueError):
        raise StartError(f"DATABASE_URL cannot be read; {DATABASES}") from None
    driver = DRIVERS.get(url.drivername)
    if driver is None:
        raise StartError(f"DATABASE_URL names {url.drivername!r}; accepted are: {', '.join(DRIVERS)}")
    # A database in memory would be lost with its connection, and a name with `file:` may mean one.
    if (url.database or ":memory:").startswith((":memory:", "file:")) or url.query.get("mode") == "memory":
        raise StartError(f"DATABASE_URL names no file for SQLite; {DATABASES}")
    return url.set(drivername=driver)


def sqlite_engine(url: sa.URL, *, read_only: bool) -> AsyncEngine:
    """Return an engine for SQLite, with one connection.

    Its transactions begin with the write lock, unless they only read. In WAL mode, readers and the writer do not wait
    for each other.
    """
    try:
        # One connection: there can be only one writer, and waiting for another lock would block all others.
        engine = create_async_engine(url, pool_size=1, max_overflow=0, connect_args={"timeout": TIMEOUT})
    except NoSuchModuleError as error:
        raise StartError(f"DATABASE_URL cannot be used: {error}") from None
    except (ArgumentError, TypeError, ValueError):  # their text may contain the URL, and several lines
        raise StartError(f"DATABASE_URL has a host or options that its driver refuses; {DATABASES}") from None
    begin = "BEGIN" if read_only else "BEGIN IMMEDIATE"
    sa.event.listen(engine.sync_engine, "connect", _set_up_sqlite)
    sa.event.listen(engine.sync_engine, "begin", lambda connection: connection.exec_driver_sql(begin))
    return engine


def unnamed_arguments(url: str) -> dict[str, Any]:
    """Return the arguments of asyncpg without named statements, for use until it is known that there is no pooler."""
    return arguments(url, TIMEOUT) | UNNAMED


def use_named_statements(arguments: dict[str, Any]) -> None:
    """Change the arguments for direct connections to the database, which keeps prepared statements."""
    for name in UNNAMED:
        arguments.pop(name, None)
    arguments["server_settings"] = {"idle_in_transaction_session_timeout": str(1000 * IDLE_TIMEOUT)}


def postgresql_engine(arguments: dict[str, Any]) -> AsyncEngine:
    """Return an engine that makes each connection with these arguments; later changes of them apply."""
    engine = create_async_engine("postgresql+asyncpg://", pool_size=2, max_overflow=0, pool_pre_ping=True)
    sa.event.listen(engine.sync_engine, "do_connect", lambda *connecting: connecting[-1].update(arguments))
    return engine


async def is_pooled(connection: AsyncConnection) -> bool:
    """Return whether there is a pooler such as pgbouncer: it reports another process than the one that answers."""
    driver = (await connection.get_raw_connection()).driver_connection
    assert driver is not None
    reported: int = driver.get_server_pid()
    return reported != (await connection.execute(sa.select(sa.func.pg_backend_pid()))).scalar()


def _set_up_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # SQLAlchemy begins transactions, not the driver
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")  # a commit is on disk when it returns
    cursor.execute("PRAGMA cache_size = -65536")  # KiB: a batch touches the indexes of many users
    cursor.close()


def copy_sqlite(file: Path, copy: Path) -> None:
    """Copy a database to a file, which is on disk when this returns."""
    os.close(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("VACUUM INTO ?", (str(copy),))
