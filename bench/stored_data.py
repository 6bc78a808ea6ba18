"""Seeds: data directories with something in them, for servers that are to find it when they start."""

import os
import shutil
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from opennoodl_sync.storage.leveldb.bindings import plyvel
from opennoodl_sync.storage.leveldb.database import Database, RecordBatch
from opennoodl_sync.storage.leveldb.documents import LevelDBDocument
from opennoodl_sync.yjs.document import Document
from opennoodl_sync.yjs.lib0 import finish

Documents = Iterable[tuple[str, Sequence[bytes]]]
Writer = Callable[[Path, Any], None]


class Seed:
    """Content in every format that a server reads, each written when it is first asked for.

    Args:
        make: returns the content.
        writers: what writes it to a directory that is not there yet, by format; by itself they write the names of
            documents and their updates.
    """

    def __init__(self, make: Callable[[], Any], writers: Mapping[str, Writer] | None = None) -> None:
        self._make = make
        self._writers = writers or DOCUMENTS
        self._home: Path | None = None

    def directory(self, form: str) -> Path:
        """Return the directory, to be copied, that holds the content as `form`."""
        if self._home is None:
            self._home = Path(tempfile.mkdtemp(prefix="bench-seed-"))
            weakref.finalize(self, shutil.rmtree, self._home, ignore_errors=True)
        path = self._home / form
        if not path.exists():
            self._writers[form](path, self._make())
        return path


def _write_y_leveldb(path: Path, documents: Documents) -> None:
    """Write the records as y-leveldb keeps them: each update by itself."""
    database = Database(str(path))
    try:
        for name, updates in documents:
            store = LevelDBDocument(name, database=database)
            batch = RecordBatch()
            store.append(updates, _document(updates).state_vector, batch)
            database.write(batch)
    finally:
        database.close()


def _write_compacted(path: Path, documents: Documents) -> None:
    """Write the documents as our server leaves them: compacted."""
    _write_y_leveldb(path, documents)
    command = [sys.executable, "-m", "opennoodl_sync", "compact"]
    environment = os.environ | {"PERSIST_DIR": str(path)}
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)


def _write_states(path: Path, documents: Documents) -> None:
    """Write each document's state whole, below its name."""
    path.mkdir(parents=True)
    with plyvel.DB(str(path), create_if_missing=True) as database:
        for name, updates in documents:
            database.put(name.encode(), finish(_document(updates).write()))


DOCUMENTS: Mapping[str, Writer] = {
    "compacted": _write_compacted,
    "y-leveldb": _write_y_leveldb,
    "states": _write_states,
}


def _document(updates: Sequence[bytes]) -> Document:
    document = Document()
    finish(document.load(updates))
    return document
