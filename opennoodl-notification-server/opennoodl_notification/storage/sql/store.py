"""The store in SQLite or PostgreSQL, through SQLAlchemy.

Nothing is cached in memory. A batch reads the states of its inboxes and its few notifications, and ends with a small
number of statements (`statements.py`). Therefore the cost of a message does not depend on the number of records.
"""

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from msgspec import structs
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from ...edge.errors import StartError
from ...inbox.store import (
    Changes,
    Counts,
    Loaded,
    Needs,
    Query,
    Store,
    StoreError,
    Transaction,
    UnsettledError,
    portions,
)
from ...records import SENDING_SIZE, Deletion, Record
from ...settings import DATABASES
from ..file_lock import FileLock
from ..paths import named
from .engines import (
    copy_sqlite,
    is_pooled,
    postgresql_engine,
    sqlite_engine,
    sqlite_url,
    unnamed_arguments,
    use_named_statements,
)
from .postgresql import is_postgresql, shown
from .schema import UPGRADES, VERSION, deletions, inboxes, notifications, payloads, sendings, versions
from .statements import SCHEMA_LOCK, SELECT_RECORDS, Row, apply, inbox_of, load, numbers, record_of, rows_of, sending_of
from .upgrade import begin_epoch, look_for_tables, make_tables, upgrade, version_of


@asynccontextmanager
async def _failing() -> AsyncIterator[None]:
    """Convert errors of the database and of the connection to `StoreError`."""
    try:
        yield
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        # Not the text of SQLAlchemy's error: it contains the statement and its values.
        raise StoreError(_reason(error)) from error


@asynccontextmanager
async def _closing(connection: AsyncConnection) -> AsyncIterator[None]:
    """Close a connection at the end.

    Closing a lost connection fails, since it cannot roll back. An earlier error has more information, such as whether a
    commit is in doubt, so it is raised instead.
    """
    try:
        yield
    except BaseException:
        with suppress(StoreError):
            async with _failing():
                await connection.close()
        raise
    async with _failing():
        await connection.close()


class SqlTransaction(Transaction):
    """A batch as a transaction of the database."""

    def __init__(self, connection: AsyncConnection, loaded: Loaded) -> None:
        self._connection = connection
        self.loaded = loaded

    async def commit(self, changes: Changes) -> int:
        """Write the changes, and commit."""
        # Without inboxes that were only created to be locked, since their sender was refused.
        used = {inbox.user_id for inbox in changes.inboxes}
        unused = [user for user, inbox in self.loaded.inboxes.items() if inbox.sequence == 0 and user not in used]
        async with _failing():
            freed = await apply(self._connection, structs.replace(changes, forgotten=changes.forgotten + unused))
        try:
            await self._connection.commit()
        except Exception as error:
            # Only an answer of the database proves that nothing was stored; a lost answer may have been a success.
            said = isinstance(error, DBAPIError) and not error.connection_invalidated
            raise (StoreError if said else UnsettledError)(_reason(error)) from error
        return freed


class SqlStore(Store):
    """Inboxes in a database.

    Args:
        url: the URL of the database.
        create: whether to create missing tables.
        read_only: whether to read without a lock, from a file that a server may use.

    Raises:
        StartError: the URL is not valid, or its kind of database is not supported.
    """

    def __init__(self, url: str, *, create: bool = True, read_only: bool = False) -> None:
        self._arguments: dict[str, Any] = {}
        if is_postgresql(url):
            self.exclusive = False
            self._name = shown(url)
            self._arguments = unnamed_arguments(url)
            self._engine = postgresql_engine(self._arguments)
        else:
            parsed = sqlite_url(url)
            self._name = parsed.set(query={}).render_as_string(hide_password=True)  # options may hold a password
            self.file = named(f"the database {self._name}", str(parsed.database)).absolute()
            self._engine = sqlite_engine(parsed, read_only=read_only)
        self._create = create
        self._read_only = read_only
        self._lock: FileLock | None = None
        self._epoch: int | None = None  # None: begin an epoch before the next batch
        sa.event.listen(self._engine.sync_engine, "connect", self._connected)

    async def open(self) -> None:
        """Connect, and create missing tables."""
        try:
            if self.file is not None:
                self._find(self.file)
            await self._connect()
        except StartError:
            await self.close()
            raise

    async def _connect(self) -> None:
        try:
            async with _failing(), self._engine.begin() as connection:
                if self.file is None:
                    await connection.execute(sa.select(sa.func.pg_advisory_xact_lock(SCHEMA_LOCK)))
                problem = await connection.run_sync(make_tables if self._create else look_for_tables)
                if problem is not None:
                    raise StoreError(problem)
                if not self._read_only:
                    await upgrade(connection)
                version = await version_of(connection)
                direct = self.file is None and not await is_pooled(connection)
            if direct:
                use_named_statements(self._arguments)
                await self._engine.dispose()
        except StoreError as error:
            raise StartError(f"the database {self._name} cannot be used: {error}") from None
        except (TypeError, ValueError) as error:  # from PostgreSQL's driver, which gets the URL's options unchanged
            raise StartError(f"the database {self._name} cannot be used: {_reason(error)}; {DATABASES}") from None
        if version != VERSION:
            advice = "; start this version's server to change it" if version in UPGRADES else ""
            raise StartError(f"the database {self._name} has schema {version}; this version knows {VERSION}{advice}")

    def _connected(self, *_: object) -> None:
        """Begin an epoch before the next batch: the database may have lost commits since the last connection."""
        self._epoch = None

    def _find(self, file: Path) -> None:
        """Lock SQLite's file and create it if allowed; only its owner can read it and its side files."""
        if not self._create and not file.exists():
            raise StartError(f"{file} does not exist")
        if not file.exists() or not file.stat().st_size:
            for kind in ("wal", "journal"):
                trace = file.with_name(f"{file.name}-{kind}")
                if trace.exists() and trace.stat().st_size:  # SQLite would start with an empty database and delete it
                    missing = "is empty" if file.exists() else "is missing"
                    raise StartError(
                        f"the database {self._name} {missing}, but {trace.name} exists; restore it from a backup"
                    )
        try:
            os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            if not self._read_only:
                self._lock = FileLock(file.resolve())
        except BlockingIOError:
            raise StartError(f"the database {self._name} is in use by another process") from None
        except OSError as error:
            raise StartError(f"the database {self._name} cannot be used: {error.strerror}") from None

    @asynccontextmanager
    async def transaction(self, needs: Needs) -> AsyncIterator[Transaction]:
        """Begin a batch."""
        async with _failing():
            connection = await self._engine.connect()
        async with _closing(connection):
            async with _failing():
                if self._epoch is None:
                    self._epoch = await begin_epoch(connection)
                loaded = await load(connection, needs)
                loaded.epoch = self._epoch
            yield SqlTransaction(connection, loaded)

    async def page(self, user: str, query: Query, now: str) -> list[Record]:
        """Return notifications of an inbox."""
        table = notifications.c
        select = SELECT_RECORDS.where(table.user_id == user, table.expires_at > now)
        if query.before is not None:
            select = select.where(table.created_at < query.before)
        if query.unread:
            select = select.where(~table.read)
        if query.types:
            select = select.where(table.type.in_(query.types))
        return [record_of(row) for row in await self._rows(select.order_by(table.created_at.desc()).limit(query.limit))]

    async def changed(self, user: str, since: int) -> list[Record | Deletion]:
        """Return the changes of an inbox."""
        select = SELECT_RECORDS.where(notifications.c.user_id == user, notifications.c.sequence > since)
        changed: list[Record | Deletion] = [record_of(row) for row in await self._rows(select)]
        select = sa.select(deletions).where(deletions.c.user_id == user, deletions.c.sequence > since)
        changed += [Deletion(**row) for row in await self._rows(select)]
        return sorted(changed, key=lambda one: one.sequence)

    async def numbers(self, users: Collection[str]) -> dict[str, int]:
        """Return the sequence numbers of inboxes."""
        async with _failing(), self._engine.connect() as connection:
            return await numbers(connection, users)

    async def due(self, now: str, size: int) -> list[str]:
        """Return users whose inboxes have expired records."""
        select = sa.select(inboxes.c.user_id, inboxes.c.total).where(inboxes.c.due <= now)
        rows = await self._rows(select.order_by(inboxes.c.due).limit(size))
        return next(portions(((row["user_id"], row["total"]) for row in rows), size), [])

    async def clean(self, now: str) -> int:
        """Delete expired sendings."""
        async with _failing(), self._engine.begin() as connection:
            key = sendings.c.sender, sendings.c.key
            # Rows that another server is replacing are skipped until the next time.
            expired = sa.select(*key).where(sendings.c.expires_at <= now).with_for_update(skip_locked=True)
            delete = sa.delete(sendings).where(sa.tuple_(*key).in_(expired)).returning(sendings)
            return sum(sending_of(dict(row)).size for row in (await connection.execute(delete)).mappings())

    async def recover(self) -> None:
        """Test whether the database accepts a change: a full or read-only one still answers queries."""
        async with _failing(), self._engine.begin() as connection:
            await upgrade(connection)
            version = await version_of(connection)
            if version != VERSION:  # a later version has upgraded the tables since
                raise StoreError(f"the database has schema {version}; this version knows {VERSION}")
            await connection.execute(sa.update(versions).values(version=VERSION))

    async def newest(self) -> str:
        """Return the time of the newest notification."""
        (row,) = await self._rows(sa.select(sa.func.max(inboxes.c.newest).label("newest")))
        return row["newest"] or ""

    async def counts(self) -> Counts:
        """Count all records."""
        unread = sa.select(sa.func.coalesce(sa.func.sum(inboxes.c.unread), 0)).scalar_subquery()
        tables = (notifications, unread, inboxes, deletions, sendings)
        columns = [
            sa.select(sa.func.count()).select_from(table).scalar_subquery() if isinstance(table, sa.Table) else table
            for table in tables
        ]
        names = Counts._fields
        (row,) = await self._rows(sa.select(*(column.label(name) for column, name in zip(columns, names, strict=True))))
        return Counts(**row)

    async def total(self) -> int:
        """Return the sum of the notifications of all inboxes."""
        (row,) = await self._rows(sa.select(sa.func.sum(inboxes.c.total).label("total")))
        return int(row["total"] or 0)

    async def size(self) -> int:
        """Return the sum of the bytes that inboxes, payloads and sendings count."""
        texts = map(sa.func.length, (sendings.c.sender, sendings.c.key, sendings.c.ids))
        each = (inboxes.c.size, payloads.c.size, sum(texts, sa.literal(SENDING_SIZE)))
        rows = [await self._rows(sa.select(sa.func.sum(one).label("size"))) for one in each]
        return sum(int(row["size"] or 0) for (row,) in rows)  # sums are decimals in PostgreSQL

    async def content(self, size: int) -> AsyncIterator[Changes]:
        """Yield all records, by user."""
        last = ""
        while users := [row["user_id"] for row in await self._rows(_users_after(last, size))]:
            last = users[-1]
            for some in portions(await self._sizes(users), size):
                piece = Changes()
                piece.inboxes = [inbox_of(row) for row in await self._of(inboxes, some)]
                select = SELECT_RECORDS.where(notifications.c.user_id.in_(some))
                records = [record_of(row) for row in await self._rows(select)]
                piece.added = sorted(records, key=lambda record: record.created_at)
                rows = await self._of(deletions, some)
                piece.deletions = sorted((Deletion(**row) for row in rows), key=lambda deletion: deletion.sequence)
                yield piece
        last_key = ("", "")
        keys = sa.tuple_(sendings.c.sender, sendings.c.key)
        while rows := await self._rows(
            sa.select(sendings).where(keys > last_key).order_by(sendings.c.sender, sendings.c.key).limit(size)
        ):
            last_key = (rows[-1]["sender"], rows[-1]["key"])
            yield Changes(sendings=[sending_of(row) for row in rows])

    async def purge(self) -> None:
        """Rebuild SQLite's file without deleted data, and truncate its write-ahead log."""
        if self.file is None:
            return
        async with _failing(), self._engine.connect() as connection:
            database = (await connection.get_raw_connection()).driver_connection
            assert database is not None
            for statement in ("VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"):  # neither may be in a transaction
                await (await database.execute(statement)).close()

    async def back_up(self, path: Path) -> None:
        """Let SQLite copy its database to a file."""
        if self.file is None:
            raise StoreError("a PostgreSQL database is backed up with pg_dump")
        try:
            await asyncio.to_thread(copy_sqlite, self.file, path)
        except sqlite3.Error as error:
            raise StoreError(_reason(error)) from error

    async def close(self) -> None:
        """Disconnect."""
        await self._engine.dispose()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    async def _rows(self, select: sa.Select[Any]) -> list[Row]:
        async with _failing(), self._engine.connect() as connection:
            return await rows_of(connection, select)

    async def _of(self, table: sa.Table, users: list[str]) -> list[Row]:
        return await self._rows(sa.select(table).where(table.c.user_id.in_(users)))

    async def _sizes(self, users: list[str]) -> list[tuple[str, int]]:
        select = sa.select(inboxes.c.user_id, inboxes.c.total).where(inboxes.c.user_id.in_(users))
        sizes = {row["user_id"]: row["total"] for row in await self._rows(select)}
        return [(user, sizes[user]) for user in users]


def _users_after(last: str, size: int) -> sa.Select[Any]:
    return sa.select(inboxes.c.user_id).where(inboxes.c.user_id > last).order_by(inboxes.c.user_id).limit(size)


def _reason(error: BaseException) -> str:
    """Return the reason of the database's failure, without the values of the statement."""
    cause = getattr(error, "orig", None) or error
    text = str(cause) if isinstance(cause, OSError) else str(cause).partition("\n")[0]
    return f"{type(cause).__name__}: {text}" if text else type(cause).__name__
