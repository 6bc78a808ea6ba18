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


class Client:
    """A client that remembers what it is sent.

    Attributes:
        heard: how often it was sent something by the keepalive.
    """

    def __init__(self) -> None:
        self.heard = 0
        self._idle = False

    def write(self) -> None:
        """Send it something."""
        self._idle = False

    def check_idle(self) -> bool:
        """Return whether it was sent nothing since the last call."""
        idle, self._idle = self._idle, True
        return idle

    def hear(self) -> None:
        """Send it something, as the keepalive does."""
        self.heard += 1
        self.write()


@pytest.fixture
def keepalive() -> KeepAlive[Client]:
    """Return a keepalive."""
    return KeepAlive(Client.hear)


def test_a_client_that_hears_nothing_is_sent_something(keepalive: KeepAlive[Client]) -> None:
    """It is sent something after two intervals, again and again, and not before the first ones have passed."""
    ann = Client()
    keepalive.add(ann)
    now = monotonic()
    for number in range(1, 7):
        keepalive.check(now + number * (INTERVAL + 1))
        assert ann.heard == number // 2


def test_a_client_that_was_sent_something_is_left_alone(keepalive: KeepAlive[Client], clock: Clock) -> None:
    """A sent message counts until the next look, so a silence lasts two intervals at most."""
    ann, bob = Client(), Client()
    keepalive.add(ann)
    keepalive.add(bob)
    keepalive.check(INTERVAL)
    ann.write()
    keepalive.check(2 * INTERVAL)
    assert (ann.heard, bob.heard) == (0, 1)
    keepalive.check(3 * INTERVAL)
    assert (ann.heard, bob.heard) == (1, 1)


def test_a_client_that_left_is_sent_nothing(keepalive: KeepAlive[Client], clock: Clock) -> None:
    """It is forgotten, also if it never came."""
    ann = Client()
    keepalive.add(ann)
    keepalive.check(INTERVAL)
    keepalive.remove(ann)
    keepalive.remove(Client())
    keepalive.check(10 * INTERVAL)
    assert ann.heard == 0


def test_clients_stay_apart(keepalive: KeepAlive[Client], clock: Clock) -> None:
    """Those that came one after the other are sent something one after the other, at each time of looking."""
    clients = [Client() for _ in range(4)]
    for number, client in enumerate(clients):
        clock.now = float(number)
        keepalive.add(client)
    for number in range(4):
        keepalive.check(INTERVAL + number)
    for number in range(4):
        keepalive.check(2 * INTERVAL + number)
        assert [client.heard for client in clients] == [1] * (number + 1) + [0] * (3 - number)
