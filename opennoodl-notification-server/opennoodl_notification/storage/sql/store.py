"""The store in a database, through SQLAlchemy: SQLite or PostgreSQL.

Nothing is kept in memory. A batch reads the states of its inboxes, the few notifications it is about, and ends with a
handful of statements (`statements.py`), so what a message costs does not depend on how much is stored.
"""

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from msgspec import structs
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

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
from .postgresql import SCHEMES, arguments, is_postgresql, shown
from .schema import UPGRADES, VERSION, Text, deletions, inboxes, metadata, notifications, payloads, sendings, versions
from .statements import SCHEMA_LOCK, SELECT_RECORDS, Row, apply, inbox_of, load, numbers, record_of, rows_of, sending_of

DRIVERS = {
    **dict.fromkeys(SCHEMES, "postgresql+asyncpg"),
    **dict.fromkeys(("sqlite", "sqlite+aiosqlite"), "sqlite+aiosqlite"),
}
"""The driver for every kind of URL that is accepted."""
TIMEOUT = 5
"""Seconds after which a database that does not answer has failed."""
IDLE_TIMEOUT = 3
"""Seconds after which PostgreSQL frees the inboxes that an instance has locked and then stands still. Others wait."""
UNNAMED: dict[str, Any] = {
    "statement_cache_size": 0,
    "prepared_statement_cache_size": 0,
    "prepared_statement_name_func": lambda: "",
}
"""Arguments for connections without named prepared statements, which a pooler may hand to another client."""


def spelled_out(url: str) -> str:
    """Return one spelling of a URL: the path of SQLite's file, or what PostgreSQL's driver is given."""
    if is_postgresql(url):
        return str(arguments(url, TIMEOUT)["dsn"])
    return str(Path(str(_sqlite_url(url).database)).resolve())


@asynccontextmanager
async def _failing() -> AsyncIterator[None]:
    """Turn whatever the database and the way to it may raise into `StoreError`."""
    try:
        yield
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        # Not the text of SQLAlchemy's errors: it has the statement and its values in it.
        raise StoreError(_reason(error)) from error


class SqlTransaction(Transaction):
    """A batch in a transaction of the database."""

    def __init__(self, connection: AsyncConnection, loaded: Loaded) -> None:
        self._connection = connection
        self.loaded = loaded

    async def commit(self, changes: Changes) -> int:
        """Make changes, and bring them to disk."""
        # An inbox that was made to be locked, and then got nothing: its sender was refused.
        used = {inbox.user_id for inbox in changes.inboxes}
        unused = [user for user, inbox in self.loaded.inboxes.items() if inbox.sequence == 0 and user not in used]
        async with _failing():
            freed = await apply(self._connection, structs.replace(changes, forgotten=changes.forgotten + unused))
        try:
            await self._connection.commit()
        except Exception as error:
            # The database's own word is that nothing was stored; without it, its answer may be what was lost.
            said = isinstance(error, DBAPIError) and not error.connection_invalidated
            raise (StoreError if said else UnsettledError)(_reason(error)) from error
        return freed


class SqlStore(Store):
    """Inboxes in a database.

    Args:
        url: of the database.
        create: whether the tables are made if they are not there.
        read_only: whether to look without a lock, at a file that a server may be using.

    Raises:
        StartError: the URL is wrong, or names no such kind of database.
    """

    def __init__(self, url: str, *, create: bool = True, read_only: bool = False) -> None:
        self._arguments: dict[str, Any] = {}
        self._file: Path | None = None
        if is_postgresql(url):
            self.exclusive = False
            self._name = shown(url)
            # Until it is known that no pooler is in between, no statement is given a name.
            self._arguments = arguments(url, TIMEOUT) | UNNAMED
            self._engine = _postgresql_engine(self._arguments)
        else:
            parsed = _sqlite_url(url)
            self._name = parsed.set(query={}).render_as_string(hide_password=True)  # a query may hold a password, too
            self._file = named(f"the database {self._name}", str(parsed.database))
            self.directory = self._file.absolute().parent
            self._engine = _sqlite_engine(parsed)
        self._create = create
        self._read_only = read_only
        self._lock: FileLock | None = None
        self._epoch: int | None = None  # none yet, or another one has to begin
        sa.event.listen(self._engine.sync_engine, "connect", self._connected)

    async def open(self) -> None:
        """Connect, and make the tables if there are none."""
        try:
            if self._file is not None:
                self._find(self._file)
            await self._connect()
        except StartError:
            await self.close()
            raise

    async def _connect(self) -> None:
        try:
            async with _failing(), self._engine.begin() as connection:
                if self._file is None:
                    await connection.execute(sa.select(sa.func.pg_advisory_xact_lock(SCHEMA_LOCK)))
                strange = await connection.run_sync(_make_tables if self._create else _look_for_tables)
                if strange is not None:
                    raise StoreError(strange)
                if not self._read_only:
                    await _upgrade(connection)
                version = await _version(connection)
                direct = self._file is None and not await _is_pooled(connection)
            if direct:  # the database itself keeps what it has prepared for this connection
                for name in UNNAMED:
                    self._arguments.pop(name, None)
                self._arguments["server_settings"] = {"idle_in_transaction_session_timeout": str(1000 * IDLE_TIMEOUT)}
                await self._engine.dispose()
        except StoreError as error:
            raise StartError(f"the database {self._name} cannot be used: {error}") from None
        except (TypeError, ValueError) as error:  # PostgreSQL's driver is given the URL's options as they are
            raise StartError(f"the database {self._name} cannot be used: {_reason(error)}; {DATABASES}") from None
        if version != VERSION:
            way_out = "; start this version's server to change it" if version in UPGRADES else ""
            raise StartError(f"the database {self._name} has schema {version}; this version knows {VERSION}{way_out}")

    def _connected(self, *_: object) -> None:
        """Begin another epoch before the next batch: the database may have lost something since it was last heard."""
        self._epoch = None

    def _find(self, file: Path) -> None:
        """Lock SQLite's file, made if it may be; like the other files, it is its owner's alone."""
        if not self._create and not file.exists():
            raise StartError(f"{file} is not there")
        if not file.exists() or not file.stat().st_size:
            for kind in ("wal", "journal"):
                trace = file.with_name(f"{file.name}-{kind}")
                if trace.exists() and trace.stat().st_size:  # SQLite would begin anew, and delete it
                    missing = "is empty" if file.exists() else "is missing"
                    raise StartError(
                        f"the database {self._name} {missing}, but {trace.name} is there; restore it from a backup"
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
        try:
            async with _failing():
                if self._epoch is None:
                    self._epoch = await _begin_epoch(connection)
                loaded = await load(connection, needs)
                loaded.epoch = self._epoch
            yield SqlTransaction(connection, loaded)
        finally:
            await connection.close()

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
        """Return what changed in an inbox."""
        select = SELECT_RECORDS.where(notifications.c.user_id == user, notifications.c.sequence > since)
        changed: list[Record | Deletion] = [record_of(row) for row in await self._rows(select)]
        select = sa.select(deletions).where(deletions.c.user_id == user, deletions.c.sequence > since)
        changed += [Deletion(**row) for row in await self._rows(select)]
        return sorted(changed, key=lambda one: one.sequence)

    async def numbers(self, users: Collection[str]) -> dict[str, int]:
        """Return the numbers of inboxes."""
        async with _failing(), self._engine.connect() as connection:
            return await numbers(connection, users)

    async def due(self, now: str, size: int) -> list[str]:
        """Return users in whose inboxes something is to be done."""
        select = sa.select(inboxes.c.user_id, inboxes.c.total).where(inboxes.c.due <= now)
        rows = await self._rows(select.order_by(inboxes.c.due).limit(size))
        return next(portions(((row["user_id"], row["total"]) for row in rows), size), [])

    async def clean(self, now: str) -> int:
        """Forget sendings that have expired."""
        async with _failing(), self._engine.begin() as connection:
            key = sendings.c.sender, sendings.c.key
            # What another server is about to replace is left to the next time.
            expired = sa.select(*key).where(sendings.c.expires_at <= now).with_for_update(skip_locked=True)
            delete = sa.delete(sendings).where(sa.tuple_(*key).in_(expired)).returning(sendings)
            return sum(sending_of(dict(row)).size for row in (await connection.execute(delete)).mappings())

    async def recover(self) -> None:
        """Return if the database takes a change: one that is full, or a copy of another, still answers."""
        async with _failing(), self._engine.begin() as connection:
            await _upgrade(connection)
            version = await _version(connection)
            if version != VERSION:  # a later one has taken it over meanwhile
                raise StoreError(f"the database has schema {version}; this version knows {VERSION}")
            await connection.execute(sa.update(versions).values(version=VERSION))

    async def newest(self) -> str:
        """Return when the newest notification came in."""
        (row,) = await self._rows(sa.select(sa.func.max(inboxes.c.newest).label("newest")))
        return row["newest"] or ""

    async def counts(self) -> Counts:
        """Count everything."""
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
        """Add up the notifications of the inboxes."""
        (row,) = await self._rows(sa.select(sa.func.sum(inboxes.c.total).label("total")))
        return int(row["total"] or 0)

    async def size(self) -> int:
        """Add up the bytes for which inboxes, payloads and sendings count."""
        texts = map(sa.func.length, (sendings.c.sender, sendings.c.key, sendings.c.ids))
        each = (inboxes.c.size, payloads.c.size, sum(texts, sa.literal(SENDING_SIZE)))
        rows = [await self._rows(sa.select(sa.func.sum(one).label("size"))) for one in each]
        return sum(int(row["size"] or 0) for (row,) in rows)  # PostgreSQL's sums are decimals

    async def content(self, size: int) -> AsyncIterator[Changes]:
        """Yield everything, by user."""
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
        """Write SQLite's file anew, without what was deleted, and empty its write-ahead log."""
        if self._file is None:
            return
        async with _failing(), self._engine.connect() as connection:
            database = (await connection.get_raw_connection()).driver_connection
            assert database is not None
            for statement in ("VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"):  # neither may be in a transaction
                await (await database.execute(statement)).close()

    async def back_up(self, path: Path) -> None:
        """Have SQLite write its database to a file."""
        if self._file is None:
            raise StoreError("a PostgreSQL database is backed up with pg_dump")
        try:
            await asyncio.to_thread(_copy_sqlite, self._file, path)
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


async def _version(connection: AsyncConnection) -> int:
    """Return which tables the database has; where nothing says so yet, they are this version's."""
    version: int | None = (await connection.execute(sa.select(versions.c.version))).scalar()
    return VERSION if version is None else version


async def _upgrade(connection: AsyncConnection) -> None:
    """Change the tables of a former version into those of this one, and say which ones they are."""
    version = await _version(connection)
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


async def _begin_epoch(connection: AsyncConnection) -> int:
    """Begin an epoch that is later than all that this state of the database knows; return it."""
    statement = sa.update(versions).values(epoch=versions.c.epoch + 1).returning(versions.c.epoch)
    epoch: int = (await connection.execute(statement)).scalar_one()
    await connection.commit()
    return epoch


def _look_for_tables(connection: sa.Connection) -> str | None:
    """Return why these are not this server's tables, if they are not."""
    return None if sa.inspect(connection).has_table(versions.name) else "it has no table of this server"


def _make_tables(connection: sa.Connection) -> str | None:
    """Make the tables, if there are none; return why they cannot be made, if they cannot."""
    there = set(sa.inspect(connection).get_table_names())
    if versions.name not in there and (others := sorted(there & metadata.tables.keys())):
        return f"it has a table `{others[0]}` that is not this server's; use a database of its own"
    metadata.create_all(connection)
    return None


def _sqlite_url(text: str) -> sa.URL:
    try:
        url = sa.make_url(text)
    except (ArgumentError, ValueError):
        raise StartError(f"DATABASE_URL cannot be read; {DATABASES}") from None
    driver = DRIVERS.get(url.drivername)
    if driver is None:
        raise StartError(f"DATABASE_URL names {url.drivername!r}; accepted are: {', '.join(DRIVERS)}")
    # A database in memory would be lost with its connection, and what begins with `file:` may be one.
    if (url.database or ":memory:").startswith((":memory:", "file:")) or url.query.get("mode") == "memory":
        raise StartError(f"DATABASE_URL names no file in which SQLite could keep anything; {DATABASES}")
    return url.set(drivername=driver)


def _sqlite_engine(url: sa.URL) -> AsyncEngine:
    try:
        # One connection: it is the one writer, and one that waits for another's lock would hold up everybody.
        engine = create_async_engine(url, pool_size=1, max_overflow=0, connect_args={"timeout": TIMEOUT})
    except NoSuchModuleError as error:
        raise StartError(f"DATABASE_URL cannot be used: {error}") from None
    except (ArgumentError, TypeError, ValueError):  # their text may have the URL in it, and several lines
        raise StartError(f"DATABASE_URL has a host or options that its driver refuses; {DATABASES}") from None
    sa.event.listen(engine.sync_engine, "connect", _set_up_sqlite)
    sa.event.listen(engine.sync_engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return engine


def _postgresql_engine(arguments: dict[str, Any]) -> AsyncEngine:
    """Return what makes each connection with these arguments, as they are by then."""
    engine = create_async_engine("postgresql+asyncpg://", pool_size=2, max_overflow=0, pool_pre_ping=True)
    sa.event.listen(engine.sync_engine, "do_connect", lambda *connecting: connecting[-1].update(arguments))
    return engine


async def _is_pooled(connection: AsyncConnection) -> bool:
    """Return whether a pooler such as pgbouncer is in between: it names another process than the one that answers."""
    driver = (await connection.get_raw_connection()).driver_connection
    assert driver is not None
    told: int = driver.get_server_pid()
    return told != (await connection.execute(sa.select(sa.func.pg_backend_pid()))).scalar()


def _set_up_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions begin where SQLAlchemy says, not where the driver thinks
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")  # a commit is on disk when it returns
    cursor.execute("PRAGMA cache_size = -65536")  # KiB: a batch touches the indexes of many users
    cursor.close()


def _copy_sqlite(file: Path, copy: Path) -> None:
    """Write a database to a file, which is on the disk when this returns."""
    os.close(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("VACUUM INTO ?", (str(copy),))


def _users_after(last: str, size: int) -> sa.Select[Any]:
    return sa.select(inboxes.c.user_id).where(inboxes.c.user_id > last).order_by(inboxes.c.user_id).limit(size)


def _reason(error: BaseException) -> str:
    """Return why the database failed, without what was to be stored."""
    cause = getattr(error, "orig", None) or error
    text = str(cause) if isinstance(cause, OSError) else str(cause).partition("\n")[0]
    return f"{type(cause).__name__}: {text}" if text else type(cause).__name__
