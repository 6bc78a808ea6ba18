"""The number of the file's format: it is written, and a file of a newer release is refused by it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from zlib import crc32

import pytest
from opennoodl_notification.edge.errors import StartError
from opennoodl_notification.inbox.store import Changes
from opennoodl_notification.storage.json_file.contents import Contents
from opennoodl_notification.storage.json_file.format import FORMAT
from opennoodl_notification.storage.json_file.journal import line
from opennoodl_notification.storage.json_file.snapshot import SnapshotFile
from opennoodl_notification.storage.json_file.store import JsonStore

NEWER = FORMAT + 1


def test_file_has_the_number_of_its_format(file: Path) -> None:
    """The file that a store writes names its format."""
    SnapshotFile(file).write(Contents().snapshot(), 1)
    assert json.loads(file.read_bytes())["file"]["1"] == {"generation": 1, "format": FORMAT}


@pytest.mark.parametrize(
    "text",
    [b'{"format":%d}' % NEWER, b'{"format":%d,"added":"in another way"}' % NEWER],
    ids=["readable", "unreadable"],
)
def test_newer_journal_beside_an_old_file_is_refused_by_its_number(file: Path, text: bytes) -> None:
    """A newer release has continued an old file, and has not written it since: its journal has the number."""
    SnapshotFile(file).write(Contents().snapshot(), 1)
    journal = file.with_name(f"{file.name}.journal.1")
    journal.write_bytes(line(Changes()) + b"%08x %s\n" % (crc32(text), text))
    before = file.read_bytes(), journal.read_bytes()
    with pytest.raises(StartError) as refused:
        asyncio.run(JsonStore(str(file)).open())
    why = f"has format {NEWER} of a newer release; this release reads formats up to {FORMAT}"
    assert str(refused.value) == (
        f"DB_FILE {file} continues in {journal.name}, which {why}; the file is unchanged: name another one"
    )
    assert (file.read_bytes(), journal.read_bytes()) == before


@pytest.mark.parametrize("more", [{}, {"a table of that release": {}}], ids=["same-tables", "another-table"])
def test_newer_format_is_refused_by_its_number(file: Path, more: dict[str, object]) -> None:
    """A file of a newer release is refused by its number, whatever else is in it, and nothing is changed."""
    file.write_text(json.dumps({"file": {"1": {"generation": 7, "format": NEWER}}, **more}))
    journal = file.with_name(f"{file.name}.journal.7")
    journal.write_bytes(b"what that release writes")
    before = {path.name: path.read_bytes() for path in file.parent.iterdir() if path.is_file()}
    with pytest.raises(StartError) as refused:
        asyncio.run(JsonStore(str(file)).open())
    why = f"has format {NEWER} of a newer release; this release reads formats up to {FORMAT}"
    assert str(refused.value) == f"DB_FILE {file} {why}; the file is unchanged: name another one"
    after = {path.name: path.read_bytes() for path in file.parent.iterdir() if path.is_file()}
    assert {name: content for name, content in after.items() if name in before} == before
    assert {path.removeprefix(file.name) for path in after.keys() - before.keys()} <= {".lock"}
