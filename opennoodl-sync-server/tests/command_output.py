"""The output of the operator's commands for a data directory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from opennoodl_sync.commands.checks import check_documents
from opennoodl_sync.commands.documents import list_documents
from opennoodl_sync.edge.command_line import CommandError
from opennoodl_sync.storage.leveldb.store import LevelDBStore

T = TypeVar("T")


def faults(directory: Path) -> list[str]:
    """Return the lines of `check`."""

    async def look(store: LevelDBStore) -> list[str]:
        return [fault async for fault in check_documents(store)]

    return _with_store(directory, look)


def listed(directory: Path) -> set[str] | None:
    """Return the documents that `list` reports as undamaged; None if it reports a fault."""

    async def look(store: LevelDBStore) -> set[str] | None:
        try:
            return {document.name async for document in list_documents(store) if document.updates is not None}
        except CommandError:
            return None

    return _with_store(directory, look)


def _with_store(directory: Path, look: Callable[[LevelDBStore], Awaitable[T]]) -> T:
    async def run() -> T:
        store = LevelDBStore(str(directory), fsync="false")
        try:
            return await look(store)
        finally:
            await store.close()

    return asyncio.run(run())
