"""The tables. They have their own PostgreSQL schema, so that other servers can use the same database."""

from ..interface import StoreError
from .link import Link

VERSION = 1
"""Version of the tables. A change of the tables increases it."""
LOCK = 0x6F70656E73796E63
"""The advisory lock for creating the tables, so that servers can start at the same time."""

MAKE = (
    f"SELECT pg_advisory_xact_lock({LOCK})",
    "CREATE SCHEMA IF NOT EXISTS opennoodl_sync",
    "CREATE TABLE IF NOT EXISTS opennoodl_sync.schema (version integer PRIMARY KEY)",
    "CREATE SEQUENCE IF NOT EXISTS opennoodl_sync.epochs",
    # `expires` is by the clock of the database. No instance compares its own clock with it.
    "CREATE TABLE IF NOT EXISTS opennoodl_sync.instances "
    "(name text PRIMARY KEY, url text NOT NULL, expires timestamptz NOT NULL)",
    # `first` and `last` are numbers of updates at the last compaction or the first write: these updates must exist.
    'CREATE TABLE IF NOT EXISTS opennoodl_sync.rooms (name text COLLATE "C" PRIMARY KEY, owner text, '
    "epoch bigint NOT NULL, first bigint NOT NULL DEFAULT 0, last bigint NOT NULL DEFAULT -1, base_index bytea)",
    "CREATE INDEX IF NOT EXISTS rooms_owner ON opennoodl_sync.rooms (owner) WHERE owner IS NOT NULL",
    'CREATE TABLE IF NOT EXISTS opennoodl_sync.updates (room text COLLATE "C", seq bigint, epoch bigint NOT NULL, '
    "data bytea NOT NULL, checksum bigint NOT NULL, PRIMARY KEY (room, seq))",
    # Deleted with the document, also by an older version of this server.
    'CREATE TABLE IF NOT EXISTS opennoodl_sync.versions (room text COLLATE "C" '
    "REFERENCES opennoodl_sync.rooms ON DELETE CASCADE, made bigint, last bigint NOT NULL, data bytea NOT NULL, "
    "checksum bigint NOT NULL, PRIMARY KEY (room, made))",
    # Not deleted with the document.
    'CREATE TABLE IF NOT EXISTS opennoodl_sync.closed (room text COLLATE "C" PRIMARY KEY)',
    f"INSERT INTO opennoodl_sync.schema SELECT {VERSION} WHERE NOT EXISTS (SELECT FROM opennoodl_sync.schema)",  # noqa: S608
)


async def make_tables(link: Link) -> None:
    """Create missing tables.

    Raises:
        StoreError: the tables are those of another version.
    """
    await link.script(*MAKE)
    (row,) = await link.fetch("SELECT version FROM opennoodl_sync.schema")
    if row["version"] != VERSION:
        raise StoreError(f"it has schema {row['version']}; this version knows {VERSION}")
