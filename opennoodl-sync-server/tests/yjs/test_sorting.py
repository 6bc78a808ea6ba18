"""Sorting in steps."""

from __future__ import annotations

from array import array
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opennoodl_sync.yjs import sorting
from opennoodl_sync.yjs.lib0 import finish
from opennoodl_sync.yjs.sorting import is_sorted, order

keys = st.lists(st.integers(0, 30), max_size=40).map(lambda values: array("Q", values))


@pytest.fixture(autouse=True, scope="module")
def small() -> object:
    """Sort a few keys at once, so that all paths are taken."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sorting, "AT_ONCE", 4)
        yield


@given(keys)
def test_the_order_is_that_of_sorted(values: array[int]) -> None:
    """Equal keys stay in their order."""
    assert list(finish(order(values))) == sorted(range(len(values)), key=values.__getitem__)


@given(keys.map(lambda values: array("Q", sorted(set(values)))))
def test_keys_in_order_are_not_sorted(values: array[int]) -> None:
    """Ascending and descending keys take no memory."""
    assert finish(order(values)) == range(len(values))
    backwards = values[::-1]
    assert list(finish(order(backwards))) == list(range(len(values) - 1, -1, -1))
    if len(values) > 1:
        assert isinstance(finish(order(backwards)), range)


@given(keys)
def test_sorted_keys_are_recognized(values: array[int]) -> None:
    """Equal keys are in no order."""
    pairs = list(pairwise(values))
    assert finish(is_sorted(values)) == all(one < other for one, other in pairs)
    assert finish(is_sorted(values, int.__gt__)) == all(one > other for one, other in pairs)


def test_it_yields_often() -> None:
    """Sorting yields often, so that others are served in between."""
    values = array("Q", [(number * 7919) % 1000 for number in range(1000)])
    assert sum(1 for _ in order(values)) > 100
