"""A document that differs from the code is told from it by name."""

from __future__ import annotations

import pytest

from .documents import compare


def test_row_order_does_not_matter() -> None:
    """Rows in another order are the same rows, which is not an error."""
    compare(["a", "b"], ["b", "a"])
    compare({"a": "1"}, {"a": "1"})


@pytest.mark.parametrize(
    ("documented", "declared", "side"),
    [
        (["a", "old"], ["a"], "the code lacks ['old']"),
        (["a"], ["a", "new"], "the document lacks ['new']"),
        ({"a": "1"}, {"a": "2"}, "the code lacks ['a: 1'], the document lacks ['a: 2']"),
        ({"a": {"b": "1"}}, {"a": {"b": "1", "c": "2"}}, "the code lacks [], the document lacks ['a: c: 2']"),
        ({"a": {}}, {}, "twice"),
        (["a", "a"], ["a"], "twice"),
    ],
)
def test_failure_names_the_missing_rows(documented: list[str], declared: list[str], side: str) -> None:
    """The failure says which side lacks which row."""
    with pytest.raises(AssertionError) as failed:
        compare(documented, declared)
    assert side in str(failed.value)
