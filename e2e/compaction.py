"""The compaction of the sync server, for JavaScript tests."""

from __future__ import annotations

import base64

from opennoodl_sync.yjs.compaction import compact_records
from opennoodl_sync.yjs.lib0 import finish


def compacted(records: list[str]) -> bytes:
    """Return the compacted update of updates, each in Base64."""
    segment, pending = finish(compact_records([base64.b64decode(record) for record in records]))
    assert not pending
    return finish(segment.write())
