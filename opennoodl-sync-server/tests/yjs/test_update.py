"""Updates: whatever Yjs writes is read to its last byte, and nothing else is."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opennoodl_sync.yjs.lib0 import MalformedError, finish
from opennoodl_sync.yjs.segment import LargeParts
from opennoodl_sync.yjs.update import (
    MAX_CLOCK,
    NOTHING,
    Deletion,
    Edit,
    Parts,
    Run,
    read,
    read_edit,
    write,
    write_deletions,
    write_section,
)
from pycrdt import write_var_uint as number

from ..edits import edit, mutated, steps
from ..raw import gc, item, section, skip, text, update


def parts_of(data: bytes) -> tuple[Parts, int]:
    """Return the parts of an update and the offset behind it."""
    parts = Parts()
    return parts, finish(read(data, parts))


def refuse(data: bytes) -> None:
    """Check that an update is refused."""
    with pytest.raises(MalformedError, match=r"^not a Yjs update: "):
        finish(read(data, Parts()))


EVERYTHING = update(
    section(3_000_000_000, 0, item(text("x"), origin=(1, 1), right=(1, 2)), gc(1)),
    section(1, 4, gc(3), skip(2), item(text("é😀")), item(b"\x07\x03\x01p"), item(b"\x08\x01\x76\x01\x01k\x7e")),
    deletes={1: [(0, 2), (3, 1)], 3_000_000_000: [(0, 1)]},
)


def test_runs_and_deletions_are_found() -> None:
    """A gap ends a run and begins another one."""
    parts, end = parts_of(EVERYTHING)
    assert end == len(EVERYTHING)
    assert [run[:4] for run in parts.runs] == [(3_000_000_000, 0, 2, 2), (1, 4, 7, 1), (1, 9, 14, 3)]
    assert parts.deletions == [
        Deletion(1, 0, 2),
        Deletion(1, 3, 4),
        Deletion(3_000_000_000, 0, 1),
    ]


def test_the_offsets_are_those_of_the_structs() -> None:
    """Those of the first one, and behind the last one."""
    first = section(2, 3, gc(1), gc(1))
    parts, _ = parts_of(update(first, section(1, 0, gc(9))))
    assert parts.runs == [Run(2, 3, 5, 2, 4, 8), Run(1, 0, 9, 1, 11, 13)]


def test_bytes_behind_the_end_are_ignored() -> None:
    """As Yjs does."""
    parts, end = parts_of(EVERYTHING + b"\xffmore")
    assert end == len(EVERYTHING)
    assert parts.runs == parts_of(EVERYTHING)[0].runs


def test_nothing_is_read() -> None:
    """An update may say nothing, and a deletion may delete nothing."""
    assert (parts_of(NOTHING)[0].runs, parts_of(NOTHING)[0].deletions) == ([], [])
    assert parts_of(update(section(1, 0)))[0].runs == []
    assert parts_of(update(deletes={1: [(5, 0)]}))[0].deletions == [(1, 5, 5)]


def test_a_truncated_update_is_malformed() -> None:
    """Wherever it ends."""
    for end in range(len(EVERYTHING)):
        refuse(EVERYTHING[:end])


def test_a_client_comes_once() -> None:
    """Yjs would forget what came first."""
    refuse(update(section(1, 0, gc(1)), section(1, 1, gc(1))))
    refuse(update(section(2**31, 0, gc(1)), section(5, 0, gc(1)), section(2**31, 1, gc(1))))


@pytest.mark.parametrize("factor", [1, -1, 7919], ids=["ascending", "descending", "mixed"])
def test_clients_may_stand_in_any_order(factor: int) -> None:
    """However many they are; only a client that comes twice is refused, wherever that is."""
    number = 7_000
    sections = [section(client * factor % number, 0, gc(1)) for client in range(number)]
    assert len(parts_of(update(*sections))[0].runs) == number
    refuse(update(*sections, section(3_000, 1, gc(1))))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(update(section(1, MAX_CLOCK, gc(1))), id="the end of a client"),
        pytest.param(update(section(1, 0, *[gc(MAX_CLOCK // 2)] * 3)), id="the sum of a client"),
        pytest.param(update(section(1, 0, gc(2**53))), id="a length"),
        pytest.param(update(section(2**53, 0, gc(1))), id="a client"),
        pytest.param(update(section(1, 2**60, gc(1))), id="a clock"),
        pytest.param(update(deletes={1: [(MAX_CLOCK, 1)]}), id="the end of a deletion"),
        pytest.param(update(deletes={1: [(0, 2**53)]}), id="a deletion"),
        pytest.param(update(deletes={2**53: [(0, 1)]}), id="a client of deletions"),
        pytest.param(b"\xff" * 12, id="a number without an end"),
    ],
)
def test_too_large_numbers_are_malformed(data: bytes) -> None:
    """No clock takes more than 32 bits, and no number more than JavaScript has."""
    refuse(data)


def test_the_largest_numbers_are_read() -> None:
    """The largest allowed numbers are read."""
    data = update(section(2**53 - 1, MAX_CLOCK - 1, gc(1)), deletes={1: [(MAX_CLOCK - 1, 1)]})
    assert parts_of(data)[0].runs[0].end == MAX_CLOCK


BILLION = number(1_000_000_000)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(BILLION, id="clients"),
        pytest.param(b"\x01" + BILLION + b"\x01\x00", id="structs"),
        pytest.param(b"\x01\x01\x01\x00" + item(b"\x08" + BILLION), id="values"),
        pytest.param(b"\x01\x01\x01\x00" + item(b"\x08\x01\x75" + BILLION), id="a list"),
        pytest.param(b"\x01\x01\x01\x00" + item(b"\x04" + BILLION), id="text"),
        pytest.param(b"\x00" + BILLION, id="clients of deletions"),
        pytest.param(b"\x00\x01\x01" + BILLION, id="deletions"),
    ],
)
def test_a_promise_costs_nothing(data: bytes) -> None:
    """A few bytes that announce a billion of anything are refused without making room for them."""
    tracemalloc.start()
    try:
        refuse(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000


@given(steps)
def test_a_rewritten_update_is_the_same(chosen: Any) -> None:
    """Whatever pycrdt writes is read to its end, and put together again."""
    for data in edit(chosen):
        parts, end = parts_of(data)
        assert end == len(data)
        sections = [write_section(run.client, run.clock, run.structs, data[run.at : run.stop]) for run in parts.runs]
        deletions: dict[int, list[int]] = {}
        for client, clock, stop in parts.deletions:
            deletions.setdefault(client, []).extend((clock, stop))
        assert write(sections, len(deletions), write_deletions(deletions)) == data


@given(st.data(), steps)
def test_a_large_update_is_read_the_same(data: st.DataObject, chosen: Any) -> None:
    """Both collectors get the same, or both refuse it."""
    updates = edit(chosen) or [NOTHING]
    changed = data.draw(mutated(updates))
    large = LargeParts()
    try:
        parts, _ = parts_of(changed)
    except MalformedError:
        with pytest.raises(MalformedError):
            finish(read(changed, large))
        return
    finish(read(changed, large))
    assert [large[number] for number in range(len(large))] == parts.runs


def parts_in(edit: Edit) -> tuple[list[Run], list[Deletion]]:
    """Return the parts of an edit as `read` gives them."""
    return [edit.run], [] if edit.deletion is None else [edit.deletion]


TYPED = update(section(3_000_000_000, 7, item(text("é😀"), origin=(3_000_000_000, 6))))
SET = update(section(1, 7, item(b"\x08\x01\x7d\x05", origin=(1, 6))), deletes={1: [(6, 1)]})


@pytest.mark.parametrize("edit", [pytest.param(TYPED, id="typing"), pytest.param(SET, id="setting a value")])
def test_an_edit_is_read_at_once(edit: bytes) -> None:
    """One struct, and no more than one deletion, take no steps; what follows them is ignored."""
    found = read_edit(edit + b"more")
    assert found is not None
    assert found.stop == len(edit)
    assert parts_in(found) == (parts_of(edit)[0].runs, parts_of(edit)[0].deletions)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(NOTHING, id="nothing"),
        pytest.param(update(section(1, 0, gc(1), gc(1))), id="two structs"),
        pytest.param(update(section(2, 0, gc(1)), section(1, 0, gc(1))), id="two clients"),
        pytest.param(update(section(1, 0, skip(1))), id="a gap"),
        pytest.param(update(section(1, 0, gc(1)), deletes={1: [(0, 1)], 2: [(0, 1)]}), id="deletions of two clients"),
        pytest.param(update(section(1, 0, gc(1)), deletes={1: [(0, 1), (2, 1)]}), id="two deletions"),
        pytest.param(update(section(1, MAX_CLOCK, gc(1))), id="a clock that is too large"),
        pytest.param(update(section(1, 0, gc(1)), deletes={1: [(MAX_CLOCK, 1)]}), id="a deletion that is too large"),
        pytest.param(TYPED[:-1], id="a part"),
        pytest.param(update(section(1, 0, item(b"\x02\x01\x01x", origin=(2, 0)))), id="a content that takes steps"),
    ],
)
def test_other_updates_take_steps(data: bytes) -> None:
    """They are left to `read`, which also says what is wrong."""
    assert read_edit(data) is None


@given(st.data(), steps)
def test_an_edit_that_is_read_at_once_is_read_the_same(data: st.DataObject, chosen: Any) -> None:
    """Also if it is damaged: nothing is accepted that `read` refuses."""
    changed = data.draw(mutated([*edit(chosen), TYPED, SET]))
    found = read_edit(changed)
    if found is not None:
        parts, end = parts_of(changed)
        assert (*parts_in(found), found.stop) == (parts.runs, parts.deletions, end)


@given(st.binary(max_size=60))
def test_junk_is_read_or_refused(junk: bytes) -> None:
    """Nothing else happens."""
    try:
        parts_of(junk)
    except MalformedError:
        refuse(junk)


def test_it_yields_often() -> None:
    """Reading yields often, so that others are served in between."""
    many = update(section(1, 0, *[gc(1)] * 3000), deletes={1: [(2 * clock, 1) for clock in range(3000)]})
    assert sum(1 for _ in read(many, Parts())) > 20
