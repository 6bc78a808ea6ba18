"""A copy of a data directory, also while a server writes to it.

A copy needs no lock and nothing from the server, because of how LevelDB uses its files. Tables never change. Logs and
the MANIFEST only grow. A process that has a file open can read it after LevelDB has deleted it. Therefore the state of
the directory at one moment is: all its files, each with its length at that moment. `_opened` opens them, and tries
again if the MANIFEST or the set of files changed in the meantime. The copying itself may take any time. The copy has
the state that the directory would have after a `kill -9` at that moment.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import BinaryIO, NamedTuple

from ..interface import CorruptError, StoreError
from . import files as leveldb_files

PATIENCE = 20.0
"""Seconds for which the opening of the files is repeated if the directory changes."""
FILE_SYSTEMS_OWN = "lost+found"
"""Name of a directory that each new volume with ext4 has; a volume with nothing else is empty."""
PIECE = 1 << 20
"""Bytes of one copy step."""


class _File(NamedTuple):
    """An open file and the bytes that belong to the copy."""

    name: str
    file: BinaryIO
    size: int


def back_up(source: Path, target: Path) -> int:
    """Copy a data directory to a new or empty one; return the number of bytes.

    ``CURRENT`` is copied last: without it, no server uses an unfinished copy as a database.

    Raises:
        StoreError: it could not be copied; the text is the reason.
        CorruptError: the data is damaged.
    """
    try:
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(path.name != FILE_SYSTEMS_OWN for path in target.iterdir()):
            raise StoreError(f"{target} is not empty")
        with _opened(source) as files:
            for each in files:
                _copy(each, target / each.name)
            leveldb_files.sync(target)
            return sum(each.size for each in files)
    except OSError as error:
        raise StoreError(f"{error.filename or target}: {error.strerror}") from error


@contextmanager
def _opened(directory: Path) -> Iterator[list[_File]]:
    """Open the files of a directory in their state at one moment, ``CURRENT`` last."""
    deadline = monotonic() + PATIENCE
    why = f"{directory} changed all the time"
    while monotonic() < deadline:
        with ExitStack() as stack:
            try:
                found = _open_all(directory, stack)
            except FileNotFoundError as error:  # LevelDB deleted it after it was listed, or it is missing
                why = f"{error.filename} is missing"
            else:
                if found is not None:
                    yield found
                    return
        sleep(0.01)
    raise StoreError(why)


def _open_all(directory: Path, stack: ExitStack) -> list[_File] | None:
    """Open the files of a directory, or return None if it changed in the meantime."""
    paths = leveldb_files.data_files(directory)
    current = (directory / "CURRENT").read_bytes()
    manifest = directory / current.decode(errors="replace").rstrip("\n")
    before = manifest.stat().st_size
    found = []
    format_ = directory / leveldb_files.FORMAT_FILE
    for path in [*paths, *([format_] if format_.exists() else []), directory / "CURRENT"]:
        file = stack.enter_context(path.open("rb"))
        found.append(_File(path.name, file, os.fstat(file.fileno()).st_size))
    same = (
        paths == leveldb_files.data_files(directory)
        and current == (directory / "CURRENT").read_bytes()
        and before == manifest.stat().st_size
    )
    return found if same else None


def _copy(source: _File, target: Path) -> None:
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as copy:
        left = source.size
        while left:
            piece = source.file.read(min(left, PIECE))
            if not piece:
                raise CorruptError(f"{source.name} became shorter while it was copied")
            copy.write(piece)
            left -= len(piece)
        copy.flush()
        os.fsync(copy.fileno())
