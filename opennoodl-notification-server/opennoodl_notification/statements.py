"""The statements: what a batch reads from the database, and how its changes are written there.

A statement has a part of a long list, and then the next one has: a database takes only so many parameters, and the
event loop has a turn between two of them.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa
from msgspec import UNSET, Raw, structs
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from .inbox import HISTORY, Inbox
from .notification import Record, Sending
from .schema import deletions, inboxes, notifications, sendings
from .store import Changes, Loaded, Needs

CHUNK = 200
"""Values of a list, or rows, that are one statement's."""

Row = dict[str, Any]
T = TypeVar("T")


async def rows_of(connection: AsyncConnection, select: sa.Select[Any]) -> list[Row]:
    """Return what a query finds."""
    rows: list[Row] = []
    for some in (await connection.execute(select)).mappings().partitions(CHUNK):
        rows += map(dict, some)
        if len(some) == CHUNK:
            await asyncio.sleep(0)
    return rows


def record_of(row: Row) -> Record:
    """Return the notification in a row."""
    read_at = UNSET if row["read_at"] is None else row["read_at"]
    return Record(**{**row, "data": Raw(row["data"].encode()), "read_at": read_at})


def sending_of(row: Row) -> Sending:
    """Return the sending in a row."""
    return Sending(**{**row, "ids": msgspec.json.decode(row["ids"], type=tuple[str, ...])})


async def load(connection: AsyncConnection, needs: Needs) -> Loaded:
    """Return what a batch needs; the inboxes are its own until the transaction ends."""
    users, table, loaded = set(needs.users), notifications.c, Loaded()
    async for row in _where(connection, sa.select(table.user_id), table.id, needs.revoked):
        users.add(row["user_id"])
    # In one order, so that two servers on one database do not wait for each other.
    select = sa.select(inboxes).order_by(inboxes.c.user_id).with_for_update()
    async for row in _where(connection, select, inboxes.c.user_id, sorted(users)):
        loaded.inboxes[row["user_id"]] = Inbox(**row)
    due = [inbox.user_id for inbox in loaded.inboxes.values() if inbox.due <= needs.now]
    select = sa.select(notifications)
    for column, values, condition in (
        (table.id, needs.ids | needs.revoked, sa.true()),
        (table.user_id, needs.unread, ~table.read),
        (table.user_id, due, table.expires_at <= needs.now),
    ):
        async for row in _where(connection, select.where(condition), column, values):
            loaded.records.append(record_of(row))
    for inbox in loaded.inboxes.values():
        for select in _full(inbox, needs):
            loaded.records += [record_of(row) for row in await rows_of(connection, select)]
    later = sa.select(table.user_id, sa.func.min(table.expires_at).label("due")).where(table.expires_at > needs.now)
    async for row in _where(connection, later.group_by(table.user_id), table.user_id, due):
        loaded.due[row["user_id"]] = row["due"]
    key = sa.tuple_(sendings.c.sender, sendings.c.key)
    async for row in _where(connection, sa.select(sendings), key, needs.sendings):
        loaded.sendings[row["sender"], row["key"]] = sending_of(row)
    return loaded


async def apply(connection: AsyncConnection, changes: Changes) -> None:
    """Make changes; they last when the transaction is committed."""
    table = notifications.c
    which: sa.BindParameter[Any] = sa.bindparam("which")
    for user in (table.user_id, deletions.c.user_id):
        gone = ({"which": name} for name in (*changes.cleared, *changes.forgotten))
        await _many(connection, sa.delete(user.table).where(user == which), gone)
    removed = ({"which": id_} for id_ in changes.removed)
    await _many(connection, sa.delete(notifications).where(table.id == which), removed)
    names = ("read", "read_at", "sequence")
    update = sa.update(notifications).where(table.id == which).values({name: sa.bindparam(name) for name in names})
    updated = map(_row, changes.updated)
    await _many(connection, update, ({"which": row["id"], **{name: row[name] for name in names}} for row in updated))
    await _many(connection, sa.insert(notifications), map(_row, changes.added))
    await _many(connection, _put(connection, deletions), map(structs.asdict, changes.deletions))
    old = sa.delete(deletions).where(deletions.c.user_id == which, deletions.c.sequence <= sa.bindparam("last"))
    last = {deletion.user_id: deletion.sequence - HISTORY for deletion in changes.deletions}
    await _many(connection, old, ({"which": user, "last": sequence} for user, sequence in last.items()))
    ids = (msgspec.json.encode(sending.ids).decode() for sending in changes.sendings)
    sent = ({**structs.asdict(sending), "ids": text} for sending, text in zip(changes.sendings, ids, strict=True))
    await _many(connection, _put(connection, sendings), sent)
    await _many(connection, _put(connection, inboxes), map(structs.asdict, changes.inboxes))
    forgotten = ({"which": user} for user in changes.forgotten)
    await _many(connection, sa.delete(inboxes).where(inboxes.c.user_id == which), forgotten)


async def _where(
    connection: AsyncConnection, select: sa.Select[Any], column: sa.ColumnElement[Any], values: Iterable[Any]
) -> AsyncIterator[Row]:
    """Yield what a query finds for which a column has one of these values, in their order as far as it sorts."""
    for some in _chunks(values):
        for row in await rows_of(connection, select.where(column.in_(some))):
            yield row


async def _many(connection: AsyncConnection, statement: sa.Executable, rows: Iterable[Row]) -> None:
    """Execute a statement for each of these rows, if there are any."""
    for some in _chunks(rows):
        await connection.execute(statement, some)


def _chunks(things: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(things)
    while some := list(islice(rest, CHUNK)):
        yield some


def _put(connection: AsyncConnection, table: sa.Table) -> Any:
    """Return what inserts a row, in place of one with the same key."""
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    statement = insert(table)
    keys = [column.name for column in table.primary_key]
    others = {column.name: statement.excluded[column.name] for column in table.c if column.name not in keys}
    return statement.on_conflict_do_update(index_elements=keys, set_=others)


def _full(inbox: Inbox, needs: Needs) -> Iterable[sa.Select[Any]]:
    """Yield what finds the notifications that may have to make room for those that come."""
    coming, table = needs.users[inbox.user_id], notifications.c
    too_many = inbox.total + coming - needs.room
    if needs.room and coming and too_many > 0:
        oldest = sa.select(notifications).where(table.user_id == inbox.user_id).order_by(table.created_at)
        yield oldest.limit(too_many)
        yield oldest.where(table.read).limit(too_many)


def _row(record: Record) -> Row:
    read_at = None if record.read_at is UNSET else record.read_at
    return {**structs.asdict(record), "data": bytes(record.data).decode(), "read_at": read_at}
