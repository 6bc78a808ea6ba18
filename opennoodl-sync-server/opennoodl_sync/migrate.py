"""The migration: copies all documents of one store into another.

Each document is copied in one batch, so a migration that was interrupted is continued by the same command.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import NamedTuple

from .edge.command_line import CommandError
from .storage.interface import CorruptError, PersistentStore, Stored
from .yjs.document import DamagedError, Document
from .yjs.lib0 import finish

NOT_EMPTY = "it has to be empty, or hold what an interrupted migration of the same source has copied"


class Copied(NamedTuple):
    """One document of the source.

    Attributes:
        name: its name.
        size: bytes of its updates.
        new: whether it was copied now, and not before.
        fault: why it was not copied, or None.
    """

    name: str
    size: int
    new: bool
    fault: str | None


async def migrate(source: PersistentStore, target: PersistentStore) -> AsyncIterator[Copied]:
    """Copy all documents, and read each again; yield one after the other.

    Raises:
        CommandError: a server uses one of the stores, some of the source cannot be read, or the target holds other
            documents; nothing was written then. Or a document in the target is not what was written.
        StoreError: one of the stores failed; the same again goes on from there.
    """
    for store, what in ((source, "source"), (target, "target")):
        if await store.other_instances():
            raise CommandError(f"a server uses the {what}; stop all servers first")
    names, damage = await source.survey()
    if damage is not None:
        raise CommandError(f"some of the source cannot be read, so documents may be missing: {damage}")
    there = await _compared(source, target, set(names))
    for name in await source.closed_names():
        await target.set_closed(name, True)
    for name in names:
        try:
            stored = await source.read(name)
            state_vector = await asyncio.to_thread(_state_vector, stored.updates)
        except (CorruptError, DamagedError) as error:
            yield Copied(name, 0, False, str(error))
            continue
        if name not in there:
            await _copy(target, name, stored, state_vector)
        try:
            await _copy_versions(source, target, name)
        except CorruptError as error:
            yield Copied(name, 0, False, f"its versions are damaged: {error}")
        yield Copied(name, sum(map(len, stored.updates)), name not in there, None)


def _state_vector(updates: list[bytes]) -> bytes:
    document = Document()
    finish(document.load(updates))
    return document.state_vector()


async def _compared(source: PersistentStore, target: PersistentStore, names: set[str]) -> set[str]:
    """Return the documents that are in the target already.

    Raises:
        CommandError: one of them is not the source's.
    """
    there, damage = await target.survey()
    for name in there:
        if damage is not None or name not in names or not await _same(source, target, name):
            raise CommandError(f"the target has another document {name!r}; {NOT_EMPTY}")
    return set(there)


async def _same(source: PersistentStore, target: PersistentStore, name: str) -> bool:
    try:
        return (await source.read(name)).updates == (await target.read(name)).updates
    except CorruptError:
        return False


async def _copy(target: PersistentStore, name: str, stored: Stored, state_vector: bytes) -> None:
    records, _ = await target.open(name)
    batch = target.writer.batch()
    records.replace(
        len(stored.updates) - 1, stored.updates, state_vector, stored.indexes.get(len(stored.updates) - 1), batch
    )
    await target.store(batch)
    batch = target.writer.batch()
    records.release(batch)
    await target.store(batch)
    if (await target.read(name)).updates != stored.updates:
        raise CommandError(f"the document {name!r} is not in the target as it was written")


async def _copy_versions(source: PersistentStore, target: PersistentStore, name: str) -> None:
    """Copy the versions of a document that are not in the target yet."""
    (versions, last), there = await source.history(name), await target.history(name)
    copied = {version.time for version in there.versions}
    for version in versions:
        content = await source.read_version(name, version.time)
        if version.time not in copied and content is not None:
            # The target counts its updates anew.
            number = there.last if version.last == last else -1
            await target.change_versions(name, [(version._replace(last=number), content)], [])
