"""The connections of the tests about peers whose connections change."""

from __future__ import annotations

import pytest
from opennoodl_signaling.rooms.model import Client

from ..peers import named


@pytest.fixture
def other() -> Client:
    """Return a peer that looks on."""
    return named("other")


@pytest.fixture
def old() -> Client:
    """Return the connection that is in the room as x."""
    return named("old")


@pytest.fixture
def new() -> Client:
    """Return the connection that comes to be x, or claims to be."""
    return named("new")
