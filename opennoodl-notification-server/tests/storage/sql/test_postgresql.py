"""PostgreSQL as hosts offer it: URLs written for libpq, and a pooler in front of the database."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from pathlib import Path

import asyncpg.connection
import pytest
import sqlalchemy as sa
from opennoodl_notification.edge.errors import StartError
from opennoodl_notification.inbox.store import Changes, Needs, Query
from opennoodl_notification.storage.sql import engines
from opennoodl_notification.storage.sql.postgresql import arguments, shown
from opennoodl_notification.storage.sql.store import SqlStore

from ...harness import TIMEOUT, record
from ...places import place
from ...pooler import pooler

pytestmark = pytest.mark.slow


@pytest.fixture
def at(tmp_path: Path) -> str:
    """Return where an empty PostgreSQL is; the last part of its URL is the directory of its socket."""
    return place("postgresql", tmp_path)


@pytest.fixture
def pooled(at: str) -> Iterator[str]:
    """Return the URL of a pgbouncer in front of that, with one connection for all."""
    with pooler(at, 1) as url:
        yield url


async def test_servers_work_behind_a_pooler(pooled: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind a pooler in transaction mode servers start and store, one after the other and at the same time."""
    monkeypatch.setattr(engines, "TIMEOUT", TIMEOUT)  # the last of 20 queries waits for all that share the connection
    stores = [SqlStore(pooled) for _ in range(4)]
    for number, store in enumerate(stores):
        # The driver numbers statements in each process anew.
        monkeypatch.setattr(asyncpg.connection, "_uid", 0)
        await store.open()
        async with store.transaction(Needs("", 0)) as transaction:
            await transaction.commit(Changes(added=[record(str(number), created=number)]))
        for former in stores[:number]:  # these have prepared their statements on the connection that is now another's
            assert len(await former.page("u", Query(9), "")) == number + 1
    await asyncio.gather(*(store.counts() for store in stores * 5))
    for store in stores:
        await store.close()


async def test_statements_are_prepared_only_without_a_pooler(at: str, pooled: str) -> None:
    """Statements are prepared once for each connection to the database itself, and never behind a pooler."""
    prepared = sa.text("select count(*) from pg_prepared_statements")
    for url, some in ((at, True), (pooled, False)):
        store = SqlStore(url)
        await store.open()
        await store.counts()
        async with store._engine.connect() as connection:
            count = (await connection.execute(prepared)).scalar_one()
        assert (count > 0) is some
        await store.close()


@pytest.mark.parametrize(
    "options",
    [
        "channel_binding=require",
        "channel_binding=prefer&gssencmode=disable&keepalives=1&keepalives_idle=30",
        "sslmode=prefer&connect_timeout=10",
        "ssl=prefer",
        "target_session_attrs=read-write",
        "client_encoding=utf8",
    ],
)
async def test_libpq_options_in_a_url_are_accepted(at: str, options: str) -> None:
    """Options that hosts write into their URLs for libpq are accepted."""
    store = SqlStore(f"{at}&{options}")
    await store.open()
    assert (await store.counts()).notifications == 0
    await store.close()


async def test_settings_of_the_session(at: str) -> None:
    """`application_name` and `options` come to the database."""
    store = SqlStore(f"{at}&application_name=a%20name&options=-c%20work_mem%3D1234kB")
    await store.open()
    async with store._engine.connect() as connection:
        row = (
            await connection.execute(sa.text("select current_setting('application_name'), current_setting('work_mem')"))
        ).one()
    assert tuple(row) == ("a name", "1234kB")
    await store.close()


async def test_first_host_that_answers_is_used(at: str) -> None:
    """Of several hosts in one URL the first that answers is taken."""
    socket = at.partition("?host=")[2]
    store = SqlStore(f"postgresql://postgres@/postgres?host=127.0.0.1,{socket}&port=1,5432")
    await store.open()
    assert (await store.counts()).notifications == 0
    await store.close()


def test_several_hosts_in_the_usual_place() -> None:
    """Several hosts may stand where one does."""
    url = "postgresql://u:p@one:5432,two:5433,[::1]:5434/name?target_session_attrs=read-write"
    assert arguments(url, 5)["dsn"] == url
    assert shown(url) == "postgresql://u:***@one:5432,two:5433,[::1]:5434/name"


@pytest.mark.parametrize(
    ("options", "checks_name"),
    [
        ("sslmode=verify-full", True),
        ("sslmode=verify-ca", False),
        ("sslmode=verify-full&sslrootcert=system", True),
        ("sslrootcert=system", True),
    ],
)
def test_certificates_of_the_system(options: str, checks_name: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the URL names no file of certificates, the system's certificates verify the database."""
    monkeypatch.setenv("HOME", "/nowhere")
    made = arguments(f"postgresql://u:p@host/name?{options}", 5)
    assert (made["ssl"].verify_mode, made["ssl"].check_hostname) == (ssl.CERT_REQUIRED, checks_name)
    assert made["dsn"] == "postgresql://u:p@host/name"


def test_certificates_of_a_file(tmp_path: Path) -> None:
    """A file of certificates is the driver's to read; one that is not there is named."""
    file = tmp_path / "root.crt"
    url = f"postgresql://u:secret@host/name?sslmode=verify-full&sslrootcert={file}"
    with pytest.raises(StartError, match=rf"names '{file}' as its sslrootcert, a file that cannot be read") as info:
        arguments(url, 5)
    assert "secret" not in str(info.value)
    file.touch()
    made = arguments(url, 5)
    assert "ssl" not in made
    assert made["dsn"].count("sslrootcert=") == 1


@pytest.mark.parametrize(("options", "seconds"), [("", 5), ("?connect_timeout=30", 30), ("?connect_timeout=0", 5)])
def test_url_sets_the_connect_timeout(options: str, seconds: int) -> None:
    """The URL may say how long it may take to connect; 0, libpq's word for ever, does not count."""
    made = arguments(f"postgresql://u@host/name{options}", 5)
    assert (made["timeout"], made["command_timeout"]) == (seconds, 5)


@pytest.mark.parametrize("password", ["sec@ret", "sec/ret", "sec?ret", "sec#ret", "se@c@ret", "sec/r@et"])
def test_password_that_is_not_encoded(password: str) -> None:
    """A character that has a meaning in URLs stops the start, which says how to encode it and shows no part of it."""
    with pytest.raises(StartError, match="percent-encoded") as info:
        SqlStore(f"postgresql://user:{password}@host/name")
    assert "ret" not in str(info.value)
    assert "se" + "c" not in str(info.value)
    assert "\n" not in str(info.value)


def test_password_that_is_encoded() -> None:
    """An encoded password goes to the driver as it is, and is not shown."""
    url = "postgresql://user:s%40e%2Fc%3Fr%23et@host/name"
    assert arguments(url, 5)["dsn"] == url
    assert shown(url) == "postgresql://user:***@host/name"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:secret",
        "postgresql://host:secret/name",
        "postgresql://[secret/name",
        "postgresql://host/name?secret",
        "postgresql://host/name?connect_timeout=secret",
    ],
)
def test_unreadable_url_is_refused_without_its_password(url: str) -> None:
    """A URL that cannot be read is refused in one line, with nothing of it that may be a password."""
    with pytest.raises(StartError, match="DATABASE_URL") as info:
        SqlStore(url)
    assert "secret" not in str(info.value)
    assert "\n" not in str(info.value)


async def test_certificate_that_cannot_be_read(tmp_path: Path) -> None:
    """A file that is none of certificates is refused in one line."""
    file = tmp_path / "root.crt"
    await asyncio.to_thread(file.write_text, "nothing")
    with pytest.raises(StartError, match="cannot be used") as info:
        await SqlStore(f"postgresql://u:secret@127.0.0.1:1/name?sslmode=verify-full&sslrootcert={file}").open()
    assert "secret" not in str(info.value)
    assert "\n" not in str(info.value)
