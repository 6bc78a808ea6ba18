"""Sorting in steps, since a client chooses the order and number of its structs and deletions."""

from array import array
from collections.abc import Callable, Sequence
from heapq import merge

from .lib0 import Steps

AT_ONCE = 2048
"""Keys that are sorted in one step."""
MERGED_AT_ONCE = 256
"""Keys that are copied from the sorted chunks in one step, which takes longer."""


def is_sorted(keys: "array[int]", before: Callable[[int, int], bool] = int.__lt__) -> Steps[bool]:
    """Return whether each key comes before the next one, with no equal keys in between."""
    view = memoryview(keys)
    for start in range(0, len(keys), AT_ONCE):
        if start:
            yield
        if not all(map(before, view[start : start + AT_ONCE], view[start + 1 : start + 1 + AT_ONCE])):
            return False
    return True


def order(keys: "array[int]") -> Steps[Sequence[int]]:
    """Return the positions of the keys in ascending order of the keys; the sort is stable."""
    if (yield from is_sorted(keys)):
        return range(len(keys))
    if (yield from is_sorted(keys, int.__gt__)):  # the order of clients in Yjs
        return range(len(keys) - 1, -1, -1)
    blocks: list[array[int]] = []
    for start in range(0, len(keys), AT_ONCE):
        positions = range(start, min(start + AT_ONCE, len(keys)))
        blocks.append(array("I", sorted(positions, key=keys.__getitem__)))
        if start:
            yield
    if len(blocks) == 1:
        return blocks[0]
    ordered = array("I")
    for position in merge(*blocks, key=keys.__getitem__):
        ordered.append(position)
        if len(ordered) % MERGED_AT_ONCE == 0:
            yield
    return ordered
