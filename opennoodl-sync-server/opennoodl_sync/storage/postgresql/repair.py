"""Copies the readable records of damaged documents in PostgreSQL to a new data directory, and reports losses."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from ...edge.command_line import CommandError, counted
from ...yjs.document import DamagedError, Document
from ...yjs.lib0 import finish
from ..interface import CorruptError, PersistentStore
from ..leveldb.store import LevelDBStore
from .store import PostgreSQLStore


async def repair(source: PersistentStore, target: Path) -> AsyncIterator[tuple[str, str]]:
    """Copy all documents to a new data directory.

    Args:
        source: the store in PostgreSQL; it is not changed.
        target: the new directory.

    Yields:
        the name of a document, and its loss.

    Raises:
        CommandError: the directory exists already.
        StartError: it cannot be created.
        StoreError: one of the two stores failed.
    """
    assert isinstance(source, PostgreSQLStore)
    if await asyncio.to_thread(target.exists):
        raise CommandError(f"{target} exists already; name a new directory")
    made = LevelDBStore(str(target), fsync="true")
    try:
        for name in await source.closed_names():
            await made.set_closed(name, True)
        for name in (await source.survey()).names:
            try:
                updates, lost = (await source.read(name)).updates, None
            except CorruptError:
                updates, number = await source.salvage(name)
                lost = f"{number} of the last {counted(number + len(updates), 'update')} lost" if updates else None
                if not updates:
                    yield name, "all of it is lost"
                    continue
            document = Document()
            try:
                finish(document.load(updates))
            except DamagedError as error:
                lost = f"it cannot be loaded: {error}"
            records, _ = await made.open(name)
            batch = made.writer.batch()
            records.replace(len(updates) - 1, updates, document.state_vector(), None, batch)
            await made.store(batch)
            if lost is not None:
                yield name, lost
            if fault := await _copy_versions(source, made, name):
                yield name, fault
    finally:
        await made.close()


async def _copy_versions(source: PersistentStore, made: LevelDBStore, name: str) -> str | None:
    """Copy the versions of a document; return their loss, or None."""
    lost = 0
    versions = (await source.history(name)).versions
    for version in versions:
        try:
            content = await source.read_version(name, version.time)
        except CorruptError:
            content = None
        if content is None:
            lost += 1
        else:
            await made.change_versions(name, [(version._replace(last=-1), content)], [])
    return f"{lost} of {counted(len(versions), 'version')} lost" if lost else None
