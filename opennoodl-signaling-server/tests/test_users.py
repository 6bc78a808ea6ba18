"""Users: which connections reach them, which invites they get, and how many they may send."""

from __future__ import annotations

import pytest
from msgspec import Raw
from opennoodl_signaling.messages import Invite, Register
from opennoodl_signaling.rooms.model import Client

from .peers import named
from .rooms_driver import RoomsDriver, refused


@pytest.fixture
def driver() -> RoomsDriver:
    """Return rooms without limits."""
    return RoomsDriver()


@pytest.fixture
def clients() -> list[Client]:
    """Return clients called a, b, c, d and e."""
    return [named(name) for name in "abcde"]


def test_last_registered_name_counts(driver: RoomsDriver, clients: list[Client]) -> None:
    """Registering is answered, and the last name counts."""
    a, b, *_ = clients
    assert driver.perform(driver.users.register(a, Register("U"))) == [("a", {"type": "registered", "userId": "U"})]
    driver.users.register(a, Register("V"))
    assert driver.users.devices == {"V": {a}}
    driver.users.register(b, Register("V"))
    assert driver.users.devices == {"V": {a, b}}


def test_invite_reaches_all_connections_of_its_user(driver: RoomsDriver, clients: list[Client]) -> None:
    """An invite reaches every connection of a user, joined or registered, and the sender learns that it did."""
    a, b, c, *_ = clients
    driver.join(a)
    driver.join(b, "s", user="U")
    driver.perform(driver.users.register(c, Register("U")))
    told = driver.perform(driver.users.invite(a, Invite("U", "r", Raw(b'{"title":"T"}')), 0))
    invite = {"type": "invite", "from": "A", "roomId": "r", "sessionInfo": {"title": "T"}}
    assert sorted(told[:2], key=lambda one: one[0]) == [("b", invite), ("c", invite)]
    assert told[2:] == [("a", {"type": "invite-sent", "to": "U", "delivered": True})]


def test_sender_learns_of_an_offline_user(driver: RoomsDriver, clients: list[Client]) -> None:
    """The sender learns that the user is not there."""
    a, b, *_ = clients
    driver.join(a)
    driver.join(b)
    driver.rooms.forget(b)
    answer = {"type": "invite-sent", "to": "B", "delivered": False, "reason": "User offline"}
    assert driver.perform(driver.users.invite(a, Invite("B", "r"), 0)) == [("a", answer)]


def test_unregistered_client_cannot_invite(driver: RoomsDriver, clients: list[Client]) -> None:
    """A client that has neither joined nor registered cannot invite."""
    with refused("not-registered"):
        driver.users.invite(clients[0], Invite("B", "r"), 0)


def test_invites_work_after_leaving_a_room(driver: RoomsDriver, clients: list[Client]) -> None:
    """A client that has left its room can still invite and be invited."""
    a, b, *_ = clients
    for client in (a, b):
        driver.join(client)
        driver.rooms.leave(client)
    assert len(driver.perform(driver.users.invite(a, Invite("B", "r"), 0))) == 2


def test_quota_belongs_to_the_user(clients: list[Client]) -> None:
    """The quota is the user's, not the connection's, and comes back after an hour."""
    a, b, *_ = clients
    driver = RoomsDriver(invites=2)
    driver.join(a, user="U")
    driver.join(b, user="U")
    driver.users.invite(a, Invite("U", "r"), 0)
    driver.users.invite(b, Invite("U", "r"), 0)
    with refused("rate-limited"):
        driver.users.invite(a, Invite("U", "r"), 3599)
    driver.users.invite(a, Invite("U", "r"), 3600)


def test_refused_invites_are_nobodys(clients: list[Client]) -> None:
    """Refused invites of a user take nothing from the others at its address."""
    a, b, *_ = clients
    driver = RoomsDriver(invites=1)
    driver.users.register(a, Register("A"))
    driver.users.register(b, Register("B"))
    driver.users.invite(a, Invite("U", "r"), 0)
    for _ in range(20):
        with refused("rate-limited"):
            driver.users.invite(a, Invite("U", "r"), 0)
    driver.users.invite(b, Invite("U", "r"), 0)


def test_invites_of_many_names(clients: list[Client]) -> None:
    """A client with many names has as many invites as ten users; other addresses have their own."""
    a, b, *_ = clients
    driver = RoomsDriver(invites=2)
    for number in range(10):
        for client in (a, b):
            driver.users.register(client, Register(f"{client.peer}{number}"))
            driver.users.invite(client, Invite("U", "r"), 0)
    driver.users.register(a, Register("another"))
    with refused("rate-limited"):
        driver.users.invite(a, Invite("U", "r"), 3599)
    elsewhere = named("e", "2001:db8::/64")
    driver.users.register(elsewhere, Register("E"))
    driver.users.invite(elsewhere, Invite("U", "r"), 3599)
    driver.users.invite(a, Invite("U", "r"), 3600)
