"""Fixtures: instances on one database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from opennoodl_sync.storage.interface import DocumentRecords
from opennoodl_sync.storage.postgresql.store import PostgreSQLStore

Start = Callable[..., Awaitable[PostgreSQLStore]]


@pytest.fixture
async def start(url: str) -> AsyncIterator[Start]:
    """Start instances that end with the test."""
    started: list[PostgreSQLStore] = []

    async def start(*, fsync: bool = True) -> PostgreSQLStore:
        store = PostgreSQLStore(url, fsync=fsync)
        await store.start()
        started.append(store)
        return store

    yield start
    for store in started:
        await store.close()


async def keep(store: PostgreSQLStore, records: DocumentRecords, *updates: bytes) -> None:
    """Append updates in one batch."""
    batch = store.writer.batch()
    records.append(updates, lambda: b"\x00", batch)
    await store.store(batch)


async def release(store: PostgreSQLStore, records: DocumentRecords) -> None:
    """Release a document."""
    batch = store.writer.batch()
    records.release(batch)
    await store.store(batch)
