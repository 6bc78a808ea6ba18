"""Power cuts, on a file system that forgets what was not synced. Needs FUSE 3; skipped where there is none."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from opennoodl_sync.storage.leveldb.database import Database
from opennoodl_sync.storage.leveldb.documents import LevelDBDocument

from ...editor import Editor
from ...turns import keep

pytestmark = pytest.mark.slow

FORGETFUL = Path(__file__).with_name("forgetful.py")
PATIENCE = 120.0
LIFETIME = 4
"""Power cuts until the data directory begins anew."""
LATE = 0.8
"""How many of the power cuts come when something is on the disk, and not while the directory is opened."""


@contextmanager
def mounted(backing: Path, mount: Path) -> Iterator[None]:
    """Have the files of `backing` at `mount`; afterwards it has what was synced until ``.cut`` was made."""
    backing.mkdir(exist_ok=True)
    mount.mkdir(exist_ok=True)
    with subprocess.Popen(
        [sys.executable, str(FORGETFUL), str(backing), str(mount)], stderr=subprocess.PIPE
    ) as process:
        try:
            while not mount.is_mount():
                if process.poll() is not None:
                    pytest.skip("no FUSE")
                time.sleep(0.01)
            yield
        finally:
            if process.poll() is None:
                subprocess.run(["fusermount3", "-u", "-z", str(mount)], check=True)
                try:
                    process.communicate(timeout=PATIENCE)
                except subprocess.TimeoutExpired:  # a test that failed has files open
                    process.kill()


WRITER = """
import asyncio, sys
from opennoodl_sync.storage.leveldb import background_sync
from opennoodl_sync.edge.errors import StartError
from opennoodl_sync.storage.leveldb.database import RecordBatch
from opennoodl_sync.storage.leveldb.database import Database
from opennoodl_sync.storage.leveldb.documents import LevelDBDocument

background_sync.INTERVAL = 0.02
path, fsync, size = sys.argv[1], sys.argv[2], int(sys.argv[3])

async def main():
    print("opening", flush=True)
    database = Database(path)
    store = LevelDBDocument("room", database=database)
    number = len(store.records())
    if fsync == "every-second":
        real = database.sync
        def sync():
            before = number
            real()
            print("kept", before, flush=True)
        database.sync = sync
        task = asyncio.create_task(background_sync.sync_every_second(database, lambda: None))
    while True:
        store.append([number.to_bytes(4, "big") * size], lambda: b"\\x00", batch := RecordBatch())
        database.write(batch, sync=fsync == "true")
        number += 1
        if fsync == "true":
            print("kept", number, flush=True)
        if number % 10 == 0:
            await asyncio.sleep(0.001)

asyncio.run(main())
"""


def written_until_a_cut(mount: Path, fsync: str, size: int, dice: random.Random) -> int:
    """Write updates of one document until the power is cut; return how many have to be there after that."""
    command = [sys.executable, "-c", WRITER, str(mount / "data"), fsync, str(size)]
    # It fails when the power is cut, and its standard error says so.
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        kept = 0
        try:
            assert process.stdout.readline() == b"opening\n"
            if dice.random() < LATE:
                kept = int(process.stdout.readline().removeprefix(b"kept"))
            time.sleep(dice.uniform(0.0, 0.2))  # a cut is an event of nobody's making
            (mount / ".cut").mkdir()
        finally:
            process.kill()
        said = process.stdout.read()
    lines = said.split(b"\n")[:-1]  # the last one may be cut short
    return max([kept, *(int(line.removeprefix(b"kept")) for line in lines)])


def found(path: Path) -> int:
    """Return how many updates the document has; fail if one is not what was written."""
    database = Database(str(path))
    try:
        records = LevelDBDocument("room", database=database).records()
    finally:
        database.close()
    for number, update in records:
        assert set(zip(*[iter(update)] * 4, strict=True)) == {tuple(number.to_bytes(4, "big"))}
    return len(records)


@pytest.mark.parametrize("size", [10, 20_000], ids=["small", "large"])
@pytest.mark.parametrize("fsync", ["true", "every-second"])
def test_synced_updates_survive_a_power_cut(
    tmp_path: Path, dice: random.Random, fsync: str, size: int, power_cuts: int
) -> None:
    """Whenever the power is cut, the database opens again, and has all that was said to be on the disk."""
    backing, mount = tmp_path / "backing", tmp_path / "mount"
    kept = 0
    for number in range(power_cuts):
        if number % LIFETIME == 0:
            shutil.rmtree(backing, ignore_errors=True)
            kept = 0
        with mounted(backing, mount):
            kept = max(kept, written_until_a_cut(mount, fsync, size, dice))
        there = found(backing / "data")
        print(f"cut {number}: {kept} of {there}")
        assert there >= kept


def test_the_file_system_forgets(tmp_path: Path) -> None:
    """Without a sync, what was written is gone: so the test above can fail."""
    backing, mount = tmp_path / "backing", tmp_path / "mount"
    with mounted(backing, mount):
        database = Database(str(mount / "data"))
        store, ann = LevelDBDocument("room", database=database), Editor(1)
        keep(store, ann.write("synced"))
        database.sync()
        keep(store, ann.write("forgotten"))
        (mount / ".cut").mkdir()
        database.close()
    assert updates(backing / "data") == ann.updates[:1]


def test_a_new_directory_opens_again(tmp_path: Path) -> None:
    """A directory that was made just before the power was cut opens again, and is empty."""
    backing, mount = tmp_path / "backing", tmp_path / "mount"
    with mounted(backing, mount):
        database = Database(str(mount / "data"))
        (mount / ".cut").mkdir()
        database.close()
    assert updates(backing / "data") == []


def updates(path: Path) -> list[bytes]:
    """Return the updates of the document."""
    database = Database(str(path))
    try:
        return LevelDBDocument("room", database=database).updates()
    finally:
        database.close()
