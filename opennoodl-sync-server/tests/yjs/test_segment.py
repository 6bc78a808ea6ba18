"""Segments: how they are made and merged. What they make of a document is in `test_document`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opennoodl_sync.yjs import document as document_module
from opennoodl_sync.yjs import segment as module
from opennoodl_sync.yjs.delete_set import DeleteSet
from opennoodl_sync.yjs.document import Document
from opennoodl_sync.yjs.lib0 import finish, write_varuint
from opennoodl_sync.yjs.segment import Segment, SegmentWriter, merge
from opennoodl_sync.yjs.state_vector import decode

from ..raw import gc, item, section, skip, text, update
from .segments import contents, segment_of

LONG = [item(text("x" * 100), origin=(7, 100 * n - 1) if n else None) for n in range(400)]
"""Structs of client 7, of more bytes than `MARK_DISTANCE`."""
FEW_DELETIONS = {7: [(3, 4)]}
MANY_DELETIONS = {7: [(2 * n, 1) for n in range(10_000)]}


def taken(record: bytes) -> Segment:
    """Return the only segment of a document that has taken a large update."""
    document = Document()
    finish(document.integrate(record))
    finish(document.freeze())
    (segment,) = document.frozen()
    return segment


@pytest.mark.parametrize("deletes", [{}, FEW_DELETIONS])
def test_a_segment_shares_the_bytes_of_an_update(deletes: dict[int, list[tuple[int, int]]]) -> None:
    """An update as Yjs writes it is not copied, neither when it is taken nor when it is written."""
    sections = [section(70_000, 0, item(text("abc"))), section(7, 0, *LONG)]
    record = update(*sections, deletes=deletes)
    segment = taken(record)
    assert segment.data is record
    assert finish(segment.write()) is record
    assert contents(segment) == sections
    assert segment.arrays()[:6] == segment_of(update(*sections)).arrays()[:6]
    assert segment.size == sum(map(len, sections))


@pytest.mark.parametrize(
    ("record", "sections"),
    [
        (update(section(7, 0, *LONG), section(70_000, 0, gc(1))), [section(70_000, 0, gc(1)), section(7, 0, *LONG)]),
        (update(section(7, 0, *LONG), deletes=MANY_DELETIONS), [section(7, 0, *LONG)]),
        (update(section(7, 0, *LONG, skip(5))), [section(7, 0, *LONG)]),
        (update(section(9, 0, skip(5)), section(7, 0, *LONG)), [section(7, 0, *LONG)]),
        (update(section(9, 0), section(7, 0, *LONG)), [section(7, 0, *LONG)]),
    ],
    ids=["ascending clients", "mostly deletions", "a Skip at the end", "nothing but a Skip", "an empty section"],
)
def test_a_segment_has_a_copy_of_other_updates(record: bytes, sections: list[bytes]) -> None:
    """What Yjs writes otherwise, or does not write, is put in order."""
    segment = taken(record)
    assert segment.data is not record
    assert contents(segment) == sections
    assert not segment.is_update


def test_large_segments_are_not_merged(monkeypatch: pytest.MonkeyPatch) -> None:
    """To merge them takes as much memory again. They are few all the same."""
    monkeypatch.setattr(document_module, "MERGED", 100_000)
    document = Document()
    for client in range(200):
        finish(document.integrate(update(section(client, 0, item(text("x" * 20_000))))))
        document.commit()
    finish(document.freeze())
    segments = document.frozen()
    assert sum(segment.size for segment in segments) > 4_000_000
    assert max(segment.size for segment in segments) < 600_000
    assert len(segments) < 40
    assert all(document.state(client) == 20_000 for client in range(200))


def test_large_sections_are_merged_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """However few they are: to copy many megabytes takes long."""
    monkeypatch.setattr(module, "PIECE", 1_000)
    one, other = (
        segment_of(update(*(section(client, 0, item(text("x" * 2_000))) for client in clients)))
        for clients in ((6, 5, 4), (3, 2, 1))
    )
    assert sum(1 for _ in merge([one, other])) >= 6


SIZES = st.lists(st.sampled_from((1, 10, 40, 50, 51, 52, 53, 100, 20_000)), max_size=30)
"""Lengths of texts: sections of them are short, long, or just fit together."""


def of_sizes(sizes: list[int], clients: range) -> Segment:
    """Return a segment with a section for each length of a text, of some of the clients."""
    sections = [
        section(client, 0, item(text("x" * size))) for client, size in zip(reversed(clients), sizes, strict=False)
    ]
    return segment_of(update(*sections))


@given(SIZES)
def test_each_section_is_found(sizes: list[int]) -> None:
    """However long it and its neighbours are; a client between two others has nothing."""
    clients = range(0, 300, 3)
    segment = of_sizes(sizes, clients)
    there = dict(zip(reversed(clients), sizes, strict=False))
    assert {client: segment.state(client) for client in range(302) if segment.state(client)} == there
    assert [(section.client, section.end) for section in segment.sections()] == list(there.items())
    assert len(segment) == len(there)


@given(SIZES, SIZES)
def test_short_sections_take_little_memory(sizes: list[int], others: list[int]) -> None:
    """The index of a segment has at most half the bytes of its sections, and one entry more."""
    segment = finish(merge([of_sizes(sizes, range(30)), of_sizes(others, range(30, 60))]))
    assert segment.memory - len(segment.data) <= segment.size / 2 + 16 + 4


@pytest.mark.parametrize("shared", [False, True])
def test_merged_segments_have_one_state(shared: bool) -> None:
    """Each client stands once in the state vector, whether one has written in both segments or none."""
    newer = SegmentWriter()
    for client in range(59, 29, -1):
        newer.section(client, 0, 1, 1, item(text("x")))
    if shared:
        newer.section(29, 1, 2, 1, item(text("x"), origin=(29, 0)))
    segments = [of_sizes([1] * 30, range(30)), newer.segment(DeleteSet())]
    for segment in segments:
        finish(segment.state_entries())
    entries = finish(finish(merge(segments)).state_entries())
    assert len(entries) == 2 * 60
    assert finish(decode(write_varuint(60) + entries)) == {
        client: 1 + (shared and client == 29) for client in range(60)
    }
