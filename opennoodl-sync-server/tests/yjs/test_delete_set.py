"""Delete sets, compared with sets of elements."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opennoodl_sync.yjs import delete_set, sorting
from opennoodl_sync.yjs.delete_set import DeleteSet, Deletions, insert, rest, union
from opennoodl_sync.yjs.lib0 import finish, write_varuint
from opennoodl_sync.yjs.update import Deletion, Parts, read

Elements = set[tuple[int, int]]

deletions = st.lists(
    st.builds(
        lambda client, clock, length: Deletion(client, clock, clock + length),
        st.sampled_from([0, 1, 5, 2**40]),
        st.integers(0, 40),
        st.integers(1, 8),
    ),
    max_size=25,
)


@pytest.fixture(autouse=True, params=[2, 1024], scope="module")
def many(request: pytest.FixtureRequest) -> object:
    """Work on a few ranges at once, or on many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delete_set, "MANY", request.param)
        patch.setattr(sorting, "AT_ONCE", 4)
        yield


def elements(ranges: list[Deletion]) -> Elements:
    """Return the elements of deletions."""
    return {(client, clock) for client, begin, end in ranges for clock in range(begin, end)}


def made(ranges: list[Deletion]) -> DeleteSet:
    """Return deletions as a set."""
    collected = Deletions()
    for deletion in ranges:
        collected.add(deletion)
    assert len(collected) == len(ranges)
    return finish(collected.set())


def content(deleted: DeleteSet) -> Elements:
    """Return the elements of a set, and check that it has the shape that it should."""
    assert list(deleted.clients) == sorted(set(deleted.clients))
    assert len(deleted.places) == len(deleted.clients) + 1
    found: list[Deletion] = []
    for client in deleted.clients:
        bounds = list(deleted.ranges(client))
        assert bounds
        assert all(one < other for one, other in pairwise(bounds)), "ranges touch each other"
        found += [Deletion(client, *bounds[at : at + 2]) for at in range(0, len(bounds), 2)]
    assert len(found) == len(deleted)
    return elements(found)


@given(deletions)
def test_a_set_has_what_was_added(ranges: list[Deletion]) -> None:
    """In whatever order it came, and however often."""
    assert content(made(ranges)) == elements(ranges)


@given(deletions, deletions)
def test_the_union_has_what_one_of_them_has(one: list[Deletion], other: list[Deletion]) -> None:
    """Ranges that meet become one."""
    assert content(finish(union(made(one), made(other)))) == elements(one) | elements(other)


@given(deletions, deletions)
def test_the_rest_is_what_is_not_there(there: list[Deletion], asked: list[Deletion]) -> None:
    """The rest is the new part of a deletion, as ranges in their order."""
    deleted = made(there)
    for deletion in asked:
        left = deleted.rest(deletion)
        assert elements(left) == elements([deletion]) - elements(there)
        assert left == sorted(left)


@given(deletions)
def test_ranges_that_are_inserted(ranges: list[Deletion]) -> None:
    """A list of bounds stays in order, without ranges that touch."""
    bounds: list[int] = []
    for _, clock, end in ranges:
        new = rest(bounds, Deletion(1, clock, end))
        insert(bounds, clock, end)
        assert rest(bounds, Deletion(1, clock, end)) == []
        assert all(piece.clock >= clock and piece.end <= end for piece in new)
    assert bounds == sorted(set(bounds))
    assert {clock for at in range(0, len(bounds), 2) for clock in range(*bounds[at : at + 2])} == {
        clock for _, begin, end in ranges for clock in range(begin, end)
    }


@given(deletions, st.integers(1, 60))
def test_a_written_delete_set_is_read(ranges: list[Deletion], size: int) -> None:
    """In parts of a size; each client stands there once, and its ranges are in ascending order."""
    clients, written = 0, b""
    deleted = made(ranges)
    for number, part in deleted.write(size):
        clients += number
        written += part
    assert clients == len(deleted.clients)
    parts = Parts()
    finish(read(b"\x00" + write_varuint(clients) + written, parts))
    assert elements(parts.deletions) == elements(ranges)
    assert parts.deletions == sorted(parts.deletions)


@given(deletions, st.integers(1, 60), st.integers(2, 12))
def test_a_delete_set_is_written_in_several_updates(ranges: list[Deletion], size: int, most: int) -> None:
    """Each update has so many clients and ranges at most, and no client twice; together they have all elements."""
    updates = [(0, b"")]
    for number, part, ends in made(ranges).write_updates(size, most):
        clients, written = updates[-1]
        updates[-1] = clients + number, written + part
        if ends:
            updates.append((0, b""))
    found: list[Deletion] = []
    for clients, written in updates:
        parts = Parts()
        finish(read(b"\x00" + write_varuint(clients) + written, parts))
        assert clients == len({deletion.client for deletion in parts.deletions})
        assert clients + len(parts.deletions) <= most
        found += parts.deletions
    assert found == sorted(found)
    assert elements(found) == elements(ranges)


def test_no_ranges_of_a_client_that_is_not_there() -> None:
    """Neither where others are."""
    assert list(made([Deletion(5, 1, 2)]).ranges(4)) == []
    assert list(DeleteSet().ranges(4)) == []
