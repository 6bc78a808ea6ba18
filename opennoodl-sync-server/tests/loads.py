"""Loads of documents that tests can delay."""

from __future__ import annotations

import threading

import pytest
from opennoodl_sync.storage.leveldb.documents import LevelDBDocument, Record


class Loads:
    """Counts loads from LevelDB, and can delay them.

    Attributes:
        count: the number of loads.
        may_go_on: an event that loads wait for.
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
