"""Commands on damage: find it, and write what can be read into a new directory."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from ..edge.command_line import CommandError
from ..settings import Settings
from ..storage.choose import open_for_command
from ..storage.interface import CorruptError, PersistentStore, StoreError, UnavailableError
from ..storage.leveldb.files import directory_named
from ..storage.leveldb.repair import repair
from ..versions import times
from ..versions.content import unpack
from ..workers import interpreter
from ..workers.task import TaskError
from ..yjs.document import DamagedError, Document
from ..yjs.lib0 import finish
from ..yjs.state_vector import decode
from .stores import load, shown
from .versions import list_versions


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
            document = await asyncio.to_thread(load, stored.updates)
            fault = await store.fault(name, document.state_vector())
        except UnavailableError:
            raise
        except (StoreError, DamagedError) as error:
            yield f"{shown(name)}: cannot be loaded: {error}"
        else:
            if fault is not None:
                yield f"{shown(name)}: {fault}"
            if deep and (fault := await _deep_fault(document)) is not None:
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
    load([unpack(content)])


async def _deep_fault(document: Document) -> str | None:
    """Return what pycrdt finds wrong with a document."""
    try:
        state = await interpreter.state(await asyncio.to_thread(lambda: finish(document.write())))
    except TaskError as error:
        return f"pycrdt cannot read it: {error}"
    if state != finish(decode(document.state_vector())):
        return "pycrdt does not integrate all of it"
    return None


async def repair_documents(settings: Settings, target: str) -> AsyncIterator[str]:
    """Write what can be read of damaged data into a new directory; yield one line for everything that is lost.

    Raises:
        CommandError: there is nothing to repair, it is in use, or the new directory is there already.
        StartError: the new directory begins with a `~`.
    """
    directory = directory_named(target, target)
    if not settings.database_url:
        for name, lost in repair(Path(settings.persist_dir), directory):
            yield f"{shown(name)}: {lost}"
        return
    store = await open_for_command(settings, may_make=False)
    try:
        from ..storage.postgresql.repair import repair as repair_database

        async for name, lost in repair_database(store, directory):
            yield f"{shown(name)}: {lost}"
    except StoreError as error:
        raise CommandError(str(error)) from None
    finally:
        await store.close()
