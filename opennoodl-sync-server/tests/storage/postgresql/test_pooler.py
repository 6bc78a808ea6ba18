"""The store behind a pooler in transaction mode, which gives each transaction another connection to the database."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep

import pytest
from opennoodl_sync.edge.errors import StartError
from opennoodl_sync.storage.interface import Version
from opennoodl_sync.storage.postgresql.store import PostgreSQLStore

from .conftest import keep, release

pytestmark = [pytest.mark.xdist_group("postgresql"), pytest.mark.slow]

TIMEOUT = 30
PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
"""Debian's package of this name has it."""


@pytest.fixture
def pooled(url: str) -> Iterator[str]:
    """Return the URL of a pgbouncer in front of an empty database, with one connection that all transactions share."""
    if PGBOUNCER is None:
        pytest.skip("pgbouncer is not installed")
    socket = url.partition("?host=")[2]
    with TemporaryDirectory(prefix="pgbouncer-") as name:
        directory = Path(name)
        directory.chmod(0o777)  # it runs as the owner of the database's socket
        (directory / "pgbouncer.ini").write_text(
            f"[databases]\npostgres = host={socket} user=postgres\n"
            f"[pgbouncer]\nunix_socket_dir = {name}\nauth_type = any\npool_mode = transaction\ndefault_pool_size = 1\n"
        )
        user = ["-u", Path(socket).owner()] if os.getuid() == 0 else []
        process = subprocess.Popen([PGBOUNCER, "-q", *user, str(directory / "pgbouncer.ini")])
        try:
            deadline = monotonic() + TIMEOUT
            while not (directory / ".s.PGSQL.6432").exists():
                assert process.poll() is None, "pgbouncer ended"
                assert monotonic() < deadline, "pgbouncer does not listen"
                sleep(0.01)
            yield f"postgresql://postgres@/postgres?host={name}&port=6432"
        finally:
            process.terminate()
            process.wait(TIMEOUT)


async def test_instances_work_behind_a_pooler(pooled: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind a pooler instances start one after the other, and store documents and versions beside each other."""
    stores = []
    for number in range(3):
        monkeypatch.setattr("asyncpg.connection._uid", 0)  # the driver numbers statements in each process anew
        store = PostgreSQLStore(pooled, fsync=number == 1)
        await store.start()
        stores.append(store)
        records, stored = await store.open("room")
        assert len(stored.updates) == number
        await keep(store, records, b"a")
        await release(store, records)
        await store.change_versions("room", [(Version(number, 1, number), b"v")], [])
    for store in stores:
        assert (await store.read("room")).updates == [b"a"] * 3
        assert len((await store.history("room")).versions) == 3
    with pytest.raises(StartError, match=r"DATABASE_URL leads to a pooler.*set INSTANCE_URL"):
        await stores[0].own_address()
    for store in stores:
        await store.close()
