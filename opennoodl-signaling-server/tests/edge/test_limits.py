"""Limits count with a clock that the caller holds."""

from __future__ import annotations

import weakref
from typing import Any

import pytest

from .harness import limits

BURST = limits.BURST_SECONDS


def waits(pace: Any, now: float, size: int = 0) -> float:
    """Take one message, and return how much too early it is."""
    over = pace.take(now, size)
    return 0.0 if over is None else float(over.seconds)


def test_quiet_client_saves_up_ten_seconds() -> None:
    """A quiet client has ten seconds' worth of messages saved up, and no more."""
    pace = limits.Pace(2, 0, 0, 0.0)
    assert BURST == 10
    assert [waits(pace, 1000.0) for _ in range(20)] == [0.0] * 20
    assert waits(pace, 1000.0) > 0


def test_wait_is_the_time_until_the_rate_allows() -> None:
    """Over the rate, the answer is how many seconds too early the message is."""
    pace = limits.Pace(2, 0, 0, 0.0)
    for _ in range(20):
        pace.take(0.0, 0)
    assert waits(pace, 0.0) == pytest.approx(0.5)
    assert waits(pace, 0.0) == pytest.approx(1.0)


def test_allowance_refills_at_the_rate() -> None:
    """The allowance refills at the rate."""
    pace = limits.Pace(2, 0, 0, 0.0)
    for _ in range(20):
        pace.take(0.0, 0)
    assert waits(pace, 0.5) == 0.0
    assert waits(pace, 0.5) > 0


def test_debt_over_the_rate_is_bounded() -> None:
    """A client that continues over the rate owes at most as much as can be saved up."""
    pace = limits.Pace(2, 100, 0, 0.0)
    for _ in range(1000):
        pace.take(0.0, 100)
    assert waits(pace, BURST + 0.5, 50) == 0.0


def test_rate_of_zero_is_no_limit() -> None:
    """A rate of 0 means that any number is in time."""
    pace = limits.Pace(0, 0, 0, 0.0)
    assert not any(waits(pace, 0.0, 1_000_000) for _ in range(1000))


def test_messages_of_any_size_have_a_rate() -> None:
    """A connection has as many messages as its rate allows, however small they are."""
    pace = limits.Pace(1, 1000, 0, 0.0)
    assert [pace.take(0.0, 0) for _ in range(10)] == [None] * 10
    assert pace.take(0.0, 0) == ("messages", pytest.approx(1.0))


def test_bytes_in_any_number_of_messages_have_a_rate() -> None:
    """A connection has as many bytes as its rate allows, in however few messages."""
    pace = limits.Pace(1, 1000, 0, 0.0)
    assert pace.take(0.0, 9000) is None
    assert pace.take(0.0, 3000) == ("bytes", pytest.approx(2.0))


def test_pace_names_the_longer_wait() -> None:
    """Over both rates, it is the one that takes longer to wait for."""
    pace = limits.Pace(1, 1000, 0, 0.0)
    for _ in range(14):
        pace.take(0.0, 1000)
    assert pace.take(0.0, 0) == ("messages", pytest.approx(5.0))
    assert pace.take(0.0, 3000) == ("bytes", pytest.approx(7.0))


def test_pace_has_room_for_the_largest() -> None:
    """A message of the largest size can be sent at any rate."""
    pace = limits.Pace(0, 1, 1000, 0.0)
    assert pace.take(0.0, 1000) is None


def test_quiet_key_saves_up_ten_seconds() -> None:
    """A key that was quiet may come ten seconds' worth of times at once, independently of other keys."""
    rates = limits.Rates(3)
    assert [rates.allow("a", 1000.0) for _ in range(31)] == [True] * 30 + [False]
    assert rates.allow("b", 1000.0)


def test_refused_attempt_costs_a_key_nothing() -> None:
    """A refused attempt costs nothing, so a key that keeps trying gets in at the rate."""
    rates = limits.Rates(2)
    for _ in range(20):
        rates.allow("a", 0.0)
    assert sum(rates.allow("a", 0.1 * turn) for turn in range(1, 101)) == 20


def test_rates_are_remembered_for_long_enough() -> None:
    """A key is not forgotten before everything that it had is made up for."""
    rates = limits.Rates(1)
    rates.allow("other", 0.0)
    assert [rates.allow("a", 9.9) for _ in range(11)] == [True] * 10 + [False]
    rates.allow("other", 10.0)
    assert not rates.allow("a", 10.0)
    assert [rates.allow("a", 19.0) for _ in range(10)] == [True] * 9 + [False]


def test_rates_forget_quiet_keys() -> None:
    """Of keys that have not come for a while, nothing is kept."""
    rates = limits.Rates(1)
    there = [Key(str(number)) for number in range(3)]
    gone = [weakref.ref(key) for key in there]
    for key in there:
        rates.allow(key, 0.0)
    del there, key
    for now in (10.0, 20.0):
        rates.allow("other", now)
    assert [reference() for reference in gone] == [None] * 3


class Key(str):
    """A key whose end can be seen."""


def test_rates_of_zero_are_no_limit() -> None:
    """A rate of 0 means any number."""
    rates = limits.Rates(0)
    assert all(rates.allow("a", 0.0) for _ in range(1000))


def test_each_key_has_its_own_quota() -> None:
    """A key has its quota in a window, independently of other keys."""
    quota = limits.Quota(2, 60)
    assert [quota.allow("a", 1000.0) for _ in range(4)] == [True, True, False, False]
    assert quota.allow("b", 1000.0)


def test_quota_starts_anew_in_the_next_window() -> None:
    """The next window starts afresh."""
    quota = limits.Quota(1, 60)
    assert quota.allow("a", 59.9)
    assert not quota.allow("a", 59.9)
    assert quota.allow("a", 60.0)


def test_quota_of_zero_is_no_limit() -> None:
    """A quota of 0 means any number."""
    quota = limits.Quota(0, 60)
    assert all(quota.allow("a", 0.0) for _ in range(1000))


def test_returned_quota_can_be_used_again() -> None:
    """Returned quota can be used again; a key that has returned everything is not remembered."""
    quota = limits.Quota(2, 60)
    assert [quota.allow("a", 0.0) for _ in range(2)] == [True, True]
    quota.give_back("a")
    assert [quota.allow("a", 0.0) for _ in range(2)] == [True, False]
    for _ in range(3):
        quota.give_back("a")
    assert not quota._used


def test_use_counted_elsewhere_reduces_the_quota() -> None:
    """Use that is counted without a question reduces the quota, also below zero, until the next window."""
    quota = limits.Quota(2, 60)
    quota.count("a", 0.0, 3)
    assert not quota.allow("a", 0.0)
    assert quota.allow("a", 60.0)
    unlimited = limits.Quota(0, 60)
    unlimited.count("a", 0.0)
    assert not unlimited._used
