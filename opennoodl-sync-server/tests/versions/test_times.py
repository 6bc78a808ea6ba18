"""Times of versions, as people read and write them."""

from __future__ import annotations

import pytest
from opennoodl_sync.versions.times import read, shown


def test_a_shown_time_is_read() -> None:
    """A time that is shown means the same when it is read."""
    assert shown(1_796_000_400) == "2026-11-30T01:00:00Z"
    assert read("2026-11-30T01:00:00Z") == 1_796_000_400


@pytest.mark.parametrize(
    ("text", "same"), [("2026-11-29", "2026-11-29T00:00:00Z"), ("2026-11-29T01:00:00+01:00", "2026-11-29T00:00:00Z")]
)
def test_dates_and_zones_are_read(text: str, same: str) -> None:
    """A date is its first second, in UTC; a zone may be another one."""
    assert read(text) == read(same)


@pytest.mark.parametrize(
    "text",
    ["", "yesterday", "2026-13-01", "12", "0001-01-01T00:00+14:00", "9999-12-31T23:59-14:00"],
)
def test_text_that_is_no_time_is_refused(text: str) -> None:
    """An invalid time is refused with the accepted form."""
    with pytest.raises(ValueError, match=r"is not a time; accepted is a time such as 2026-11-30T09:00:00Z, or a date"):
        read(text)
