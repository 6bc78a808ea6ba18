"""The SQL statements that load the records of a batch and write its changes.

Long lists are split over several statements, since a database limits the number of parameters, and so that the event
loop runs between them. The statements are built once: building them for each batch took a third of a batch's time.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from functools import cache, partial
from hashlib import blake2b
from itertools import islice
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa
from msgspec import UNSET, Raw, structs
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from ...inbox.store import Changes, Loaded, Needs
from ...records import Inbox, Mark, Record, Sending, payloads_of
from .schema import deletions, inboxes, notifications, payloads, sendings

CHUNK = 200
"""Values of a list, or rows, of one statement."""

SCHEMA_LOCK = 0x6F70656E6E6F6F00
"""PostgreSQL's advisory lock for the schema. The 256 numbers after it are the locks for idempotency keys."""

Row = dict[str, Any]
T = TypeVar("T")

_VALUES: sa.BindParameter[Any] = sa.bindparam("values", expanding=True)
_NOW: sa.BindParameter[str] = sa.bindparam("now")
_USER: sa.BindParameter[str] = sa.bindparam("user")
_WHICH: sa.BindParameter[str] = sa.bindparam("which")
_MARKS = ("read", "read_at", "sequence")

_table = notifications.c
_columns = (column for column in _table if column is not _table.own_data)
SELECT_RECORDS = sa.select(*_columns, sa.func.coalesce(payloads.c.data, _table.own_data).label("data")).select_from(
    notifications.outerjoin(payloads, _table.payload_id == payloads.c.id)
)
"""Notifications with their data, from the row or the payload."""
_SELECT_RECEIVERS = sa.select(_table.user_id).where(_table.id.in_(_VALUES))
# Locks are taken in one order, so that servers on one database cannot deadlock.
_LOCK_KEYS = sa.select(
    sa.func.pg_advisory_xact_lock(sa.func.unnest(sa.bindparam("numbers", type_=postgresql.ARRAY(sa.BigInteger))))
)
_MAKE_INBOX = postgresql.insert(inboxes).on_conflict_do_nothing()
_SELECT_INBOXES = sa.select(inboxes).where(inboxes.c.user_id.in_(_VALUES)).order_by(inboxes.c.user_id).with_for_update()
_SELECT_NUMBERS = sa.select(inboxes.c.user_id, inboxes.c.sequence).where(inboxes.c.user_id.in_(_VALUES))
_SELECT_NAMED = SELECT_RECORDS.where(_table.id.in_(_VALUES))
_SELECT_UNREAD = SELECT_RECORDS.where(_table.user_id.in_(_VALUES), ~_table.read)
_SELECT_EXPIRED = SELECT_RECORDS.where(_table.user_id.in_(_VALUES), _table.expires_at <= _NOW)
_SELECT_NEXT_DUE = (
    sa.select(_table.user_id, sa.func.min(_table.expires_at).label("due"))
    .where(_table.user_id.in_(_VALUES), _table.expires_at > _NOW)
    .group_by(_table.user_id)
)
_SELECT_OLDEST = SELECT_RECORDS.where(_table.user_id == _USER).order_by(_table.created_at).limit(sa.bindparam("most"))
_SELECT_OLDEST_READ = _SELECT_OLDEST.where(_table.read)
_SELECT_SENDINGS = sa.select(sendings).where(sa.tuple_(sendings.c.sender, sendings.c.key).in_(_VALUES))

_INSERT = sa.insert(notifications)
_MARK = sa.update(notifications).where(_table.id == _WHICH).values({name: sa.bindparam(name) for name in _MARKS})
_DELETE = sa.delete(notifications).where(_table.id.in_(_VALUES)).returning(_table.payload_id)
_DELETE_OF_USERS = sa.delete(notifications).where(_table.user_id.in_(_VALUES)).returning(_table.payload_id)
_DELETE_DELETIONS = sa.delete(deletions).where(deletions.c.user_id == _WHICH)
_RELEASE_PAYLOAD = (
    sa.update(payloads).where(payloads.c.id == _WHICH).values(uses=payloads.c.uses - sa.bindparam("released"))
)
_DELETE_PAYLOADS = (
    sa.delete(payloads).where(payloads.c.id.in_(_VALUES), payloads.c.uses <= 0).returning(payloads.c.size)
)
_DELETE_INBOX = sa.delete(inboxes).where(inboxes.c.user_id == _WHICH)
_DELETE_SENDING = sa.delete(sendings).where(sendings.c.sender == _WHICH, sendings.c.key == sa.bindparam("which_key"))
_FORGET_DELETIONS = sa.delete(deletions).where(
    deletions.c.user_id == _WHICH, deletions.c.sequence <= sa.bindparam("last")
)


async def rows_of(connection: AsyncConnection, select: sa.Executable, values: Row | None = None) -> list[Row]:
    """Return the rows of a query with these parameters."""
    rows: list[Row] = []
    for some in (await connection.execute(select, values)).mappings().partitions(CHUNK):
        rows += map(dict, some)
        if len(some) == CHUNK:
            await asyncio.sleep(0)
    return rows


def record_of(row: Row) -> Record:
    """Return the notification of a row."""
    known = {name: value for name, value in row.items() if value is not None}
    return Record(**{**known, "data": Raw(row["data"].encode())})


def inbox_of(row: Row) -> Inbox:
    """Return the state of an inbox of a row."""
    return Inbox(**{**row, "gaps": msgspec.json.decode(row["gaps"], type=tuple[tuple[int, int], ...])})


def sending_of(row: Row) -> Sending:
    """Return the sending of a row."""
    return Sending(**{**row, "ids": msgspec.json.decode(row["ids"], type=tuple[str, ...])})


async def load(connection: AsyncConnection, needs: Needs) -> Loaded:
    """Return the records that a batch needs. Its inboxes and sendings stay locked until the end of the transaction."""
    loaded = Loaded()
    loaded.inboxes = await _own_inboxes(connection, needs)
    due = [inbox.user_id for inbox in loaded.inboxes.values() if inbox.total and inbox.due <= needs.now]
    for select, values, others in (
        (_SELECT_NAMED, needs.ids | needs.revoked, {}),
        (_SELECT_UNREAD, needs.unread, {}),
        (_SELECT_EXPIRED, due, {"now": needs.now}),
    ):
        async for row in _find(connection, select, values, others):
            loaded.records.append(record_of(row))
    for inbox in loaded.inboxes.values():
        coming = needs.users[inbox.user_id]
        too_many = inbox.total + coming - needs.room
        if needs.room and coming and too_many > 0:  # some of these may have to be deleted for new ones
            for select in (_SELECT_OLDEST, _SELECT_OLDEST_READ):
                rows = await rows_of(connection, select, {"user": inbox.user_id, "most": too_many})
                loaded.records += map(record_of, rows)
    async for row in _find(connection, _SELECT_NEXT_DUE, due, {"now": needs.now}):
        loaded.due[row["user_id"]] = row["due"]
    async for row in _find(connection, _SELECT_SENDINGS, needs.sendings):
        loaded.sendings[row["sender"], row["key"]] = sending_of(row)
    return loaded


async def numbers(connection: AsyncConnection, users: Iterable[str]) -> dict[str, int]:
    """Return the sequence numbers of these users' inboxes, without those that do not exist."""
    return {row["user_id"]: row["sequence"] async for row in _find(connection, _SELECT_NUMBERS, users)}


async def _own_inboxes(connection: AsyncConnection, needs: Needs) -> dict[str, Inbox]:
    """Lock keys and inboxes, and return the inboxes.

    In PostgreSQL, which other servers may use, the inbox of a first notification is created before it is locked.
    Otherwise there would be no row to lock, and two servers would create it at the same time.
    """
    receivers = sorted(user for user, coming in needs.users.items() if coming)
    while True:
        users, found = set(needs.users), dict[str, Inbox]()
        async for row in _find(connection, _SELECT_RECEIVERS, needs.revoked):
            users.add(row["user_id"])
        if connection.dialect.name == "postgresql":
            if needs.sendings:
                await connection.execute(_LOCK_KEYS, {"numbers": sorted(set(map(_lock_number, needs.sendings)))})
            await _execute(connection, _MAKE_INBOX, (_state(Inbox(user_id=user, sequence=0)) for user in receivers))
        async for row in _find(connection, _SELECT_INBOXES, sorted(users)):
            found[row["user_id"]] = inbox_of(row)
        if connection.dialect.name != "postgresql" or found.keys() >= set(receivers):
            return found
        await connection.rollback()  # another server has deleted an inbox between the two statements


def _lock_number(sending: tuple[str, str]) -> int:
    """Return the number of the advisory lock of a sender's key. PostgreSQL has memory for some thousand locks."""
    return SCHEMA_LOCK + 1 + blake2b(msgspec.json.encode(sending), digest_size=1).digest()[0]


async def apply(connection: AsyncConnection, changes: Changes) -> int:
    """Write changes, which are durable after the commit; return the bytes of deleted payloads."""
    put = partial(_put, connection.dialect.name)
    emptied = [*changes.cleared, *changes.forgotten]
    released = [row["payload_id"] async for row in _find(connection, _DELETE_OF_USERS, emptied)]
    await _execute(connection, _DELETE_DELETIONS, ({"which": user} for user in emptied))
    released += [row["payload_id"] async for row in _find(connection, _DELETE, changes.removed)]
    await _execute(connection, _MARK, map(_marks, changes.updated))
    await _execute(connection, _INSERT, map(_row, changes.added))
    freed = await _count_uses(connection, changes.added, filter(None, released))
    await _execute(connection, put(deletions), map(structs.asdict, changes.deletions))
    users = {deletion.user_id for deletion in changes.deletions}
    old = ({"which": one.user_id, "last": one.horizon} for one in changes.inboxes if one.user_id in users)
    await _execute(connection, _FORGET_DELETIONS, old)
    ids = (msgspec.json.encode(sending.ids).decode() for sending in changes.sendings)
    sent = ({**structs.asdict(sending), "ids": text} for sending, text in zip(changes.sendings, ids, strict=True))
    await _execute(connection, put(sendings), sent)
    await _execute(connection, put(inboxes), map(_state, changes.inboxes))
    await _execute(connection, _DELETE_INBOX, ({"which": user} for user in changes.forgotten))
    await _execute(connection, _DELETE_SENDING, ({"which": sender, "which_key": key} for sender, key in changes.unsent))
    return freed


async def _count_uses(connection: AsyncConnection, added: Iterable[Record], released: Iterable[str]) -> int:
    """Add new payloads, and delete those without notifications; return the bytes of deleted ones."""
    uses = Counter(record.payload_id for record in added if record.payload_id is not UNSET)
    uses.subtract(released)
    new = (
        {"id": id_, "data": bytes(payload.data).decode(), "size": payload.size, "uses": uses[id_]}
        for id_, payload in payloads_of(added).items()
        if uses[id_] > 0
    )
    await _execute(connection, _add_payload(connection.dialect.name), new)
    left = sorted(id_ for id_, number in uses.items() if number < 0)
    await _execute(connection, _RELEASE_PAYLOAD, ({"which": id_, "released": -uses[id_]} for id_ in left))
    return sum([row["size"] async for row in _find(connection, _DELETE_PAYLOADS, left)])


async def _find(
    connection: AsyncConnection, select: sa.Executable, values: Iterable[Any], others: Row | None = None
) -> AsyncIterator[Row]:
    """Yield the rows of a query for values of its list, in their order if the query sorts."""
    for some in _chunks(values):
        for row in await rows_of(connection, select, {**(others or {}), "values": some}):
            yield row


async def _execute(connection: AsyncConnection, statement: sa.Executable, rows: Iterable[Row]) -> None:
    """Execute a statement for each row, if there are any."""
    for some in _chunks(rows):
        await connection.execute(statement, some)


def _chunks(things: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(things)
    while some := list(islice(rest, CHUNK)):
        yield some


@cache
def _add_payload(dialect: str) -> Any:
    """Return a statement that inserts a payload, or adds to the uses of an existing one."""
    statement = _insert(dialect, payloads)
    uses = payloads.c.uses + statement.excluded.uses
    return statement.on_conflict_do_update(index_elements=["id"], set_={"uses": uses})


@cache
def _put(dialect: str, table: sa.Table) -> Any:
    """Return a statement that inserts a row or replaces the row with the same key."""
    statement = _insert(dialect, table)
    keys = [column.name for column in table.primary_key]
    others = {column.name: statement.excluded[column.name] for column in table.c if column.name not in keys}
    return statement.on_conflict_do_update(index_elements=keys, set_=others)


def _insert(dialect: str, table: sa.Table) -> Any:
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)


def _state(inbox: Inbox) -> Row:
    return {**structs.asdict(inbox), "gaps": msgspec.json.encode(inbox.gaps).decode()}


def _marks(mark: Mark) -> Row:
    read_at = None if mark.read_at is UNSET else mark.read_at
    return {"which": mark.id, "read": mark.read, "read_at": read_at, "sequence": mark.sequence}


def _row(record: Record) -> Row:
    row = {name: None if value is UNSET else value for name, value in structs.asdict(record).items() if name != "data"}
    return {**row, "own_data": bytes(record.data).decode() if record.payload_id is UNSET else ""}
