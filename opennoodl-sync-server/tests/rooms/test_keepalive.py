"""Keepalive: who hears nothing for a while is sent something, and nobody else."""

from __future__ import annotations

from time import monotonic

import pytest
from opennoodl_sync.rooms import keepalive as module
from opennoodl_sync.rooms.keepalive import INTERVAL, KeepAlive


class Clock:
    """Time as the module sees it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Return it."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return a clock that a test sets."""
    clock = Clock()
    monkeypatch.setattr(module, "monotonic", clock)
    return clock


@pytest.fixture
def sent() -> list[str]:
    """Return those that were sent something, in order."""
    return []


@pytest.fixture
def keepalive(sent: list[str]) -> KeepAlive[str]:
    """Return a keepalive that writes down whom it sends something."""
    return KeepAlive(sent.append)


def test_a_client_that_hears_nothing_is_sent_something(keepalive: KeepAlive[str], sent: list[str]) -> None:
    """It is sent something in every interval, and not before the first one has passed."""
    keepalive.add("ann")
    now = monotonic()
    keepalive.check(now + INTERVAL / 2)
    assert sent == []
    for number in range(1, 4):
        keepalive.check(now + number * (INTERVAL + 1))
        assert sent == ["ann"] * number


def test_a_client_that_was_sent_something_is_left_alone(
    keepalive: KeepAlive[str], sent: list[str], clock: Clock
) -> None:
    """A sent message counts until the next look, so a silence lasts two intervals at most."""
    keepalive.add("ann")
    keepalive.add("bob")
    keepalive.note_sent(["ann"])
    keepalive.check(INTERVAL)
    assert sent == ["bob"]
    keepalive.check(2 * INTERVAL)
    assert sent == ["bob", "ann", "bob"]


def test_a_client_that_left_is_sent_nothing(keepalive: KeepAlive[str], sent: list[str], clock: Clock) -> None:
    """It is forgotten, also if it was sent something or never came."""
    keepalive.add("ann")
    keepalive.note_sent(["ann"])
    keepalive.remove("ann")
    keepalive.remove("bob")
    keepalive.check(10 * INTERVAL)
    assert sent == []


def test_clients_stay_apart(keepalive: KeepAlive[str], sent: list[str], clock: Clock) -> None:
    """Those that came one after the other are sent something one after the other, at each time of looking."""
    for number in range(4):
        clock.now = float(number)
        keepalive.add(str(number))
    for round_ in range(1, 3):
        for number in range(4):
            keepalive.check(round_ * INTERVAL + number)
            assert sent == [str(number)]
            sent.clear()
