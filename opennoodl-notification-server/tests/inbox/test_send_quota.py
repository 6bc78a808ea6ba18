"""The sends: what a user may send in an hour, and all who are at one address."""

from __future__ import annotations

from opennoodl_notification.inbox.send_quota import USERS_OF_A_SITE, USERS_OF_AN_ADDRESS, SendQuota

HERE, THERE = "192.0.2.1", "192.0.2.2"


def test_sending_beyond_the_quota_sends_none() -> None:
    """A user who may not send as many as asked for sends none, and may still send fewer."""
    sends = SendQuota(5)
    assert sends.allow("u", HERE, 3, 0, 0)
    assert not sends.allow("u", HERE, 3, 0, 0)
    assert sends.allow("u", HERE, 2, 0, 0)
    assert not sends.allow("u", THERE, 1, 0, 0)


def test_address_has_the_quota_of_ten_users() -> None:
    """From one address comes what ten users may send, whatever they call themselves."""
    sends = SendQuota(3)
    names = [f"user {number}" for number in range(4 * USERS_OF_AN_ADDRESS)]
    assert [sends.allow(name, HERE, 1, 0, 0) for name in names].count(True) == 3 * USERS_OF_AN_ADDRESS
    assert not sends.allow(names[0], HERE, 1, 0, 0)
    assert sends.allow(names[0], THERE, 1, 0, 0)


def test_refused_user_takes_nothing_from_its_address() -> None:
    """A user refused for the user's own quota takes nothing from the quota of the address."""
    sends = SendQuota(1)
    for _ in range(100):
        sends.allow("flood", HERE, 1, 0, 0)
    others = [f"user {number}" for number in range(USERS_OF_AN_ADDRESS)]
    assert [sends.allow(name, HERE, 1, 0, 0) for name in others].count(True) == USERS_OF_AN_ADDRESS - 1


def test_names_are_not_remembered() -> None:
    """A refused or dropped send is not remembered, so invented users take no memory."""
    sends = SendQuota(10)
    assert sends.allow("u", HERE, 10, 0, 0)
    for number in range(USERS_OF_AN_ADDRESS - 1):
        assert sends.allow(f"user {number}", HERE, 10, 0, 0)
        sends.give_back(f"user {number}", HERE, 10, 0)
    for number in range(100):
        assert not sends.allow(f"stranger {number}", HERE, 100, 0, 0)
    assert list(sends._of_users[0]._used) == ["u"]


def test_quota_check_counts_nothing() -> None:
    """To look whether a user may send so many counts nothing, and remembers nobody."""
    sends = SendQuota(5)
    assert sends.has("u", HERE, 5, 0, 0)
    assert not sends.has("u", HERE, 6, 0, 0)
    assert not sends._of_users[0]._used
    assert sends.allow("u", HERE, 5, 0, 0)
    assert not sends.has("u", HERE, 1, 0, 0)


def test_quota_of_zero_is_no_limit() -> None:
    """A limit of 0 means any number, from one address too."""
    sends = SendQuota(0)
    assert sends.has("u", HERE, 100, 0, 0)
    assert all(sends.allow("u", HERE, 100, 0, 0) for _ in range(100))


def test_bytes_have_a_quota() -> None:
    """Bytes are bounded too: for a user, for an address to those of two users, and for a site to those of four."""
    sends = SendQuota(0, 1000)
    assert sends.allow("u", HERE, 1, 1000, 0)
    assert not sends.allow("u", THERE, 1, 1, 0)
    assert [sends.allow(f"user {number}", HERE, 1, 1000, 0) for number in range(20)].count(True) == 1
    sends.give_back("u", HERE, 1, 1000)
    assert sends.allow("u", HERE, 1, 1000, 0)
    places = [f"2001:db8:1:{network:x}::1" for network in range(10)]
    assert [sends.allow(f"at {one}", one, 1, 1000, 0) for one in places].count(True) == 4


def test_ipv6_site_has_the_quota_of_twenty_users() -> None:
    """From one IPv6 site of 48 bits comes what twenty users may send, from whichever of its networks."""
    sends = SendQuota(3)
    allowed = [
        sends.allow(f"user {network} {number}", f"2001:db8:1:{network:x}::1", 1, 0, 0)
        for network in range(100)
        for number in range(5)
    ]
    assert allowed.count(True) == 3 * USERS_OF_A_SITE
    assert sends.allow("u", "2001:db8:2::1", 1, 0, 0)


def test_ipv6_network_of_64_bits_counts_as_an_address() -> None:
    """In IPv6, a network of 64 bits counts as an address."""
    sends = SendQuota(3)
    allowed = [sends.allow(f"user {number}", f"2001:db8:1:1::{number:x}", 1, 0, 0) for number in range(50)]
    assert allowed.count(True) == 3 * USERS_OF_AN_ADDRESS


def test_sending_through_another_instance_counts() -> None:
    """Sends through another instance count for the user, and for the address."""
    sends = SendQuota(2)
    sends.count("u", HERE, 2, 0, 0)
    assert not sends.allow("u", THERE, 1, 0, 0)
    for number in range(USERS_OF_AN_ADDRESS - 1):
        sends.count(f"user {number}", HERE, 2, 0, 0)
    assert not sends.allow("another", HERE, 1, 0, 0)
    assert sends.allow("another", THERE, 1, 0, 0)
