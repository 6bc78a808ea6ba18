"""The files of a LevelDB: checks them before LevelDB opens them, restricts their permissions, and syncs them.

LevelDB does not detect missing files. Without ``CURRENT`` it creates a new database and deletes the rest of the old
one. It treats a missing log as empty. Therefore a directory is checked first.
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
"""Version of the format of records. A release whose records this one cannot read increases it."""
FORMAT_FILE = "opennoodl-format"
"""Name of the file with this version. y-leveldb's directories have none; their version is 1."""
_DATA = re.compile(r"(MANIFEST-\d+|\d+\.(log|ldb|sst))")
_OTHER = re.compile(r"(CURRENT|LOCK|LOG|LOG\.old|\d+\.dbtmp|opennoodl-format)")


class InUseError(Exception):
    """Another process has locked the directory."""


def directory_named(name: str, text: str) -> Path:
    """Return the path of a directory.

    Args:
        name: its name in an error.
        text: a path, absolute or relative to the working directory.

    Raises:
        StartError: the path begins with a `~`, which shells expand and this server does not.
    """
    if text.startswith("~"):
        raise StartError(f"{name} begins with `~`, which only a shell replaces; write the whole path")
    return Path(text)


class Contents(NamedTuple):
    """The content of a ``MANIFEST``.

    Attributes:
        log: the number of the first log that is needed, or 0.
        tables: whether there has ever been a table.
    """

    log: int
    tables: bool


@contextmanager
def held(directory: Path) -> Iterator[None]:
    """Lock a directory as LevelDB does; LevelDB itself must not have it open in this process.

    Raises:
        InUseError: another process has locked it.
        OSError: it cannot be locked.
    """
    # Closing any descriptor of the file releases the lock of this process, so it is closed before LevelDB opens it.
    with (directory / "LOCK").open("a") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InUseError from None
        yield


def data_files(directory: Path) -> list[Path]:
    """Return the files with data or with the location of data; ``CURRENT`` is not among them."""
    return sorted(path for path in directory.iterdir() if _DATA.fullmatch(path.name))


def prepare(directory: Path) -> bool:
    """Check whether there is a database, and that LevelDB will find all of its records.

    An unfinished record at the end of a log, from a crash or a power cut, is cut off.

    Returns:
        whether there is a database.

    Raises:
        StoreError: a newer release has written it.
        CorruptError: a file is missing or damaged.
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
        current.unlink()  # after a power cut during the creation of the database
        return False
    contents = _contents(manifest)
    needed = [log for log in logs(directory) if int(log.stem) >= contents.log]
    if contents.log and contents.log not in (int(log.stem) for log in needed):
        raise CorruptError(f"{contents.log:06}.log is missing")
    for log in needed:
        _cut_unfinished(log)
    return True


def check_format(directory: Path) -> None:
    """Check that this release can read a directory.

    Raises:
        StoreError: a newer release has written it, perhaps with records that this release would misread.
        CorruptError: the version of its format cannot be read.
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
    """Write the file with the version of the format, if it does not exist; a power cut leaves no partial file.

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
    """Let only the owner read LevelDB's files, also those that other programs have created.

    Raises:
        OSError: they belong to another user.
    """
    for path in directory.iterdir():
        if _DATA.fullmatch(path.name) or _OTHER.fullmatch(path.name):
            with suppress(FileNotFoundError):  # LevelDB deletes files that it does not need any more
                path.chmod(0o600)


def logs(directory: Path) -> set[Path]:
    """Return the logs."""
    return {path for path in data_files(directory) if path.suffix == ".log"}


def tables(directory: Path) -> set[Path]:
    """Return the tables."""
    return {path for path in data_files(directory) if path.suffix in (".ldb", ".sst")}


def sync(*paths: Path) -> None:
    """Sync files and directories; those that LevelDB has deleted in the meantime are ignored.

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
    """Return the name of a file of a database that may contain records; None if there is none."""
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
    """Return the number of bytes of a log or MANIFEST that are complete records."""
    try:
        return leveldb_log.sound_size(path.read_bytes())
    except CorruptError as error:
        raise CorruptError(f"{path.name}: {error}") from None


def _cut_unfinished(path: Path) -> None:
    """Cut off an unfinished record at the end of a log or MANIFEST."""
    size = _sound_size(path)
    if size < path.stat().st_size:
        os.truncate(path, size)


def _contents(manifest: Path) -> Contents:
    """Return the content of a MANIFEST; if it cannot be parsed, assume that there are tables."""
    log, tables = 0, False
    edits, damaged = leveldb_log.salvage(manifest.read_bytes())
    try:
        for edit in edits:
            at = 0
            while at < len(edit):
                tag, at = read_varuint(edit, at)
                if tag == 1:  # name of the comparator
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
