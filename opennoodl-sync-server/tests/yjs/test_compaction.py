"""Compaction: the same document in fewer structs. The end-to-end tests compare in Yjs itself."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opennoodl_sync.yjs.compaction import compact, compact_records
from opennoodl_sync.yjs.document import DamagedError
from opennoodl_sync.yjs.lib0 import finish
from opennoodl_sync.yjs.state_vector import decode
from opennoodl_sync.yjs.structs import struct_end
from pycrdt import Doc

from ..edits import edit, snapshot, steps
from ..raw import gc, item, section, string, text, update, values
from .segments import segment_of

CLIENT = 3_000_000_000
GRIN = "😀".encode()


def compacted(*records: bytes) -> bytes:
    """Return the update that updates are compacted to."""
    return finish(finish(compact([segment_of(*records)])).write())


def typed(clock: int, letters: str | bytes, right: tuple[int, int] | None = None) -> bytes:
    """Return an item with a text behind the element before it."""
    return item(text(letters), origin=(CLIENT, clock - 1), right=right)


def erased(clock: int, length: int, right: tuple[int, int] | None = None) -> bytes:
    """Return an item that was deleted, behind the element before it."""
    return item(b"\x01" + bytes([length]), origin=(CLIENT, clock - 1), right=right)


def test_typed_letters_become_one_struct() -> None:
    """Letters that follow each other are one struct."""
    letters = [item(text("a")), typed(1, "b"), typed(2, "é😀"), typed(5, "c")]
    assert compacted(update(section(CLIENT, 0, *letters))) == update(section(CLIENT, 0, item(text("abé😀c"))))


def test_letters_of_several_updates_become_one_struct() -> None:
    """It does not matter in which updates the letters came."""
    updates = [update(section(CLIENT, 0, item(text("a")))), update(section(CLIENT, 1, typed(1, "b")))]
    assert compacted(*updates) == update(section(CLIENT, 0, item(text("ab"))))


def test_the_first_struct_keeps_its_place() -> None:
    """The joined struct has the origins and the parent of its first one."""
    first = item(text("a"), origin=(7, 3), right=(8, 4))
    assert compacted(update(section(CLIENT, 0, first, typed(1, "b", (8, 4))))) == update(
        section(CLIENT, 0, item(text("ab"), origin=(7, 3), right=(8, 4)))
    )


def test_values_are_joined() -> None:
    """Values that were put into an array one by one are one struct, whatever they are."""
    one, two = b"\x7d\x05", b"\x76\x01" + string("key") + b"\x7b" + bytes(8)
    structs = item(values(one)), item(values(two, one), origin=(CLIENT, 0))
    assert compacted(update(section(CLIENT, 0, *structs))) == update(section(CLIENT, 0, item(values(one, two, one))))


def test_gc_structs_are_joined() -> None:
    """Garbage that stands together is one struct."""
    assert compacted(update(section(1, 0, gc(3), gc(4), item(text("a")), gc(1), gc(200)))) == update(
        section(1, 0, gc(7), item(text("a")), gc(201))
    )


@pytest.mark.parametrize(
    "second",
    [
        pytest.param(item(text("b"), origin=(CLIENT, 0)), id="behind another element"),
        pytest.param(item(text("b"), origin=(CLIENT - 1, 1)), id="behind another client's element"),
        pytest.param(typed(2, "b", (7, 8)), id="before another element"),
        pytest.param(item(text("b"), right=(CLIENT, 1)), id="at the beginning"),
        pytest.param(item(text("b")), id="with a parent of its own"),
        pytest.param(item(text("b"), origin=(CLIENT, 1), key="k"), id="in a map"),
        pytest.param(item(values(b"\x7e"), origin=(CLIENT, 1)), id="of another kind"),
        pytest.param(item(b"\x05" + string("{}"), origin=(CLIENT, 1)), id="an embed"),
        pytest.param(item(b"\x06" + string("b") + string("true"), origin=(CLIENT, 1)), id="a format"),
        pytest.param(item(b"\x03" + string("x"), origin=(CLIENT, 1)), id="bytes"),
        pytest.param(item(b"\x07\x01", origin=(CLIENT, 1)), id="a type"),
        pytest.param(erased(2, 3), id="deleted"),
        pytest.param(gc(2), id="garbage"),
    ],
)
def test_only_continued_texts_are_joined(second: bytes) -> None:
    """Only what Yjs would get back by splitting is joined."""
    written = update(section(CLIENT, 0, item(text("ab")), second))
    assert compacted(written) == written


@pytest.mark.parametrize(
    "content",
    [b"\x05" + string("{}"), b"\x06" + string("b") + string("true"), b"\x03" + string("x"), b"\x07\x01"],
    ids=["embeds", "formats", "bytes", "types"],
)
def test_contents_that_have_no_parts_are_not_joined(content: bytes) -> None:
    """Two of them stay two."""
    written = update(section(CLIENT, 0, item(content), item(content, origin=(CLIENT, 0))))
    assert compacted(written) == written


@pytest.mark.parametrize(
    "content",
    [
        text("S"),
        values(b"\x7e"),
        b"\x05" + string('"SECRET"'),
        b"\x06" + string("b") + string("true"),
        b"\x03" + string("SECRET"),
        b"\x07\x03" + string("SECRET"),
        b"\x09" + string("SECRET") + b"\x76\x00",
        b"\x02\x01" + string("1"),
    ],
    ids=["text", "values", "embed", "format", "bytes", "type", "document", "JSON"],
)
def test_deleted_contents_are_dropped(content: bytes) -> None:
    """Whatever it was, its length is left."""
    assert compacted(update(section(1, 0, item(content)), deletes={1: [(0, 1)]})) == update(
        section(1, 0, item(b"\x01\x01")), deletes={1: [(0, 1)]}
    )


def test_deleted_structs_are_joined() -> None:
    """Whatever they were, also where they were dropped before."""
    structs = item(text("ab")), item(b"\x07\x01", origin=(CLIENT, 1)), erased(3, 4), typed(7, "c")
    assert compacted(update(section(CLIENT, 0, *structs), deletes={CLIENT: [(0, 7)]})) == update(
        section(CLIENT, 0, item(b"\x01\x07"), typed(7, "c")), deletes={CLIENT: [(0, 7)]}
    )


def test_deleted_entries_of_a_map_are_joined() -> None:
    """Of a value that was set a hundred times the last is left, and one trace of the others."""
    first = item(values(b"\x7d\x00"), key="k")
    rest = [item(values(b"\x7d" + bytes([n])), origin=(CLIENT, n - 1), key="k") for n in range(1, 60)]
    assert compacted(update(section(CLIENT, 0, first, *rest), deletes={CLIENT: [(0, 59)]})) == update(
        section(CLIENT, 0, item(b"\x01\x3b", key="k"), rest[-1]), deletes={CLIENT: [(0, 59)]}
    )


def test_a_deleted_entry_is_not_joined_with_what_is_none() -> None:
    """They are in different places."""
    structs = item(b"\x01\x01", key="k"), erased(1, 1), item(b"\x01\x01", origin=(CLIENT, 1), key="k")
    written = update(section(CLIENT, 0, *structs))
    assert compacted(written) == written


def test_each_struct_meets_its_own_deletions() -> None:
    """Ranges that end before a struct, and those behind it, do not touch it."""
    clocks = (0, 2, 4, 5, 7, 9)
    structs = [item(text(b"%d" % clock), origin=(9, clock)) for clock in range(10)]
    dropped = [item(b"\x01\x01", origin=(9, clock)) if clock in clocks else structs[clock] for clock in range(10)]
    deletes = {CLIENT: [(0, 1), (2, 1), (4, 2), (7, 1), (9, 3)]}
    assert compacted(update(section(CLIENT, 0, *structs), deletes=deletes)) == update(
        section(CLIENT, 0, *dropped), deletes=deletes
    )


def test_entries_of_a_map_that_are_not_deleted_stay() -> None:
    """Yjs deletes the first when it integrates the second, whether or not the update says so."""
    entries = item(values(b"\x7d\x00"), key="k"), item(values(b"\x7d\x01"), origin=(CLIENT, 0), key="k")
    written = update(section(CLIENT, 0, *entries))
    assert compacted(written) == written


def test_a_text_that_is_deleted_in_part_is_split() -> None:
    """The deleted parts of a text are dropped; the pieces have the places that Yjs would give them."""
    written = update(
        section(CLIENT, 0, item(text("ab"), right=(7, 8)), typed(2, "cdefg", (7, 8))),
        deletes={CLIENT: [(1, 2), (4, 1), (6, 1)]},
    )
    assert compacted(written) == update(
        section(
            CLIENT,
            0,
            item(text("a"), right=(7, 8)),
            erased(1, 2, (7, 8)),
            typed(3, "d", (7, 8)),
            erased(4, 1, (7, 8)),
            typed(5, "f", (7, 8)),
            erased(6, 1, (7, 8)),
        ),
        deletes={CLIENT: [(1, 2), (4, 1), (6, 1)]},
    )


def test_an_array_that_is_deleted_in_part_is_split() -> None:
    """The deleted parts of an array are dropped."""
    kept, dropped = b"\x7d\x05", b"\x77" + string("SECRET")
    written = update(
        section(CLIENT, 0, item(values(kept, dropped, dropped, kept, dropped))), deletes={CLIENT: [(1, 2), (4, 1)]}
    )
    assert compacted(written) == update(
        section(
            CLIENT,
            0,
            item(values(kept)),
            erased(1, 2),
            item(values(kept), origin=(CLIENT, 2)),
            erased(4, 1),
        ),
        deletes={CLIENT: [(1, 2), (4, 1)]},
    )


@pytest.mark.parametrize(
    ("words", "deleted", "pieces"),
    [
        ("a😀b", (2, 1), [item(text("a😀b"))]),
        ("a😀b", (1, 1), [item(text("a😀b"))]),
        ("a😀b", (2, 2), [item(text("a😀")), erased(3, 1)]),
        ("a😀b", (0, 2), [item(b"\x01\x01"), typed(1, "😀b")]),
        ("é😀😃b", (2, 2), [item(text("é😀😃b"))]),
        ("é😀😃b", (1, 3), [item(text("é")), erased(1, 2), typed(3, "😃b")]),
    ],
)
def test_a_character_that_is_deleted_by_half_stays(words: str, deleted: tuple[int, int], pieces: list[bytes]) -> None:
    """No text is split within a character."""
    deletes = {CLIENT: [deleted]}
    assert compacted(update(section(CLIENT, 0, item(text(words))), deletes=deletes)) == update(
        section(CLIENT, 0, *pieces), deletes=deletes
    )


def test_a_text_with_holes_everywhere_is_not_split() -> None:
    """Nobody can make a document several times as large by deleting every second letter."""
    holes = [(clock, 1) for clock in range(0, 1000, 2)]
    written = update(section(CLIENT, 0, item(text("ab" * 500))), deletes={CLIENT: holes})
    assert compacted(written) == written


def test_deletions_of_others_do_not_matter() -> None:
    """Each client's deletions hold for its own structs, and all stay in the delete set."""
    written = update(
        section(2, 0, item(text("ab"))), section(1, 0, item(text("ab"))), deletes={1: [(0, 1)], 9: [(5, 7)]}
    )
    assert compacted(written) == update(
        section(2, 0, item(text("ab"))),
        section(1, 0, item(b"\x01\x01"), item(text("b"), origin=(1, 0))),
        deletes={1: [(0, 1)], 9: [(5, 7)]},
    )


def test_pending_updates_are_handed_back() -> None:
    """Updates that came before their predecessors are not in the compacted one."""
    first, waits = update(section(CLIENT, 0, item(text("a")))), update(section(CLIENT, 2, typed(2, "c")))
    segment, pending = finish(compact_records([waits, first]))
    assert finish(segment.write()) == first
    assert pending == waits


def test_nothing_is_compacted_to_nothing() -> None:
    """A document without updates has a segment without sections."""
    segment, pending = finish(compact_records([]))
    assert finish(segment.write()) == b"\x00\x00"
    assert not pending


def test_an_invalid_update_is_refused() -> None:
    """A damaged record is not left out silently."""
    with pytest.raises(DamagedError, match="record 1 is not a Yjs update"):
        finish(compact_records([b"\x00\x00", b"junk"]))


def test_a_long_section_has_places_from_which_it_can_be_read() -> None:
    """The index of what was compacted leads to structs."""
    structs = [item(text("x" * 40), origin=(7, n)) for n in range(2000)]
    segment = finish(compact([segment_of(update(section(CLIENT, 0, *structs)))]))
    (only,) = segment.sections()
    marks = list(segment.marks(only))
    assert len(marks) > 3
    for number, mark in enumerate(marks):
        at, clock, left = mark
        while left > (marks[number + 1].left if number + 1 < len(marks) else 0):
            length, at = finish(struct_end(segment.data, at, CLIENT, clock))
            clock, left = clock + length, left - 1
        assert at == (marks[number + 1].at if number + 1 < len(marks) else only.stop)
        assert clock == (marks[number + 1].clock if number + 1 < len(marks) else only.end)


@given(steps, st.integers(1, 10))
def test_pycrdt_makes_the_same_of_it(chosen: Any, parts: int) -> None:
    """Content and state vector are those of the updates; it does not matter how they were compacted before."""
    updates = edit(chosen)
    one: Doc[Any] = Doc()
    for written in updates:
        one.apply_update(written)
    small = compacted(*updates)
    other: Doc[Any] = Doc()
    other.apply_update(small)
    assert snapshot(other) == snapshot(one)
    assert finish(decode(other.get_state())) == finish(decode(one.get_state()))
    assert compacted(small) == small
    at = len(updates) * parts // 10
    assert compacted(compacted(*updates[:at]), *updates[at:]) == small


def test_many_clients_take_little_memory() -> None:
    """There is no object for each struct: four thousand clients take a few bytes for each of theirs."""
    written = update(*(section(client, 0, item(text("a"))) for client in range(4_000, 0, -1)))
    segment = segment_of(written)
    tracemalloc.start()
    try:
        small = finish(compact([segment]))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(small) == 4_000
    assert peak < 6 * len(written)
