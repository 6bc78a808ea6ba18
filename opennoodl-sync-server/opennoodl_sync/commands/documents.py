"""Commands on whole documents: list, export, import, delete and compact them."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from ..edge.command_line import CommandError, standard_input
from ..storage.interface import DAMAGED, CorruptError, ElsewhereError, PersistentStore, StoreError, UnavailableError
from ..y_protocol import MAX_NAME, is_name
from ..yjs.compaction import compact_records
from ..yjs.document import DamagedError
from ..yjs.lib0 import MalformedError, finish
from ..yjs.segment_index import write_index
from .stores import damaged, find, in_form, load, loaded, open_document, shown, store_batch


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
    await find(store, name)
    try:
        stored = await store.read(name)
        state = await asyncio.to_thread(lambda: finish(loaded(stored).write()))
    except CorruptError as error:
        raise damaged(error) from None
    return await in_form(state, form)


async def import_document(store: PersistentStore, name: str, update: bytes) -> None:
    """Merge a Yjs update into a document, which is made if it is not there.

    Raises:
        CommandError: it is not an update, the document cannot take it, or no client could open a room of this name.
    """
    if not is_name(name):
        raise CommandError(f"no client could open this room: a name has one to {MAX_NAME} printable characters")
    if _encoded(name) != name:
        raise CommandError(f"no client could open this room: in a URL, its name is {_encoded(name)}")
    records, stored = await open_document(store, name)
    batch = store.writer.batch()
    try:
        document = await asyncio.to_thread(loaded, stored)
        await asyncio.to_thread(lambda: finish(document.integrate(update)))
        records.append(document.commit(), document.state_vector, batch)
    except MalformedError as error:
        raise CommandError(f"this is not a valid Yjs update: {error}") from None
    finally:
        records.release(batch)
        await store_batch(store, records, batch)


def _encoded(name: str) -> str:
    """Return a name as it stands in the path of a URL, where spaces, ``?``, ``#`` and other letters cannot stand."""
    return quote(name, safe="".join(chr(code) for code in range(ord("!"), 0x7F) if chr(code) not in "?#"))


async def delete_document(store: PersistentStore, name: str) -> None:
    """Delete a document with all that is stored under its name.

    Raises:
        CommandError: there is no such document.
    """
    await find(store, name)
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
    batch = store.writer.batch()
    try:
        # In a thread: the lease of a database has to be renewed meanwhile.
        updates, state_vector, index = await asyncio.to_thread(_compacted, stored.updates)
        records.replace(records.last(), updates, state_vector, index, batch)
    finally:
        records.release(batch)
        await store_batch(store, records, batch)
    return sum(map(len, stored.updates)), sum(map(len, updates))


def _compacted(updates: list[bytes]) -> tuple[list[bytes], bytes, bytes]:
    """Return what takes the place of updates, the state vector and the index."""
    document = load(updates)
    segment, waiting = finish(compact_records(updates))
    update = finish(segment.write())
    compacted = [update] if waiting is None else [waiting, update]
    return compacted, document.state_vector(), finish(write_index(segment, [update]))


def read_update(path: str) -> bytes:
    """Return the bytes of a file, or of standard input for ``-``.

    Raises:
        CommandError: it cannot be read.
    """
    try:
        return standard_input() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}") from None
