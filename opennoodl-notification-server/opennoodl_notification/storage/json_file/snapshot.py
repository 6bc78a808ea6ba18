"""The file: a TinyDB database in JSON, which is replaced atomically.

TinyDB's own storage overwrites its file in place. If the process ends between the write and the truncate, nobody can
read the file. The storage here uses TinyDB's documented extension point: it writes a second file, syncs it, and renames
it to the name of the first.

The last table has a checksum of all bytes before it, in a line of its own. A file without this table was written by
another program, such as an editor, or by an older version.
"""

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar
from zlib import crc32

import msgspec
from msgspec import Struct
from tinydb import TinyDB
from tinydb.middlewares import CachingMiddleware
from tinydb.storages import Storage

from ...records import Deletion, Inbox, Payload, Record, Sending, milliseconds, timestamp
from .contents import Contents, Snapshot
from .format import FORMAT, ForeignFileError, join, newer, separate

CHUNK = 1 << 18
"""Bytes of one write."""

TABLES = {"file", "notifications", "payloads", "inboxes", "deletions", "sendings", "checksum"}
CHECKSUM = b',"checksum":{"1":{"crc32":"%08x"}}\n}\n'
"""The end of the file, with the CRC-32 of the bytes before it."""

Tables = Mapping[str, Mapping[str, Mapping[str, Any] | Struct]]
S = TypeVar("S", bound=Struct)
_encode = msgspec.json.Encoder().encode


class ChecksumError(ValueError):
    """The content of a file does not match its checksum."""


class Head(Struct):
    """The file's metadata.

    Attributes:
        generation: the number of the first journal whose changes are not in the file.
        format: the version of the format, `FORMAT` or an older one.
    """

    generation: int
    format: int = FORMAT


class AtomicStorage(Storage):
    """TinyDB's storage: `write` returns when the file is on disk, with the previous one beside it as a backup.

    Args:
        path: the path of the file; its directory must exist.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._temporary = self._path.with_name(self._path.name + ".new")
        self._backup = self._path.with_name(self._path.name + ".bak")

    def read(self) -> dict[str, dict[str, dict[str, msgspec.Raw]]] | None:
        """Return the tables, or None if there is no file.

        Raises:
            ChecksumError: the content does not match the checksum.
            ValueError: the tables are damaged, or the file is empty.
        """
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return None
        if not content:
            raise ValueError("it is empty")
        tables = msgspec.json.decode(content, type=dict[str, dict[str, dict[str, msgspec.Raw]]])
        if "checksum" in tables and not _is_as_written(content):
            raise ChecksumError("its content does not match its checksum")
        return tables

    def write(self, data: Tables) -> None:
        """Replace the file, and keep the previous one as a backup. OSError: it failed; nothing was changed."""
        there, good = self._path.exists(), has_content(self._path)
        try:
            self._prepare(data, stat.S_IMODE(self._path.stat().st_mode) if there else 0o600)
            if good:  # otherwise the existing backup is the only good file
                self._backup.unlink(missing_ok=True)
                with suppress(OSError):  # some file systems have no hard links; then there is no backup
                    self._backup.hardlink_to(self._path)
            self._temporary.replace(self._path)
        except OSError:
            with suppress(OSError):  # a full disk needs the space of the temporary file
                self._temporary.unlink()
            raise
        try:
            keep_names(self._path.parent)
        except OSError:
            if good and self._backup.exists():
                self._backup.replace(self._path)
            elif not there:
                self._path.unlink()
            raise

    def _prepare(self, data: Tables, mode: int) -> None:
        self._temporary.unlink(missing_ok=True)  # it may be a link to another file
        descriptor = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb", CHUNK) as file:
            os.fchmod(file.fileno(), mode)
            check = 0
            # In pieces: encoding all at once would block the other threads.
            for piece in _pieces(data):
                check = crc32(piece, check)
                file.write(piece)
            file.write(CHECKSUM % check)
            file.flush()
            os.fsync(file.fileno())


class SnapshotFile:
    """All inboxes in a file.

    Args:
        path: the path of the file; its directory must exist.

    Attributes:
        backup: the path of the previous file.
        size: bytes of the file as last read or written.
        edited: whether the file that was read has no checksum, so that another program has written it.
    """

    def __init__(self, path: Path) -> None:
        self.backup = path.with_name(path.name + ".bak")
        self.size = 0
        self.edited = False
        self._path = path

    def read(self, contents: Contents) -> int:
        """Fill an empty `contents`; return the file's generation, or 0 if there is no file.

        Raises:
            ForeignFileError: another program or a newer release has written the file.
            ChecksumError: the file is damaged, or was edited and still has its old checksum.
            ValueError: the file is damaged.
            OSError: the file cannot be read.
        """
        if not self._path.exists():
            return 0
        self.size = self._path.stat().st_size
        # The cache reads all tables at once, since a server may replace the file at any time.
        cached = CachingMiddleware(AtomicStorage)  # type: ignore[no-untyped-call]
        database = TinyDB(str(self._path), storage=cached)
        heads = _rows(database, "file", Head)
        if (newest := max((head.format for head in heads), default=FORMAT)) > FORMAT:
            raise ForeignFileError(newer(newest))
        if others := sorted(database.tables() - TABLES):
            raise ForeignFileError(f"has a table {others[0]!r} of another program")
        self.edited = "checksum" not in database.tables()
        records = sorted(_rows(database, "notifications", Record), key=lambda record: record.created_at)
        for record in join(records, _rows(database, "payloads", Payload)):
            contents.put(record)
        for deletion in _rows(database, "deletions", Deletion):
            contents.deletions.setdefault(deletion.user_id, []).append(deletion)
        for sending in _rows(database, "sendings", Sending):
            contents.sendings[sending.sender, sending.key] = sending
        inboxes = {inbox.user_id: inbox for inbox in _rows(database, "inboxes", Inbox)}
        # Missing fields of an edited file are derived from its content, with the same result each time.
        written = int(self._path.stat().st_mtime * 1000)
        for user in inboxes.keys() | contents.records.keys():
            contents.inboxes[user] = inboxes.get(user) or Inbox(user_id=user, sequence=written)
        return max((head.generation for head in heads), default=0)

    def write(self, snapshot: Snapshot, generation: int) -> bool:
        """Replace the file; return whether the previous one is now the backup. An empty or missing file is not kept.

        Raises:
            OSError: it failed; nothing was changed.
        """
        good = has_content(self._path)
        storage = AtomicStorage(str(self._path))
        records, payloads = separate(snapshot.records)
        storage.write(
            {
                "file": _table([Head(generation)]),
                "notifications": _table(records),
                "payloads": _table(payloads),
                "inboxes": _table(snapshot.inboxes),
                "deletions": _table(snapshot.deletions),
                "sendings": _table(snapshot.sendings),
            }
        )
        self.size = self._path.stat().st_size
        return good


def _pieces(data: Tables) -> Iterator[bytes]:
    """Yield the text of the file up to its checksum, with one document per line."""
    for table, documents in data.items():
        yield b"%s%s:{" % (b"{" if table == next(iter(data)) else b",", _encode(table))
        comma = b"\n"
        for key, document in documents.items():
            yield b"%s%s:%s" % (comma, _encode(key), _encode(document))
            comma = b",\n"
        yield b"}"
    yield b"\n"


def _is_as_written(content: bytes) -> bool:
    """Return whether a file ends with the checksum of the bytes before it."""
    size = len(content) - len(CHECKSUM % 0)
    return content[size:] == CHECKSUM % crc32(content[: max(size, 0)])


def has_content(path: Path) -> bool:
    """Return whether there is a file that is not empty."""
    return path.exists() and path.stat().st_size > 0


def keep_directory(directory: Path) -> None:
    """Create a directory and its missing parents, and sync them."""
    new = [one for one in (directory, *directory.parents) if not one.exists()]
    directory.mkdir(parents=True, exist_ok=True)
    for one in new:
        keep_names(one.parent)


def keep_names(directory: Path) -> None:
    """Sync a directory: a new name in it is durable only after that."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _table(rows: Iterable[Struct]) -> Mapping[str, Struct]:
    return {str(number): row for number, row in enumerate(rows, 1)}


def _rows(database: TinyDB, table: str, kind: type[S]) -> list[S]:
    rows = [msgspec.json.decode(msgspec.json.encode(dict(row)), type=kind) for row in database.table(table).all()]
    for row in rows:
        for name in ("created_at", "expires_at", "read_at"):
            moment = getattr(row, name, None)
            if isinstance(moment, str) and timestamp(milliseconds(moment)) != moment:
                raise ValueError(f"{moment!r} is not a time as this server writes it")
    return rows
