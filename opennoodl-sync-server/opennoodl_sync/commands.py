"""What an operator does with a data directory while no server holds it: look, copy, mend."""

import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from .edge.command_line import CommandError, standard_input
from .edge.open_files import raise_limit
from .storage.interface import CorruptError, StoreError
from .storage.leveldb import files as leveldb_files
from .storage.leveldb.backup import back_up as copy
from .storage.leveldb.database import DAMAGED, Database, RecordBatch
from .storage.leveldb.documents import LevelDBDocument
from .storage.leveldb.repair import repair
from .workers import interpreter
from .workers.interpreter import InterpretationError
from .y_protocol import MAX_NAME, is_name
from .yjs.compaction import compact_records
from .yjs.document import DamagedError, Document
from .yjs.lib0 import MalformedError, finish
from .yjs.segment_index import write_index
from .yjs.state_vector import decode


class Listed(NamedTuple):
    """One document of a data directory.

    Attributes:
        name: its name.
        updates: how many updates of it are stored; None if it is damaged.
        size: their bytes.
    """

    name: str
    updates: int | None
    size: int


def shown(name: str) -> str:
    """Return a name with what is not printable escaped: strangers choose names, and none may move the cursor."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in name)


def list_documents(database: Database) -> Iterator[Listed]:
    """Yield every document with the number and the bytes of its stored updates.

    Raises:
        CommandError: some of the data cannot be read, so documents may be missing; comes after all others.
    """
    listed, stored, damage = database.survey()
    for name in sorted(listed | stored):
        try:
            records = LevelDBDocument(name, database=database).records()
        except StoreError:
            yield Listed(name, None, 0)
        else:
            yield Listed(name, len(records), sum(len(update) for _, update in records))
    if damage is not None:
        raise CommandError(f"some of the data cannot be read, so documents may be missing here: {damage}. {DAMAGED}")


def export_document(database: Database, name: str, form: str) -> bytes:
    """Return a document as one Yjs update, or as JSON for people to read.

    Args:
        database: where it is.
        name: of the document.
        form: ``update`` or ``json``.

    Raises:
        CommandError: there is no such document, it is damaged, or pycrdt cannot read it.
    """
    state = finish(_open(_store(database, name)).write())
    if form == "update":
        return state
    try:
        return interpreter.to_json(state)
    except InterpretationError as error:
        raise CommandError(f"pycrdt cannot read the document: {error}") from None


def import_document(database: Database, name: str, update: bytes) -> None:
    """Merge a Yjs update into a document, which is made if it is not there.

    Raises:
        CommandError: it is not an update, the document cannot take it, or no client could open a room of this name.
    """
    if not is_name(name):
        raise CommandError(f"no client could open this room: a name has one to {MAX_NAME} printable characters")
    if _encoded(name) != name:
        raise CommandError(f"no client could open this room: in a URL, its name is {_encoded(name)}")
    store = LevelDBDocument(name, database=database)
    document = _open(store)
    try:
        finish(document.integrate(update))
    except MalformedError as error:
        raise CommandError(f"this is not a sound Yjs update: {error}") from None
    batch = RecordBatch()
    store.append(document.commit(), document.state_vector, batch)
    database.write(batch, sync=True)


def _encoded(name: str) -> str:
    """Return a name as it stands in the path of a URL, where spaces, ``?``, ``#`` and other letters cannot stand."""
    return quote(name, safe="".join(chr(code) for code in range(ord("!"), 0x7F) if chr(code) not in "?#"))


def delete_document(database: Database, name: str) -> None:
    """Delete a document with all that is stored under its name.

    Raises:
        CommandError: there is no such document.
    """
    _store(database, name)
    database.delete(name)


def compact_documents(database: Database) -> tuple[int, int]:
    """Merge every document's updates into one; return the bytes of updates before and after.

    A damaged document is left as it is, with a line on standard error.
    """
    before = after = 0
    for listed in list(list_documents(database)):
        store = LevelDBDocument(listed.name, database=database)
        try:
            size = sum(map(len, store.updates()))
            batch = RecordBatch()
            document = Document()
            finish(document.load(store.updates()))
            segment, waiting = finish(compact_records(store.updates()))
            update = finish(segment.write())
            updates = [update] if waiting is None else [waiting, update]
            store.replace(store.last(), updates, document.state_vector(), finish(write_index(segment, update)), batch)
            database.write(batch, sync=True)
        except (StoreError, DamagedError) as error:
            print(f"{shown(listed.name)}: damaged, left as it is: {error}", file=sys.stderr)
        else:
            before += size
            after += sum(map(len, store.updates()))
    database.shrink()
    return before, after


def check_documents(database: Database, *, deep: bool = False) -> Iterator[str]:
    """Yield one line for everything that is wrong with a data directory; none means that all is well.

    Args:
        database: the data.
        deep: whether pycrdt has to integrate every document, too.
    """
    listed, stored, damage = database.survey()
    if damage is not None:
        yield f"some of the data cannot be read, so documents may be missing here: {damage}"
    for name in sorted(listed | stored):
        store = LevelDBDocument(name, database=database)
        try:
            document = Document()
            finish(document.load(store.updates()))
            stale = store.stale_state_vector(document.state_vector())
        except (StoreError, DamagedError, MalformedError) as error:
            yield f"{shown(name)}: cannot be loaded: {error}"
        else:
            if stale:
                yield f"{shown(name)}: its state vector claims to be current and is not"
            if deep and (fault := _deep_fault(document)) is not None:
                yield f"{shown(name)}: {fault}"


def _deep_fault(document: Document) -> str | None:
    """Return what pycrdt finds wrong with a document."""
    try:
        state = interpreter.state(finish(document.write()))
    except InterpretationError as error:
        return f"pycrdt cannot read it: {error}"
    if state != finish(decode(document.state_vector())):
        return "pycrdt does not integrate all of it"
    return None


def _store(database: Database, name: str) -> LevelDBDocument:
    store = LevelDBDocument(name, database=database)
    if not store.exists():
        raise CommandError(f"there is no document {name!r}; `list` shows all documents")
    return store


def _open(store: LevelDBDocument) -> Document:
    document = Document()
    try:
        finish(document.load(store.updates()))
    except (CorruptError, DamagedError) as error:
        raise CommandError(f"the document is damaged: {error}. {DAMAGED}") from None
    return document


def repair_documents(path: str, target: str) -> Iterator[str]:
    """Write what can be read of a data directory into a new one; yield one line for everything that is lost.

    Raises:
        CommandError: there is nothing to repair, it is in use, or the new directory is there already.
    """
    for name, lost in repair(Path(path), Path(target)):
        yield f"{shown(name)}: {lost}"


def back_up(path: str, target: str) -> str:
    """Copy the data directory into a new one, also while a server uses it; return a line that says what was copied.

    The copy is opened, which shows that a server could.

    Raises:
        CommandError: there is nothing to copy, or it could not be copied.
        StartError: the copy cannot be opened.
    """
    _must_hold_documents(path, f"PERSIST_DIR {path}")
    return _copied(path, target)


def restore(path: str, source: str) -> str:
    """Copy a backup into the data directory, which must be empty; return a line that says what was copied.

    Raises:
        CommandError: there is no backup, or it could not be copied.
        StartError: the copy cannot be opened.
    """
    _must_hold_documents(source, source)
    return _copied(source, path)


def _copied(source: str, target: str) -> str:
    raise_limit()
    try:
        size = copy(Path(source), Path(target))
    except (CorruptError, StoreError) as error:
        raise CommandError(f"nothing was copied: {error}") from None
    with closing(Database(target)) as database:
        documents = len(list(database.stored_names()))
    return f"{documents} documents, {size} bytes, are in {target}"


def _must_hold_documents(path: str, name: str) -> None:
    directory = Path(path)
    if not (directory.is_dir() and ((directory / "CURRENT").exists() or leveldb_files.data_files(directory))):
        raise CommandError(f"{name} holds no documents")


def read_update(path: str) -> bytes:
    """Return the bytes of a file, or of standard input for ``-``.

    Raises:
        CommandError: it cannot be read.
    """
    try:
        return standard_input() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}") from None


def with_database(path: str, act: Callable[[Database], None], *, may_make: bool = False) -> None:
    """Open the data directory for the time of `act`.

    Args:
        path: the directory.
        act: what is done.
        may_make: whether the directory is made if it is not there.

    Raises:
        StartError: a server holds it, or it is not one.
        CommandError: it is not there, or `act` failed.
    """
    if not may_make:
        _must_hold_documents(path, f"PERSIST_DIR {path}")
    database = Database(path)
    try:
        act(database)
    except CorruptError as error:
        raise CommandError(f"the data is damaged: {error}. {DAMAGED}") from None
    except StoreError as error:
        raise CommandError(f"the disk failed: {error}") from None
    finally:
        database.close()
