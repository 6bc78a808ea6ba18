"""The version of the tables: they are made, changed from a former version, and have an epoch."""

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from .schema import UPGRADES, VERSION, Text, metadata, versions


async def version_of(connection: AsyncConnection) -> int:
    """Return which tables the database has; where nothing says so yet, they are this version's."""
    version: int | None = (await connection.execute(sa.select(versions.c.version))).scalar()
    return VERSION if version is None else version


async def upgrade(connection: AsyncConnection) -> None:
    """Change the tables of a former version into those of this one, and say which ones they are."""
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
    """Begin an epoch that is later than all that this state of the database knows; return it."""
    statement = sa.update(versions).values(epoch=versions.c.epoch + 1).returning(versions.c.epoch)
    epoch: int = (await connection.execute(statement)).scalar_one()
    await connection.commit()
    return epoch


def look_for_tables(connection: sa.Connection) -> str | None:
    """Return why these are not this server's tables, if they are not."""
    return None if sa.inspect(connection).has_table(versions.name) else "it has no table of this server"


def make_tables(connection: sa.Connection) -> str | None:
    """Make the tables, if there are none; return why they cannot be made, if they cannot."""
    there = set(sa.inspect(connection).get_table_names())
    if versions.name not in there and (others := sorted(there & metadata.tables.keys())):
        return f"it has a table `{others[0]}` that is not this server's; use a database of its own"
    metadata.create_all(connection)
    return None
