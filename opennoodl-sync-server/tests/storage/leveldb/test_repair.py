"""`repair` writes what can be read of damaged data into a new directory, and says what is lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from opennoodl_sync.edge.command_line import CommandError
from opennoodl_sync.edge.errors import StartError
from opennoodl_sync.storage.leveldb.database import Database, RecordBatch
from opennoodl_sync.storage.leveldb.documents import LevelDBDocument
from opennoodl_sync.storage.leveldb.repair import repair
from opennoodl_sync.storage.leveldb.table import with_footer

from ...command_output import faults
from ...editor import Editor, content
from ...turns import compacted, keep, kept

Texts = dict[str, str]
WORDS = ["one ", "two ", "three ", "four "]
WHOLE = {"first": "".join(WORDS), "second": "".join(WORDS)}
PREFIX = bytes.fromhex("000276310005666972737400067570646174650100000000")[:-1]
"""Of the keys of the updates of the document "first"."""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a data directory with two documents, which is closed: the one in a log, and in it alone."""
    path = tmp_path / "data"
    database = Database(str(path))
    for number, name in enumerate(("first", "second")):
        editor = Editor(number + 1)
        store = LevelDBDocument(name, database=database)
        keep(
            store,
            *(editor.write(f"{word} ") for word in ["one", "two", "three", "four"]),
            state_vector=editor.doc.get_state,
        )
    database.close()
    return path


def in_a_table(path: Path) -> bytes:
    """Have everything in one table; return it."""
    Database(str(path)).close()
    return table(path).read_bytes()


def table(path: Path) -> Path:
    """Return the one table of a database."""
    (file,) = path.glob("*.ldb")
    return file


def log(path: Path) -> Path:
    """Return the one log of a database."""
    (file,) = path.glob("*.log")
    return file


def files(path: Path) -> dict[str, bytes]:
    """Return the files that hold data."""
    return {file.name: file.read_bytes() for file in path.iterdir() if not file.name.startswith("LO")}


def flip(path: Path, at: int) -> None:
    """Change one byte of a file."""
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(data)


def repaired(source: Path) -> tuple[dict[str, str], Texts]:
    """Repair a directory; return what is said to be lost, and what the new one has, which has no fault."""
    before, target = files(source), source.with_name("repaired")
    lost = dict(repair(source, target))
    assert files(source) == before
    assert faults(target) == []
    database = Database(str(target))
    try:
        listed = sorted(database.survey().listed)
        return lost, {name: kept(LevelDBDocument(name, database=database))[0] for name in listed}
    finally:
        database.close()


def test_sound_data_is_copied(source: Path) -> None:
    """Of a directory in which nothing is wrong, nothing is lost."""
    assert repaired(source) == ({}, WHOLE)


@pytest.mark.parametrize("lost", ["CURRENT", "MANIFEST-*"])
@pytest.mark.parametrize("table", [False, True])
def test_a_lost_table_of_contents_loses_nothing(source: Path, lost: str, *, table: bool) -> None:
    """Without CURRENT or MANIFEST, everything is found in the tables and logs."""
    if table:
        in_a_table(source)
    for file in source.glob(lost):
        file.unlink()
    with pytest.raises(StartError, match="`repair`"):
        Database(str(source))
    assert repaired(source) == ({}, WHOLE)


def test_a_damaged_footer_loses_nothing(source: Path) -> None:
    """Every byte of a table's footer is known from the rest of it."""
    whole = in_a_table(source)
    for at in range(len(whole) - 48, len(whole)):
        flip(table(source), at)
        assert with_footer(table(source).read_bytes()) == whole
        flip(table(source), at)
    flip(table(source), len(whole) - 1)
    assert repaired(source) == ({}, WHOLE)


def test_a_damaged_log_loses_one_update(source: Path) -> None:
    """A damaged record of a log costs the update in it; the document says so and has the others, as far as they go."""
    flip(log(source), log(source).read_bytes().index(b"second") + 100)
    lost, texts = repaired(source)
    assert texts["first"] == WHOLE["first"]
    assert texts["second"] == "one "
    assert lost.pop("second") == "1 of the last 4 updates lost"
    assert [name.endswith(".log") and "cannot be read" in said for name, said in lost.items()] == [True]


def test_the_end_of_a_document_may_be_lost(source: Path) -> None:
    """Where the last record of a log is damaged, the documents in it are named: nothing else says what they had."""
    flip(log(source), -10)
    lost, texts = repaired(source)
    assert lost["second"] == "changes may be lost from its end"
    assert texts == {"first": WHOLE["first"], "second": "one two three "}


def test_a_damaged_block_is_told(source: Path) -> None:
    """The loss of a damaged block is reported for its table: LevelDB cannot say more."""
    in_a_table(source)
    flip(table(source), 50)
    lost, texts = repaired(source)
    assert texts == {}
    assert "blocks of it cannot be read" in lost[table(source).name]


def lose(path: Path, *numbers: int) -> None:
    """Lose updates of a document, so that nothing else tells of it."""
    database, batch = Database(str(path)), RecordBatch()
    batch.deletes = [PREFIX + bytes((number,)) for number in numbers]
    database.write(batch)
    database.close()


@pytest.mark.parametrize(
    ("numbers", "said", "text"),
    [
        ((0,), "1 of the last 4 updates lost", ""),
        ((1, 2), "2 of the last 4 updates lost", "one "),
        ((0, 1, 2, 3), "all of it is lost", None),
    ],
)
def test_lost_updates_are_counted(source: Path, numbers: tuple[int, ...], said: str, text: str | None) -> None:
    """A document that lost updates is put in order, and has what does not build upon them."""
    lose(source, *numbers)
    lost, texts = repaired(source)
    assert lost == {"first": said}
    assert texts.get("first") == text


def test_updates_that_depend_on_lost_updates_are_kept(source: Path) -> None:
    """When a client that has them brings the lost updates again, the document is whole."""
    ann = Editor(1)
    updates = [ann.write(word) for word in WORDS]
    lose(source, 1)
    repaired(source)
    database = Database(str(source.with_name("repaired")))
    store = LevelDBDocument("first", database=database)
    keep(store, updates[1])
    compacted(store)
    assert kept(store) == content(ann.doc)
    database.close()


def test_nothing_is_overwritten(source: Path) -> None:
    """The new directory may not be there, nor one that is in use or empty be repaired."""
    with pytest.raises(CommandError, match="exists already"):
        list(repair(source, source))
    with pytest.raises(CommandError, match="holds no documents"):
        list(repair(source.with_name("nowhere"), source.with_name("new")))


def test_indexes_of_a_damaged_document_are_deleted(source: Path) -> None:
    """They would say that later updates with their numbers are parts of a compacted document."""
    database, batch = Database(str(source)), RecordBatch()
    store = LevelDBDocument("first", database=database)
    store.last()
    store.append_part(Editor(3).write("part"), b"index", batch)
    database.write(batch)
    database.close()
    lose(source, 1)
    assert repaired(source)[0] == {"first": "1 of the last 5 updates lost"}
    database = Database(str(source.with_name("repaired")))
    assert LevelDBDocument("first", database=database).parts() == set()
    database.close()
