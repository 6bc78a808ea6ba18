"""Fixtures: the clients of tests in which another connection takes the place of a peer."""

from __future__ import annotations

import pytest
from opennoodl_signaling.rooms.model import Client

from ..peers import named


@pytest.fixture
def other() -> Client:
    """Return another peer of the room, which receives the messages about x."""
    return named("other")


@pytest.fixture
def old() -> Client:
    """Return the connection that holds the peer id x."""
    return named("old")


@pytest.fixture
def new() -> Client:
    """Return the connection that claims the peer id x."""
    return named("new")
