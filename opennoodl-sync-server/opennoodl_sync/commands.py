"""The operator's commands: they list, copy and mend stored documents."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from .edge.command_line import CommandError, standard_input
from .edge.open_files import raise_limit
from .migrate import migrate
from .settings import Settings
from .storage.choose import holds_documents, open_for_command, open_place
from .storage.interface import (
    DAMAGED,
    Batch,
    CorruptError,
    DocumentRecords,
    ElsewhereError,
    PersistentStore,
    Stored,
    StoreError,
    UnavailableError,
    Version,
)
from .storage.leveldb.backup import back_up as copy
from .storage.leveldb.database import Database
from .storage.leveldb.repair import repair
from .versions import times
from .versions.content import unpack
from .versions.making import Limits, found, make_version, restoring_update
from .workers import interpreter
from .workers.interpreter import InterpretationError
from .workers.task import TaskError
from .y_protocol import MAX_NAME, is_name
from .yjs.compaction import compact_records
from .yjs.document import DamagedError, Document
from .yjs.lib0 import MalformedError, finish
from .yjs.segment_index import write_index
from .yjs.state_vector import decode


class Listed(NamedTuple):
    """One document of a store.

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


async def list_documents(store: PersistentStore) -> AsyncIterator[Listed]:
    """Yield every document with the number and the bytes of its stored updates.

    Raises:
        CommandError: some of the data cannot be read, so documents may be missing; comes after all others.
    """
    names, damage = await store.survey()
    for name in names:
        try:
            updates = (await store.read(name)).updates
        except UnavailableError:
            raise
        except StoreError:
            yield Listed(name, None, 0)
        else:
            yield Listed(name, len(updates), sum(map(len, updates)))
    if damage is not None:
        raise CommandError(f"some of the data cannot be read, so documents may be missing here: {damage}. {DAMAGED}")


async def export_document(store: PersistentStore, name: str, form: str) -> bytes:
    """Return a document as one Yjs update, or as JSON for people to read.

    Args:
        store: where it is.
        name: of the document.
        form: ``update`` or ``json``.

    Raises:
        CommandError: there is no such document, it is damaged, or pycrdt cannot read it.
    """
    await _find(store, name)
    try:
        stored = await store.read(name)
        state = await asyncio.to_thread(lambda: finish(_loaded(stored).write()))
    except CorruptError as error:
        raise _damaged(error) from None
    return await _in_form(state, form)


async def _in_form(update: bytes, form: str) -> bytes:
    if form == "update":
        return update
    try:
        return await asyncio.to_thread(interpreter.to_json, update)
    except InterpretationError as error:
        raise CommandError(f"pycrdt cannot read the document: {error}") from None


async def list_versions(store: PersistentStore, name: str) -> list[Version]:
    """Return the versions of a document, the oldest one first.

    Raises:
        CommandError: there is no such document.
    """
    await _find(store, name)
    return (await store.history(name)).versions


async def export_version(store: PersistentStore, name: str, when: str, form: str) -> bytes:
    """Return a document as it was at a time, as `export_document` does.

    Raises:
        CommandError: there is no version of that time, it is damaged, or pycrdt cannot read it.
    """
    content, _ = await _version(store, name, when)
    try:
        return await _in_form(await asyncio.to_thread(unpack, content), form)
    except DamagedError as error:
        raise CommandError(str(error)) from None


async def revert_document(store: PersistentStore, name: str, when: str) -> tuple[Version, Version]:
    """Change a document into what it was at a time; what it was before is kept as a version.

    Returns:
        the version that was restored, and the one that was made.

    Raises:
        CommandError: there is no version of that time, or it cannot be restored exactly; nothing was changed then.
    """
    content, version = await _version(store, name, when)
    records, stored = await _open(store, name)
    batch = store.batch()
    try:
        made, present = await make_version(store, name, await store.history(name), Limits())
        update = await restoring_update(store, name, content)
        document = await asyncio.to_thread(_loaded, stored)
        await asyncio.to_thread(lambda: finish(document.integrate(update)))
        await store.change_versions(name, [(made, present)], [])
        records.append(document.commit(), document.state_vector, batch)
    except TaskError as error:
        raise CommandError(f"the version of {times.shown(version.time)} cannot be restored: {error}") from None
    finally:
        records.release(batch)
        await _store(store, records, batch)
    return version, made


async def _version(store: PersistentStore, name: str, when: str) -> tuple[bytes, Version]:
    """Return the content of the version that shows a document as it was at a time, and the version."""
    try:
        time = times.read(when)
    except ValueError as error:
        raise CommandError(str(error)) from None
    versions = await list_versions(store, name)
    version = found(versions, time)
    if version is None:
        earliest = f"the oldest one is of {times.shown(versions[0].time)}" if versions else "there is none"
        raise CommandError(f"no version of {name!r} is as old as {times.shown(time)}; {earliest}")
    content = await store.read_version(name, version.time)
    if content is None:
        raise CommandError(f"the version of {times.shown(version.time)} was dropped meanwhile; try again")
    return content, version


async def import_document(store: PersistentStore, name: str, update: bytes) -> None:
    """Merge a Yjs update into a document, which is made if it is not there.

    Raises:
        CommandError: it is not an update, the document cannot take it, or no client could open a room of this name.
    """
    if not is_name(name):
        raise CommandError(f"no client could open this room: a name has one to {MAX_NAME} printable characters")
    if _encoded(name) != name:
        raise CommandError(f"no client could open this room: in a URL, its name is {_encoded(name)}")
    records, stored = await _open(store, name)
    batch = store.batch()
    try:
        document = await asyncio.to_thread(_loaded, stored)
        await asyncio.to_thread(lambda: finish(document.integrate(update)))
        records.append(document.commit(), document.state_vector, batch)
    except MalformedError as error:
        raise CommandError(f"this is not a valid Yjs update: {error}") from None
    finally:
        records.release(batch)
        await _store(store, records, batch)


def _encoded(name: str) -> str:
    """Return a name as it stands in the path of a URL, where spaces, ``?``, ``#`` and other letters cannot stand."""
    return quote(name, safe="".join(chr(code) for code in range(ord("!"), 0x7F) if chr(code) not in "?#"))


async def delete_document(store: PersistentStore, name: str) -> None:
    """Delete a document with all that is stored under its name.

    Raises:
        CommandError: there is no such document.
    """
    await _find(store, name)
    await store.delete(name)


async def compact_documents(store: PersistentStore) -> tuple[int, int]:
    """Merge every document's updates into one; return the bytes of updates before and after.

    A damaged document is left as it is, with a line on standard error.
    """
    before = after = 0
    async for listed in list_documents(store):
        try:
            sizes = await _compact(store, listed.name)
        except UnavailableError:
            raise
        except ElsewhereError:
            print(f"{shown(listed.name)}: open at a server, left as it is", file=sys.stderr)
        except (StoreError, DamagedError) as error:
            print(f"{shown(listed.name)}: damaged, left as it is: {error}", file=sys.stderr)
        else:
            before += sizes[0]
            after += sizes[1]
    await store.shrink()
    return before, after


async def _compact(store: PersistentStore, name: str) -> tuple[int, int]:
    """Merge a document's updates into one; return their bytes before and after."""
    records, stored = await store.open(name)
    batch = store.batch()
    try:
        # In a thread: the lease of a database has to be renewed meanwhile.
        updates, state_vector, index = await asyncio.to_thread(_compacted, stored.updates)
        records.replace(records.last(), updates, state_vector, index, batch)
    finally:
        records.release(batch)
        await _store(store, records, batch)
    return sum(map(len, stored.updates)), sum(map(len, updates))


def _compacted(updates: list[bytes]) -> tuple[list[bytes], bytes, bytes]:
    """Return what takes the place of updates, the state vector and the index."""
    document = _load(updates)
    segment, waiting = finish(compact_records(updates))
    update = finish(segment.write())
    compacted = [update] if waiting is None else [waiting, update]
    return compacted, document.state_vector(), finish(write_index(segment, update))


async def _store(store: PersistentStore, records: DocumentRecords, batch: Batch) -> None:
    await store.store(batch)
    if records.lost:
        raise StoreError("another server has taken the document meanwhile; try again")


async def check_documents(store: PersistentStore, *, deep: bool = False) -> AsyncIterator[str]:
    """Yield one line for everything that is wrong with a store; none means that all is well.

    Args:
        store: the data.
        deep: whether pycrdt has to integrate every document, too.
    """
    names, damage = await store.survey()
    if damage is not None:
        yield f"some of the data cannot be read, so documents may be missing here: {damage}"
    for name in names:
        try:
            stored = await store.read(name)
            document = await asyncio.to_thread(_load, stored.updates)
            fault = await store.fault(name, document.state_vector())
        except UnavailableError:
            raise
        except (StoreError, DamagedError) as error:
            yield f"{shown(name)}: cannot be loaded: {error}"
        else:
            if fault is not None:
                yield f"{shown(name)}: {fault}"
            if deep and (fault := await asyncio.to_thread(_deep_fault, document)) is not None:
                yield f"{shown(name)}: {fault}"
        async for fault in _version_faults(store, name):
            yield f"{shown(name)}: {fault}"


async def _version_faults(store: PersistentStore, name: str) -> AsyncIterator[str]:
    """Yield what is wrong with the versions of a document."""
    try:
        versions = await list_versions(store, name)
    except CorruptError as error:
        yield f"its versions cannot be read: {error}"
        return
    for version in versions:
        try:
            content = await store.read_version(name, version.time)
            await asyncio.to_thread(_check_version, content or b"")
        except (CorruptError, DamagedError) as error:
            yield f"its version of {times.shown(version.time)} cannot be restored: {error}"


def _check_version(content: bytes) -> None:
    _load([unpack(content)])


def _deep_fault(document: Document) -> str | None:
    """Return what pycrdt finds wrong with a document."""
    try:
        state = interpreter.state(finish(document.write()))
    except InterpretationError as error:
        return f"pycrdt cannot read it: {error}"
    if state != finish(decode(document.state_vector())):
        return "pycrdt does not integrate all of it"
    return None


async def _find(store: PersistentStore, name: str) -> None:
    if not await store.exists(name):
        raise CommandError(f"there is no document {name!r}; `list` shows all documents")


async def _open(store: PersistentStore, name: str) -> tuple[DocumentRecords, Stored]:
    try:
        return await store.open(name)
    except CorruptError as error:
        raise _damaged(error) from None


def _load(updates: list[bytes]) -> Document:
    document = Document()
    finish(document.load(updates))
    return document


def _loaded(stored: Stored) -> Document:
    try:
        return _load(stored.updates)
    except DamagedError as error:
        raise _damaged(error) from None


def _damaged(error: Exception) -> CommandError:
    return CommandError(f"the document is damaged: {error}. {DAMAGED}")


async def repair_documents(settings: Settings, target: str) -> AsyncIterator[str]:
    """Write what can be read of damaged data into a new directory; yield one line for everything that is lost.

    Raises:
        CommandError: there is nothing to repair, it is in use, or the new directory is there already.
    """
    if not settings.database_url:
        for name, lost in repair(Path(settings.persist_dir), Path(target)):
            yield f"{shown(name)}: {lost}"
        return
    store = await open_for_command(settings, may_make=False)
    try:
        from .storage.postgresql.repair import repair as repair_database

        async for name, lost in repair_database(store, Path(target)):
            yield f"{shown(name)}: {lost}"
    except StoreError as error:
        raise CommandError(str(error)) from None
    finally:
        await store.close()


async def migrate_documents(source: str, target: str) -> AsyncIterator[str]:
    """Copy all documents from one place to another; yield lines about what could not be copied and what was.

    Args:
        source: a directory, or the URL of a database.
        target: another one.

    Raises:
        CommandError: they cannot be copied, or some of them could not be.
    """
    if source == target:
        raise CommandError("the source and the target are the same")
    opened = [await open_place(source, may_make=False)]
    try:
        opened.append(await open_place(target, may_make=True))
        copied = there = size = faults = 0
        async for one in migrate(*opened):
            if one.fault is not None:
                faults += 1
                yield f"{shown(one.name)}: not copied: {one.fault}"
            else:
                copied += one.new
                there += not one.new
                size += one.size * one.new
        yield f"{copied} documents were copied ({size} bytes of updates), {there} had been copied before"
        if faults:
            raise CommandError(f"{faults} damaged documents were not copied; {DAMAGED}")
    except StoreError as error:
        raise CommandError(f"{error}; run the same command again to continue") from None
    finally:
        for store in opened:
            await store.close()


def directory_of(settings: Settings) -> str:
    """Return the data directory.

    Raises:
        CommandError: the documents are in a database, which has tools of its own for backups.
    """
    if settings.database_url:
        raise CommandError("DATABASE_URL is set; use pg_dump and psql with the schema opennoodl_sync")
    return settings.persist_dir


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
    if not holds_documents(Path(path)):
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


async def with_store(
    settings: Settings, act: Callable[[PersistentStore], Awaitable[None]], *, may_make: bool = False
) -> None:
    """Open the store for the time of `act`.

    Args:
        settings: name the store.
        act: uses the store.
        may_make: whether the store is made if there is none.

    Raises:
        StartError: it cannot be opened, or a server holds it.
        CommandError: there is none, or `act` failed.
    """
    store = await open_for_command(settings, may_make=may_make)
    try:
        await act(store)
    except CorruptError as error:
        raise CommandError(f"the data is damaged: {error}. {DAMAGED}") from None
    except ElsewhereError:
        raise CommandError("a server has this document open; try again when its clients have left") from None
    except UnavailableError as error:
        raise CommandError(str(error)) from None
    except StoreError as error:
        raise CommandError(f"the disk failed: {error}") from None
    finally:
        await store.close()
