"""Commands on versions: list, export and restore them."""

import asyncio

from ..edge.command_line import CommandError
from ..storage.interface import PersistentStore, Version
from ..versions import times
from ..versions.content import unpack
from ..versions.making import Limits, found, make_version, restoring_update
from ..workers.task import TaskError
from ..yjs.document import DamagedError
from ..yjs.lib0 import finish
from .stores import find, in_form, loaded, open_document, store_batch


async def list_versions(store: PersistentStore, name: str) -> list[Version]:
    """Return the versions of a document, the oldest one first.

    Raises:
        CommandError: there is no such document.
    """
    await find(store, name)
    return (await store.history(name)).versions


async def export_version(store: PersistentStore, name: str, when: str, form: str) -> bytes:
    """Return a document as it was at a time, as `export_document` does.

    Raises:
        CommandError: there is no version of that time, it is damaged, or pycrdt cannot read it.
    """
    content, _ = await _version(store, name, when)
    try:
        return await in_form(await asyncio.to_thread(unpack, content), form)
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
    records, stored = await open_document(store, name)
    batch = store.writer.batch()
    try:
        made, present = await make_version(store, name, await store.history(name), Limits())
        update = await restoring_update(content, present)
        document = await asyncio.to_thread(loaded, stored)
        await asyncio.to_thread(lambda: finish(document.integrate(update)))
        await store.change_versions(name, [(made, present)], [])
        records.append(document.commit(), document.state_vector, batch)
    except TaskError as error:
        raise CommandError(f"the version of {times.shown(version.time)} cannot be restored: {error}") from None
    finally:
        records.release(batch)
        await store_batch(store, records, batch)
    return version, made


async def _version(store: PersistentStore, name: str, when: str) -> tuple[bytes, Version]:
    """Return the content of the version that shows a document as it was at a time, and the version."""
    try:
        time = times.read(when)
    except ValueError as error:
        raise CommandError(str(error)) from None
    versions = await list_versions(store, name)
    try:
        version = found(versions, time)
    except LookupError as error:
        raise CommandError(f"{name!r}: {error}") from None
    content = await store.read_version(name, version.time)
    if content is None:
        raise CommandError(f"the version of {times.shown(version.time)} has been deleted since; try again")
    return content, version
