"""The operator's commands, run as an operator runs them."""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from string import ascii_letters
from typing import Any, NamedTuple

import pytest
from opennoodl_sync.__main__ import main
from opennoodl_sync.storage.leveldb.bindings import plyvel
from opennoodl_sync.storage.leveldb.database import Database
from opennoodl_sync.storage.leveldb.documents import LevelDBDocument
from opennoodl_sync.yjs.document import Document
from opennoodl_sync.yjs.lib0 import finish
from pycrdt import Array, Doc, Map, Text, XmlElement, XmlFragment, XmlText

from .edge.harness import PROCESS_TIMEOUT
from .editor import BASE, UNSOUND, Editor
from .raw import item, section, string, text, update
from .turns import keep, kept

pytestmark = pytest.mark.slow

STATE_VECTOR_KEY = bytes.fromhex("000576315f7376" + "0004726f6f6d")


class Ended(NamedTuple):
    """The result of a command."""

    returncode: int
    stdout: bytes
    stderr: bytes


def run(directory: Path, *arguments: str, stdin: bytes = b"") -> Ended:
    """Run one command on a data directory, in this process: Python's start takes longer than all the rest."""
    buffers = {"stdin": io.BytesIO(stdin), "stdout": io.BytesIO(), "stderr": io.BytesIO()}
    streams = {name: io.TextIOWrapper(buffer, write_through=True) for name, buffer in buffers.items()}
    umask = os.umask(0o022)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PERSIST_DIR", str(directory))
        patch.setattr(sys, "argv", ["opennoodl_sync", *arguments])
        for name, stream in streams.items():
            patch.setattr(sys, name, stream)
        try:
            main()
            code: object = 0
        except SystemExit as ended:
            code = ended.code
            if isinstance(code, str):  # as Python does with it
                print(code, file=sys.stderr)
                code = 1
        finally:
            os.umask(umask)
    assert isinstance(code, int)
    return Ended(code, buffers["stdout"].getvalue(), buffers["stderr"].getvalue())


def run_alone(directory: Path, *arguments: str) -> Ended:
    """Run one command as an operator runs it."""
    ended = subprocess.run(
        [sys.executable, "-m", "opennoodl_sync", *arguments],
        env={**os.environ, "PERSIST_DIR": str(directory)},
        capture_output=True,
        timeout=PROCESS_TIMEOUT,
        check=False,
    )
    return Ended(ended.returncode, ended.stdout, ended.stderr)


def write(directory: Path, name: str, *updates: bytes) -> None:
    """Store a document."""
    database = Database(str(directory))
    store = LevelDBDocument(name, database=database)
    document = Document()
    finish(document.load(updates))
    for written in updates:
        keep(store, written, state_vector=document.state_vector)
    database.close()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a data directory with a document of three updates in `room`."""
    editor = Editor(1)
    write(tmp_path, "room", editor.write("hello"), editor.write(" world"), editor.delete(0, 1))
    return tmp_path


def test_list_shows_documents_and_updates(directory: Path) -> None:
    """`list` shows every document with its updates, and names as they stand in the path."""
    write(directory, "caf%C3%A9 x", BASE)
    lines = run_alone(directory, "list").stdout.decode().splitlines()
    assert [line.split()[0] for line in lines] == ["1", "3"]
    assert [line.split("bytes  ")[1] for line in lines] == ["caf%C3%A9 x", "room"]


def test_export_and_import(directory: Path, tmp_path: Path) -> None:
    """`import` merges the output of `export` into another document."""
    exported = run(directory, "export", "room").stdout
    assert run(directory, "import", "copy", "-", stdin=exported).returncode == 0
    assert run(directory, "export", "copy").stdout == exported
    file = tmp_path / "update"
    file.write_bytes(Editor(2).write("abc"))
    assert run(directory, "import", "room", str(file)).returncode == 0
    assert "abc" in json.loads(run(directory, "export", "room", "--format", "json").stdout)["t"]


def test_export_as_json_shows_all_types(tmp_path: Path) -> None:
    """JSON shows texts, maps, lists and XML as what they are."""
    doc: Doc[Any] = Doc()
    doc["text"] = Text("hi")
    doc["map"] = Map({"a": [True, {"b": None}]})
    doc["list"] = Array(["x", 1])
    doc["xml"] = XmlFragment([XmlElement("p", {}, [XmlText("hey")])])
    write(tmp_path, "room", doc.get_update())
    assert json.loads(run(tmp_path, "export", "room", "--format", "json").stdout) == {
        "text": "hi",
        "map": {"a": [True, {"b": None}]},
        "list": ["x", 1],
        "xml": "<p>hey</p>",
    }


def test_delete_removes_one_document(directory: Path) -> None:
    """`delete` removes a document with everything below its name, and no other."""
    write(directory, "room2", BASE)
    assert run(directory, "delete", "room").returncode == 0
    with plyvel.DB(str(directory)) as db:
        assert [key for key in db.iterator(include_value=False) if b"\x04room" in key] == []
    assert run(directory, "list").stdout.decode().endswith("room2\n")


def test_compact_leaves_one_update_a_document(directory: Path) -> None:
    """`compact` leaves one update of every document, which says the same."""
    before = json.loads(run(directory, "export", "room", "--format", "json").stdout)
    assert b"compacted to" in run(directory, "compact").stdout
    assert run(directory, "list").stdout.split()[0] == b"1"
    assert json.loads(run(directory, "export", "room", "--format", "json").stdout) == before


def test_check_of_sound_documents(directory: Path) -> None:
    """`check` says that all is well, with exit code 0."""
    checked = run(directory, "check")
    assert (checked.returncode, checked.stdout) == (0, b"all documents are sound\n")


@pytest.mark.parametrize("fault", ["unlisted", "empty", "stale", "damaged"])
def test_check_of_faults(directory: Path, fault: str) -> None:
    """`check` names the document and what is wrong with it, with exit code 1."""
    with plyvel.DB(str(directory)) as db:
        if fault == "unlisted":
            db.delete(STATE_VECTOR_KEY)
        elif fault == "stale":
            db.put(STATE_VECTOR_KEY, b"\x02\x01\x00")
        elif fault == "empty":
            db.put(STATE_VECTOR_KEY.replace(b"room", b"void"), b"\x00\x01\x00")
        else:
            for key, _ in db.iterator(prefix=bytes.fromhex("00027631")):
                db.put(key, b"nonsense")
    expected = {
        "unlisted": b"room: cannot be loaded: there are updates, and no state vector",
        "empty": b"void: cannot be loaded: there is a state vector, and no update",
        "stale": b"room: its state vector claims to be current and is not",
        "damaged": b"room: cannot be loaded",
    }
    checked = run(directory, "check")
    assert checked.returncode == 1
    assert checked.stdout.startswith(expected[fault])


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("export", "nowhere"), b"there is no document 'nowhere'"),
        (("delete", "nowhere"), b"there is no document 'nowhere'"),
        (("import", "room", "/nowhere/update"), b"/nowhere/update cannot be read"),
        (("import", "room", "-"), b"this is not a valid Yjs update"),
    ],
)
def test_refused_command_says_why_in_one_line(directory: Path, arguments: tuple[str, ...], why: bytes) -> None:
    """A command that cannot be carried out says why in one line, with exit code 1, and changes nothing."""
    before = run(directory, "export", "room").stdout
    refused = run(directory, *arguments, stdin=b"nonsense")
    assert (refused.returncode, refused.stdout, refused.stderr.count(b"\n")) == (1, b"", 1)
    assert refused.stderr.startswith(b"opennoodl_sync: " + why)
    assert run(directory, "export", "room").stdout == before


STRANGE = "a\x1b[2J\n\u202e\x9bä 猫"
STRANGE_SHOWN = r"a\x1b[2J\n\u202e\x9bä 猫"


def test_list_of_strange_names(directory: Path) -> None:
    """`list` escapes what is not printable in a name, and only that."""
    write(directory, STRANGE, BASE)
    lines = run(directory, "list").stdout.decode().split("\n")
    assert [line.partition("bytes  ")[2] for line in lines] == [STRANGE_SHOWN, "room", ""]


@pytest.mark.parametrize("command", ["check", "compact"])
def test_faults_of_strange_names(tmp_path: Path, command: str) -> None:
    """The faults of a document are printed without the unprintable characters of its name."""
    write(tmp_path, STRANGE, BASE)
    with plyvel.DB(str(tmp_path)) as db:
        for key, _ in db.iterator(prefix=bytes.fromhex("00027631")):
            db.put(key, b"nonsense")
    ended = run(tmp_path, command)
    said = (ended.stdout if command == "check" else ended.stderr).decode()
    assert said.startswith(f"{STRANGE_SHOWN}: ")
    assert said[:-1].isprintable()


@pytest.mark.parametrize("name", ["", "x" * 257, "a\x1bb", "a\nb"])
def test_import_under_no_name(directory: Path, name: str) -> None:
    """`import` makes no document that no client could open, and says so in one line."""
    refused = run(directory, "import", name, "-", stdin=BASE)
    assert (refused.returncode, refused.stdout) == (1, b"")
    assert refused.stderr.decode() == (
        "opennoodl_sync: no client could open this room: a name has one to 256 printable characters\n"
    )
    assert run(directory, "list").stdout.count(b"\n") == 1


@pytest.mark.parametrize(
    ("name", "encoded"), [("café", "caf%C3%A9"), ("a b", "a%20b"), ("a?b", "a%3Fb"), ("a#b%20", "a%23b%20")]
)
def test_import_under_a_name_that_is_not_encoded(directory: Path, name: str, encoded: str) -> None:
    """A room is named as it stands in the path of a URL: `import` says how that is, and takes it so."""
    refused = run(directory, "import", name, "-", stdin=BASE)
    assert refused.returncode == 1
    assert refused.stderr.decode() == (
        f"opennoodl_sync: no client could open this room: in a URL, its name is {encoded}\n"
    )
    assert run(directory, "import", encoded, "-", stdin=BASE).returncode == 0


def test_import_into_a_new_directory(tmp_path: Path) -> None:
    """`import` makes the data directory; other commands do not."""
    new = tmp_path / "new"
    assert run(new, "import", "room", "-", stdin=BASE).returncode == 0
    assert text_of(new, "room") == "abc"
    assert new.stat().st_mode & 0o777 == 0o700


def text_of(directory: Path, name: str) -> str:
    """Return the text of a document."""
    database = Database(str(directory))
    text = kept(LevelDBDocument(name, database=database))[0]
    database.close()
    return text


def test_import_refuses_an_unreadable_update(tmp_path: Path) -> None:
    """An update that no Yjs client could read is refused, and the document stays as it is."""
    write(tmp_path, "room", BASE)
    for unsound in UNSOUND.values():
        assert run(tmp_path, "import", "room", "-", stdin=unsound).returncode == 1
    assert run(tmp_path, "check").returncode == 0
    assert text_of(tmp_path, "room") == "abc"


def test_import_of_what_waits(tmp_path: Path) -> None:
    """An imported update is kept until its predecessors are imported too."""
    editor = Editor(1)
    first, second = editor.write("one "), editor.write("two")
    write(tmp_path, "room", first)
    deletion = Editor(2, first, second).delete(2, 6)
    assert run(tmp_path, "import", "room", "-", stdin=deletion).returncode == 0
    assert text_of(tmp_path, "room") == "on"
    assert b"compacted to" in run(tmp_path, "compact").stdout
    assert run(tmp_path, "import", "room", "-", stdin=second).returncode == 0
    assert text_of(tmp_path, "room") == "ono"


def test_commands_refuse_the_directory_of_a_running_server(directory: Path) -> None:
    """While a server holds the directory, a command says so and changes nothing."""
    database = Database(str(directory))
    refused = run_alone(directory, "compact")
    database.close()
    assert refused.returncode == 1
    assert refused.stderr.decode() == f"opennoodl_sync: PERSIST_DIR {directory} is in use by another process\n"


def test_compact_gives_space_back(tmp_path: Path) -> None:
    """Deleted contents are not on disk any more after `compact`."""
    text = "".join(random.Random(1).choices(ascii_letters, k=200_000))  # noqa: S311
    editor = Editor(1)
    write(tmp_path, "room", editor.write(text), editor.delete(0, len(text)))
    Database(str(tmp_path)).close()
    sizes = [sum(file.stat().st_size for file in tmp_path.glob("*.ldb"))]
    assert run(tmp_path, "compact").returncode == 0
    sizes.append(sum(file.stat().st_size for file in tmp_path.glob("*.ldb")))
    assert sizes[0] > 100_000
    assert sizes[1] < 2_000


def test_check_of_a_lost_file(directory: Path) -> None:
    """Where documents are left and CURRENT is not, no command says that there are none."""
    (directory / "CURRENT").unlink()
    refused = run(directory, "check")
    assert refused.returncode == 1
    assert b"cannot be opened: it is damaged: CURRENT is missing" in refused.stderr


def test_check_of_a_damaged_table(directory: Path) -> None:
    """A block that cannot be read is a fault, and so is every document that may have had something in it."""
    Database(str(directory)).close()
    (table,) = directory.glob("*.ldb")
    data = bytearray(table.read_bytes())
    data[20] ^= 1
    table.write_bytes(data)
    for command in ("check", "list"):
        ended = run(directory, command)
        assert ended.returncode == 1
        assert b"some of the data cannot be read, so documents may be missing here" in ended.stdout + ended.stderr


def test_repair_reports_what_is_lost(directory: Path, tmp_path: Path) -> None:
    """`repair` says in a line each what is lost, and where the rest is; a name's odd characters are escaped."""
    write(directory, STRANGE, BASE)
    with plyvel.DB(str(directory)) as db:
        for key, value in db.iterator(prefix=bytes.fromhex("00027631")):
            if b"\x1b" in key:
                db.put(key, value[:-1] + bytes((value[-1] ^ 1,)))
    target = tmp_path / "repaired"
    ended = run(directory, "repair", str(target))
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert ended.stdout.decode().split("\n") == [
        f"{STRANGE_SHOWN}: all of it is lost",
        f"what can be read is in {target}; PERSIST_DIR {directory} is as it was",
        "",
    ]
    assert run(target, "check").stdout == b"all documents are sound\n"
    again = run(directory, "repair", str(target))
    assert (again.returncode, again.stdout) == (1, b"")
    assert again.stderr.decode() == f"opennoodl_sync: {target} exists already; name a new directory\n"


def test_repair_of_a_directory_in_use(directory: Path, tmp_path: Path) -> None:
    """While a server holds the directory, nothing is copied."""
    database = Database(str(directory))
    refused = run_alone(directory, "repair", str(tmp_path / "repaired"))
    database.close()
    assert refused.stderr.decode() == f"opennoodl_sync: PERSIST_DIR {directory} is in use by another process\n"
    assert not (tmp_path / "repaired").exists()


def test_commands_do_not_create_a_directory(tmp_path: Path) -> None:
    """A directory without documents is not made into one."""
    refused = run(tmp_path / "nowhere", "list")
    assert refused.stderr.decode() == f"opennoodl_sync: PERSIST_DIR {tmp_path / 'nowhere'} holds no documents\n"
    assert not (tmp_path / "nowhere").exists()


def test_directories_that_begin_with_a_tilde(directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `~` that no shell has replaced is refused, and no directory of that name is created."""
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    for data, *arguments in (
        (Path("~/new"), "import", "room", "-"),
        (Path("~/new"), "restore", str(directory)),
        (directory, "backup", "~/new"),
        (directory, "repair", "~/new"),
        (directory, "migrate", "--from", str(directory), "--to", "~/new"),
    ):
        refused = run(data, *arguments)
        assert refused.returncode == 1
        assert refused.stderr.endswith(b"~/new begins with `~`, which only a shell replaces; write the whole path\n")
    assert list(empty.iterdir()) == []


def test_migration_onto_itself(directory: Path) -> None:
    """A directory is recognised as the source of its own migration under another spelling."""
    spelled = f"{directory}/../{directory.name}"
    refused = run(directory, "migrate", "--from", str(directory), "--to", spelled)
    assert refused.stderr == b"opennoodl_sync: the source and the target are the same\n"


def test_output_that_does_not_fit(tmp_path: Path) -> None:
    """Output that does not fit on the disk is one line and exit code 1, for every command."""
    Database(str(tmp_path)).close()
    with open("/dev/full", "wb") as full:
        for arguments in (["check"], ["compact"], ["token", "--user", "ann"]):
            ended = subprocess.run(
                [sys.executable, "-m", "opennoodl_sync", *arguments],
                env={**os.environ, "PERSIST_DIR": str(tmp_path), "AUTH_SECRET": "s" * 40},
                stdout=full,
                stderr=subprocess.PIPE,
                check=False,
            )
            line = b"opennoodl_sync: standard output cannot be written: No space left on device\n"
            assert (ended.returncode, ended.stderr) == (1, line), arguments


def test_check_deep_of_sound_documents(directory: Path) -> None:
    """`check --deep` lets pycrdt read every document, and says that all is well."""
    checked = run(directory, "check", "--deep")
    assert (checked.returncode, checked.stdout) == (0, b"all documents are sound\n")


def test_check_deep_names_what_pycrdt_does_not_read(tmp_path: Path) -> None:
    """`check --deep` names documents that pycrdt reads in part or not at all, which `check` takes for sound."""
    hook = item(b"\x07\x05" + string("h"), parent="x")
    write(tmp_path, "hook", update(section(1, 0, hook, item(text("a"), parent=(1, 0)))))
    write(tmp_path, "surrogate", update(section(1, 0, item(b"\x06" + string("b") + string('"\\ud83d"')))))
    assert run(tmp_path, "check").returncode == 0
    checked = run(tmp_path, "check", "--deep")
    assert checked.returncode == 1
    first, second = checked.stdout.decode().splitlines()
    assert first == "hook: pycrdt does not integrate all of it"
    assert second.startswith("surrogate: pycrdt cannot read it: ValueError: Cannot decode update: JSON parsing error")


def test_export_of_what_pycrdt_does_not_read(tmp_path: Path) -> None:
    """JSON is refused with one line that says why; the update is exported nevertheless."""
    surrogate = update(section(1, 0, item(b"\x06" + string("b") + string('"\\ud83d"'))))
    write(tmp_path, "room", surrogate)
    exported = run(tmp_path, "export", "room", "--format", "json")
    assert exported.returncode == 1
    assert exported.stderr.startswith(b"opennoodl_sync: pycrdt cannot read the document: ValueError: ")
    assert exported.stderr.count(b"\n") == 1
    assert run(tmp_path, "export", "room").stdout == surrogate
