"""Segments for the tests."""

from __future__ import annotations

from opennoodl_sync.yjs.delete_set import DeleteSet
from opennoodl_sync.yjs.document import Document
from opennoodl_sync.yjs.lib0 import finish
from opennoodl_sync.yjs.segment import Segment, SegmentWriter


def contents(segment: Segment) -> list[bytes]:
    """Return the encoded sections of a segment."""
    return [segment.data[section.head : section.stop] for section in segment.sections()]


def segment_of(*records: bytes) -> Segment:
    """Return a document's updates as one segment."""
    document = Document()
    finish(document.load(records))
    whole = finish(document.write())
    document = Document()
    finish(document.load([whole]))
    finish(document.freeze())
    segments = document.frozen()
    assert len(segments) <= 1
    return segments[0] if segments else SegmentWriter().segment(DeleteSet())
