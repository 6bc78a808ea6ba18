"""The version of the tables: creates them, upgrades those of an older version, and begins epochs."""

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from .schema import UPGRADES, VERSION, Text, metadata, versions


async def version_of(connection: AsyncConnection) -> int:
    """Return the version of the database's tables; the present one if there is no record of it."""
    version: int | None = (await connection.execute(sa.select(versions.c.version))).scalar()
    return VERSION if version is None else version


async def upgrade(connection: AsyncConnection) -> None:
    """Upgrade the tables of an older version, and record the present version."""
    version = await version_of(connection)
    if version in UPGRADES:
        await connection.run_sync(metadata.create_all)
    text = Text.compile(connection.dialect)
    while version in UPGRADES:
        for statement in UPGRADES[version]:
            await connection.execute(sa.text(statement.format(text=text)))
        version += 1
        await connection.execute(sa.update(versions).values(version=version))
    if (await connection.execute(sa.select(versions.c.version))).scalar() is None:
        await connection.execute(sa.insert(versions), [{"version": VERSION}])


async def begin_epoch(connection: AsyncConnection) -> int:
    """Begin an epoch later than all epochs in this database; return it."""
    statement = sa.update(versions).values(epoch=versions.c.epoch + 1).returning(versions.c.epoch)
    epoch: int = (await connection.execute(statement)).scalar_one()
    await connection.commit()
    return epoch


def look_for_tables(connection: sa.Connection) -> str | None:
    """Return the reason why the tables are not this server's; None if they are."""
    return None if sa.inspect(connection).has_table(versions.name) else "it has no table of this server"


def make_tables(connection: sa.Connection) -> str | None:
    """Create the tables if there are none; return the reason of a failure, or None."""
    there = set(sa.inspect(connection).get_table_names())
    if versions.name not in there and (others := sorted(there & metadata.tables.keys())):
        return f"it has a table `{others[0]}` that is not this server's; use a database of its own"
    metadata.create_all(connection)
    return None
