"""What the stores of version 0.1.0 have left is read, and goes on in the present format.

The files in `former/` were written by that version: a mention to three users, an invite, a thread to two, one of them
marked as read and one deleted. A file and its journals are as a killed server leaves them.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import pytest
import sqlalchemy as sa
from opennoodl_notification.inbox.store import Changes, Needs, Query, Store
from opennoodl_notification.personal_data import find
from opennoodl_notification.records import PAYLOAD_SIZE
from opennoodl_notification.storage.choose import choose
from opennoodl_notification.storage.sql.store import SqlStore

from ..harness import record
from ..places import KINDS, place

FORMER = Path(__file__).with_name("former")
USERS = ("ann", "bob")
NOW = "2025-11-25T00:00:00.000Z"


@pytest.fixture(params=KINDS)
def at(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return where a store of each kind is, as the former version left it."""
    where = place(request.param, tmp_path)
    if request.param == "json":
        for file in FORMER.glob("notifications.json*"):
            shutil.copy(file, tmp_path)
    else:
        asyncio.run(filled(where, (FORMER / f"schema_2.{request.param}.sql").read_text()))
    return where


async def filled(at: str, script: str) -> None:
    """Execute the statements of a script in a database."""
    store = SqlStore(at)
    async with store._engine.begin() as connection:
        for statement in script.splitlines():
            await connection.exec_driver_sql(statement)
    await store.close()


async def texts(store: Store, user: str) -> list[str]:
    """Return what the notifications of a user say, the newest first."""
    return [json.loads(bytes(one.data))["text"] for one in await store.page(user, Query(10), NOW)]


async def test_former_file_is_read_completely(at: str) -> None:
    """Everything is there after one start and after a second one, and new notifications share their data."""
    for _ in range(2):
        store = choose(at)
        await store.open()
        assert (await texts(store, "bob"), await texts(store, "dan")) == (["to two", "to all"], ["to all"])
        assert await texts(store, "ann") == ["to two", "to one"]
        read = [one.read for one in await store.page("bob", Query(10), NOW)]
        assert read == [False, True]
        assert (await find(store, "cleo")).deleted
        assert (await store.counts())[:3] == (5, 4, 4)
        await store.close()
    store = choose(at)
    await store.open()
    before = await store.size()
    async with store.transaction(Needs(NOW, 0)) as transaction:
        await transaction.commit(Changes(added=[record(user, user, payload_id="p", data=b"1") for user in USERS]))
    assert await store.size() == before + PAYLOAD_SIZE + 1
    await store.close()


async def test_former_server_beside_this_one(tmp_path: Path) -> None:
    """A server of the former version that still runs is refused by the database, and shows nothing without data."""
    at = await asyncio.to_thread(place, "postgresql", tmp_path)
    await filled(at, (FORMER / "schema_2.postgresql.sql").read_text())
    store = choose(at)
    await store.open()
    assert isinstance(store, SqlStore)
    for statement in ("select data from notifications", "insert into notifications (id, data) values ('a', '1')"):
        with pytest.raises(sa.exc.ProgrammingError, match="does not exist"):
            async with store._engine.begin() as connection:
                await connection.exec_driver_sql(statement)
    await store.close()
