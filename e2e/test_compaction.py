"""Compacted documents are to Yjs what they were before."""

from __future__ import annotations

import base64

from compaction import compacted
from harness import StartClient


async def test_yjs_makes_the_same_of_what_was_compacted(client: StartClient, seeds: range) -> None:
    """Content, deletions, state vector, and what later updates make of them are equal; it is idempotent."""
    yjs = await client("compaction")
    before = after = 0
    for seed in seeds:
        case = await yjs.call("generate", seed=seed, steps=40, laterSteps=15)
        small = base64.b64encode(compacted(case["updates"])).decode()
        assert await yjs.call("compare", compacted=small, **case) == [], f"seed {seed}"
        known = seed % (len(case["updates"]) + 1)
        behind = await yjs.call("compareBehind", updates=case["updates"], known=known, compacted=small)
        assert behind == [], f"seed {seed}"
        assert compacted([small]) == base64.b64decode(small), f"seed {seed}"
        before += sum(map(len, case["updates"]))
        after += len(small)
    assert after < 0.8 * before
