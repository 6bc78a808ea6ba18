"""One address may have so many connections, handshakes and requests."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ..harness import address_limits, settings

CLIENT = "203.0.113.7"


def limits(**values: Any) -> Any:
    """Return the limits of these settings."""
    return address_limits.AddressLimits(settings.EdgeSettings(**values))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("::ffff:203.0.113.7", "203.0.113.7", True),
        ("::ffff:203.0.113.7", "::ffff:203.0.113.8", False),
        (CLIENT, CLIENT, True),
        (CLIENT, "203.0.113.8", False),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("", "", True),
    ],
)
def test_ipv6_network_of_64_bits_counts_as_one_address(one: str, other: str, same: bool) -> None:
    """An IPv6 network of 64 bits is one address, since one customer has it whole."""
    counted = limits(max_connections_per_ip=1)
    assert counted.acquire(one)
    assert counted.acquire(other) != same


def test_no_limit_admits_every_address() -> None:
    """Without a limit all come in."""
    counted = limits(max_connections_per_ip=0, handshake_rate_limit=0)
    assert all(counted.acquire(CLIENT) and counted.allow_handshake(CLIENT, 1) for _ in range(10_000))


def test_handshakes_of_an_address_have_a_rate() -> None:
    """An address may shake hands so often a second, others apart from it, and a network of IPv6 is one address."""
    counted = limits(handshake_rate_limit=1)
    for one, same in ((CLIENT, CLIENT), ("2001:db8::1", "2001:db8::ffff:1")):
        assert [counted.allow_handshake(one, 1) for _ in range(10)] == [True] * 10
        assert not counted.allow_handshake(same, 1)
        assert counted.allow_handshake(same, 2)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans())))
def test_closed_connection_frees_its_address(steps: list[tuple[str, bool]]) -> None:
    """A closed connection frees its place, and an address without connections is not remembered."""
    counted = limits(max_connections_per_ip=2)
    here: list[str] = []
    for address, comes in steps:
        if comes:
            assert counted.acquire(address) == (here.count(address) < 2)
            if here.count(address) < 2:
                here.append(address)
        elif address in here:
            counted.release(address)
            here.remove(address)
    assert dict(counted._connections) == {address: here.count(address) for address in here}
