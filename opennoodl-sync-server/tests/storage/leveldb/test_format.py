"""The format of a data directory: today's is read by later releases, and a later one is refused by its number."""

from __future__ import annotations

import json
from base64 import b64decode
from contextlib import closing
from pathlib import Path

import pytest
from opennoodl_sync.edge.command_line import CommandError
from opennoodl_sync.edge.errors import StartError
from opennoodl_sync.storage.leveldb.database import Database
from opennoodl_sync.storage.leveldb.documents import LevelDBDocument
from opennoodl_sync.storage.leveldb.files import FORMAT, FORMAT_FILE
from opennoodl_sync.storage.leveldb.repair import repair
from opennoodl_sync.yjs.document import Document
from opennoodl_sync.yjs.lib0 import finish

from ...editor import Editor

FORMATS = Path(__file__).with_name("formats")


def unpack(name: str, directory: Path) -> None:
    """Write the files of a recorded directory."""
    directory.mkdir()
    for file, content in json.loads((FORMATS / name).read_text()).items():
        (directory / file).write_bytes(b64decode(content))


@pytest.mark.parametrize("name", ["1.json"])
def test_a_directory_of_an_earlier_release_is_read(tmp_path: Path, name: str) -> None:
    """A directory that an earlier release wrote is opened, and its document has everything."""
    unpack(name, tmp_path / "data")
    with closing(Database(str(tmp_path / "data"))) as database:
        document = Document()
        finish(document.load(LevelDBDocument("a room", database=database).updates()))
    reader = Editor(9, finish(document.write()))
    assert reader.text == "hello world"


def test_number_is_written(tmp_path: Path) -> None:
    """A directory that is opened gets the number of the format, and keeps it."""
    for _ in range(2):
        Database(str(tmp_path)).close()
        assert (tmp_path / FORMAT_FILE).read_text() == f"{FORMAT}\n"


def test_a_newer_format_is_refused_by_its_number(tmp_path: Path) -> None:
    """A directory of a newer release is refused by its number and left as it is."""
    Database(str(tmp_path)).close()
    (tmp_path / FORMAT_FILE).write_text("2\n")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(StartError) as refused:
        Database(str(tmp_path))
    why = "it has format 2 of a newer release; this release reads formats up to 1"
    assert str(refused.value) == f"PERSIST_DIR {tmp_path} cannot be opened: {why}"
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_newer_format_is_not_repaired(tmp_path: Path) -> None:
    """`repair` does not take the records of a newer release for damage."""
    Database(str(tmp_path / "data")).close()
    (tmp_path / "data" / FORMAT_FILE).write_text("2\n")
    with pytest.raises(CommandError, match="format 2 of a newer release"):
        list(repair(tmp_path / "data", tmp_path / "repaired"))
    assert not (tmp_path / "repaired").exists()


@pytest.mark.parametrize("text", ["", "x", "-1", "1.5"])
def test_a_format_file_without_a_number_is_damage(tmp_path: Path, text: str) -> None:
    """A file without a number is damage."""
    Database(str(tmp_path)).close()
    (tmp_path / FORMAT_FILE).write_text(text)
    with pytest.raises(StartError, match=f"damaged: {FORMAT_FILE} has no number"):
        Database(str(tmp_path))
