"""The files of a LevelDB: what must be there before LevelDB opens it, whose they are, and when they are on the disk.

LevelDB opens what it finds. Without ``CURRENT`` it makes a new database and deletes what is left of the old one. A log
that is missing was empty to it. So a directory is looked through first.
"""

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from ...edge.errors import StartError
from ...yjs.lib0 import MalformedError, read_bytes, read_varuint
from ..interface import CorruptError, StoreError
from . import log as leveldb_log

FORMAT = 1
"""Number of the format of the records. A release that writes what this one cannot read raises it."""
FORMAT_FILE = "opennoodl-format"
"""Name of the file that has this number. y-leveldb's directories have none; their format is 1."""
_DATA = re.compile(r"(MANIFEST-\d+|\d+\.(log|ldb|sst))")
_OTHER = re.compile(r"(CURRENT|LOCK|LOG|LOG\.old|\d+\.dbtmp|opennoodl-format)")


class InUseError(Exception):
    """Another process holds the directory."""


def directory_named(name: str, text: str) -> Path:
    """Return the directory that a text names.

    Args:
        name: what an error calls it.
        text: a path, absolute or from the present directory.

    Raises:
        StartError: it begins with a `~`, which a shell replaces and this server does not.
    """
    if text.startswith("~"):
        raise StartError(f"{name} begins with `~`, which only a shell replaces; write the whole path")
    return Path(text)


class Contents(NamedTuple):
    """What a ``MANIFEST`` says.

    Attributes:
        log: the number of the first log that is needed, or 0.
        tables: whether there ever was a table.
    """

    log: int
    tables: bool


@contextmanager
def held(directory: Path) -> Iterator[None]:
    """Hold a directory as LevelDB does; LevelDB itself must not have it open in this process.

    Raises:
        InUseError: another process holds it.
        OSError: it cannot be held.
    """
    # Closing any descriptor of the file ends this process' lock on it, so it is closed before LevelDB opens it.
    with (directory / "LOCK").open("a") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InUseError from None
        yield


def data_files(directory: Path) -> list[Path]:
    """Return the files that hold data, or say where it is; ``CURRENT`` is not among them."""
    return sorted(path for path in directory.iterdir() if _DATA.fullmatch(path.name))


def prepare(directory: Path) -> bool:
    """See whether there is a database, and that LevelDB would find everything in it that was stored.

    What a process or a power cut left unfinished at the end of a log is cut off.

    Returns:
        whether there is one.

    Raises:
        StoreError: a newer release has written it.
        CorruptError: something is missing or damaged.
        OSError: it cannot be read.
    """
    check_format(directory)
    current = directory / "CURRENT"
    if not current.exists():
        if left := _stored(directory):
            raise CorruptError(f"CURRENT is missing, and {left} is still there")
        return False
    name = current.read_bytes().decode(errors="replace")
    manifest = directory / name.rstrip("\n")
    if not re.fullmatch(r"MANIFEST-\d+\n", name):
        raise CorruptError("CURRENT names no MANIFEST")
    if not manifest.exists():
        raise CorruptError(f"{manifest.name}, which CURRENT names, is missing")
    if not _sound_size(manifest):
        if left := _stored(directory):
            raise CorruptError(f"{manifest.name} is empty, and {left} is still there")
        current.unlink()  # a power cut came while the database was made
        return False
    contents = _contents(manifest)
    needed = [log for log in logs(directory) if int(log.stem) >= contents.log]
    if contents.log and contents.log not in (int(log.stem) for log in needed):
        raise CorruptError(f"{contents.log:06}.log is missing")
    for log in needed:
        _cut_unfinished(log)
    return True


def check_format(directory: Path) -> None:
    """Return if this release can read a directory.

    Raises:
        StoreError: a newer release has written it, and may have written records that this one would misread.
        CorruptError: the number of its format cannot be read.
    """
    try:
        text = (directory / FORMAT_FILE).read_text(errors="replace").strip()
    except FileNotFoundError:
        return
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise CorruptError(f"{FORMAT_FILE} has no number")
    if int(text) > FORMAT:
        raise StoreError(f"it has format {text} of a newer release; this release reads formats up to {FORMAT}")


def mark_format(directory: Path) -> None:
    """Write the number of the format beside LevelDB's files, if it is not there; a power cut leaves no part of it.

    Raises:
        OSError: it cannot be written.
    """
    if (directory / FORMAT_FILE).exists():
        return
    temporary = directory / f"{FORMAT_FILE}.new"
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(b"%d\n" % FORMAT)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(directory / FORMAT_FILE)


def restrict(directory: Path) -> None:
    """Let nobody but their user read LevelDB's files, also those that others made.

    Raises:
        OSError: they are another user's.
    """
    for path in directory.iterdir():
        if _DATA.fullmatch(path.name) or _OTHER.fullmatch(path.name):
            with suppress(FileNotFoundError):  # LevelDB deletes what it does not need any more
                path.chmod(0o600)


def logs(directory: Path) -> set[Path]:
    """Return the logs."""
    return {path for path in data_files(directory) if path.suffix == ".log"}


def tables(directory: Path) -> set[Path]:
    """Return the tables."""
    return {path for path in data_files(directory) if path.suffix in (".ldb", ".sst")}


def sync(*paths: Path) -> None:
    """Return when files and directories are on the disk itself; one that LevelDB deleted meanwhile need not be.

    Raises:
        OSError: the disk failed.
    """
    for path in paths:
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            continue
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _stored(directory: Path) -> str | None:
    """Return the name of a file of a database in which something may have been stored."""
    paths = data_files(directory)
    for path in paths:
        if not path.name.startswith("MANIFEST"):
            if path.suffix != ".log" or path.stat().st_size:
                return path.name
            continue
        contents = _contents(path)
        if contents.tables or (contents.log and directory / f"{contents.log:06}.log" not in paths):
            return path.name
    return None


def _sound_size(path: Path) -> int:
    """Return how many bytes of a log or MANIFEST are whole records."""
    try:
        return leveldb_log.sound_size(path.read_bytes())
    except CorruptError as error:
        raise CorruptError(f"{path.name}: {error}") from None


def _cut_unfinished(path: Path) -> None:
    """Cut off what is unfinished at the end of a log or MANIFEST."""
    size = _sound_size(path)
    if size < path.stat().st_size:
        os.truncate(path, size)


def _contents(manifest: Path) -> Contents:
    """Return what a MANIFEST says; if that cannot be understood, as if there were tables."""
    log, tables = 0, False
    edits, damaged = leveldb_log.salvage(manifest.read_bytes())
    try:
        for edit in edits:
            at = 0
            while at < len(edit):
                tag, at = read_varuint(edit, at)
                if tag == 1:  # the name of the order of keys
                    _, at = read_bytes(edit, at)
                elif tag in (2, 3, 4, 9):  # log, next file, last sequence, previous log
                    number, at = read_varuint(edit, at)
                    log = number if tag == 2 else log
                elif tag in (5, 6, 7):  # compaction pointer, deleted table, new table: level, and then
                    _, at = read_varuint(edit, at)
                    if tag != 5:
                        _, at = read_varuint(edit, at)
                    if tag == 7:
                        _, at = read_varuint(edit, at)
                        _, at = read_bytes(edit, at)
                        tables = True
                    if tag != 6:
                        _, at = read_bytes(edit, at)
                else:
                    raise MalformedError("an unknown field")
    except MalformedError as error:
        raise CorruptError(f"{manifest.name}: {error}") from None
    return Contents(log, tables or bool(damaged))
