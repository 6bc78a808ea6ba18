"""The operator's commands on PostgreSQL, also beside a running server, and the move between the two stores."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from .client import running
from .databases import empty_database, execute
from .editor import BASE, Editor
from .test_commands import Ended, run, write

pytestmark = [pytest.mark.xdist_group("postgresql"), pytest.mark.slow]


@pytest.fixture
def url(url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the URL of an empty database, which is that of the settings."""
    monkeypatch.setenv("DATABASE_URL", url)
    return url


def command(*arguments: str, stdin: bytes = b"") -> Ended:
    """Run one command on the database."""
    return run(Path("/nowhere"), *arguments, stdin=stdin)


def imported(name: str, *updates: bytes) -> None:
    """Store a document."""
    for update in updates:
        assert command("import", name, "-", stdin=update) == (0, b"", b"")


@pytest.mark.usefixtures("url")
def test_import_list_and_export() -> None:
    """An imported document is listed and exported."""
    editor = Editor(1)
    imported("room", editor.write("hello"), editor.write(" world"))
    imported("other", BASE)
    lines = command("list").stdout.decode().splitlines()
    assert [(line.split()[0], line.split("bytes  ")[1]) for line in lines] == [("1", "other"), ("2", "room")]
    assert json.loads(command("export", "room", "--format", "json").stdout)["t"] == "hello world"
    exported = command("export", "room").stdout
    imported("copy", exported)
    assert command("export", "copy").stdout == exported


@pytest.mark.usefixtures("url")
def test_compact_check_and_delete() -> None:
    """A document is compacted without a change, is sound, and is gone when it is deleted."""
    editor = Editor(1)
    imported("room", editor.write("hello"), editor.write(" world"), editor.delete(0, 1))
    before = command("export", "room", "--format", "json").stdout
    assert b"compacted to" in command("compact").stdout
    assert command("list").stdout.split()[0] == b"1"
    assert command("export", "room", "--format", "json").stdout == before
    checked = command("check", "--deep")
    assert (checked.returncode, checked.stdout) == (0, b"all documents are sound\n")
    assert command("delete", "room").returncode == 0
    assert command("list").stdout == b""
    assert b"there is no document 'room'" in command("export", "room").stderr
    assert b"there is no document 'room'" in command("delete", "room").stderr


async def damage(url: str) -> None:
    """Damage the second update of `room`."""
    await execute(url, "UPDATE opennoodl_sync.updates SET data = 'x' WHERE room = 'room' AND seq = 1")


def test_damage_and_repair(url: str, tmp_path: Path) -> None:
    """Damage is named; `repair` writes the rest into a directory, from which `migrate` copies it back."""
    editor = Editor(1)
    imported("room", editor.write("hello "), editor.write("lost "), Editor(2).write("world"))
    imported("other", BASE)
    asyncio.run(damage(url))
    checked = command("check")
    assert (checked.returncode, checked.stdout) == (1, b"room: cannot be loaded: update 1: checksum mismatch\n")
    assert b"damaged  room" in command("list").stdout
    assert b"the document is damaged" in command("export", "room").stderr
    assert b"room: damaged, left as it is" in command("compact").stderr
    target = tmp_path / "repaired"
    repaired = command("repair", str(target))
    assert (repaired.returncode, repaired.stderr) == (0, b"")
    assert repaired.stdout.decode().splitlines() == [
        "room: 1 of the last 3 updates lost",
        f"what can be read is in {target}; the database is as it was",
    ]
    assert command("repair", str(target)).stderr.decode() == (
        f"opennoodl_sync: {target} exists already; name a new directory\n"
    )
    empty_database()
    assert command("migrate", "--from", str(target), "--to", url).returncode == 0
    assert command("check").returncode == 0
    assert "world" in json.loads(command("export", "room", "--format", "json").stdout)["t"]


async def test_beside_a_server(url: str, tmp_path: Path) -> None:
    """Beside a server commands read what is open, and change only what is not."""
    async with running(tmp_path, database_url=url) as server:
        ann = await server.join("room", 1)
        await ann.type("open")
        await (await server.join("room", 2)).shows("open")

        def look() -> list[Ended]:
            imported("closed", BASE)
            return [command(*one) for one in (("list",), ("check",), ("compact",), ("delete", "room"))]

        listed, checked, compacted, deleted = await asyncio.to_thread(look)
        assert [line.split()[-1] for line in listed.stdout.splitlines()] == [b"closed", b"room"]
        assert checked.returncode == 0
        assert compacted.stderr == b"room: open at a server, left as it is\n"
        assert deleted.stderr == (
            b"opennoodl_sync: a server has this document open; try again when its clients have left\n"
        )
        await ann.type(" still")
        assert (await server.join("room", 3)).text == "open still"


def test_migrate_there_and_back(url: str, tmp_path: Path) -> None:
    """All documents are copied to PostgreSQL and back, byte for byte, with what was compacted."""
    source, back = tmp_path / "source", tmp_path / "back"
    editor = Editor(1)
    write(source, "room", editor.write("hello"), editor.write(" world"))
    write(source, "caf%C3%A9", BASE)
    assert run(source, "compact").returncode == 0
    there = command("migrate", "--from", str(source), "--to", url)
    assert there.stdout.startswith(b"2 documents were copied (")
    assert command("migrate", "--from", url, "--to", str(back)).returncode == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DATABASE_URL")
        for name in ("room", "caf%C3%A9"):
            assert run(back, "export", name).stdout == run(source, "export", name).stdout
        assert run(back, "check").returncode == 0
        assert run(back, "list").stdout == run(source, "list").stdout


def test_interrupted_migration_continues(url: str, tmp_path: Path) -> None:
    """A migration that was interrupted goes on: what is there already is compared, and not copied again."""
    write(tmp_path, "a", BASE)
    assert command("migrate", "--from", str(tmp_path), "--to", url).returncode == 0
    write(tmp_path, "b", BASE)
    again = command("migrate", "--from", str(tmp_path), "--to", url)
    assert again.stdout.startswith(b"1 document was copied (")
    assert again.stdout.endswith(b"1 had been copied before\n")


def test_migrate_into_other_documents(url: str, tmp_path: Path) -> None:
    """A target with another document is refused, and nothing is written."""
    write(tmp_path, "a", BASE)
    imported("a", Editor(7).write("other"))
    refused = command("migrate", "--from", str(tmp_path), "--to", url)
    assert refused.returncode == 1
    assert b"the target has another document 'a'; it has to be empty" in refused.stderr
    assert json.loads(command("export", "a", "--format", "json").stdout)["t"] == "other"


async def test_migrate_beside_a_server(url: str, tmp_path: Path) -> None:
    """While a server uses the database nothing is copied."""
    write(tmp_path / "source", "a", BASE)
    async with running(tmp_path, database_url=url):
        refused = await asyncio.to_thread(command, "migrate", "--from", str(tmp_path / "source"), "--to", url)
    assert refused.stderr == b"opennoodl_sync: a server uses the target; stop all servers first\n"
    assert (await execute(url, "SELECT count(*) FROM opennoodl_sync.updates"))[0]["count"] == 0


def test_migrate_of_damage(url: str, tmp_path: Path) -> None:
    """A damaged document is named and not copied, with exit code 1; the others are."""
    imported("room", BASE, Editor(2).write("x"))
    imported("sound", BASE)
    asyncio.run(damage(url))
    ended = command("migrate", "--from", url, "--to", str(tmp_path / "data"))
    assert ended.returncode == 1
    assert ended.stdout.startswith(b"room: not copied: update 1: checksum mismatch\n1 document was copied")
    assert b"not copied: 1 damaged document;" in ended.stderr


@pytest.mark.usefixtures("url")
@pytest.mark.parametrize("name", ["backup", "restore"])
def test_backup_of_postgresql_names_its_tools(name: str) -> None:
    """PostgreSQL has tools of its own for backups, and the commands say so."""
    ended = command(name, "directory")
    assert (ended.returncode, ended.stdout) == (1, b"")
    assert ended.stderr == b"opennoodl_sync: DATABASE_URL is set; use pg_dump and psql with the schema opennoodl_sync\n"


@pytest.mark.parametrize("arguments", [("list",), ("import", "room", "-"), ("repair", "new")])
def test_unreachable_database_is_one_line(arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that cannot be reached is one line and exit code 1."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://ann:secret@127.0.0.1:1/none")
    ended = command(*arguments, stdin=BASE)
    assert (ended.returncode, ended.stdout, ended.stderr.count(b"\n")) == (1, b"", 1)
    assert ended.stderr.startswith(b"opennoodl_sync: the database postgresql://ann:***@127.0.0.1:1/none cannot be used")
    assert b"secret" not in ended.stderr
