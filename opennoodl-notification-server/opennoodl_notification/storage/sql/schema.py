"""The schema of the database: its tables and its version."""

import sqlalchemy as sa
from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, MetaData, Table

VERSION = 3
"""The version of the schema. A change of a table increases it, and adds to `UPGRADES`."""

# Texts are compared by bytes, independent of the database's locale: this is fast, and sorts times.
Text = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

metadata = MetaData()

versions = Table(
    "opennoodl_schema",
    metadata,
    Column("version", Integer, primary_key=True),
    Column("epoch", BigInteger, nullable=False, server_default="0"),
)

inboxes = Table(
    "inboxes",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("sequence", BigInteger, nullable=False),
    Column("total", Integer, nullable=False),
    Column("unread", Integer, nullable=False),
    Column("newest", Text, nullable=False),
    Column("due", Text, nullable=False),
    Column("cleared", BigInteger, nullable=False),
    Column("epoch", BigInteger, nullable=False, server_default="0"),
    Column("size", BigInteger, nullable=False, server_default="0"),
    Column("gone", Integer, nullable=False, server_default="0"),
    Column("gaps", sa.Text, nullable=False, server_default="[]"),
    Index("inboxes_due", "due"),
)

notifications = Table(
    "notifications",
    metadata,
    Column("id", Text, primary_key=True),
    Column("user_id", Text, nullable=False),
    Column("from_user_id", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("own_data", Text, nullable=False),
    Column("read", Boolean, nullable=False),
    Column("created_at", Text, nullable=False),
    Column("expires_at", Text, nullable=False),
    Column("read_at", Text),
    Column("born", BigInteger, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("payload_id", Text),
    Index("notifications_created", "user_id", "created_at"),
    Index("notifications_sequence", "user_id", "sequence"),
)

payloads = Table(
    "payloads",
    metadata,
    Column("id", Text, primary_key=True),
    Column("data", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("uses", BigInteger, nullable=False),
)

deletions = Table(
    "deletions",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("sequence", BigInteger, primary_key=True),
    Column("id", Text, nullable=False),
    Column("born", BigInteger, nullable=False),
)

sendings = Table(
    "sendings",
    metadata,
    Column("sender", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("fingerprint", Text, nullable=False),
    Column("ids", Text, nullable=False),
    Column("expires_at", Text, nullable=False),
    Index("sendings_expires", "expires_at"),
)

UPGRADES = {
    1: (
        "ALTER TABLE opennoodl_schema ADD COLUMN epoch BIGINT NOT NULL DEFAULT 0",
        "ALTER TABLE inboxes ADD COLUMN epoch BIGINT NOT NULL DEFAULT 0",
        "ALTER TABLE inboxes ADD COLUMN size BIGINT NOT NULL DEFAULT 0",
        "ALTER TABLE inboxes ADD COLUMN gone INTEGER NOT NULL DEFAULT 0",
        "UPDATE inboxes SET size = 1024 + 1024 * total",  # an estimate, until an inbox has been empty
        "ALTER TABLE inboxes ADD COLUMN gaps TEXT NOT NULL DEFAULT '[]'",
    ),
    2: (
        # The new name makes a server of the older version fail, instead of showing notifications without data.
        "ALTER TABLE notifications RENAME COLUMN data TO own_data",
        "ALTER TABLE notifications ADD COLUMN payload_id {text}",
    ),
}
"""Statements that upgrade from each version of the schema to the next one, with a placeholder for the type `Text`.

New tables are created before.
"""
