"""The file: a TinyDB database in JSON, replaced as a whole or not at all.

TinyDB's own storage overwrites its file in place: a process that ends between the write and the truncate
leaves a file that nobody can read. The storage here, TinyDB's documented extension point, writes a second
file, makes the disk keep it, and puts it in the first one's place.

The last table has a checksum of all that stands before it, in a line of its own. A file without this table was
written by somebody else: a person who has edited it, or a former version.
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
"""Bytes that are handed to the system at once."""

TABLES = {"file", "notifications", "payloads", "inboxes", "deletions", "sendings", "checksum"}
CHECKSUM = b',"checksum":{"1":{"crc32":"%08x"}}\n}\n'
"""How the file ends: with the CRC-32 of the bytes before this."""

Tables = Mapping[str, Mapping[str, Mapping[str, Any] | Struct]]
S = TypeVar("S", bound=Struct)
_encode = msgspec.json.Encoder().encode


class ChecksumError(ValueError):
    """A file that is not as it was written."""


class Head(Struct):
    """What the file says of itself.

    Attributes:
        generation: the number of the first journal whose changes are not in the file.
        format: the number of the format, `FORMAT` or an older one.
    """

    generation: int
    format: int = FORMAT


class AtomicStorage(Storage):
    """TinyDB's storage: on disk when `write` returns, with the former file as a backup beside it.

    Args:
        path: of the file; its directory must be there.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._temporary = self._path.with_name(self._path.name + ".new")
        self._backup = self._path.with_name(self._path.name + ".bak")

    def read(self) -> dict[str, dict[str, dict[str, msgspec.Raw]]] | None:
        """Return the tables, or None if there is no file yet.

        Raises:
            ChecksumError: the file has a checksum, and it is that of another content.
            ValueError: they are damaged, or the file is empty.
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
        """Replace the file, and keep the former one as a backup. OSError: it could not be; all is as before."""
        there, good = self._path.exists(), has_content(self._path)
        try:
            self._prepare(data, stat.S_IMODE(self._path.stat().st_mode) if there else 0o600)
            if good:  # else the backup is all that is left of the former file
                self._backup.unlink(missing_ok=True)
                with suppress(OSError):  # some file systems have no links; then there is no backup
                    self._backup.hardlink_to(self._path)
            self._temporary.replace(self._path)
        except OSError:
            with suppress(OSError):  # what fills a disk must not stay there
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
        self._temporary.unlink(missing_ok=True)  # it may be a link to a file of somebody else
        descriptor = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb", CHUNK) as file:
            os.fchmod(file.fileno(), mode)
            check = 0
            # Piece by piece: to encode all of it at once would hold up the other threads.
            for piece in _pieces(data):
                check = crc32(piece, check)
                file.write(piece)
            file.write(CHECKSUM % check)
            file.flush()
            os.fsync(file.fileno())


class SnapshotFile:
    """All inboxes in a file.

    Args:
        path: of the file; its directory must be there.

    Attributes:
        backup: where the former file is.
        size: bytes of the file as last read or written.
        edited: whether the file that was read has no checksum, so somebody else has written it.
    """

    def __init__(self, path: Path) -> None:
        self.backup = path.with_name(path.name + ".bak")
        self.size = 0
        self.edited = False
        self._path = path

    def read(self, contents: Contents) -> int:
        """Fill an empty `contents`; return the file's generation, 0 if there is no file.

        Raises:
            ForeignFileError: the file is none of this server's.
            ChecksumError: the file is damaged, or was edited and still has its former checksum.
            ValueError: the file is damaged.
            OSError: it cannot be read.
        """
        if not self._path.exists():
            return 0
        self.size = self._path.stat().st_size
        # Through the cache, all tables are read at once: a server may replace the file at any time.
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
        # Somebody may have edited the file. What they left out is made from what stands in it, the same each time.
        written = int(self._path.stat().st_mtime * 1000)
        for user in inboxes.keys() | contents.records.keys():
            contents.inboxes[user] = inboxes.get(user) or Inbox(user_id=user, sequence=written)
        return max((head.generation for head in heads), default=0)

    def write(self, snapshot: Snapshot, generation: int) -> bool:
        """Replace the file; return whether the former one is the backup now: what is empty or gone is none.

        Raises:
            OSError: it could not be; all is as before.
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
    """Yield the text of the file up to its checksum, with a document in each line."""
    for table, documents in data.items():
        yield b"%s%s:{" % (b"{" if table == next(iter(data)) else b",", _encode(table))
        comma = b"\n"
        for key, document in documents.items():
            yield b"%s%s:%s" % (comma, _encode(key), _encode(document))
            comma = b",\n"
        yield b"}"
    yield b"\n"


def _is_as_written(content: bytes) -> bool:
    """Return whether a file ends in the checksum of what stands before it."""
    size = len(content) - len(CHECKSUM % 0)
    return content[size:] == CHECKSUM % crc32(content[: max(size, 0)])


def has_content(path: Path) -> bool:
    """Return whether there is a file with something in it."""
    return path.exists() and path.stat().st_size > 0


def keep_directory(directory: Path) -> None:
    """Make a directory if it is not there, with those above it, such that they last."""
    new = [one for one in (directory, *directory.parents) if not one.exists()]
    directory.mkdir(parents=True, exist_ok=True)
    for one in new:
        keep_names(one.parent)


def keep_names(directory: Path) -> None:
    """Bring a directory to disk: a new name in it lasts only with it."""
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
