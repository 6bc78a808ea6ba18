"""Segments: how they are merged. What they make of a document is in `test_document`."""

from __future__ import annotations

import pytest
from opennoodl_sync.yjs import segment as module
from opennoodl_sync.yjs.segment import merge

from ..raw import item, section, text, update
from .segments import segment_of


def test_large_sections_are_merged_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """However few they are: to copy many megabytes takes long."""
    monkeypatch.setattr(module, "PIECE", 1_000)
    one, other = (
        segment_of(update(*(section(client, 0, item(text("x" * 2_000))) for client in clients)))
        for clients in ((6, 5, 4), (3, 2, 1))
    )
    assert sum(1 for _ in merge(one, other)) >= 6
