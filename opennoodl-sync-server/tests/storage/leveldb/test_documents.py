"""The store in LevelDB: y-leveldb's format, byte for byte, and a disk that fails."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import pytest
from opennoodl_sync.edge.errors import StartError
from opennoodl_sync.storage.interface import StoreError
from opennoodl_sync.storage.leveldb import documents as module
from opennoodl_sync.storage.leveldb.bindings import plyvel
from opennoodl_sync.storage.leveldb.database import Database, RecordBatch
from opennoodl_sync.storage.leveldb.documents import LevelDBDocument
from opennoodl_sync.storage.leveldb.record_format import unseal
from pycrdt import get_state

from ...conftest import Disk
from ...editor import Editor, content
from ...turns import commit, compacted, keep, keep_together, kept

# Written by y-leveldb 0.1.2.
UPDATE_KEYS = {
    ("room", 0): "000276310004726f6f6d00067570646174650100000000",
    ("room", 1): "000276310004726f6f6d00067570646174650100000001",
    ("room", 258): "000276310004726f6f6d00067570646174650100000102",
    ("café/%20🎉", 1): "00027631000d636166c3a92f253230f09f8e8900067570646174650100000001",
}
STATE_VECTOR_KEYS = {
    "room": "000576315f73760004726f6f6d",
    "café/%20🎉": "000576315f7376000d636166c3a92f253230f09f8e89",
    "x" * 200: "000576315f737600c801" + "78" * 200,
}
META_KEY = bytes.fromhex("000276310004726f6f6d00046d65746100016d")


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Return where the database is."""
    return str(tmp_path / "data")


@contextmanager
def opened(path: str, name: str = "room") -> Iterator[LevelDBDocument]:
    """Open the store of one document, read what it has, and close the database afterwards."""
    database = Database(path)
    try:
        store = LevelDBDocument(name, database=database)
        store.records()
        yield store
    finally:
        database.close()


def raw(path: str) -> dict[bytes, bytes]:
    """Return everything in a database that is closed, without our checksums."""
    with plyvel.DB(path) as db:
        return {key: unseal(key, BytesIO(value))[0] for key, value in db}


def replace(store: LevelDBDocument, *updates: bytes) -> None:
    """Keep `updates` in place of everything."""
    batch = RecordBatch()
    store.replace(store.last(), updates, b"\x00", None, batch)
    commit(store, batch)


def files(path: Path) -> dict[str, bytes]:
    """Return the files that hold data; LevelDB's own log and lock are none."""
    return {file.name: file.read_bytes() for file in path.iterdir() if not file.name.startswith(("LOG", "LOCK"))}


@pytest.mark.parametrize(("name", "number"), UPDATE_KEYS)
def test_update_keys_are_those_of_y_leveldb(path: str, name: str, number: int) -> None:
    """An update is stored under the key that y-leveldb gives it."""
    key = bytes.fromhex(UPDATE_KEYS[name, number])
    with opened(path, name) as store:
        keep_together(store, *[b"update"] * (number + 1))
    assert raw(path)[key] == b"update"


@pytest.mark.parametrize("name", STATE_VECTOR_KEYS)
def test_state_vector_keys_are_those_of_y_leveldb(path: str, name: str) -> None:
    """The state vector of a document is stored under the key that y-leveldb gives it."""
    with opened(path, name) as store:
        keep(store, b"update", state_vector=lambda: b"\x01\x02\x03")
    assert raw(path)[bytes.fromhex(STATE_VECTOR_KEYS[name])] == b"\x00\x03\x01\x02\x03"


def test_reads_what_y_leveldb_wrote(path: str) -> None:
    """A document that y-leveldb wrote is read, in the order of its clock, and goes on behind it."""
    ann = Editor(1)
    first, second = ann.write("one "), ann.write("two")
    with plyvel.DB(path, create_if_missing=True) as db:
        db.put(bytes.fromhex(UPDATE_KEYS["room", 1]), second)
        db.put(bytes.fromhex(UPDATE_KEYS["room", 0]), first)
        db.put(bytes.fromhex(STATE_VECTOR_KEYS["room"]), b"\x00\x01\x00")
    with opened(path) as store:
        assert store.records() == [(0, first), (1, second)]
        keep(store, b"more")
        assert store.records()[-1] == (2, b"more")


def test_the_first_update_brings_the_state_vector(path: str) -> None:
    """Every document has a state vector from its first update on, so that it is listed; later updates leave it."""
    ann = Editor(1)
    with opened(path) as store:
        keep(store, ann.write("one "), state_vector=ann.doc.get_state)
        before = ann.doc.get_state()
        keep(store, ann.write("two"), state_vector=ann.doc.get_state)
    stored = raw(path)[bytes.fromhex(STATE_VECTOR_KEYS["room"])]
    assert stored == b"\x00" + bytes((len(before),)) + before


def test_compaction_brings_the_state_vector_up_to_date(path: str) -> None:
    """After compaction the state vector's clock is that of the last update, so that readers trust it."""
    ann = Editor(1)
    with opened(path) as store:
        for _ in range(3):
            keep(store, ann.write("word "), state_vector=ann.doc.get_state)
        compacted(store)
        ((number, update),) = store.records()
    stored = raw(path)[bytes.fromhex(STATE_VECTOR_KEYS["room"])]
    assert stored == bytes((number, len(get_state(update)))) + get_state(update)


def test_a_large_state_vector_is_left_to_readers(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After compaction the record of the state vector is of an earlier update, so that readers do not trust it."""
    monkeypatch.setattr(module, "MAX_STATE_VECTOR", 2)
    ann = Editor(1)
    with opened(path) as store:
        for _ in range(3):
            keep(store, ann.write("word "), state_vector=ann.doc.get_state)
        compacted(store)
        ((number, update),) = store.records()
    assert len(get_state(update)) > 2
    assert raw(path)[bytes.fromhex(STATE_VECTOR_KEYS["room"])] == bytes((number - 1, 1, 0))
    with opened(path) as store:
        assert store.updates() == [update]
        assert not store.stale_state_vector(get_state(update))


def test_metadata_of_others_is_left_alone(path: str) -> None:
    """y-leveldb's metadata of a document outlives writes and compactions."""
    ann = Editor(1)
    with plyvel.DB(path, create_if_missing=True) as db:
        db.put(META_KEY, b"theirs")
    with opened(path) as store:
        assert store.records() == []
        keep(store, ann.write("one"), state_vector=ann.doc.get_state)
        compacted(store)
    assert raw(path)[META_KEY] == b"theirs"


def test_documents_do_not_touch(path: str) -> None:
    """Documents whose names begin alike, or contain what keys are made of, are separate."""
    names = ["a", "ab", "a\x00\x06update\x01", "", "\x01a", "a/b"]
    for name in names:
        with opened(path, name) as store:
            assert store.records() == []
            keep(store, name.encode())
    for name in names:
        with opened(path, name) as store:
            assert store.updates() == [name.encode()]
            replace(store, b"its own")
    for name in names:
        with opened(path, name) as store:
            assert store.updates() == [b"its own"]


def test_documents_are_listed(path: str) -> None:
    """The names of all documents are found, as they were given."""
    for name in STATE_VECTOR_KEYS:
        with opened(path, name) as store:
            keep(store, b"update")
    database = Database(path)
    assert database.survey().listed == set(STATE_VECTOR_KEYS)
    database.close()


def test_everything_is_there_after_reopening(path: str) -> None:
    """Documents are read again from disk, and new updates come behind the old ones, also after a compaction."""
    ann = Editor(1)
    for number in range(3):
        with opened(path) as store:
            assert kept(store) == content(ann.doc)
            keep(store, ann.write(f"{number}a "), ann.write(f"{number}b "))
            compacted(store)
            keep(store, ann.write(f"{number}c "))
    with opened(path) as store:
        assert kept(store) == content(ann.doc)


def test_writing_without_reading_first_overwrites_nothing(path: str) -> None:
    """A store that was not read yet appends to what is on disk."""
    with opened(path) as store:
        keep(store, b"one")
    database = Database(path)
    store = LevelDBDocument("room", database=database)
    keep(store, b"two")
    assert store.updates() == [b"one", b"two"]
    database.close()


def test_a_torn_write_loses_only_itself(path: str) -> None:
    """After a power cut in the middle of a write, everything before it is read."""
    with opened(path) as store:
        for update in (b"one", b"two", b"torn"):
            keep(store, update * 100)
    (log,) = Path(path).glob("*.log")
    log.write_bytes(log.read_bytes()[:-50])
    with opened(path) as store:
        assert store.updates() == [b"one" * 100, b"two" * 100]


def test_a_directory_is_made(tmp_path: Path) -> None:
    """A data directory that is not there is made, with those above it; others cannot look into it."""
    with opened(str(tmp_path / "some" / "where")) as store:
        assert store.records() == []
    assert (tmp_path / "some" / "where").stat().st_mode & 0o777 == 0o700


def test_a_directory_in_use_stops_the_start(path: str) -> None:
    """A directory that another process holds is not opened, and the message says so."""
    imports = "import sys; from opennoodl_sync.storage.leveldb.bindings import plyvel"
    code = f"{imports}; db = plyvel.DB(sys.argv[1], create_if_missing=True); print('open', flush=True); input()"
    argv = [sys.executable, "-c", code, path]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        with pytest.raises(StartError, match="in use by another process"):
            Database(path)
        process.communicate(b"\n")
    Database(path).close()


@pytest.mark.parametrize("name", ["data", "clock"])
def test_a_file_in_place_of_the_directory_stops_the_start(tmp_path: Path, name: str) -> None:
    """A file where the directory should be is left alone, and the message does not blame another process."""
    file = tmp_path / name
    file.write_text("mine")
    for path in (file, file / "below"):
        with pytest.raises(StartError, match=r"PERSIST_DIR .* cannot be opened"):
            Database(str(path))
    assert file.read_text() == "mine"


def damage_current(path: Path) -> None:
    """Write junk where LevelDB looks for the name of its table of contents."""
    (path / "CURRENT").write_text("junk")


def remove_current(path: Path) -> None:
    """Lose the file with the name of LevelDB's table of contents."""
    (path / "CURRENT").unlink()


def damage_manifest(path: Path) -> None:
    """Damage LevelDB's table of contents."""
    for manifest in path.glob("MANIFEST-*"):
        manifest.write_bytes(b"junk" * 20)


def remove_table(path: Path) -> None:
    """Lose a file with data."""
    for table in path.glob("*.ldb"):
        table.unlink()


@pytest.mark.parametrize("damage", [damage_current, remove_current, damage_manifest, remove_table])
def test_a_damaged_directory_stops_the_start(path: str, damage: Callable[[Path], None]) -> None:
    """A directory that LevelDB cannot make sense of is not opened, and nothing in it is changed or removed."""
    for text in (b"one", b"two"):  # the second opening moves what the first wrote into a table
        with opened(path) as store:
            keep(store, text * 100)
    damage(Path(path))
    before = files(Path(path))
    with pytest.raises(StartError, match=r"PERSIST_DIR .* cannot be opened"):
        Database(path)
    assert files(Path(path)) == before


def test_a_write_that_fails_is_told_and_kept_in_mind(path: str, disk: Disk) -> None:
    """A failing disk is a StoreError, the database says so, and the next success ends that; nothing is half kept."""
    database = Database(path)
    store = LevelDBDocument("room", database=database)
    store.records()
    keep(store, b"before")
    disk.full = True
    with pytest.raises(StoreError, match="No space left"):
        keep_together(store, b"lost", b"too")
    assert database.failure
    with pytest.raises(StoreError):
        replace(store, b"instead")
    assert database.failure
    assert store.updates() == [b"before"]
    disk.full = False
    assert database.failure
    store = LevelDBDocument("room", database=database)
    keep(store, b"after")
    assert database.failure is None
    assert store.updates() == [b"before", b"after"]
    database.close()


FULL_DISK = """
import os, resource, signal, sys
from opennoodl_sync.storage.leveldb.record_format import unseal
from opennoodl_sync.storage.interface import StoreError
from opennoodl_sync.storage.leveldb.database import RecordBatch
from opennoodl_sync.storage.leveldb.database import Database
from opennoodl_sync.storage.leveldb.documents import LevelDBDocument

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
database = Database(sys.argv[1])
store = LevelDBDocument("room", database=database)
store.records()
_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
kept = []
for number in range(20):
    if number == 5:
        resource.setrlimit(resource.RLIMIT_FSIZE, (6500, most))
    if number == 9:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    try:
        store.append([bytes((number,)) * 1000], lambda: b"\\x00", batch := RecordBatch())
        database.write(batch)
    except StoreError:
        assert database.failure
        store = LevelDBDocument("room", database=database)
    else:
        assert database.failure is None
        kept.append(number)
print(*kept, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_updates_stored_after_a_full_disk_survive(path: str) -> None:
    """When a full disk has room again, what is stored from then on outlives the process as before."""
    done = subprocess.run([sys.executable, "-c", FULL_DISK, path], stdout=subprocess.PIPE, check=False)
    kept = [int(number) for number in done.stdout.split()]
    assert set(range(5)) < set(kept) < set(range(20))
    assert set(kept) >= set(range(9, 20))
    with opened(path) as store:
        assert [update[0] for update in store.updates()] == kept
