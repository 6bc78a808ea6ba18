"""The JSON file is replaced as a whole or not at all, whatever the disk does and whenever the server ends."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from opennoodl_notification.edge.application import StartError
from opennoodl_notification.notification import Record
from opennoodl_notification.store import StoreError
from opennoodl_notification.store_json import JsonStore

from .conftest import OpenStore
from .harness import NOW, found, record, stored

OLD = {id_: record(id_, created=NOW + number) for number, id_ in enumerate(("one", "two", "three"))}


@pytest.fixture
def store(open_store: OpenStore) -> JsonStore:
    """Return a store with three notifications."""
    store = open_store()
    store.commit(dict(OLD))
    return store


class Disk:
    """Takes note of what is done to the disk, and lets a step of it fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps: list[str] = []
        self.failing: str | None = None
        self.moved: list[tuple[Path, Path]] = []
        self._fsync, self._link, self._replace = os.fsync, os.link, os.replace
        monkeypatch.setattr(os, "fsync", self.fsync)
        monkeypatch.setattr(os, "link", self.link)
        monkeypatch.setattr(os, "replace", self.replace)

    def fsync(self, number: int) -> None:
        """Make it last."""
        self._step("fsync directory" if stat.S_ISDIR(os.fstat(number).st_mode) else "fsync file")
        self._fsync(number)

    def link(self, source: Any, target: Any, **options: Any) -> None:
        """Give a file another name."""
        self._step("link")
        self._link(source, target, **options)

    def replace(self, source: Any, target: Any) -> None:
        """Put a file in the place of another."""
        self._step("replace")
        self.moved.append((Path(source), Path(target)))
        self._replace(source, target)

    def _step(self, name: str) -> None:
        self.steps.append(name)
        if name == self.failing:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def disk(store: JsonStore, monkeypatch: pytest.MonkeyPatch) -> Disk:
    """Watch the disk, from when there are three notifications on it."""
    return Disk(monkeypatch)


def test_steps(disk: Disk, store: JsonStore) -> None:
    """A commit makes the new file last before it takes the place, and the place last after that, all once."""
    store.commit({"one": None, "two": None, "4": record("4"), "5": record("5")})
    assert [step for step in disk.steps if step != "link"] == ["fsync file", "replace", "fsync directory"]


def test_temporary_file(disk: Disk, file: Path, store: JsonStore) -> None:
    """The new file is written in the directory of the old one, and nothing of it is left."""
    store.commit({"one": None})
    ((source, target),) = disk.moved
    assert target == file
    assert source.parent == file.parent
    assert not source.exists()


CHANGES: dict[str, dict[str, Record | None]] = {
    "add": {"new": record("new", idempotency_key="k")},
    "change": {"two": record("two", read=True, read_at="2024-01-01T00:00:00.000Z")},
    "remove": {"one": None, "three": None},
    "all": {"new": record("new"), "two": record("two", "v"), "one": None, "never": None},
}


STEPS = ["fsync file", "replace", "fsync directory"]


def fails(disk: Disk, store: JsonStore, step: str, name: str) -> None:
    """Commit something, which fails in a step."""
    disk.failing = step
    with pytest.raises(StoreError, match="No space left on device"):
        store.commit(CHANGES[name])
    disk.failing = None


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("step", STEPS)
class TestFailingStep:
    """Whatever step fails."""

    def test_old_file(self, disk: Disk, file: Path, store: JsonStore, step: str, name: str) -> None:
        """What was stored still is, as it was, and nothing else."""
        fails(disk, store, step, name)
        store.close()
        assert stored(file) == OLD

    def test_next_commit(self, disk: Disk, open_store: OpenStore, store: JsonStore, step: str, name: str) -> None:
        """The next commit works, and has what was committed and nothing of what failed."""
        fails(disk, store, step, name)
        fails(disk, store, step, name)
        store.commit({"later": record("later")})
        assert found(open_store()) == {**OLD, "later": record("later")}

    def test_the_same_again(self, disk: Disk, open_store: OpenStore, store: JsonStore, step: str, name: str) -> None:
        """What failed can be committed again."""
        fails(disk, store, step, name)
        store.commit(CHANGES[name])
        expected = {**OLD, **CHANGES[name]}
        assert found(open_store()) == {id_: record for id_, record in expected.items() if record is not None}


@pytest.mark.parametrize("step", STEPS)
def test_old_bytes(disk: Disk, file: Path, store: JsonStore, step: str) -> None:
    """A commit that fails leaves the very bytes of the old file."""
    before = file.read_bytes()
    fails(disk, store, step, "all")
    assert file.read_bytes() == before


@pytest.mark.parametrize("step", STEPS)
def test_first_commit(monkeypatch: pytest.MonkeyPatch, open_store: OpenStore, step: str) -> None:
    """Where the very first commit fails, nothing is stored; the next one works."""
    store = open_store()
    disk = Disk(monkeypatch)
    disk.failing = step
    with pytest.raises(StoreError):
        store.commit({"one": record("one")})
    disk.failing = None
    store = open_store()
    assert store.load() == []
    store.commit({"two": record("two")})
    assert set(found(open_store())) == {"two"}


def test_backup(file: Path, store: JsonStore) -> None:
    """The former file stays beside the new one, as `.bak`, and can be put in its place."""
    before = file.read_bytes()
    store.commit({"one": None})
    backup = file.with_name(file.name + ".bak")
    assert backup.read_bytes() == before
    store.close()
    backup.replace(file)
    assert stored(file) == OLD


def test_no_links(disk: Disk, open_store: OpenStore, store: JsonStore) -> None:
    """Where a file cannot have two names (FAT, many network file systems), commits work all the same."""
    disk.failing = "link"
    store.commit({"one": None})
    assert set(found(open_store())) == {"two", "three"}


def test_permissions(file: Path, store: JsonStore) -> None:
    """The new file is for those eyes alone that the old one was for."""
    file.chmod(0o600)
    store.commit({"one": None})
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_symbolic_link(tmp_path: Path, file: Path) -> None:
    """A file that is a link to another, on a volume perhaps, stays one: the data goes to where it leads."""
    volume = tmp_path / "volume" / "notifications.json"
    volume.parent.mkdir()
    volume.touch()
    file.symlink_to(volume)
    store = JsonStore(str(file))
    try:
        store.commit(dict(OLD))
        with pytest.raises(StartError):
            stored(volume)  # it is held by that name too
    finally:
        store.close()
    assert file.is_symlink()
    assert stored(volume) == OLD


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_full_disk(disk: Disk, file: Path, open_store: OpenStore, store: JsonStore) -> None:
    """On a full disk the old file stays; where there is room again the next commit works."""
    store.commit({"4": record("4")})
    before, temporary = file.read_bytes(), disk.moved[0][0]
    temporary.symlink_to("/dev/full")
    with pytest.raises(StoreError, match="No space left on device"):
        store.commit({"5": record("5", data=b'"' + b"x" * 100_000 + b'"')})
    assert file.read_bytes() == before
    temporary.unlink()
    store.commit({"6": record("6")})
    assert found(open_store()) == {**OLD, "4": record("4"), "6": record("6")}


def test_directory_in_the_way(disk: Disk, open_store: OpenStore, store: JsonStore) -> None:
    """Where no new file can be made, the old one stays."""
    store.commit({"4": record("4")})
    disk.moved[0][0].mkdir()
    with pytest.raises(StoreError):
        store.commit({"5": record("5")})
    assert found(open_store()) == {**OLD, "4": record("4")}


def test_failing_commit_writes_nothing_when_closed(disk: Disk, file: Path, store: JsonStore) -> None:
    """Closing does not write what could not be committed."""
    fails(disk, store, "replace", "all")
    before, steps = file.read_bytes(), len(disk.steps)
    store.close()
    assert (file.read_bytes(), len(disk.steps)) == (before, steps)


def test_crash_anywhere(disk: Disk, file: Path, open_store: OpenStore, store: JsonStore) -> None:
    """A crash that leaves any part of the new file costs nothing: the old one is read, and the next is written."""
    before = file.read_bytes()
    store.commit({"one": None, "new": record("new")})
    temporary, after = disk.moved[0][0], file.read_bytes()
    for size in range(len(after) + 1):
        file.write_bytes(before)
        temporary.write_bytes(after[:size])
        store = open_store()
        assert set(found(store)) == set(OLD), size
        if size % 100 == 0 or size == len(after):
            store.commit({"later": record("later")})
            assert set(found(open_store())) == {*OLD, "later"}
