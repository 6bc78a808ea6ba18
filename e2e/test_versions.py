"""A document to which a version was restored shows in Yjs what the version shows."""

from __future__ import annotations

import base64

import pytest
from harness import StartClient
from opennoodl_sync.yjs.compaction import compact_records
from opennoodl_sync.yjs.lib0 import finish
from opennoodl_sync.yjs.restore import restoring_update

CLIENT = 2**32 - 1
"""Restores; none of the documents has it."""


def merged(records: list[str]) -> bytes:
    """Return updates in Base64 as one, as the server stores it."""
    segment, pending = finish(compact_records([base64.b64decode(record) for record in records]))
    assert not pending
    return finish(segment.write())


@pytest.fixture
def seeds(request: pytest.FixtureRequest) -> range:
    """Return what the documents are made from."""
    first = request.config.getoption("--seed") or 0
    return range(first, first + request.config.getoption("--documents"))


async def test_yjs_shows_a_version_that_was_restored(client: StartClient, seeds: range) -> None:
    """Every type and value comes back, and clients that wrote at the same time agree."""
    yjs = await client("compaction")
    for seed in seeds:
        case = await yjs.call("generate", seed=seed, steps=60, laterSteps=20)
        updates = case["updates"]
        then = seed % (len(updates) + 1)
        restoring = restoring_update(merged(updates), merged(updates[:then]), CLIENT)
        differences = await yjs.call(
            "compareRestored",
            version=updates[:then],
            document=updates,
            restoring=base64.b64encode(restoring).decode(),
            concurrent=case["later"],
        )
        assert differences == [], f"seed {seed}"
