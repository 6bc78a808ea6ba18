"""The store of a command: it is opened for one command, and its errors are named for an operator."""

from collections.abc import Awaitable, Callable

from ..edge.command_line import CommandError
from ..settings import Settings
from ..storage.choose import open_for_command
from ..storage.interface import (
    DAMAGED,
    Batch,
    CorruptError,
    DocumentRecords,
    ElsewhereError,
    PersistentStore,
    Stored,
    StoreError,
    UnavailableError,
)
from ..workers import interpreter
from ..workers.task import TaskError
from ..yjs.document import DamagedError, Document
from ..yjs.lib0 import finish


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


def shown(name: str) -> str:
    """Return a name with what is not printable escaped: strangers choose names, and none may move the cursor."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in name)


async def find(store: PersistentStore, name: str) -> None:
    """Raise a CommandError if a store has no such document."""
    if not await store.exists(name):
        raise CommandError(f"there is no document {name!r}; `list` shows all documents")


async def open_document(store: PersistentStore, name: str) -> tuple[DocumentRecords, Stored]:
    """Open a document to change it.

    Raises:
        CommandError: it is damaged.
    """
    try:
        return await store.open(name)
    except CorruptError as error:
        raise damaged(error) from None


async def store_batch(store: PersistentStore, records: DocumentRecords, batch: Batch) -> None:
    """Write a batch with changes of one document.

    Raises:
        StoreError: they were not stored.
    """
    await store.store(batch)
    if records.lost:
        raise StoreError("another server has taken the document meanwhile; try again")


def load(updates: list[bytes]) -> Document:
    """Return the document that stored updates make.

    Raises:
        DamagedError: they make none.
    """
    document = Document()
    finish(document.load(updates))
    return document


def loaded(stored: Stored) -> Document:
    """Return a stored document.

    Raises:
        CommandError: it is damaged.
    """
    try:
        return load(stored.updates)
    except DamagedError as error:
        raise damaged(error) from None


def damaged(error: Exception) -> CommandError:
    """Return what an operator is told of a damaged document."""
    return CommandError(f"the document is damaged: {error}. {DAMAGED}")


async def in_form(update: bytes, form: str) -> bytes:
    """Return the document that an update makes, as the update or as JSON for people to read.

    Raises:
        CommandError: pycrdt cannot read it.
    """
    if form == "update":
        return update
    try:
        return await interpreter.to_json(update)
    except TaskError as error:
        raise CommandError(f"pycrdt cannot read the document: {error}") from None
