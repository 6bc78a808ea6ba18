"""The connections of the tests about peers whose connections change."""

from __future__ import annotations

from typing import Any, cast

import pytest
from opennoodl_signaling.rooms.model import Client


def named(name: str) -> Client:
    """Return a connection; a name stands for its peer, to which nothing is sent here."""
    return Client(cast("Any", name))


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
