"""`backup` beside a server under load and after a kill, and `restore`, run as an operator runs them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from opennoodl_notification.commands import back_up, restore, stats
from opennoodl_notification.edge.command_line import CommandError
from opennoodl_notification.edge.errors import StartError
from opennoodl_notification.inbox.store import Query
from opennoodl_notification.records import Inbox, timestamp
from opennoodl_notification.storage.choose import choose
from opennoodl_notification.storage.json_file.contents import Snapshot
from opennoodl_notification.storage.json_file.snapshot import SnapshotFile
from opennoodl_notification.storage.json_file.store import JsonStore
from websockets.exceptions import ConnectionClosed

from .harness import Client, record, write
from .places import place
from .process import Process
from .test_commands import command

pytestmark = pytest.mark.slow

SENT = 100
"""Notifications that the sender has been told of before the next backup."""
PAUSE = 0.01
"""Seconds between two of them: many are written during a backup, and not so many that the test takes long."""
SIZES = {"json": 15_000, "sqlite": 1500}
"""Characters of one: the JSON file is written anew after some seventy of them."""


def environment(at: str) -> dict[str, str]:
    """Return the setting that names a store."""
    return {"DATABASE_URL": at} if "://" in at else {"DB_FILE": at}


async def inbox(at: str) -> set[str]:
    """Return the ids in Bob's inbox, in a store that is opened as a server opens it."""
    store = choose(at)
    await store.open()
    records = await store.page("bob", Query(1_000_000), timestamp(0))
    await store.close()
    return {record.id for record in records}


@pytest.mark.parametrize("kind", ["json", "sqlite"])
async def test_backup_under_load_is_complete(tmp_path: Path, kind: str) -> None:
    """A backup has every notification whose sender was answered before the command began.

    The first one, and what it restores, are made by a process, as an operator does.
    """
    sent: list[str] = []
    at = place(kind, tmp_path)

    async def send(port: int) -> None:
        client = await Client.connect(port)
        await client.authenticate("ann")
        try:
            while True:
                sent.append(await client.notify("bob", data={"text": "x" * SIZES[kind]}))
                await asyncio.sleep(PAUSE)
        except ConnectionClosed:
            await client.ws.wait_closed()

    server = await Process.start(at)
    backups: dict[Path, int] = {}
    try:
        sending = asyncio.create_task(send(server.port))
        for number in range(2):
            while len(sent) < SENT * (number + 1):
                if sending.done():
                    await sending  # raises what went wrong
                await asyncio.sleep(0.01)
            backup = tmp_path / f"backup {number}"
            backups[backup] = len(sent)
            if number:
                await asyncio.to_thread(back_up, at, str(backup))
            else:
                code, output, error = await command("backup", str(backup), **environment(at))
                assert (code, error) == (0, ""), output
    finally:
        print(await server.kill())
    await sending
    backups[tmp_path / "after the kill"] = len(sent)
    await asyncio.to_thread(back_up, at, str(tmp_path / "after the kill"))
    for number, (backup, known) in enumerate(backups.items()):
        (tmp_path / f"{backup.name}, restored").mkdir()
        restored = place(kind, tmp_path / f"{backup.name}, restored")
        if number:
            await asyncio.to_thread(restore, restored, str(backup))
        else:
            code, output, error = await command("restore", str(backup), **environment(restored))
            assert code == 0, error
            assert output.startswith("complete: ")
        found = await inbox(restored)
        assert set(sent[:known]) <= found
        # Of what came meanwhile, a beginning.
        assert len(found - set(sent[: len(found)])) <= 1


def test_backup_leaves_store_alone(tmp_path: Path) -> None:
    """A backup writes nothing beside the store, and one file at its target, for its user alone."""
    (tmp_path / "data").mkdir()
    (tmp_path / "copy").mkdir()
    write(tmp_path / "data" / "n.json", record("1"))
    counts = back_up(str(tmp_path / "data" / "n.json"), str(tmp_path / "copy" / "n.json"))
    assert counts.notifications == 1
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["n.json"]
    (copy,) = (tmp_path / "copy").iterdir()
    assert copy.stat().st_mode & 0o077 == 0


def test_backup_as_it_is(tmp_path: Path) -> None:
    """A server that is started on a copied backup begins a new epoch: no number is given again."""
    path = tmp_path / "n.json"
    snapshot = Snapshot([Inbox(user_id="u", sequence=7, total=1, epoch=3)], [record("1", sequence=7)], [], [])
    SnapshotFile(path).write(snapshot, 3)
    path.with_name("n.json.journal.3").touch()
    back_up(str(path), str(tmp_path / "copy"))
    store = JsonStore(str(tmp_path / "copy"))

    async def epochs() -> tuple[int, int]:
        await store.open()
        found = store.contents.inboxes["u"].epoch, store.epoch
        await store.close()
        return found

    inbox_epoch, epoch = asyncio.run(epochs())
    assert inbox_epoch < epoch


def test_restore_from_one_kind_to_another(tmp_path: Path) -> None:
    """A backup of a JSON file can be restored to SQLite, and the reverse; nothing is written beside the backup."""
    write(tmp_path / "n.json", record("1"), record("2", "v"))
    (tmp_path / "backups").mkdir()
    back_up(str(tmp_path / "n.json"), str(tmp_path / "backups" / "one"))
    database = f"sqlite:///{tmp_path}/n.sqlite"
    assert restore(database, str(tmp_path / "backups" / "one")).notifications == 2
    back_up(database, str(tmp_path / "backups" / "two"))
    assert restore(str(tmp_path / "new.json"), str(tmp_path / "backups" / "two")).inboxes == 2
    assert stats(str(tmp_path / "new.json")).notifications == 2
    assert sorted(path.name for path in (tmp_path / "backups").iterdir() if path.stat().st_size) == ["one", "two"]


def test_restore_does_not_overwrite_notifications(tmp_path: Path) -> None:
    """`restore` does not write over notifications."""
    write(tmp_path / "n.json", record("1"))
    write(tmp_path / "copy", record("2", user="another"))  # a state that was made in the same moment may be equal
    with pytest.raises(CommandError, match="it has to be empty"):
        restore(str(tmp_path / "n.json"), str(tmp_path / "copy"))


def test_backup_does_not_overwrite_a_file(tmp_path: Path) -> None:
    """`backup` does not write over a file."""
    write(tmp_path / "n.json", record("1"))
    (tmp_path / "copy").write_text("something")
    with pytest.raises(CommandError, match="exists already; name a new file"):
        back_up(str(tmp_path / "n.json"), str(tmp_path / "copy"))
    assert (tmp_path / "copy").read_text() == "something"


def test_backup_names_a_missing_store(tmp_path: Path) -> None:
    """A store that is not there is named."""
    with pytest.raises(StartError, match=r"n\.json does not exist"):
        back_up(str(tmp_path / "n.json"), str(tmp_path / "copy"))
    assert list(tmp_path.iterdir()) == []


def test_restore_names_a_missing_backup(tmp_path: Path) -> None:
    """A backup that is not there is named."""
    with pytest.raises(CommandError, match="copy cannot be read: No such file or directory"):
        restore(str(tmp_path / "n.json"), str(tmp_path / "copy"))


def test_backup_of_postgresql_names_its_program(tmp_path: Path) -> None:
    """For PostgreSQL, `backup` names the program that makes backups of it."""
    at = place("postgresql", tmp_path)

    async def create() -> None:
        store = choose(at)
        await store.open()
        await store.close()

    asyncio.run(create())
    with pytest.raises(CommandError, match="a PostgreSQL database is backed up with pg_dump"):
        back_up(at, str(tmp_path / "copy"))
