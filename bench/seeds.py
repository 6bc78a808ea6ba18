"""Seeds: data directories with documents in them, for servers that are to find some when they start."""

import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import plyvel
from opennoodl_sync.document import Document
from opennoodl_sync.store import Batch
from opennoodl_sync.store_level import Database, LevelYStore


class Seed:
    """Documents in every format that a server reads, each written when it is first asked for.

    Args:
        make: returns the names of documents and their updates.
    """

    def __init__(self, make: Callable[[], Iterable[tuple[str, Sequence[bytes]]]]) -> None:
        self._make = make
        self._home: Path | None = None

    def directory(self, form: str) -> Path:
        """Return the directory, to be copied, that holds the documents as `form`: y-leveldb or states."""
        if self._home is None:
            self._home = Path(tempfile.mkdtemp(prefix="bench-seed-"))
            weakref.finalize(self, shutil.rmtree, self._home, ignore_errors=True)
        path = self._home / form
        if not path.exists():
            {"y-leveldb": _write_y_leveldb, "states": _write_states}[form](path, self._make())
        return path


def _write_y_leveldb(path: Path, documents: Iterable[tuple[str, Sequence[bytes]]]) -> None:
    """Write the records as y-leveldb keeps them: each update by itself."""
    database = Database(str(path))
    try:
        for name, updates in documents:
            store = LevelYStore(name, database=database)
            batch = Batch()
            store.append(updates, _document(updates).state_vector, batch)
            store.commit(batch)
    finally:
        database.close()


def _write_states(path: Path, documents: Iterable[tuple[str, Sequence[bytes]]]) -> None:
    """Write each document's state whole, below its name."""
    path.mkdir(parents=True)
    with plyvel.DB(str(path), create_if_missing=True) as database:
        for name, updates in documents:
            database.put(name.encode(), _document(updates).state())


def _document(updates: Sequence[bytes]) -> Document:
    return Document(lambda: updates)
