"""Loads of documents that the tests can hold up."""

from __future__ import annotations

import threading

import pytest
from opennoodl_sync.storage.leveldb.documents import LevelDBDocument, Record


class Loads:
    """Counts loads from LevelDB, and holds them up.

    Attributes:
        count: how many there were.
        may_go_on: what they wait for.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.may_go_on = threading.Event()
        real = LevelDBDocument.records

        def records(store: LevelDBDocument) -> list[Record]:
            self.count += 1
            assert self.may_go_on.wait(30)
            return real(store)

        monkeypatch.setattr(LevelDBDocument, "records", records)
