"""One value of a query, whatever else is in it."""

from __future__ import annotations

import pytest

from ..harness import query


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/", None),
        ("/?", None),
        ("/?name", None),
        ("/?name=", None),
        ("/?name=a", "a"),
        ("/?other=b&name=a", "a"),
        ("/?name=&name=a&name=b", "a"),
        ("/?name=a%2Fb+c", "a/b c"),
        ("/?name=a=b?c", "a=b?c"),
        ("/?surname=a", None),
        ("/name=a", None),
    ],
)
def test_first_value_that_is_not_empty_counts(target: str, expected: str | None) -> None:
    """The first value that is not empty counts."""
    assert query.value(target, "name") == expected


def test_others_are_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other value is decoded: the query comes from anybody, before any limit."""
    decoded: list[str] = []
    monkeypatch.setattr(query, "unquote_plus", lambda text: decoded.append(text) or text)
    assert query.value("/?" + "a=%41&" * 1000 + "name=b&" + "name=%41&" * 500, "name") == "b"
    assert decoded == ["b"]
