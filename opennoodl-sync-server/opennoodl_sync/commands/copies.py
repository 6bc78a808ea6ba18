"""Commands on all data: make a backup, put it back, and copy documents to another store."""

from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

from ..edge.command_line import CommandError, counted
from ..edge.open_files import raise_limit
from ..migrate import migrate
from ..settings import Settings
from ..storage.choose import holds_documents, open_place
from ..storage.interface import DAMAGED, CorruptError, StoreError
from ..storage.leveldb.backup import back_up as copy
from ..storage.leveldb.database import Database
from ..storage.leveldb.files import directory_named
from .stores import shown


async def migrate_documents(source: str, target: str) -> AsyncIterator[str]:
    """Copy all documents from one place to another; yield lines about what could not be copied and what was.

    Args:
        source: a directory, or the URL of a database.
        target: another one.

    Raises:
        CommandError: they cannot be copied, or some of them could not be.
    """
    if _is_same(source, target):
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
        were = "was" if copied == 1 else "were"
        updates = f"{counted(size, 'byte')} of updates"
        yield f"{counted(copied, 'document')} {were} copied ({updates}), {there} had been copied before"
        if faults:
            raise CommandError(f"not copied: {counted(faults, 'damaged document')}; {DAMAGED}")
    except StoreError as error:
        raise CommandError(f"{error}; run the same command again to continue") from None
    finally:
        for store in opened:
            await store.close()


def _is_same(source: str, target: str) -> bool:
    """Return whether two places are the same: LevelDB would open one directory twice under two spellings."""
    if "://" in source or "://" in target:
        return source == target
    return Path(source).resolve() == Path(target).resolve()


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
        size = copy(Path(source), directory_named(target, target))
    except (CorruptError, StoreError) as error:
        raise CommandError(f"nothing was copied: {error}") from None
    with closing(Database(target)) as database:
        documents = len(list(database.stored_names()))
    return f"{counted(documents, 'document')}, {counted(size, 'byte')} in {target}"


def _must_hold_documents(path: str, name: str) -> None:
    if not holds_documents(Path(path)):
        raise CommandError(f"{name} holds no documents")
