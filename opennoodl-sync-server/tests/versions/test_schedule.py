"""Which versions are kept."""

from __future__ import annotations

import pytest
from opennoodl_sync.settings import Settings
from opennoodl_sync.storage.interface import History, Version
from opennoodl_sync.versions.schedule import Rule, Schedule, parse

HOUR, DAY = 3600, 86_400
SCHEDULE = parse("24x1h,30x1d", 0)
assert SCHEDULE is not None


def history(*times: int, last: int = 1_000_000, size: int = 10) -> History:
    """Return versions of some times; the document has changed since, unless `last` is the time of one."""
    return History([Version(time, size, time) for time in times], last)


def test_a_setting_is_rules() -> None:
    """A setting is rules, or off."""
    assert Schedule((Rule(24, HOUR), Rule(30, DAY))) == SCHEDULE
    assert SCHEDULE.spacing == HOUR
    assert parse("10x5m", 7) == Schedule((Rule(10, 300),), 7)
    assert parse("off", 0) is None


@pytest.mark.parametrize("text", ["1h", "0x1h", "24x1h;30x1d", "x", "24x1w", "24x1h,"])
def test_nonsense_is_refused(text: str) -> None:
    """An invalid schedule is refused with the accepted form."""
    with pytest.raises(Exception, match="accepted is a list such as 24x1h,30x1d, or off"):
        Settings(versions=text)


def test_a_version_is_due_after_a_change() -> None:
    """A version is due of a document that has changed since the newest one, when that is old enough."""
    assert SCHEDULE.due(history(last=0), 0)
    assert not SCHEDULE.due(history(last=-1), 0)
    assert SCHEDULE.due(history(5), 5 + HOUR)
    assert not SCHEDULE.due(history(5), 4 + HOUR)
    assert not SCHEDULE.due(history(5, last=5), 5 + DAY)


def test_hourly_then_daily_versions_are_kept() -> None:
    """A day of hourly versions, and the last one of each day for a month, are left of one every ten minutes."""
    now = 100 * DAY
    times = range(now - 60 * DAY, now, 600)
    dropped = set(SCHEDULE.dropped(history(*times), now))
    kept = [time for time in times if time not in dropped]
    assert kept[-24:] == [now - HOUR * age + 3000 for age in range(24, 0, -1)]
    assert kept[:-24] == [now - DAY * age - 600 for age in range(29, 0, -1)]


def test_all_are_dropped_in_the_end() -> None:
    """A version that no rule keeps is dropped, but not if it is what the document is now."""
    assert SCHEDULE.dropped(history(1, 2), 40 * DAY) == [1, 2]
    assert SCHEDULE.dropped(history(1, 2, last=2), 40 * DAY) == [1]


def test_bytes_of_a_document_are_bounded() -> None:
    """Beyond the bytes that its versions may take, those go that the next one follows soonest, but never the newest."""
    schedule = Schedule((Rule(1000, 1),), most=30)
    assert schedule.dropped(history(10, 50, 52, 60, 61), 62) == [50, 60]
    assert schedule.dropped(history(10, 50, size=100), 60) == [10]
    assert Schedule((Rule(1000, 1),)).dropped(history(10, 50, size=2**40), 60) == []


def test_one_version_may_not_take_all() -> None:
    """A version that is much larger than the others would replace them, so it may take a quarter."""
    assert Schedule((), most=100).most_of_one == 25
