"""What only databases have: URLs, schemas, connections that end, and errors that must not tell what was stored."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from opennoodl_notification.edge.errors import StartError
from opennoodl_notification.inbox.store import Changes, Needs, Query, StoreError, UnsettledError
from opennoodl_notification.records import Inbox, timestamp
from opennoodl_notification.storage.choose import choose
from opennoodl_notification.storage.sql import engines
from opennoodl_notification.storage.sql.schema import VERSION, versions
from opennoodl_notification.storage.sql.store import SqlStore, SqlTransaction
from sqlalchemy.ext.asyncio import AsyncConnection

from ...harness import NOW, record
from ...places import place

pytestmark = pytest.mark.slow

EARLY = timestamp(NOW * 1000)
FORMER = (
    "create table opennoodl_schema (version integer primary key)",
    "insert into opennoodl_schema values (1)",
    "create table inboxes (user_id text primary key, sequence bigint not null, total integer not null, "
    "unread integer not null, newest text not null, due text not null, cleared bigint not null)",
    "insert into inboxes values ('u', 9, 1, 0, '', '', 0)",
    "create table notifications (id text primary key, user_id text not null, from_user_id text not null, "
    "type text not null, data text not null, read boolean not null, created_at text not null, "
    "expires_at text not null, read_at text, born bigint not null, sequence bigint not null)",
)
"""As much of a database of schema 1 as the later ones change."""


@pytest.fixture(params=["sqlite", "postgresql"])
def at(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return where an empty database of each kind is."""
    return place(request.param, tmp_path)


@pytest.fixture
def postgresql(tmp_path: Path) -> str:
    """Return where an empty PostgreSQL is."""
    return place("postgresql", tmp_path)


@pytest.fixture
async def store(at: str) -> AsyncIterator[SqlStore]:
    """Open an empty database."""
    store = SqlStore(at)
    await store.open()
    yield store
    await store.close()


async def commit(store: SqlStore, changes: Changes) -> None:
    """Store changes."""
    async with store.transaction(Needs(EARLY, 0)) as transaction:
        await transaction.commit(changes)


async def test_failed_commit_keeps_nothing(store: SqlStore) -> None:
    """Of a commit that fails in the middle nothing is kept; the error does not quote it, and the next one works."""
    await commit(store, Changes(added=[record("there")]))
    with pytest.raises(StoreError) as info:
        await commit(
            store,
            Changes(removed=["there"], added=[record("new"), record("twice", data=b'"secret"'), record("twice")]),
        )
    assert "secret" not in str(info.value)
    assert "\n" not in str(info.value)
    assert [one.id for one in await store.page("u", Query(10), EARLY)] == ["there"]
    await commit(store, Changes(added=[record("new")]))
    assert (await store.counts()).notifications == 2


async def test_nothing_without_a_commit(store: SqlStore) -> None:
    """A batch that changes nothing, or fails before it is stored, leaves the database free for the next one."""
    with pytest.raises(RuntimeError):
        async with store.transaction(Needs(EARLY, 0)):
            raise RuntimeError("nobody thought of this")
    async with store.transaction(Needs(EARLY, 0)):
        pass
    await commit(store, Changes(inboxes=[Inbox(user_id="u", sequence=1)]))


async def test_newer_schema_is_refused(store: SqlStore, at: str) -> None:
    """A database that a later version has made is left alone."""
    async with store._engine.begin() as connection:
        await connection.execute(sa.update(versions).values(version=VERSION + 1))
    await store.close()
    with pytest.raises(StartError, match=f"schema {VERSION + 1}; this version knows {VERSION}"):
        await SqlStore(at).open()


async def test_former_schema_is_migrated_at_the_start(at: str) -> None:
    """A database of the former version is changed at the start, and keeps what it holds; a look changes nothing."""
    store = SqlStore(at)
    async with store._engine.begin() as connection:
        for statement in FORMER:
            await connection.execute(sa.text(statement))
    await store.close()
    looking = SqlStore(at, create=False, read_only=True)
    with pytest.raises(StartError, match=f"has schema 1; this version knows {VERSION}; start this version's server"):
        await looking.open()
    for _ in range(2):
        store = SqlStore(at)
        await store.open()
        needs = Needs(EARLY, 0)
        needs.users["u"] = 1
        async with store.transaction(needs) as transaction:
            assert transaction.loaded.inboxes == {"u": Inbox(user_id="u", sequence=9, total=1, size=2048)}
        async with store._engine.connect() as connection:
            assert (await connection.execute(sa.select(versions.c.version))).scalars().all() == [VERSION]
        await store.close()


@pytest.mark.parametrize("error", [None, UnsettledError("nobody knows")])
async def test_connection_that_ends_during_a_batch(postgresql: str, error: UnsettledError | None) -> None:
    """A batch whose connection has ended fails as one of a store, with the error that it has raised itself, if any."""
    store, other = SqlStore(postgresql), SqlStore(postgresql)
    await store.open()
    await other.open()
    needs = Needs(EARLY, 0)
    needs.users["u"] = 1

    async def fail() -> None:
        async with store.transaction(needs):
            end = "select pg_terminate_backend(pid, 10000) from pg_stat_activity where state = 'idle in transaction'"
            async with other._engine.connect() as connection:
                assert (await connection.execute(sa.text(end))).scalars().all() == [True]
            if error is not None:
                raise error

    with pytest.raises(StoreError) as info:
        await fail()
    assert error is None or info.value is error
    await commit(store, Changes(added=[record("next")]))
    await store.close()
    await other.close()


async def test_epoch_of_each_connection(postgresql: str) -> None:
    """A connection that is made anew begins an epoch: the database may have been set back, or be another one."""
    store = SqlStore(postgresql)
    await store.open()
    epochs = []
    for _ in range(3):
        for _ in range(2):
            async with store.transaction(Needs(EARLY, 0)) as transaction:
                epochs.append(transaction.loaded.epoch)
        await store._engine.dispose()
    assert epochs == [1, 1, 2, 2, 3, 3]
    await store.close()


async def test_database_without_tables_is_refused_by_readers(postgresql: str) -> None:
    """A reader does not take a database without tables for an empty store."""
    with pytest.raises(StartError, match="it has no table of this server"):
        await SqlStore(postgresql, create=False).open()


async def test_foreign_table_of_our_name_is_refused(at: str) -> None:
    """A database in which a table has a name of ours and is not is left alone."""
    store = SqlStore(at)
    theirs = sa.Table("notifications", sa.MetaData(), sa.Column("text", sa.Text))
    async with store._engine.begin() as connection:
        await connection.run_sync(theirs.create)
    with pytest.raises(StartError, match="a table `notifications` that is not this server's"):
        await store.open()
    store = SqlStore(at)
    async with store._engine.begin() as connection:
        assert await connection.run_sync(lambda one: sa.inspect(one).get_table_names()) == ["notifications"]
        await connection.run_sync(theirs.drop)
    await store.close()


async def test_sqlite_file_is_private(tmp_path: Path) -> None:
    """SQLite's files can be read by their owner alone, and a reader creates none."""
    with pytest.raises(StartError, match="does not exist"):
        await SqlStore(place("sqlite", tmp_path), create=False).open()
    assert os.listdir(tmp_path) == []
    store = SqlStore(place("sqlite", tmp_path))
    await store.open()
    await commit(store, Changes(added=[record("n")]))
    assert {mode(tmp_path / name) for name in os.listdir(tmp_path)} == {0o600}
    await store.close()


def mode(file: Path) -> int:
    """Return who may read and write a file."""
    return file.stat().st_mode & 0o777


@pytest.mark.parametrize("empty", [False, True])
async def test_log_without_its_file(tmp_path: Path, empty: bool) -> None:
    """A database of SQLite that is missing or empty beside its write-ahead log is not begun anew."""
    url, file = place("sqlite", tmp_path), tmp_path / "notifications.sqlite"
    log = tmp_path / "notifications.sqlite-wal"
    store = SqlStore(url)
    await store.open()
    await commit(store, Changes(added=[record("n")]))
    killed = {path: await asyncio.to_thread(path.read_bytes) for path in (file, log)}
    await store.close()
    await asyncio.to_thread(log.write_bytes, killed[log])
    await asyncio.to_thread(file.write_bytes if empty else lambda _: file.unlink(), b"")
    told = "is empty" if empty else "is missing"
    with pytest.raises(StartError, match=f"{told}, but notifications.sqlite-wal exists; restore it from a backup"):
        await SqlStore(url).open()
    assert await asyncio.to_thread(log.read_bytes) == killed[log]
    assert file.exists() is empty
    await asyncio.to_thread(file.write_bytes, killed[file])
    store = SqlStore(url)
    await store.open()
    assert (await store.counts()).notifications == 1
    await store.close()


async def test_sqlite_file_has_one_process_at_a_time(tmp_path: Path) -> None:
    """One process at a time uses SQLite's file, except for readers."""
    url = place("sqlite", tmp_path)
    store = SqlStore(url)
    await store.open()
    with pytest.raises(StartError, match="in use by another process"):
        await SqlStore(url).open()
    looking = SqlStore(url, create=False, read_only=True)
    await looking.open()
    assert (await looking.counts()).notifications == 0
    await looking.close()
    await store.close()
    again = SqlStore(url)
    await again.open()
    await again.close()


async def test_sqlite_reader_and_server_do_not_wait_for_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command that reads SQLite's file is not refused while the server stores, and the server can store meanwhile."""
    monkeypatch.setattr(engines, "TIMEOUT", 0)
    url = place("sqlite", tmp_path)
    store, looking = SqlStore(url), SqlStore(url, create=False, read_only=True)
    await store.open()
    async with store.transaction(Needs(EARLY, 0)) as transaction:
        await looking.open()
        async with looking._engine.connect() as reading:
            await reading.execute(sa.select(versions.c.version))
            await transaction.commit(Changes(added=[record("new")]))
    assert (await looking.counts()).notifications == 1
    await looking.close()
    await store.close()


async def test_sqlite_syncs_each_commit(tmp_path: Path) -> None:
    """SQLite brings each commit to disk."""
    store = SqlStore(place("sqlite", tmp_path))
    await store.open()
    async with store._engine.connect() as connection:
        synchronous = (await connection.exec_driver_sql("PRAGMA synchronous")).scalar()
        mode = (await connection.exec_driver_sql("PRAGMA journal_mode")).scalar()
    assert (synchronous, mode) == (2, "wal")
    await store.close()


async def test_closed_connection_fails_only_one_batch(postgresql: str) -> None:
    """A connection that PostgreSQL ends costs the batch that was under way, and no later one."""
    store = SqlStore(postgresql)
    await store.open()
    pid = sa.select(sa.func.pg_backend_pid())
    async with store.transaction(Needs(EARLY, 0)) as transaction:
        assert isinstance(transaction, SqlTransaction)
        victim = (await transaction._connection.execute(pid)).scalar()
        async with store._engine.connect() as other:
            await other.execute(sa.select(sa.func.pg_terminate_backend(victim)))
        with pytest.raises(StoreError):
            await transaction.commit(Changes(added=[record("lost")]))
    await store.recover()
    await commit(store, Changes(added=[record("kept")]))
    assert [one.id for one in await store.page("u", Query(10), EARLY)] == ["kept"]
    await store.close()


@pytest.mark.parametrize(
    ("url", "driver"),
    [
        ("postgres://u:p@host:1/name", "postgresql+asyncpg"),
        ("postgresql://u:p@host/name?sslmode=require", "postgresql+asyncpg"),
        ("postgresql+asyncpg://host/name", "postgresql+asyncpg"),
        ("sqlite:////data/file.sqlite", "sqlite+aiosqlite"),
        ("sqlite+aiosqlite:///file.sqlite", "sqlite+aiosqlite"),
    ],
)
def test_common_urls_are_accepted(url: str, driver: str) -> None:
    """URLs are taken as hosts write them."""
    assert SqlStore(url)._engine.url.drivername == driver


@pytest.mark.parametrize("url", ["mysql://u:secret@host/name", "postgresql+psycopg2://u:secret@host/name", "://secret"])
def test_other_databases_are_refused(url: str) -> None:
    """Another kind of database is refused in one line, without the password."""
    with pytest.raises(StartError) as info:
        choose(url)
    assert "DATABASE_URL" in str(info.value)
    assert "secret" not in str(info.value)
    assert "\n" not in str(info.value)


@pytest.mark.parametrize(
    "url",
    [
        *("sqlite://", "sqlite:///", "sqlite+aiosqlite:///:memory:", "sqlite:///:memory:?cache=shared"),
        *("sqlite:///file::memory:?uri=true", "sqlite:///file:a?mode=memory&uri=true", "sqlite:///a?mode=memory"),
        *("sqlite://u:secret@host/name", "sqlite:////nowhere/name?timeout=secret"),
    ],
)
def test_invalid_sqlite_urls_are_refused(url: str) -> None:
    """A SQLite URL without a file or with unknown options is refused in one line that names the accepted form."""
    with pytest.raises(StartError, match=r"DATABASE_URL .* accepted are .*sqlite:////") as info:
        choose(url)
    assert "secret" not in str(info.value)
    assert "\n" not in str(info.value)


async def test_options_that_are_refused(postgresql: str) -> None:
    """An option that PostgreSQL does not know is named in one line."""
    with pytest.raises(StartError, match=r"cannot be used: .*parameter \"nonsense\"") as info:
        await SqlStore(f"{postgresql}{'&' if '?' in postgresql else '?'}nonsense=1").open()
    assert "\n" not in str(info.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:secret@127.0.0.1:1/name",
        "postgresql://u@127.0.0.1:1/name?password=secret",
        "sqlite:////nowhere/at/all.sqlite",
    ],
)
async def test_unreachable_database_is_named(url: str) -> None:
    """A database that cannot be reached is named in one line, without the password."""
    with pytest.raises(StartError) as info:
        await SqlStore(url).open()
    assert "cannot be used" in str(info.value)
    assert "secret" not in str(info.value)
    assert "\n" not in str(info.value)


async def test_answer_that_is_lost(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the database does not say whether it has made a commit, nobody is told that it was not made."""
    real = AsyncConnection.commit
    await commit(store, Changes())

    async def commit_(connection: AsyncConnection) -> None:
        await real(connection)
        raise TimeoutError

    with monkeypatch.context() as patch:
        patch.setattr(AsyncConnection, "commit", commit_)
        with pytest.raises(UnsettledError):
            await commit(store, Changes(added=[record("there")]))
    assert (await store.counts()).notifications == 1


async def test_commit_that_is_refused(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the database says that it has not made a commit, that is so."""

    async def commit_(_connection: AsyncConnection) -> None:
        raise sa.exc.OperationalError("COMMIT", {}, Exception("disk is full"))

    monkeypatch.setattr(AsyncConnection, "commit", commit_)
    with pytest.raises(StoreError, match="disk is full") as info:
        await commit(store, Changes(added=[record("there")]))
    assert not isinstance(info.value, UnsettledError)


async def test_connection_that_ends_before_the_commit(postgresql: str) -> None:
    """When the connection has ended by the time of the commit, nobody knows whether that was made."""
    store = SqlStore(postgresql)
    await store.open()
    async with store.transaction(Needs(EARLY, 0)) as transaction:
        assert isinstance(transaction, SqlTransaction)
        victim = (await transaction._connection.execute(sa.select(sa.func.pg_backend_pid()))).scalar()
        async with store._engine.connect() as other:
            await other.execute(sa.select(sa.func.pg_terminate_backend(victim)))
        with pytest.raises(UnsettledError):
            await transaction.commit(Changes())
    await store.close()


async def test_recovery_leaves_a_newer_schema(store: SqlStore) -> None:
    """A server that finds the database of a later version does not take it for its own."""
    async with store._engine.begin() as connection:
        await connection.execute(sa.update(versions).values(version=VERSION + 1))
    with pytest.raises(StoreError, match=f"schema {VERSION + 1}; this version knows {VERSION}"):
        await store.recover()
    async with store._engine.connect() as connection:
        assert (await connection.execute(sa.select(versions.c.version))).scalars().all() == [VERSION + 1]


async def test_recovery_without_a_version(store: SqlStore) -> None:
    """Where nothing says which version the tables are, the recovery does."""
    async with store._engine.begin() as connection:
        await connection.execute(sa.delete(versions))
    for _ in range(2):
        await store.recover()
    async with store._engine.connect() as connection:
        assert (await connection.execute(sa.select(versions.c.version))).scalars().all() == [VERSION]
