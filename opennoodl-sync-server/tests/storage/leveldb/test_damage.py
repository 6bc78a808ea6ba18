"""Damage to the store in LevelDB is never silent: the right content, a refusal of the document, or no start."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import pytest
from opennoodl_sync.edge.errors import StartError
from opennoodl_sync.storage.interface import CorruptError, StoreError
from opennoodl_sync.storage.leveldb import files as leveldb_files
from opennoodl_sync.storage.leveldb.database import Database, RecordBatch
from opennoodl_sync.storage.leveldb.documents import LevelDBDocument
from opennoodl_sync.storage.leveldb.files import FORMAT_FILE

from ...command_output import faults, listed
from ...editor import Editor
from ...turns import commit, compacted, keep

pytestmark = pytest.mark.slow

Contents = dict[str, list[bytes]]


class Sample(NamedTuple):
    """A data directory that is closed, and what is in it."""

    path: Path
    contents: Contents


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do without fsync: these tests open thousands of directories, and no power cut is part of them."""
    monkeypatch.setattr(leveldb_files, "sync", lambda *_: None)


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """Return a directory in memory where there is one: LevelDB has its own fsync."""
    shared = Path("/dev/shm")  # noqa: S108
    if not os.access(shared, os.W_OK):
        yield tmp_path
        return
    path = shared / f"opennoodl-{os.getpid()}-{random.getrandbits(64):x}"
    path.mkdir(mode=0o700)
    yield path
    shutil.rmtree(path)


def small(path: Path) -> Contents:
    """Fill a database with two documents, one of them compacted."""
    database = Database(str(path))
    ann, bob = Editor(1), Editor(2)
    first, second = LevelDBDocument("first", database=database), LevelDBDocument("second", database=database)
    keep(first, ann.write("1000 "), state_vector=ann.doc.get_state)
    keep(second, bob.write("one "), bob.put("k", 1), state_vector=bob.doc.get_state)
    compacted(first)
    keep(first, ann.write("euros"))
    contents = {"first": first.updates(), "second": second.updates()}
    database.close()
    return contents


def large(path: Path) -> Contents:
    """Fill a database with documents of many blocks, and open it often enough for several tables."""
    dice = random.Random(1)  # noqa: S311
    editors = {f"document {number * 7 % 12}": Editor(number) for number in range(12)}
    contents: Contents = {}
    for opening in range(4):
        database = Database(str(path))
        for number, (name, editor) in enumerate(editors.items()):
            store = LevelDBDocument(name, database=database)
            if opening or number % 3:
                for _ in range(8):
                    text = dice.randbytes(dice.choice([10, 100, 1000])).hex()
                    keep(store, editor.write(text), state_vector=editor.doc.get_state)
            if opening == 2 and number % 4 == 0:
                compacted(store)
            contents[name] = store.updates()
        editor = Editor(100 + opening)
        store = LevelDBDocument(f"large {opening}", database=database)
        keep(store, editor.write(dice.randbytes(50_000).hex()), state_vector=editor.doc.get_state)
        contents[f"large {opening}"] = store.updates()
        database.close()
    return contents


def reopened(path: Path) -> None:
    """Open and close a database: what was in its log is in a table then."""
    Database(str(path)).close()


def outcome(path: Path, contents: Contents) -> str:
    """Look at a damaged database as a server and an operator do; fail if wrong content is taken for right."""
    try:
        database = Database(str(path))
    except StartError:
        return "no start"
    try:
        refused = set()
        for name, updates in contents.items():
            try:
                assert LevelDBDocument(name, database=database).updates() == updates
            except StoreError:
                refused.add(name)
    finally:
        database.close()
    assert listed(path) in (None, contents.keys() - refused)
    assert faults(path) or not refused
    return "refused" if refused else "right"


def flips(sample: Sample, to: Path, places: Callable[[bytes], Iterator[tuple[int, int]]]) -> dict[str, int]:
    """Change one byte after the other in copies of a database; return how often each outcome came."""
    counts: dict[str, int] = {}
    for file in sorted(sample.path.iterdir()):
        if file.name.startswith("LO"):  # LOG and LOCK hold no data
            continue
        data = file.read_bytes()
        for at, mask in places(data):
            shutil.rmtree(to, ignore_errors=True)
            shutil.copytree(sample.path, to)
            (to / file.name).write_bytes(data[:at] + bytes((data[at] ^ mask,)) + data[at + 1 :])
            try:
                came = outcome(to, sample.contents)
            except BaseException as error:
                error.add_note(f"{file.name}: byte {at} of {len(data)}, {data[at]:#x} ^ {mask:#x}")
                raise
            counts[came] = counts.get(came, 0) + 1
    return counts


@pytest.fixture(params=["log", "table"])
def sample(request: pytest.FixtureRequest, memory: Path) -> Sample:
    """Return a small database whose documents are in a log, or in a table."""
    path = memory / "sample"
    contents = small(path)
    if request.param == "table":
        reopened(path)
    return Sample(path, contents)


def test_no_changed_byte_gives_wrong_contents(sample: Sample, memory: Path, damage_rounds: int) -> None:
    """Whichever byte of a small database is changed, no wrong content is taken for right."""

    def places(data: bytes) -> Iterator[tuple[int, int]]:
        for at in range(len(data)):
            if damage_rounds:
                yield from ((at, 1 << bit) for bit in range(8))
            else:
                yield at, 1 << at % 8

    counts = flips(sample, memory / "damaged", places)
    print(counts)
    assert counts["no start"] > 0


def test_no_changed_byte_of_a_larger_database_gives_wrong_contents(
    memory: Path, dice: random.Random, damage_rounds: int
) -> None:
    """Whichever byte of a larger database with several tables and a log is changed, the same holds."""
    path = memory / "sample"
    sample = Sample(path, large(path))

    def places(data: bytes) -> Iterator[tuple[int, int]]:
        for _ in range(damage_rounds or 4):
            if data:
                yield dice.randrange(len(data)), dice.randrange(1, 256)

    print(flips(sample, memory / "damaged", places))


def test_a_damaged_block_refuses_its_documents(memory: Path) -> None:
    """Whichever block of a table is damaged, the documents in it are refused; plyvel's iterator would end there."""
    path = memory / "sample"
    database, ann, dice = Database(str(path)), Editor(1), random.Random(1)  # noqa: S311
    store = LevelDBDocument("room", database=database)
    keep(store, *(ann.write(dice.randbytes(500).hex()) for _ in range(30)), state_vector=ann.doc.get_state)
    database.close()
    reopened(path)

    def places(data: bytes) -> Iterator[tuple[int, int]]:
        if len(data) > 10_000:
            yield from ((at, 1) for at in range(0, len(data), 1000))

    counts = flips(Sample(path, {"room": ann.updates}), memory / "damaged", places)
    assert counts["refused"] > 10


def test_merging_tables_loses_nothing_silently(memory: Path) -> None:
    """When LevelDB meets a damaged block while it merges tables, writing fails, and no table is deleted."""
    path = memory / "sample"
    for _ in range(2):  # into a table each
        numbered(path, 4)
        reopened(path)
    table = min(path.glob("*.ldb"))
    data = bytearray(table.read_bytes())
    data[20] ^= 1
    table.write_bytes(data)
    database = Database(str(path))
    with pytest.raises(CorruptError):
        database.shrink()
    assert database.failure == "The stored data is damaged, so documents cannot be written to disk."
    database.close()
    assert table.read_bytes() == data


def data_files(path: Path) -> dict[str, bytes]:
    """Return the files of a database; LevelDB's own protocol and lock are none, nor is the number of the format."""
    others = ("LO", FORMAT_FILE)
    return {file.name: file.read_bytes() for file in path.iterdir() if not file.name.startswith(others)}


def test_a_lost_file_stops_the_start(sample: Sample) -> None:
    """Whichever files are lost while others remain, the server does not start, and nothing else is lost with them."""
    whole = data_files(sample.path)
    for lost in (set(some) for size in range(1, len(whole)) for some in combinations(whole, size)):
        for name in whole:
            (sample.path / name).unlink(missing_ok=True)
        left = {name: data for name, data in whole.items() if name not in lost}
        if all(name.endswith(".log") and not data for name, data in left.items()):
            continue  # nothing was stored in what is left
        for name, data in left.items():
            (sample.path / name).write_bytes(data)
        with pytest.raises(StartError, match="cannot be opened"):
            Database(str(sample.path))
        assert data_files(sample.path) == left


def log_of(path: Path) -> Path:
    """Return the one log of a database."""
    (log,) = path.glob("*.log")
    return log


def numbered(path: Path, count: int) -> list[bytes]:
    """Fill a database with one document of so many updates, the last of them long; return them."""
    database, ann = Database(str(path)), Editor(1)
    store = LevelDBDocument("room", database=database)
    texts = ["short"] * (count - 1) + ["long " * 500]
    keep(store, *(ann.write(text) for text in texts), state_vector=ann.doc.get_state)
    database.close()
    return ann.updates


def opened(path: Path) -> list[bytes]:
    """Return the updates of the document, without keeping the database open."""
    database = Database(str(path))
    try:
        return LevelDBDocument("room", database=database).updates()
    finally:
        database.close()


@pytest.mark.parametrize("missing", [1, 7, 500, 2500])
def test_an_unfinished_record_is_no_damage(memory: Path, missing: int) -> None:
    """When the process was killed in the middle of a write, everything before it is there."""
    updates = numbered(memory / "data", 4)
    log = log_of(memory / "data")
    log.write_bytes(log.read_bytes()[:-missing])
    assert opened(memory / "data") == updates[:-1]


@pytest.mark.parametrize("sectors", [0, 1, 4])
def test_zeros_after_a_power_cut_are_no_damage(memory: Path, sectors: int) -> None:
    """When a file system has zeros in place of the end of the last write, everything before it is there."""
    updates = numbered(memory / "data", 4)
    log = log_of(memory / "data")
    data = log.read_bytes()
    begins = len(data) - 2600
    end = (begins // 512 + 1 + sectors) * 512
    assert end < len(data)
    log.write_bytes(data[:end].ljust(8192, b"\x00"))
    assert opened(memory / "data") == updates[:-1]


def test_zeros_in_the_middle_are_damage(memory: Path) -> None:
    """Zeros with records behind them are no unfinished write; LevelDB itself would skip them."""
    numbered(memory / "data", 100)
    log = log_of(memory / "data")
    data = log.read_bytes()
    log.write_bytes(data[:512] + bytes(512) + data[1024:])
    with pytest.raises(StartError, match=r"damaged: 0.*\.log"):
        Database(str(memory / "data"))


@pytest.mark.parametrize("left", [b"", bytes(50)], ids=["empty", "zeros"])
def test_a_database_that_was_never_finished_is_made_anew(memory: Path, left: bytes) -> None:
    """When a power cut came while the database was made, nothing was stored, and it is made again."""
    Database(str(memory / "data")).close()
    for name, data in data_files(memory / "data").items():
        if name != "CURRENT":
            (memory / "data" / name).write_bytes(b"" if data.endswith(b".log") else left)
    log_of(memory / "data").write_bytes(b"")
    assert opened(memory / "data") == []


@pytest.mark.parametrize("compaction", [False, True])
@pytest.mark.parametrize(("first", "last"), [(0, 1), (2, 2), (3, 4)])
def test_records_that_are_missing_are_named(memory: Path, first: int, last: int, *, compaction: bool) -> None:
    """Updates that are missing refuse the document, wherever they are; at the end only those of a compaction."""
    database, ann = Database(str(memory / "data")), Editor(1)
    store = LevelDBDocument("room", database=database)
    keep(store, *(ann.write("x") for _ in range(5)))
    if compaction:
        store.replace(store.last(), ann.updates, b"\x00", None, batch := RecordBatch())
        commit(store, batch)
    prefix = bytes.fromhex("000276310004726f6f6d000675706461746501")
    batch = RecordBatch()
    batch.deletes = [prefix + number.to_bytes(4, "big") for number in range(first, last + 1)]
    database.write(batch)
    store = LevelDBDocument("room", database=database)
    if last == 4 and not compaction:
        assert len(store.records()) == 3  # only LevelDB itself could say that there were more, and it does
    else:
        with pytest.raises(CorruptError, match=f"updates {first} to {last} are missing"):
            store.records()
    database.close()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda key, value: (key, value[:-1] + bytes((value[-1] ^ 1,))), "update 0: checksum mismatch"),
        (lambda key, value: (key, b"X" + value[1:]), "update 0: checksum mismatch"),
        (lambda key, value: (key[:-1] + b"\x01", value), "update 1: checksum mismatch"),
    ],
    ids=["checksum", "content", "key"],
)
def test_a_record_that_is_not_what_was_written_is_refused(
    memory: Path, change: Callable[[bytes, bytes], tuple[bytes, bytes]], said: str
) -> None:
    """Our own checksum covers the value and the key, whatever LevelDB says of them."""
    database, ann = Database(str(memory / "data")), Editor(1)
    keep(LevelDBDocument("room", database=database), ann.write("x"))
    prefix = bytes.fromhex("000276310004726f6f6d0006")
    ((key, value),) = database.read(prefix, lambda key, value: (key, value.getvalue()))
    batch = RecordBatch()
    batch.deletes.append(key)
    batch.puts.append(change(key, value))
    if batch.puts[0][0] == key:
        batch.deletes.clear()
    database.write(batch)
    with pytest.raises(CorruptError, match=said):
        LevelDBDocument("room", database=database).records()
    database.close()


def test_a_missing_state_vector_refuses_the_document(memory: Path) -> None:
    """Every document with updates has a state vector; one without has lost something."""
    database = Database(str(memory / "data"))
    keep(LevelDBDocument("room", database=database), Editor(1).write("x"))
    batch = RecordBatch()
    batch.deletes.append(bytes.fromhex("000576315f73760004726f6f6d"))
    database.write(batch)
    with pytest.raises(CorruptError, match="no state vector"):
        LevelDBDocument("room", database=database).records()
    database.close()


def test_files_are_their_users_alone(memory: Path) -> None:
    """LevelDB's files can be read by nobody else, also in a directory that was there before, or came from elsewhere."""
    (memory / "data").mkdir(mode=0o755)
    Database(str(memory / "data")).close()
    for file in (memory / "data").iterdir():
        file.chmod(0o644)
    Database(str(memory / "data")).close()
    assert {file.stat().st_mode & 0o777 for file in (memory / "data").iterdir()} == {0o600}
