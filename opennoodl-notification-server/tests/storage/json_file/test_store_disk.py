"""A disk that fails, or is full: what was confirmed stays, what was refused is gone, and the store goes on."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from opennoodl_notification.inbox.store import StoreError
from opennoodl_notification.storage.json_file import store as json_store
from opennoodl_notification.storage.json_file.contents import Snapshot
from opennoodl_notification.storage.json_file.snapshot import SnapshotFile
from opennoodl_notification.storage.json_file.store import JsonStore

from ...harness import record, stored
from .test_store import add, fail, numbers, rows, written


@pytest.fixture
async def store(file: Path) -> AsyncIterator[JsonStore]:
    """Open a store."""
    store = JsonStore(str(file))
    await store.open()
    yield store
    await store.close()


async def test_link_in_place_of_the_next_file(file: Path, store: JsonStore) -> None:
    """A link under the name of the file that is written next is not followed."""
    other = file.with_name("other")
    await asyncio.to_thread(other.write_text, "theirs")
    await asyncio.to_thread(file.with_name(file.name + ".new").symlink_to, other)
    await add(store, "a")
    await store.close()
    assert await asyncio.to_thread(other.read_text) == "theirs"
    assert set(stored(file)) == {"a"}
    assert not await asyncio.to_thread(file.is_symlink)


async def test_full_disk_stores_nothing_and_recovers(
    file: Path, store: JsonStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk stores nothing of a change; when it has space again, the same journal continues."""
    await add(store, "a")
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", fail)
        for _ in range(2):
            with pytest.raises(StoreError, match="No space"):
                await add(store, "b")
            with pytest.raises(StoreError, match="No space"):
                await store.recover()
    assert set(store.contents.records["u"]) == set(stored(file)) == {"a"}
    await add(store, "c")
    await store.recover()
    assert set(stored(file)) == {"a", "c"}
    assert store._numbers() == [0]


async def test_failing_journal_stores_nothing_until_a_new_file(
    file: Path, store: JsonStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When it is not known what the disk has, nothing is stored until a new file has what was confirmed."""
    await add(store, "a")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fail)
        with pytest.raises(StoreError, match="No space"):
            await add(store, "b")
    for step in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, step, fail)
            with pytest.raises(StoreError, match="No space"):
                await store.recover()
        with pytest.raises(StoreError, match="is unknown"):
            await add(store, "b")
    assert set(store.contents.records["u"]) == set(stored(file)) == {"a"}
    await store.recover()
    await add(store, "c")
    assert set(stored(file)) == {"a", "c"}
    assert {row["id"] for row in rows(file)} == {"a"}


@pytest.mark.parametrize("step", ["fsync", "replace"])
async def test_failing_file_continues_with_journals(
    file: Path, store: JsonStore, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """While the file cannot be written, the journals go on; what was written of it takes no room meanwhile."""
    monkeypatch.setattr(json_store, "LEAST", 1)
    with monkeypatch.context() as patch:
        patch.setattr(os, step, fail)
        for id_ in numbers(4):
            await add(store, id_)
            await written(store)
            assert not file.with_name("notifications.json.new").exists()
        assert set(stored(file)) == set(numbers(4))
    await add(store, "last")
    await written(store)
    assert {row["id"] for row in rows(file)} == {*numbers(4), "last"}


async def test_refused_line_and_backup(file: Path, store: JsonStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that was refused, and could not be taken back at once, does not come back with the backup either."""
    for id_ in numbers(2):
        await add(store, id_)
        await asyncio.to_thread(store._renew)
    await add(store, "a")
    with monkeypatch.context() as patch:
        for step in ("fdatasync", "ftruncate"):
            patch.setattr(os, step, fail)
        for _ in range(2):
            with pytest.raises(StoreError, match=r"No space|is unknown"):
                await add(store, "refused")
            with pytest.raises(StoreError, match="No space"):
                await store.recover()
    await store.recover()
    await add(store, "b")
    assert set(stored(file)) == {*numbers(2), "a", "b"}
    await asyncio.to_thread(file.with_name("notifications.json.bak").replace, file)
    assert set(stored(file)) == {*numbers(2), "a", "b"}


async def test_failure_of_a_stop(file: Path, store: JsonStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal that is not known any more is none that a stop relies on: everything is in the file after it."""
    await add(store, "a")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fail)
        with pytest.raises(StoreError, match="No space"):
            await add(store, "b")
    await store.close()
    assert {row["id"] for row in rows(file)} == set(stored(file)) == {"a"}


async def test_failing_next_journal_continues_with_the_present_one(
    store: JsonStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """While no next journal can be begun, the present one goes on, and the log says so once each time it begins."""
    monkeypatch.setattr(json_store, "LEAST", 1)
    for round_, lines in enumerate((5, 20)):
        with monkeypatch.context() as patch:
            patch.setattr(json_store, "keep_names", fail)
            descriptors = len(await asyncio.to_thread(os.listdir, "/proc/self/fd"))
            await add(store, *numbers(lines))
            assert len(await asyncio.to_thread(os.listdir, "/proc/self/fd")) == descriptors
        assert capsys.readouterr().out.count("a new journal could not be started") == 1
        assert store._generation == round_
        await add(store, "more")
        await written(store)
        assert store._generation == round_ + 1


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str | set[str]]:
    """Return what is done to the disk: files that are brought to it, those that get a name, and directories' names."""
    steps: list[str | set[str]] = []
    fsync, replace = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        fsync(descriptor)
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        steps.append(set(os.listdir(path)) if stat.S_ISDIR(os.fstat(descriptor).st_mode) else Path(path).name)

    def replaced(source: Path, target: Path) -> None:
        replace(source, target)
        steps.append(f"{source.name} is {target.name}")

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    return steps


def test_file_is_synced_before_its_rename(file: Path, steps: list[str | set[str]]) -> None:
    """A file is synced before its rename, and the rename before the file counts as written."""
    SnapshotFile(file).write(Snapshot([], [record("a")], [], []), 0)
    names = {"notifications.json"}
    assert steps == ["notifications.json.new", "notifications.json.new is notifications.json", names]
    steps.clear()
    SnapshotFile(file).write(Snapshot([], [record("b")], [], []), 0)
    names.add("notifications.json.bak")
    assert steps == ["notifications.json.new", "notifications.json.new is notifications.json", names]


async def test_name_of_a_journal_is_synced_first(
    file: Path, steps: list[str | set[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name of a journal is on disk before anything is confirmed that stands in it."""
    monkeypatch.setattr(json_store, "LEAST", 1)
    store = JsonStore(str(file))
    await store.open()
    assert "notifications.json.journal.0" in steps[-1]
    await add(store, "a")
    assert any("notifications.json.journal.1" in names for names in steps if isinstance(names, set))
    await written(store)
    steps.clear()
    await asyncio.to_thread(store._renew)
    names = next(names for names in steps if isinstance(names, set))
    assert "notifications.json.journal.2" in names
    assert steps.index(names) < steps.index("notifications.json.new is notifications.json")
    await store.close()
