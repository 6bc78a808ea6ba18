"""The store in one JSON file, through TinyDB.

TinyDB's own storage overwrites its file in place: a process that ends between the write and the truncate
leaves a file that nobody can read. The storage here, TinyDB's documented extension point, writes a second
file, makes the disk keep it, and puts it in the first one's place.
"""

import fcntl
import os
import stat
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from tinydb import TinyDB
from tinydb.middlewares import CachingMiddleware
from tinydb.storages import Storage
from tinydb.table import Document

from .edge.application import StartError
from .inbox import Changes
from .notification import Record, milliseconds, timestamp
from .store import Store, StoreError

TABLE = "notifications"
Tables = dict[str, dict[str, Any]]


class AtomicStorage(Storage):
    """TinyDB's file, replaced as a whole or not at all, and on disk when `write` returns.

    Args:
        path: of the file; its directory must be there.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._temporary = self._path.with_name(self._path.name + ".new")
        self._backup = self._path.with_name(self._path.name + ".bak")

    def read(self) -> Tables | None:
        """Return the tables, or None if there is no file yet or an empty one."""
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return None
        return msgspec.json.decode(content, type=dict[str, dict[str, dict[str, msgspec.Raw]]]) if content else None

    def write(self, data: Tables) -> None:
        """Replace the file, and keep the former one as a backup. OSError: it could not be; all is as before."""
        content = msgspec.json.encode(data)
        mode = stat.S_IMODE(self._path.stat().st_mode) if self._path.exists() else None
        with self._temporary.open("wb") as file:
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        self._backup.unlink(missing_ok=True)
        with suppress(OSError):  # some file systems have no links; then there is no backup
            self._backup.hardlink_to(self._path)
        self._temporary.replace(self._path)
        try:
            self._keep_names()
        except OSError:
            if self._backup.exists():
                self._backup.replace(self._path)
            elif mode is None:
                self._path.unlink()
            raise

    def _keep_names(self) -> None:
        """Bring the directory to disk: a new name lasts only with it."""
        directory = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


class _Cache(CachingMiddleware):
    """TinyDB's cache, written by `flush` alone: one file a commit, not one a table operation."""

    WRITE_CACHE_SIZE = sys.maxsize


class JsonStore(Store):
    """Notifications in one JSON file, held by this process alone.

    Args:
        path: of the file; made with the first notification.

    Raises:
        StartError: the file cannot be used. It was not changed.
    """

    def __init__(self, path: str) -> None:
        file = Path(path).resolve()  # what a link points to is what is locked and replaced
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._lock = file.with_name(file.name + ".lock").open("w")
        except OSError as error:
            raise StartError(f"DB_FILE {path} cannot be used: {error.strerror}") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._cache = _Cache(AtomicStorage)  # type: ignore[no-untyped-call]
            self._table = TinyDB(str(file), storage=self._cache).table(TABLE, cache_size=0)
            self._numbers: dict[str, int] = {}
            self._records = self._read()
        except BlockingIOError:
            self._lock.close()
            raise StartError(f"DB_FILE {path} is in use by another process") from None
        except OSError as error:
            self._lock.close()
            raise StartError(f"DB_FILE {path} cannot be read: {error.strerror}") from None
        except (ValueError, RecursionError) as error:
            self._lock.close()
            raise StartError(f"DB_FILE {path} is damaged and was left as it is: {error}") from None

    def load(self) -> list[Record]:
        """Return everything that was in the file when it was opened."""
        records, self._records = self._records, []
        return records

    def commit(self, changes: Changes) -> None:
        """Write the file anew with `changes`."""
        former = self._apply(changes)
        try:
            self._cache.flush()  # type: ignore[no-untyped-call]
        except OSError as error:
            self._apply(former)
            raise StoreError(error.strerror or str(error)) from error

    def close(self) -> None:
        """Let go of the file."""
        # TinyDB's own close would write once more what a failed commit has taken back.
        self._lock.close()

    def _read(self) -> list[Record]:
        records = []
        for document in self._table.all():
            record = _record(document)
            self._numbers[record.id] = document.doc_id
            records.append(record)
        return records

    def _apply(self, changes: Changes) -> Changes:
        """Change TinyDB's table in memory; return the changes that would take that back."""
        former: Changes = {}
        for id_ in changes:
            document = self._table.get(doc_id=self._numbers[id_]) if id_ in self._numbers else None
            former[id_] = _record(document) if isinstance(document, Document) else None
        gone = [self._numbers.pop(id_) for id_ in changes if id_ in self._numbers]
        if gone:
            self._table.remove(doc_ids=gone)
        records = [record for record in changes.values() if record is not None]
        numbers = self._table.insert_multiple(_fields(record) for record in records)
        self._numbers.update({record.id: number for record, number in zip(records, numbers, strict=True)})
        return former


def _fields(record: Record) -> dict[str, msgspec.Raw]:
    return msgspec.json.decode(msgspec.json.encode(record), type=dict[str, msgspec.Raw])


def _record(document: Document) -> Record:
    record = msgspec.json.decode(msgspec.json.encode(dict(document)), type=Record)
    for moment in (record.created_at, record.expires_at, record.read_at):
        if isinstance(moment, str) and timestamp(milliseconds(moment)) != moment:
            raise ValueError(f"{moment!r} is not a time as this server writes it")
    return record
