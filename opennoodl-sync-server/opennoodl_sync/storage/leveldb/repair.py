"""Copies the readable records of a damaged data directory to a new one, and reports the lost ones.

LevelDB's own repair makes new tables of all blocks that it can read. It does not compare the checksums of its logs, so
damaged records are removed from them first. It cannot read a table with a damaged footer, so the footer is written
again. It does not know documents, so documents that lost updates are found and corrected afterwards.
"""

import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ...edge.command_line import CommandError, counted
from ...edge.errors import StartError
from ...versions import times
from ...versions.content import unpack
from ...yjs.document import DamagedError, Document
from ...yjs.lib0 import finish
from ..interface import CorruptError, StoreError
from . import files as leveldb_files
from . import log as leveldb_log
from .bindings import plyvel
from .database import Database, RecordBatch
from .documents import LevelDBDocument
from .record_format import parse_key
from .table import with_footer
from .versions import LevelDBVersions

_KEY = re.compile(rb"\x00(\x02v1|\x05v1_sv)\x00")


def repair(source: Path, target: Path) -> Iterator[tuple[str, str]]:
    """Copy the readable records of a data directory to a new one.

    Args:
        source: the directory; it is not changed.
        target: the new directory.

    Yields:
        the name of a document or of a file, and its loss.

    Raises:
        CommandError: there is nothing to repair, the directory is in use, or the new one exists already.
    """
    if target.exists():
        raise CommandError(f"{target} exists already; name a new directory")
    try:
        if not source.is_dir() or not leveldb_files.data_files(source):
            raise CommandError(f"PERSIST_DIR {source} holds no documents")
        with leveldb_files.held(source):
            with suppress(CorruptError):  # the file with the version is damaged too
                leveldb_files.check_format(source)
            _copy(source, target)
            doubtful = _doubtful(target)
            _copy(source, target)
        for log in sorted(leveldb_files.logs(target)):
            for piece in _free_of_damage(log):
                yield log.name, f"{counted(len(piece), 'byte')} cannot be read"
                doubtful.update(_names(piece))
        for table in leveldb_files.tables(target):
            table.write_bytes(with_footer(table.read_bytes()))
        plyvel.repair_db(str(target), paranoid_checks=True)
        lost = target / "lost"  # files that LevelDB has replaced, and tables that it could not read completely
        for table in sorted(leveldb_files.tables(lost)):
            yield table.name, "blocks of it cannot be read: the last changes of documents, or all of them, may be lost"
        shutil.rmtree(lost)
        database = Database(str(target))
    except leveldb_files.InUseError:
        raise CommandError(f"PERSIST_DIR {source} is in use by another process") from None
    except OSError as error:
        raise CommandError(f"{error.filename or target}: {error.strerror}") from None
    except StoreError as error:
        raise CommandError(f"PERSIST_DIR {source} is not repaired: {error}") from None
    except (plyvel.Error, StartError) as error:
        raise CommandError(f"PERSIST_DIR {source} cannot be read: {error}") from None
    try:
        yield from _mended(database, doubtful)
    except StoreError as error:
        raise CommandError(f"{target} cannot be written: {error}") from None
    finally:
        database.close()


def _copy(source: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(mode=0o700, parents=True)
    for file in (*leveldb_files.data_files(source), source / "CURRENT"):
        if file.exists():
            shutil.copyfile(file, target / file.name)


def _doubtful(directory: Path) -> set[str]:
    """Return the documents whose damage LevelDB can detect; the directory may be changed."""
    try:
        database = Database(str(directory))
    except StartError:
        return set()
    try:
        listed, stored, _ = database.survey()
        return {name for name in listed | stored if not _is_sound(LevelDBDocument(name, database=database))}
    finally:
        database.close()


def _is_sound(store: LevelDBDocument) -> bool:
    try:
        store.records()
    except StoreError:
        return False
    return True


def _free_of_damage(log: Path) -> list[bytes]:
    """Write a log again without its damaged records; return those."""
    sound, damaged = leveldb_log.salvage(log.read_bytes())
    log.write_bytes(leveldb_log.write(sound))
    return damaged


def _names(piece: bytes) -> Iterator[str]:
    """Yield the names of documents in a damaged piece of a log."""
    for found in _KEY.finditer(piece):
        try:
            _, name = parse_key(piece[found.start() :])
        except CorruptError:
            continue  # the name is damaged, too
        yield name


def _mended(database: Database, doubtful: set[str]) -> Iterator[tuple[str, str]]:
    """Correct documents with losses; yield their names and losses."""
    listed, stored, _ = database.survey()
    for name in sorted({*listed, *stored, *doubtful, *database.names_with("history")}):
        store = LevelDBDocument(name, database=database)
        versions, lost = _mend_versions(database, name)
        if lost:
            yield name, f"{lost} of {counted(lost + len(versions), 'version')} lost"
        if versions and not _has_updates(LevelDBDocument(name, database=database)):
            yield name, _put_version(database, name, *max(versions.items()))
        elif name not in listed | stored:
            yield name, "all of it is lost"
        elif not _is_sound(store):
            yield name, _mend(database, store)
        elif name in doubtful:
            yield name, "changes may be lost from its end"


def _has_updates(store: LevelDBDocument) -> bool:
    """Return whether a document has updates left."""
    return bool(store.salvage()[0])


def _mend_versions(database: Database, name: str) -> tuple[dict[int, bytes], int]:
    """Correct the versions of a document; return the contents by time, and the number of lost ones."""
    batch = RecordBatch()
    versions, lost = LevelDBVersions(name, database=database).salvage(batch)
    database.write(batch, sync=True)
    return versions, lost


def _put_version(database: Database, name: str, time: int, content: bytes) -> str:
    """Use a version as the content of a document without any other record; return the loss."""
    update = unpack(content)
    document = Document()
    finish(document.load([update]))
    batch = RecordBatch()
    store = LevelDBDocument(name, database=database)
    store.salvage()
    store.discard(batch)
    database.write(batch, sync=True)
    batch = RecordBatch()
    LevelDBDocument(name, database=database).append([update], document.state_vector, batch)
    database.write(batch, sync=True)
    return f"all of it is lost but its version of {times.shown(time)}, which is in its place"


def _mend(database: Database, store: LevelDBDocument) -> str:
    """Correct the rest of a document; return its loss."""
    updates, lost = store.salvage()
    batch = RecordBatch()
    if not updates:
        store.discard(batch)
        database.write(batch, sync=True)
        return "all of it is lost"
    document = Document()
    try:
        finish(document.load(updates))
    except DamagedError as error:
        return f"it cannot be loaded: {error}"
    store.replace(store.last(), updates, document.state_vector(), None, batch)
    database.write(batch, sync=True)
    return f"{len(lost)} of the last {counted(len(updates) + len(lost), 'update')} lost" if lost else "nothing is lost"
