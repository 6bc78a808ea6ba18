"""One person's data: `export` shows all of it, and `erase` leaves nothing of it in the store's files."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from opennoodl_notification import personal_data
from opennoodl_notification.commands import erase, export
from opennoodl_notification.edge.errors import StartError
from opennoodl_notification.inbox.store import Changes, Needs, Store
from opennoodl_notification.personal_data import find
from opennoodl_notification.records import Deletion, Inbox, Sending
from opennoodl_notification.storage.choose import choose

from .conftest import Device, Serve
from .harness import record
from .places import KINDS, place
from .test_commands import command

pytestmark = pytest.mark.slow

SECRET = "the-words-of-bob"
LATER = "2999-01-01T00:00:00.000Z"


@pytest.fixture(params=KINDS)
def at(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return where an empty store of each kind is."""
    return place(request.param, tmp_path)


@asynccontextmanager
async def opened(at: str) -> AsyncIterator[Store]:
    """Open a store for a while."""
    store = choose(at)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def commit(store: Store, changes: Changes) -> None:
    """Store changes."""
    async with store.transaction(Needs("", 0)) as transaction:
        await transaction.commit(changes)


def state(user: str, total: int) -> Inbox:
    """Return the state of an inbox with so many unread notifications."""
    return Inbox(user_id=user, sequence=10, total=total, unread=total, due=LATER, epoch=1 << 40)


def people() -> Changes:
    """Return what two users have sent each other, and a third one has got from both."""
    data = b'{"text": "%s"}' % SECRET.encode()
    return Changes(
        inboxes=[state("ann", 2), state("bob", 2), state("cleo", 1)],
        added=[
            record("b-to-a", "ann", 1_700_000_001, data, from_user_id="bob", expires_at=LATER, born=9, sequence=9),
            record("c-to-a", "ann", 1_700_000_002, b"{}", from_user_id="cleo", expires_at=LATER, born=10, sequence=10),
            record("a-to-b", "bob", 1_700_000_001, data, from_user_id="ann", expires_at=LATER, born=9, sequence=9),
            record("b-to-b", "bob", 1_700_000_002, data, from_user_id="bob", expires_at=LATER, born=10, sequence=10),
            record("a-to-c", "cleo", 1_700_000_001, b"{}", from_user_id="ann", expires_at=LATER, born=9, sequence=9),
        ],
        deletions=[Deletion("bob", 8, "gone", 7), Deletion("cleo", 8, "gone-too", 7)],
        sendings=[Sending(sender, "key", "f", ("b-to-a",), LATER) for sender in ("ann", "bob")],
    )


def ids(entries: list[Any]) -> set[str]:
    """Return the ids of what is listed."""
    return {entry["id"] for entry in entries}


async def test_export_shows_only_the_users_data(at: str) -> None:
    """`export` shows what a user got, sent and deleted, and nobody else's marks and notifications."""
    async with opened(at) as store:
        await commit(store, people())
        person = await find(store, "bob")
    assert person.inbox is not None
    assert {one.id for one in person.received} == {"a-to-b", "b-to-b"}
    assert {(one.id, one.user_id) for one in person.sent} == {("b-to-a", "ann"), ("b-to-b", "bob")}
    assert not hasattr(person.sent[0], "read")
    assert [one.id for one in person.deleted] == ["gone"]
    assert [(one.sender, one.key) for one in person.idempotency_keys] == [("bob", "key")]


async def test_erase_leaves_other_users_data(at: str) -> None:
    """`erase` leaves the notifications of others, and nothing of the user, in the inboxes of others too."""
    async with opened(at) as store:
        await commit(store, people())
        await erase_in(store, "bob")
        assert not await find(store, "bob")
        ann, cleo = await find(store, "ann"), await find(store, "cleo")
        assert [one.id for one in ann.received] == ["c-to-a"]
        assert [one.id for one in ann.sent] == ["a-to-c"]
        assert ann.inbox is not None
        assert (ann.inbox.total, ann.inbox.unread) == (1, 1)
        assert [one.id for one in await store.changed("ann", 10)] == ["b-to-a"]  # so that devices learn of it
        assert len(ann.idempotency_keys) == len(cleo.received) == len(cleo.deleted) == 1
        counts = await store.counts()
        assert (counts.notifications, counts.inboxes, counts.sendings) == (2, 2, 1)


async def erase_in(store: Store, user: str) -> None:
    """Erase a user in a store that is open."""
    await personal_data.erase(store, await find(store, user), 30)


async def test_erase_handles_many_sent_notifications(at: str) -> None:
    """More than are erased at once are erased all."""
    users = [f"u{number}" for number in range(450)]
    changes = Changes(
        inboxes=[state(user, 1) for user in users],
        added=[record(f"n-{user}", user, from_user_id="bob", expires_at=LATER, born=10, sequence=10) for user in users],
    )
    async with opened(at) as store:
        await commit(store, changes)
        await erase_in(store, "bob")
        assert not await find(store, "bob")
        assert (await store.counts()).notifications == 0


@pytest.mark.parametrize("kind", ["json", "sqlite"])
async def test_nothing_stays_in_files(kind: str, tmp_path: Path) -> None:
    """No file of the store has a word of what was erased: not a journal, a backup, a write-ahead log, or free space."""
    at = place(kind, tmp_path)
    async with opened(at) as store:
        await commit(store, people())
    async with opened(at) as store:  # so that a JSON file has a backup
        await commit(store, Changes(added=[record("more", "ann", from_user_id="cleo", expires_at=LATER)]))
    if kind == "sqlite":
        leave_deleted(tmp_path / "notifications.sqlite")
    assert holders(tmp_path) != []
    async with opened(at) as store:
        await erase_in(store, "bob")
        assert holders(tmp_path) == []
    assert holders(tmp_path) == []
    async with opened(at) as store:  # and it is sound
        assert (await store.counts()).notifications == 3


def leave_deleted(file: Path) -> None:
    """Leave words of the user in pages of SQLite's file that are free; some builds of SQLite overwrite these."""
    with closing(sqlite3.connect(file, isolation_level=None)) as database:
        for statement in (
            "PRAGMA secure_delete = OFF",
            f"CREATE TABLE free AS SELECT replace(hex(zeroblob(9000)), '00', '{SECRET}') AS words",
            "DROP TABLE free",
            "PRAGMA wal_checkpoint(TRUNCATE)",
        ):
            database.execute(statement).close()
    assert SECRET.encode() in file.read_bytes()


def holders(directory: Path) -> list[str]:
    """Return the names of files in which words of the user stand."""
    return [file.name for file in sorted(directory.iterdir()) if SECRET.encode() in file.read_bytes()]


async def test_commands_export_and_erase(tmp_path: Path) -> None:
    """The command `export` writes JSON, `erase` prints its counts, and an unknown user is named."""
    file = tmp_path / "notifications.json"
    async with opened(str(file)) as store:
        await commit(store, people())
    code, output, error = await command("export", "bob", DB_FILE=str(file))
    assert (code, error) == (0, "")
    exported = json.loads(output)
    assert ids(exported["received"]) == {"a-to-b", "b-to-b"}
    assert exported["received"][0]["data"] == {"text": SECRET}
    assert (exported["userId"], exported["idempotencyKeys"][0]["key"]) == ("bob", "key")
    code, output, error = await command("erase", "bob", DB_FILE=str(file))
    assert (code, error) == (0, "")
    assert output == "erased: 2 notifications received and 2 sent, 1 deletion and 1 idempotency key\n"
    for name in ("export", "erase"):
        code, output, error = await command(name, "bob", DB_FILE=str(file))
        assert (code, output, error) == (1, "", "opennoodl_notification: no data of user 'bob' is stored\n")


async def test_beside_a_server_with_a_file(serve: Serve, device: Device, file: Path) -> None:
    """A file that a server has can be exported from, and not be erased in."""
    service = await serve()
    await (await device(service, "bob")).notify("ann")
    assert ids(json.loads(await _in_thread(export, str(file), "bob"))["sent"])
    with pytest.raises(StartError, match="in use by another process"):
        await _in_thread(erase, str(file), "bob", 30)
    assert ids(json.loads(await _in_thread(export, str(file), "bob"))["sent"])


async def test_beside_a_server_with_postgresql(serve: Serve, device: Device, tmp_path: Path) -> None:
    """In PostgreSQL it can be erased beside a server, and a device learns of it by the next comparison."""
    at = await _in_thread(place, "postgresql", tmp_path)
    service = await serve(database_url=at)
    bob, ann = await device(service, "bob"), await device(service)
    sent = await bob.notify("ann")
    await ann.authenticate("ann")
    await _in_thread(erase, at, "bob", 30)
    service.app.instances.compare()
    assert (await ann.expect("notification-deleted"))["notificationId"] == sent
    await bob.notify("ann")


async def _in_thread(what: Any, *arguments: Any) -> Any:
    return await asyncio.to_thread(what, *arguments)


def test_missing_store_is_reported(tmp_path: Path) -> None:
    """A store that is not there is said, and not made."""
    with pytest.raises(StartError, match="does not exist"):
        erase(str(tmp_path / "n.json"), "bob", 30)
    assert list(tmp_path.iterdir()) == []


def test_data_as_it_was_sent(tmp_path: Path) -> None:
    """A number that Python would change is exported as it was sent."""

    async def fill() -> None:
        async with opened(str(tmp_path / "n.json")) as store:
            added = [record("n", "bob", data=b'{"n": 1e999}', expires_at=LATER)]
            await commit(store, Changes(inboxes=[state("bob", 1)], added=added))

    asyncio.run(fill())
    assert b"1e999" in export(str(tmp_path / "n.json"), "bob")
