"""Slow clients may have only so much unread output together."""

from __future__ import annotations

import pytest

from ..harness import registry


class Reader:
    """A client with so many bytes of unread output."""

    cut = False

    def __init__(self, unread: int, *, slow: bool = True) -> None:
        self.slow = slow
        self.buffered = unread

    def abort(self, refusal: str) -> None:
        self.cut = refusal == "slow-client"


def test_client_with_the_most_unread_output_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """If slow clients have too much unread output together, those with the most are cut; other clients are not."""
    monkeypatch.setattr(registry, "MAX_UNREAD", 100)
    connections = registry.Connections()
    readers = [Reader(60), Reader(10), Reader(30), Reader(1000, slow=False)]
    for reader in readers:
        connections.add(reader)
    connections.limit_unread()
    assert not any(reader.cut for reader in readers)
    connections.add(late := Reader(70))
    connections.limit_unread()
    assert [reader.cut for reader in (*readers, late)] == [False, False, False, False, True]
