"""Updates that wait: they are found again by what they need, and take no more room than they have to."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from opennoodl_sync.waiting import Waiting


def waiting(*updates: tuple[bytes, list[tuple[int, int]]]) -> Waiting:
    """Return what waits after these updates were added."""
    found = Waiting()
    for update, needs in updates:
        found.add(update, needs)
    return found


def test_nothing_waits_at_first() -> None:
    """There is nothing to give back when nothing came."""
    nothing = Waiting()
    assert (len(nothing), nothing.size, list(nothing)) == (0, 0, [])
    assert nothing.take({1: 100}) == []


def test_what_waits_is_kept_in_order() -> None:
    """Updates are told in the order of their coming, with the bytes of all of them."""
    found = waiting((b"one", [(1, 5)]), (b"three", [(1, 2)]), (b"two", [(2, 0)]))
    assert list(found) == [b"one", b"three", b"two"]
    assert (len(found), found.size) == (3, 11)
    assert b"two" in found
    assert b"four" not in found


def test_what_comes_again_waits_once() -> None:
    """An update that waits already is not counted twice."""
    found = waiting((b"one", [(1, 5)]), (b"one", [(1, 5)]))
    assert (len(found), found.size) == (1, 3)
    assert found.take({1: 6}) == [b"one"]
    assert (len(found), found.size) == (0, 0)


def test_what_is_needed_gives_back() -> None:
    """An update is given back when the element that it needs has come, and not before."""
    found = waiting((b"one", [(1, 5)]))
    assert found.take({1: 5}) == []
    assert found.take({2: 6}) == []
    assert found.take({1: 6}) == [b"one"]
    assert found.take({1: 7}) == []


def test_one_of_many_needs_is_enough() -> None:
    """An update is given back with the first thing that it needs, once; then it is to be looked at again."""
    found = waiting((b"one", [(1, 5), (2, 0), (3, 0)]))
    assert found.take({2: 1, 3: 1}) == [b"one"]
    assert found.take({1: 6}) == []
    assert found.size == 0


def test_others_go_on_waiting() -> None:
    """Only those are given back that need what has come."""
    found = waiting((b"far", [(1, 9)]), (b"near", [(1, 2)]), (b"other", [(2, 0)]), (b"between", [(1, 5)]))
    assert sorted(found.take({1: 6})) == [b"between", b"near"]
    assert list(found) == [b"far", b"other"]


def test_what_was_given_back_may_wait_again() -> None:
    """An update that still lacks something waits for that."""
    found = waiting((b"one", [(1, 5), (2, 0)]))
    found.take({2: 1})
    found.add(b"one", [(1, 7)])
    assert (len(found), found.size) == (1, 3)
    assert found.take({1: 8}) == [b"one"]


updates = st.dictionaries(
    st.binary(min_size=1, max_size=3),
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), min_size=1, max_size=3),
    max_size=20,
)


@given(updates, st.lists(st.dictionaries(st.integers(0, 3), st.integers(0, 11), max_size=3), max_size=6))
def test_gives_back_what_a_search_would(
    needs: dict[bytes, list[tuple[int, int]]], arrivals: list[dict[int, int]]
) -> None:
    """Whatever comes, exactly those updates are given back that a look at all of them would find."""
    found = waiting(*needs.items())
    left = dict(needs)
    for clocks in arrivals:
        due = {
            update for update, needed in left.items() if any(clock < clocks.get(client, 0) for client, clock in needed)
        }
        given_back = found.take(clocks)
        assert sorted(given_back) == sorted(due)
        for update in due:
            del left[update]
        assert list(found) == list(left)
        assert found.size == sum(map(len, left))
