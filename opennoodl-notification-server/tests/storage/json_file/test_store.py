"""A file and its journals hold what was confirmed, whatever the disk does and whenever the server ends."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from time import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opennoodl_notification.edge.errors import StartError
from opennoodl_notification.inbox.reading import read
from opennoodl_notification.inbox.store import Changes, Needs
from opennoodl_notification.messages import GetNotifications, Notifications
from opennoodl_notification.records import JUMP, Inbox, timestamp
from opennoodl_notification.storage.json_file import snapshot
from opennoodl_notification.storage.json_file import store as json_store
from opennoodl_notification.storage.json_file.store import JsonStore
from tinydb import Query as Where
from tinydb import TinyDB

from ...harness import NOW, record, stored

FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
async def store(file: Path) -> AsyncIterator[JsonStore]:
    """Open a store whose journal may be small only, so that the file is written all the time."""
    store = JsonStore(str(file))
    await store.open()
    yield store
    await store.close()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every journal with a line be too large."""
    monkeypatch.setattr(json_store, "LEAST", 1)


async def add(store: JsonStore, *ids: str) -> None:
    """Commit notifications, one by one."""
    for id_ in ids:
        async with store.transaction(Needs("", 0)) as transaction:
            await transaction.commit(Changes(added=[record(id_, created=NOW + len(store.contents))]))


async def written(store: JsonStore) -> None:
    """Wait until the file is as new as it will be."""
    if store._writing is not None:
        await store._writing


async def killed(store: JsonStore) -> None:
    """Let go of what a process that is killed lets go of."""
    await written(store)
    assert store._journal is not None
    store._journal.close()
    store._journal = None
    store._lock.release()


async def keep(file: Path, *ids: str) -> None:
    """Open a store, add notifications, close it."""
    store = JsonStore(str(file))
    await store.open()
    await add(store, *ids)
    await store.close()


async def opened(file: Path) -> set[str]:
    """Return the ids in a store, which is opened as a server does it."""
    store = JsonStore(str(file))
    await store.open()
    ids = {id_ for records in store.contents.records.values() for id_ in records}
    await store.close()
    return ids


def fail(*_arguments: Any) -> None:
    """Fail as a full disk does."""
    raise FULL


def numbers(count: int) -> list[str]:
    """Return ids."""
    return [str(number) for number in range(count)]


@pytest.mark.usefixtures("small")
async def test_crash_at_any_point_loses_nothing_confirmed(
    file: Path, store: JsonStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whenever the process ends, also in the middle of writing the file, all that was confirmed is found."""
    confirmed: list[str] = []
    copies: list[tuple[Path, set[str]]] = []
    one_at_a_time = Lock()

    def watched(name: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def step(*arguments: Any, **options: Any) -> Any:
            with one_at_a_time:
                result = real(*arguments, **options)
                copy = tmp_path / "copies" / str(len(copies))
                copies.append((copy, set(confirmed)))
                shutil.copytree(file.parent, copy, ignore=shutil.ignore_patterns("copies"))
                return result

        return step

    with monkeypatch.context() as patch:
        for name in ("replace", "link", "unlink", "fsync", "fdatasync"):
            patch.setattr(os, name, watched(name))
        for id_ in numbers(13):
            await add(store, id_)
            confirmed.append(id_)
            if len(confirmed) % 3 == 0:
                await written(store)
        await store.close()
    assert len(copies) > 20
    for copy, ids in copies:
        found = await opened(copy / file.name)
        assert ids <= found == set(numbers(len(found)))


@pytest.mark.usefixtures("small")
async def test_backup_and_journals_restore_everything(file: Path, store: JsonStore) -> None:
    """The backup in place of the file is followed by the journals to all that was confirmed."""
    for id_ in numbers(6):
        await add(store, id_)
        await written(store)
    await add(store, "last")
    await written(store)
    assert await asyncio.to_thread(set, stored(file)) == {*numbers(6), "last"}
    await asyncio.to_thread(file.with_name(file.name + ".bak").replace, file)
    assert set(stored(file)) == {*numbers(6), "last"}


@pytest.mark.usefixtures("small")
async def test_unneeded_journals_are_deleted(file: Path, store: JsonStore) -> None:
    """Journals that neither the file nor its backup needs are deleted."""
    for id_ in numbers(10):
        await add(store, id_)
        await written(store)
    assert len(store._numbers()) <= 2


async def test_stop_writes_everything_into_the_file(file: Path) -> None:
    """After a stop everything is in the file; a stop without a change leaves it alone."""
    await keep(file, "a")
    await keep(file, "b")
    assert [row["id"] for row in rows(file)] == ["a", "b"]
    before = changed(file)
    await keep(file)
    assert changed(file) == before


def changed(file: Path) -> int:
    """Return when a file was written."""
    return file.stat().st_mtime_ns


def mode(file: Path) -> int:
    """Return who may read and write a file."""
    return file.stat().st_mode & 0o777


def rows(file: Path) -> list[Any]:
    """Return the notifications in a file, as stock TinyDB reads them."""
    with TinyDB(file) as database:
        return list(database.table("notifications").all())


async def test_edited_file_is_refused_until_its_checksum_is_removed(file: Path) -> None:
    """A file from which stock TinyDB has removed a notification is refused until its checksum is removed, too."""
    await keep(file, "a", "b", "c")
    with TinyDB(file) as database:
        database.table("notifications").remove(Where().id == "b")
    edited = await asyncio.to_thread(file.read_bytes)
    with pytest.raises(StartError, match=r"does not match its checksum; if you edited it, delete its table"):
        await JsonStore(str(file)).open()
    assert await asyncio.to_thread(file.read_bytes) == edited
    with TinyDB(file) as database:
        database.drop_table("checksum")
    store = JsonStore(str(file))
    await store.open()
    assert set(store.contents.records["u"]) == {"a", "c"}
    assert (store.contents.inboxes["u"].total, store.contents.inboxes["u"].unread) == (2, 2)
    await store.close()
    assert await opened(file) == {"a", "c"}
    assert b'"checksum"' in await asyncio.to_thread(file.read_bytes)


async def test_edited_with_an_editor(file: Path) -> None:
    """The checksum is a line of its own, without which the file is as good."""
    await keep(file, "a", "b")
    lines = (await asyncio.to_thread(file.read_text)).splitlines()
    kept = [line.replace("sender", "another") for line in lines if not line.startswith(',"checksum"')]
    assert len(kept) == len(lines) - 1
    await asyncio.to_thread(file.write_text, "\n".join(kept))
    store = JsonStore(str(file))
    await store.open()
    assert {one.from_user_id for one in store.contents.records["u"].values()} == {"another"}
    await store.close()


async def test_numbers_after_an_edit(file: Path) -> None:
    """No number of the time before an edit is remembered: devices were not told what it changed."""
    await keep(file, "a", "b")
    with TinyDB(file) as database:
        database.table("notifications").remove(Where().id == "b")
        database.drop_table("checksum")
    store = JsonStore(str(file))
    await store.open()
    inbox = store.contents.inboxes["u"]
    assert not inbox.remembers(inbox.sequence)
    inbox.advance(store.epoch, NOW * 1000)
    assert inbox.remembers(inbox.sequence)
    await store.close()


async def test_inbox_without_its_state_can_be_read(file: Path) -> None:
    """An inbox whose state was edited out of the file is made anew with a number that no notification exceeds."""
    store = JsonStore(str(file))
    await store.open()
    sequence = int(time() * 1000) + (1 << JUMP)  # as the first number of an inbox may be
    async with store.transaction(Needs("", 0)) as transaction:
        state = Inbox(user_id="u", sequence=sequence, total=1, unread=1)
        added = [record("a", born=sequence, sequence=sequence)]
        await transaction.commit(Changes(inboxes=[state], added=added))
    await store.close()
    with TinyDB(file) as database:
        database.drop_table("inboxes")
        database.drop_table("checksum")
    store = JsonStore(str(file))
    await store.open()
    (page,) = await read(store, store.contents.inboxes["u"], GetNotifications(), timestamp(NOW * 1000), behind=False)
    assert isinstance(page, Notifications)
    assert [one.id for one in page.notifications] == ["a"]
    await store.close()


async def test_inbox_keeps_its_numbers(file: Path) -> None:
    """An inbox goes on with its number and its time to be looked at, whatever else is made to fit."""
    store = JsonStore(str(file))
    await store.open()
    async with store.transaction(Needs("", 0)) as transaction:
        state = Inbox(user_id="u", sequence=77, total=9, unread=9, due=timestamp(0), cleared=5)
        await transaction.commit(Changes(inboxes=[state], added=[record("a")]))
    await store.close()
    store = JsonStore(str(file))
    await store.open()
    inbox = store.contents.inboxes["u"]
    assert (inbox.sequence, inbox.cleared, inbox.total, inbox.unread) == (77, 5, 1, 1)
    assert inbox.due == timestamp(0)
    await store.close()


@pytest.mark.parametrize("name", ["notifications[prod].json", "a*b?.json", "[!x]", "[[].json"])
async def test_file_may_have_any_name(tmp_path: Path, name: str) -> None:
    """A file may have any name: its journals are its own, and found."""
    file, other = tmp_path / name, tmp_path / "notificationsp.json"
    await keep(other, "other")
    for id_ in numbers(3):
        store = JsonStore(str(file))
        await store.open()
        await add(store, id_)
        await killed(store)
        assert set(stored(file)) == set(numbers(int(id_) + 1))
    assert await opened(file) == set(numbers(3))
    assert await opened(other) == {"other"}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda values: st.lists(values, max_size=4) | st.dictionaries(st.text(), values, max_size=4),
    max_leaves=10,
)
spaces = st.text(alphabet=" \t\r\n", max_size=3)


@st.composite
def layouts(draw: st.DrawFn) -> bytes:
    """Return some JSON with any white space that there may be in it."""

    def layout(value: Any) -> str:
        if isinstance(value, list):
            text = "[" + ",".join(map(layout, value)) + (draw(spaces) if not value else "") + "]"
        elif isinstance(value, dict):
            members = (layout(name) + ":" + layout(item) for name, item in value.items())
            text = "{" + ",".join(members) + (draw(spaces) if not value else "") + "}"
        else:
            text = json.dumps(value, ensure_ascii=draw(st.booleans()))
        return draw(spaces) + text + draw(spaces)

    return layout(draw(json_values)).encode()


@pytest.mark.slow
@given(st.lists(layouts(), min_size=1, max_size=3))
def test_any_json_survives_a_restart(layouts: list[bytes]) -> None:
    """Whatever JSON somebody sends, in whatever layout, is there after a kill, and after a stop."""

    async def survive(file: Path) -> None:
        store = JsonStore(str(file))
        await store.open()
        added = [record(str(number), created=NOW + number, data=data) for number, data in enumerate(layouts)]
        for one in added:
            async with store.transaction(Needs("", 0)) as transaction:
                await transaction.commit(Changes(added=[one], inboxes=[Inbox(user_id="u", sequence=1)]))
        await killed(store)
        for _ in range(3):
            found = [json.loads(bytes(one.data)) for one in stored(file).values()]
            assert found == [json.loads(data) for data in layouts]
            assert await opened(file) == set(numbers(len(layouts)))

    with TemporaryDirectory() as directory:
        asyncio.run(survive(Path(directory) / "notifications.json"))


async def test_restarts_leave_no_more_journals(file: Path) -> None:
    """A file has its journal also when the server has stopped; starts without a change leave no more of them."""
    await keep(file, "a")
    for _ in range(3):
        await keep(file)
        assert journals(file) == ["notifications.json.journal.0", "notifications.json.journal.1"]
    assert await opened(file) == {"a"}


def journal(file: Path, number: int) -> Path:
    """Return where a journal is."""
    return file.with_name(f"{file.name}.journal.{number}")


def journals(file: Path) -> list[str]:
    """Return the names of the journals beside a file."""
    return sorted(path.name for path in file.parent.glob("*.journal.*"))


async def test_file_has_one_server_at_a_time(file: Path, store: JsonStore) -> None:
    """A file has one server; when that is gone it may have another."""
    with pytest.raises(StartError, match="in use"):
        await JsonStore(str(file)).open()
    await add(store, "a")
    await store.close()
    assert await opened(file) == {"a"}
    await store.open()


@pytest.mark.usefixtures("small")
async def test_reader_changes_nothing(file: Path, store: JsonStore) -> None:
    """A reader sees all confirmed changes beside a running server, and changes nothing."""
    for id_ in numbers(8):
        await add(store, id_)
        before = await asyncio.to_thread(os.listdir, file.parent)
        reader = JsonStore(str(file), create=False, read_only=True)
        await reader.open()
        assert reader.contents.counts().notifications == int(id_) + 1
        await reader.close()
        assert set(before) >= {name for name in os.listdir(file.parent) if "lock" in name}


async def test_target_of_a_symbolic_link_is_written(tmp_path: Path) -> None:
    """The store writes the target of a symbolic link."""
    real, link = tmp_path / "real.json", tmp_path / "link.json"
    link.symlink_to(real)
    await keep(link, "a")
    assert link.is_symlink()
    assert set(stored(real)) == {"a"}


async def test_new_file_is_private(file: Path) -> None:
    """A new file is its owner's alone; one that was opened to others stays so."""
    await keep(file, "a")
    assert mode(file) == 0o600
    await asyncio.to_thread(file.chmod, 0o640)
    await keep(file, "b")
    assert mode(file) == 0o640


async def test_missing_directory_is_created(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that is missing is made, and lasts; one in the file's place is named."""
    kept: list[Path] = []
    monkeypatch.setattr(snapshot, "keep_names", kept.append)
    await keep(tmp_path / "new" / "deep" / "notifications.json", "a")
    assert {tmp_path, tmp_path / "new"} <= set(kept)
    with pytest.raises(StartError, match="is a directory; name a file in it"):
        await JsonStore(str(tmp_path)).open()


async def test_large_file_is_warned_of_once(
    file: Path, store: JsonStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """When a file has become large, the log says once what to do."""
    monkeypatch.setattr(json_store, "COMFORTABLE", 3)
    await add(store, *numbers(3))
    assert "DATABASE_URL" not in capsys.readouterr().out
    for id_ in numbers(9):
        await add(store, f"more {id_}")
    assert capsys.readouterr().out.count("set DATABASE_URL") == 1
