"""The index of a segment as bytes: with it an update is a segment again, and with a wrong one it is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opennoodl_sync.yjs.lib0 import MalformedError, finish
from opennoodl_sync.yjs.segment import Segment
from opennoodl_sync.yjs.segment_index import read_segment, write_index

from ..edits import edit, steps
from ..raw import item, section, text, update
from .segments import contents, segment_of


def stored(*records: bytes) -> tuple[Segment, bytes, bytes]:
    """Return updates as one segment, and the update and the index that are stored of it."""
    segment = segment_of(*records)
    written = finish(segment.write())
    return segment, written, finish(write_index(segment, finish(segment.pieces())))


def assert_same(one: Segment, other: Segment) -> None:
    """Check that two segments are the same."""
    assert contents(one) == contents(other)
    assert one.arrays() == other.arrays()


LONG = update(
    section(70_000, 0, *(item(text("x" * 40), origin=(7, n)) for n in range(2000))),
    section(3, 0, item(text("abc"))),
    deletes={3: [(0, 1), (2, 1)], 70_000: [(5, 100)], 2**40: [(0, 1)]},
)


@pytest.mark.parametrize(
    "record", [LONG, update(), update(deletes={3: [(0, 1)]}), update(section(3, 0, item(text("a"))))]
)
def test_an_update_becomes_a_segment_again(record: bytes) -> None:
    """Sections, places in them, and deletions are as before."""
    segment, written, index = stored(record)
    assert_same(finish(read_segment(written, index)), segment)


@given(steps)
def test_every_document_becomes_a_segment_again(chosen: Any) -> None:
    """Whatever editors write."""
    segment, written, index = stored(*edit(chosen))
    assert_same(finish(read_segment(written, index)), segment)


@pytest.mark.parametrize("deletions", [10, 10_000])
def test_bytes_of_an_update_are_shared(deletions: int) -> None:
    """A segment has no copy of them, unless most of the update is deletions, which it has in arrays."""
    few = deletions == 10
    record = update(section(3, 0, item(text("x" * 20_000))), deletes={3: [(2 * n, 1) for n in range(deletions)]})
    segment, written, index = stored(record)
    read = finish(read_segment(written, index))
    assert (read.data is written, read.is_update) == (few, few)
    assert (finish(read.write()) is written, finish(read.write())) == (few, written)
    assert_same(read, segment)


def test_a_segment_that_was_read_can_be_merged() -> None:
    """A segment that was read takes part in a document as any other."""
    _, written, index = stored(LONG)
    segment = finish(read_segment(written, index))
    assert segment.state(3) == 3
    assert segment.state(70_000) == 80_000
    assert finish(segment.write()) == written
    assert finish(finish(read_segment(written, index)).state_entries()) == finish(segment.state_entries())


@given(st.integers(0, 10**9), st.integers(1, 255))
def test_a_damaged_index_is_noticed(at: int, change: int) -> None:
    """Any byte that is not as it was."""
    _, written, index = stored(update(section(3, 0, item(text("abc"))), deletes={3: [(0, 1)]}))
    damaged = bytearray(index)
    damaged[at % len(index)] ^= change
    with pytest.raises(MalformedError, match="index"):
        finish(read_segment(written, bytes(damaged)))


def test_a_truncated_index_is_noticed() -> None:
    """At any length."""
    _, written, index = stored(update(section(3, 0, item(text("abc"))), deletes={3: [(0, 1)]}))
    for length in range(len(index)):
        with pytest.raises(MalformedError, match="index"):
            finish(read_segment(written, index[:length]))


@pytest.mark.parametrize(
    "other",
    [
        update(section(3, 0, item(text("abd")))),
        update(section(3, 0, item(text("abc")))) + b"\x00",
        update(section(3, 0, item(text("ab")))),
        b"",
    ],
)
def test_the_index_of_another_update_is_noticed(other: bytes) -> None:
    """Some tool has replaced the update and does not know of the index."""
    _, _, index = stored(update(section(3, 0, item(text("abc")))))
    with pytest.raises(MalformedError, match="of another update"):
        finish(read_segment(other, index))


def test_an_index_of_another_format_is_refused() -> None:
    """Another version may write other indexes."""
    _, written, index = stored(LONG)
    with pytest.raises(MalformedError, match="not an index"):
        finish(read_segment(written, b"OSI1" + index[4:]))
