"""Compacted documents are to Yjs what they were before."""

from __future__ import annotations

import base64

import pytest
from harness import StartClient
from opennoodl_sync.yjs.compaction import compact_records
from opennoodl_sync.yjs.lib0 import finish


def compacted(records: list[str]) -> str:
    """Return the update that the updates `records` are compacted to; all of them are Base64."""
    segment, pending = finish(compact_records([base64.b64decode(record) for record in records]))
    assert not pending
    return base64.b64encode(finish(segment.write())).decode()


@pytest.fixture
def seeds(request: pytest.FixtureRequest) -> range:
    """Return what the documents are made from."""
    first = request.config.getoption("--seed") or 0
    return range(first, first + request.config.getoption("--documents"))


async def test_yjs_makes_the_same_of_what_was_compacted(client: StartClient, seeds: range) -> None:
    """Content, deletions, state vector, and what later updates make of them are equal; it is idempotent."""
    yjs = await client("compaction")
    before = after = 0
    for seed in seeds:
        case = await yjs.call("generate", seed=seed, steps=40, laterSteps=15)
        small = compacted(case["updates"])
        assert await yjs.call("compare", compacted=small, **case) == [], f"seed {seed}"
        known = seed % (len(case["updates"]) + 1)
        behind = await yjs.call("compareBehind", updates=case["updates"], known=known, compacted=small)
        assert behind == [], f"seed {seed}"
        assert compacted([small]) == small, f"seed {seed}"
        before += sum(map(len, case["updates"]))
        after += len(small)
    assert after < 0.8 * before
