"""Division: the parts of a document, and what is left of its segments."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from opennoodl_sync.yjs.division import Part, divide
from opennoodl_sync.yjs.document import Document
from opennoodl_sync.yjs.lib0 import finish, write_varuint
from opennoodl_sync.yjs.segment import Segment, merge

from ..raw import item, section, text, update
from .segments import contents, segment_of

LENGTHS = st.dictionaries(st.integers(0, 40), st.sampled_from((1, 10, 50, 51, 100, 20_000)), max_size=30)
"""By client: the length of a text. Sections of them are short, long, or just fit together."""
DELETED = st.sets(st.integers(0, 45))
SIZES = st.sampled_from((1, 100, 1_000, 30_000))


def of_lengths(lengths: dict[int, int], deleted: set[int]) -> Segment:
    """Return a segment with a text of each client, and deletions of some clients."""
    sections = [section(client, 0, item(text("x" * lengths[client]))) for client in sorted(lengths, reverse=True)]
    return segment_of(update(*sections, deletes={client: [(0, 1)] for client in sorted(deleted, reverse=True)}))


def divided(segments: list[Segment], size: int) -> list[Part]:
    """Return all parts of a document."""
    parts = [finish(divide(segments, size))]
    while parts[-1].rest:
        for segment in parts[-1].rest:
            finish(segment.state_entries())
        parts.append(finish(divide(parts[-1].rest, size)))
    return parts


def document_of(*segments: Segment) -> bytes:
    """Return the update of segments whose clients are different."""
    document = Document()
    finish(document.load([finish(segment.write()) for segment in segments]))
    return finish(document.write())


@given(LENGTHS, LENGTHS, DELETED, SIZES)
def test_the_parts_are_the_document(
    lengths: dict[int, int], others: dict[int, int], deleted: set[int], size: int
) -> None:
    """All parts together have all structs and deletions; each has all of its clients."""
    others = {client + 20: length for client, length in others.items() if client + 20 not in lengths}
    segments = [of_lengths(lengths, deleted), of_lengths(others, deleted)]
    parts = divided(segments, size)
    assert document_of(*(segment for part in parts for segment in part.segments)) == document_of(*segments)
    entries = {write_varuint(client) + write_varuint(end) for client, end in (lengths | others).items()}
    assert b"".join(part.state for part in parts) == b"".join(
        write_varuint(client) + write_varuint(end) for client, end in sorted((lengths | others).items(), reverse=True)
    )
    assert len(entries) == sum(len(segment) for part in parts for segment in part.segments)


@given(LENGTHS, DELETED, SIZES)
def test_the_rest_has_an_index(lengths: dict[int, int], deleted: set[int], size: int) -> None:
    """What is left of a segment finds its sections, also where a group of short ones was cut."""
    segment = of_lengths(lengths, deleted)
    finish(segment.state_entries())
    part = finish(divide([segment], size))
    left = dict(sorted(lengths.items(), reverse=True)[sum(map(len, part.segments)) :])
    assert bool(part.rest) or not left
    for rest in part.rest:
        assert len(rest) == len(left)
        assert {client: rest.state(client) for client in range(42) if rest.state(client)} == left
        assert [section.client for section in rest.sections()] == list(left)
        assert contents(rest) == contents(segment)[len(contents(segment)) - len(left) :]
        entries = b"".join(write_varuint(client) + write_varuint(end) for client, end in left.items())
        assert finish(rest.state_entries()) == entries
        marks = [mark.clock for section in rest.sections() for mark in rest.marks(section)]
        assert (
            marks == [mark.clock for section in segment.sections() for mark in segment.marks(section)][-len(marks) :]
            or not marks
        )


def test_a_client_in_two_segments_is_in_one_part() -> None:
    """Its structs can be joined then."""
    first = segment_of(update(section(9, 0, item(text("a"))), section(7, 0, item(text("b" * 5_000)))))
    document = Document()
    finish(document.load([], [first]))
    finish(document.integrate(update(section(7, 5_000, item(text("c" * 500), origin=(7, 4_999))))))
    finish(document.freeze())
    segments = document.frozen()
    assert len(segments) == 2
    parts = divided(segments, 1)
    assert [[len(segment) for segment in part.segments] for part in parts] == [[1], [1, 1]]


def test_a_document_without_a_size_is_one_part() -> None:
    """Size 0 stands for no limit."""
    segment = segment_of(update(*(section(client, 0, item(text("x" * 100))) for client in range(9, 0, -1))))
    part = finish(divide([segment, finish(merge([]))], 0))
    assert part.rest == []
    assert [len(one) for one in part.segments] == [9]
    assert finish(divide([], 0)).segments == []


def test_parts_without_common_clients_do_not_overlap() -> None:
    """The ranges of their clients tell, with and without groups of short sections."""
    low = segment_of(update(*(section(client, 0, item(text("x"))) for client in range(9, 0, -1))))
    high = segment_of(update(*(section(client, 0, item(text("x" * 100))) for client in range(20, 9, -1))))
    within = segment_of(update(section(5, 0, item(text("x")))))
    assert [one.overlaps(other) for one, other in ((low, high), (high, low), (low, within), (within, low))] == [
        *(False, False, True, True)
    ]
