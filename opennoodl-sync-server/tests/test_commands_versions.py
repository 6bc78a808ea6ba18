"""The commands about versions, on a directory and on a database."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from opennoodl_sync.settings import Settings
from opennoodl_sync.storage.choose import open_place
from opennoodl_sync.storage.interface import History, Version
from opennoodl_sync.storage.leveldb.database import Database
from opennoodl_sync.storage.leveldb.record_format import key_of, number_element
from opennoodl_sync.versions.times import read, shown
from opennoodl_sync.workers.version_process import make

from .databases import empty_database
from .editor import Editor
from .test_commands import Ended, run, run_alone

FIRST, SECOND = "2026-11-28T09:00:00Z", "2026-11-29T09:00:00Z"
TIME = read(SECOND)
pytestmark = [pytest.mark.xdist_group("postgresql"), pytest.mark.slow]


class Place:
    """A store at a place.

    Attributes:
        name: of the place: a directory, or the URL of a database.
    """

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self._directory = directory

    def run(self, *arguments: str, stdin: bytes = b"") -> Ended:
        """Run a command."""
        return run(self._directory, *arguments, stdin=stdin)

    def text(self, *arguments: str) -> str:
        """Return the text of the document that a command exports."""
        ended = self.run(*arguments)
        assert ended.returncode == 0, ended.stderr
        return Editor(2, ended.stdout).text

    def add(self, when: str, *updates: bytes, last: int = -1) -> None:
        """Add a version of `room`."""

        async def add() -> None:
            store = await open_place(self.name, may_make=False)
            content = make([*updates])
            await store.change_versions("room", [(Version(read(when), len(content), last), content)], [])
            await store.close()

        asyncio.run(add())

    def history(self) -> History:
        """Return the versions of `room`."""

        async def look() -> History:
            store = await open_place(self.name, may_make=False)
            try:
                return await store.history("room")
            finally:
                await store.close()

        return asyncio.run(look())


@pytest.fixture(params=["leveldb", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """Return a store in which `room` was "hello" on one day and "hello world" on the next, and now is "world!"."""
    directory = tmp_path / "data"
    if request.param == "postgresql":
        monkeypatch.setenv("DATABASE_URL", empty_database())
    place = Place(empty_database() if request.param == "postgresql" else str(directory), directory)
    editor = Editor(1)
    hello, world = editor.write("hello"), editor.write(" world")
    editor.delete(0, 6)
    editor.write("!")
    assert place.run("import", "room", "-", stdin=editor.doc.get_update()).returncode == 0
    place.add(FIRST, hello)
    place.add(SECOND, hello, world)
    return place


def test_versions_lists_times_and_bytes(place: Place) -> None:
    """`versions` shows the times and the bytes of the versions."""
    lines = place.run("versions", "room").stdout.decode().splitlines()
    assert [line.split()[0] for line in lines] == [FIRST, SECOND]
    assert [int(line.split()[1]) for line in lines] == [version.size for version in place.history().versions]


@pytest.mark.parametrize(
    ("when", "text"),
    [(FIRST, "hello"), ("2026-11-29", "hello"), (SECOND, "hello world"), ("2030-01-01", "hello world")],
)
def test_version_writes_a_document_as_it_was(place: Place, when: str, text: str) -> None:
    """`version` writes the document as it was, also as JSON: the newest version up to then."""
    assert place.text("version", "room", when) == text
    assert json.loads(place.run("version", "room", when, "--format", "json").stdout)["t"] == text


def test_revert_restores_a_version(place: Place) -> None:
    """`revert` restores a version by one more change, and keeps what was there as a version."""
    ended = place.run("revert", "room", SECOND)
    *_, made = place.history().versions
    line = f"restored the version of {SECOND}; before, it was {shown(made.time)}\n"
    assert (ended.returncode, ended.stdout.decode(), ended.stderr) == (0, line, b"")
    assert place.text("export", "room") == "hello world"
    assert place.text("version", "room", shown(made.time)) == "world!"
    assert place.run("revert", "room", shown(made.time)).returncode == 0
    assert place.text("export", "room") == "world!"
    assert place.run("check", "--deep").stdout == b"all documents are sound\n"


def test_a_client_that_was_away_keeps_its_changes(place: Place) -> None:
    """Changes that a client made before it heard of a restored version are in the document afterwards."""
    away = Editor(2, place.run("export", "room").stdout)
    assert place.run("revert", "room", FIRST).returncode == 0
    update = away.write(" back", 5)
    assert place.run("import", "room", "-", stdin=update).returncode == 0
    assert place.text("export", "room") == "hello back"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("versions", "none"), "there is no document 'none'"),
        (("version", "room", "then"), "'then' is not a time; accepted is a time such as"),
        (
            ("revert", "room", "2026-01-01"),
            f"'room': no version is as old as 2026-01-01T00:00:00Z; the oldest one is of {FIRST}",
        ),
    ],
)
def test_a_mistake_is_one_line(place: Place, arguments: tuple[str, ...], message: str) -> None:
    """A mistake is one line."""
    ended = place.run(*arguments)
    assert (ended.returncode, ended.stdout) == (1, b"")
    assert ended.stderr.decode().startswith(f"opennoodl_sync: {message}")
    assert ended.stderr.count(b"\n") == 1


def test_a_version_that_cannot_be_restored_is_refused(place: Place) -> None:
    """A version that has changes which the document lacks is refused, and nothing is changed; the way out works."""
    place.add("2026-11-30", Editor(9).write("lost"))
    before = place.run("export", "room").stdout
    ended = place.run("revert", "room", "2026-11-30")
    assert ended.returncode == 1
    assert b"cannot be restored: the document lacks changes that the version has" in ended.stderr
    assert place.run("export", "room").stdout == before
    assert len(place.history().versions) == 3
    update = place.run("version", "room", "2026-11-30").stdout
    assert place.run("import", "room", "-", stdin=update).returncode == 0
    assert place.run("revert", "room", "2026-11-30").returncode == 0
    assert place.text("export", "room") == "lost"


def test_compact_keeps_versions_and_delete_takes_them(place: Place) -> None:
    """Versions stay when a document is compacted, and go when it is deleted; `list` and `export` do without them."""
    assert place.run("list").stdout.count(b"\n") == 1
    before = place.history().versions
    assert place.run("compact").returncode == 0
    assert place.history().versions == before
    assert place.text("export", "room") == "world!"
    assert place.run("delete", "room").returncode == 0
    assert place.history() == History([], -1)


def test_migrate_copies_versions(place: Place, tmp_path: Path) -> None:
    """Versions are copied with their document; a copy is still known not to have changed since its newest version."""
    place.run("compact")  # numbers of updates do not begin with zero then
    place.add("2026-11-30", place.run("export", "room").stdout, last=place.history().last)
    target = tmp_path / "target"
    for _ in range(2):
        ended = place.run("migrate", "--from", place.name, "--to", str(target))
        assert (ended.returncode, ended.stderr) == (0, b"")
        copy = Place(str(target), target).history()
        assert [version[:2] for version in copy.versions] == [version[:2] for version in place.history().versions]
        assert [version.last for version in copy.versions] == [-1, -1, copy.last]


@pytest.fixture
def directory(tmp_path: Path) -> Place:
    """Return a directory in which `room` was "hello" on one day, "hello world" on the next, and is empty now."""
    place = Place(str(tmp_path / "data"), tmp_path / "data")
    editor = Editor(1)
    hello, world = editor.write("hello"), editor.write(" world")
    place.run("import", "room", "-", stdin=editor.doc.get_update())
    place.add(FIRST, hello)
    place.add(SECOND, hello, world)
    return place


def damage(place: Place, *elements: str, time: str = SECOND, value: bytes | None = b"x") -> None:
    """Write over a record of `room`, or delete it."""
    database = Database(place.name)
    number = 0 if elements == ("update",) else read(time)
    key = key_of("v1", "room", *elements) + number_element(number)
    if value is None:
        database._db.delete(key)
    else:
        database._db.put(key, value)
    database.close()


@pytest.mark.parametrize(
    ("record", "value", "fault"),
    [
        (
            "version",
            b"x",
            f"its version of {SECOND} cannot be restored: version {read(SECOND)}: its checksum is missing",
        ),
        (
            "version",
            None,
            f"its version of {SECOND} cannot be restored: the content of version {read(SECOND)} is missing",
        ),
        ("history", b"x", f"its versions cannot be read: version {read(SECOND)}: its checksum is missing"),
    ],
)
def test_damaged_versions_are_named_and_left_out(
    directory: Place, tmp_path: Path, record: str, value: bytes | None, fault: str
) -> None:
    """`check` names a damaged version, the document is as it was, and `repair` leaves out what cannot be read."""
    damage(directory, record, value=value)
    assert directory.run("check").stdout.decode() == f"room: {fault}\n"
    assert directory.text("export", "room") == "hello world"
    repaired = Place(str(tmp_path / "repaired"), tmp_path / "repaired")
    said = directory.run("repair", repaired.name).stdout.decode().splitlines()[:-1]
    assert said == ([] if record == "history" else ["room: 1 of 2 versions lost"])
    assert repaired.run("check").stdout == b"all documents are sound\n"
    assert repaired.text("version", "room", FIRST) == "hello"
    assert len(repaired.history().versions) == (2 if record == "history" else 1)


def test_a_version_is_all_that_is_left(directory: Place, tmp_path: Path) -> None:
    """`repair` puts the newest version in the place of a document of which nothing else can be read."""
    damage(directory, "update", value=b"x\x00crc" + bytes(8))
    repaired = Place(str(tmp_path / "repaired"), tmp_path / "repaired")
    ended = directory.run("repair", repaired.name)
    assert ended.stderr == b""
    said = ended.stdout.decode().splitlines()[0]
    assert said == f"room: all of it is lost but its version of {SECOND}, which is in its place"
    assert repaired.text("export", "room") == "hello world"
    assert repaired.run("check").stdout == b"all documents are sound\n"


def test_an_operator_can_run_them(directory: Place) -> None:
    """The commands do what an operator runs, too."""
    path = Path(directory.name)
    assert run_alone(path, "versions", "room").stdout.startswith(FIRST.encode())
    assert run_alone(path, "revert", "room", FIRST).returncode == 0
    assert json.loads(run_alone(path, "export", "room", "--format", "json").stdout) == {"t": "hello"}


def test_versions_are_on_by_default() -> None:
    """Without a setting, versions are kept."""
    assert Settings().schedule is not None
    assert Settings(versions="off").schedule is None
