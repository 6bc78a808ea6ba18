"""The clock believes the machine's time of day, but for steps that do not last."""

from __future__ import annotations

import pytest
from opennoodl_notification.clock import HOUR, Clock

from . import harness

YEARS = 10 * 365 * 86_400.0


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> harness.Clock:
    """Return the clocks of the machine."""
    machine = harness.Clock()
    machine.use(monkeypatch)
    return machine


def test_time_follows_the_machine(machine: harness.Clock) -> None:
    """The time is that of the machine, however long nobody has looked."""
    clock = Clock()
    for seconds in (0.0, 1.0, 86_400.0, YEARS):
        machine.now += seconds
        assert clock.now() == round(machine.now * 1000)


@pytest.mark.parametrize("years", [YEARS, -YEARS])
def test_step_that_does_not_last(machine: harness.Clock, years: float) -> None:
    """A clock that is years wrong for less than an hour changes nothing, as often as it is."""
    clock = Clock()
    for _ in range(3):
        machine.ahead = years
        for _ in range(5):
            assert clock.now() == round(machine.now * 1000)
            machine.now += HOUR / 6
        machine.ahead = 0.0
        assert clock.now() == round(machine.now * 1000)


@pytest.mark.parametrize(
    ("step", "believed"), [(0.5, 0.5), (-30.0, 30.0), (600.0, 600.0), (YEARS, HOUR), (-YEARS, HOUR)]
)
def test_lasting_step_of_the_clock_is_accepted(machine: harness.Clock, step: float, believed: float) -> None:
    """A step is believed when it has lasted for as long as it is, at most for an hour; half a second is at once."""
    clock = Clock()
    machine.now += 10.0
    machine.ahead = step
    clock.now()
    if believed > 1.0:
        machine.now += believed - 0.1
        assert clock.now() == round(machine.now * 1000)
        machine.now += 0.2
    assert clock.now() == round((machine.now + step) * 1000)


def test_time_at_the_start_lets_nothing_expire_for_an_hour(machine: harness.Clock) -> None:
    """In the first hour things expire by the newest date in the store, and then by the time of day."""
    clock = Clock()
    assert clock.expiry() == clock.now()
    clock.start(round((machine.now - YEARS) * 1000))
    machine.now += HOUR - 1
    assert clock.expiry() == round((machine.now - YEARS) * 1000)
    machine.now += 1
    assert clock.expiry() == clock.now() == round(machine.now * 1000)


def test_clock_that_was_ahead_at_the_start_lets_nothing_expire(machine: harness.Clock) -> None:
    """A clock that is corrected in the first hour lets nothing expire by the wrong time, although it dates by it."""
    machine.ahead = YEARS
    clock = Clock()
    clock.start(round((machine.now - 60) * 1000))
    machine.now += HOUR / 2
    machine.ahead = 0.0
    for _ in range(6):
        assert clock.now() == round((machine.now + YEARS) * 1000)
        assert clock.expiry() == round((machine.now - 60) * 1000)
        machine.now += HOUR / 6
    assert clock.expiry() == clock.now() == round(machine.now * 1000)


def test_clock_behind_the_store_lets_things_expire_by_its_own_time(machine: harness.Clock) -> None:
    """Nothing expires before the time of day says so, although the store has later dates."""
    clock = Clock()
    clock.start(round((machine.now + 60) * 1000))
    assert clock.expiry() == clock.now()
