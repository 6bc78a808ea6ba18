"""A disk that fails, or is full: what was confirmed stays, what was refused is gone, and the store goes on."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from opennoodl_notification import store_json
from opennoodl_notification.store import StoreError
from opennoodl_notification.store_json import JsonStore

from .harness import stored
from .test_store_json import add, numbers, rows, written

FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
async def store(file: Path) -> AsyncIterator[JsonStore]:
    """Open a store."""
    store = JsonStore(str(file))
    await store.open()
    yield store
    await store.close()


def fail(*_arguments: Any) -> None:
    """Fail as a full disk does."""
    raise FULL


async def test_full_disk(file: Path, store: JsonStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a full disk does not take is not stored; as soon as there is room, the same journal goes on."""
    await add(store, "a")
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", fail)
        for _ in range(2):
            with pytest.raises(StoreError, match="No space"):
                await add(store, "b")
            with pytest.raises(StoreError, match="No space"):
                await store.recover()
    assert set(store.memory.records["u"]) == set(stored(file)) == {"a"}
    await add(store, "c")
    await store.recover()
    assert set(stored(file)) == {"a", "c"}
    assert [path.name for path in store._journals()] == ["notifications.json.journal.0"]


async def test_failing_journal(file: Path, store: JsonStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """When it is not known what the disk has, nothing is stored until a new file has what was confirmed."""
    await add(store, "a")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fail)
        with pytest.raises(StoreError, match="No space"):
            await add(store, "b")
    for step in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, step, fail)
            with pytest.raises(StoreError, match="No space"):
                await store.recover()
        with pytest.raises(StoreError, match="not known"):
            await add(store, "b")
    assert set(store.memory.records["u"]) == set(stored(file)) == {"a"}
    await store.recover()
    await add(store, "c")
    assert set(stored(file)) == {"a", "c"}
    assert {row["id"] for row in rows(file)} == {"a"}


@pytest.mark.parametrize("step", ["fsync", "replace"])
async def test_failing_file(file: Path, store: JsonStore, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """While the file cannot be written, the journals go on; what was written of it takes no room meanwhile."""
    monkeypatch.setattr(store_json, "LEAST", 1)
    with monkeypatch.context() as patch:
        patch.setattr(os, step, fail)
        for id_ in numbers(4):
            await add(store, id_)
            await written(store)
            assert not file.with_name("notifications.json.new").exists()
        assert set(stored(file)) == set(numbers(4))
    await add(store, "last")
    await written(store)
    assert {row["id"] for row in rows(file)} == {*numbers(4), "last"}
