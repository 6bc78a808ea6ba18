"""Users: which connections reach them, which invites they get, and how many they may send."""

from __future__ import annotations

import pytest
from msgspec import Raw
from opennoodl_signaling.messages import Invite, Register
from opennoodl_signaling.rooms.model import Client

from .peers import named
from .ward import Ward, refused


@pytest.fixture
def ward() -> Ward:
    """Return rooms without limits."""
    return Ward()


@pytest.fixture
def clients() -> list[Client]:
    """Return clients called a, b, c, d and e."""
    return [named(name) for name in "abcde"]


def test_last_registered_name_counts(ward: Ward, clients: list[Client]) -> None:
    """Registering is answered, and the last name counts."""
    a, b, *_ = clients
    assert ward.perform(ward.users.register(a, Register("U"))) == [("a", {"type": "registered", "userId": "U"})]
    ward.users.register(a, Register("V"))
    assert ward.users.devices == {"V": {a}}
    ward.users.register(b, Register("V"))
    assert ward.users.devices == {"V": {a, b}}


def test_invite_reaches_all_connections_of_its_user(ward: Ward, clients: list[Client]) -> None:
    """An invite reaches every connection of a user, joined or registered, and the sender learns that it did."""
    a, b, c, *_ = clients
    ward.join(a)
    ward.join(b, "s", user="U")
    ward.perform(ward.users.register(c, Register("U")))
    told = ward.perform(ward.users.invite(a, Invite("U", "r", Raw(b'{"title":"T"}')), 0))
    invite = {"type": "invite", "from": "A", "roomId": "r", "sessionInfo": {"title": "T"}}
    assert sorted(told[:2], key=lambda one: one[0]) == [("b", invite), ("c", invite)]
    assert told[2:] == [("a", {"type": "invite-sent", "to": "U", "delivered": True})]


def test_sender_learns_of_an_offline_user(ward: Ward, clients: list[Client]) -> None:
    """The sender learns that the user is not there."""
    a, b, *_ = clients
    ward.join(a)
    ward.join(b)
    ward.rooms.forget(b)
    answer = {"type": "invite-sent", "to": "B", "delivered": False, "reason": "User offline"}
    assert ward.perform(ward.users.invite(a, Invite("B", "r"), 0)) == [("a", answer)]


def test_unregistered_client_cannot_invite(ward: Ward, clients: list[Client]) -> None:
    """A client that has neither joined nor registered cannot invite."""
    with refused("not-registered"):
        ward.users.invite(clients[0], Invite("B", "r"), 0)


def test_invites_work_after_leaving_a_room(ward: Ward, clients: list[Client]) -> None:
    """A client that has left its room can still invite and be invited."""
    a, b, *_ = clients
    for client in (a, b):
        ward.join(client)
        ward.rooms.leave(client)
    assert len(ward.perform(ward.users.invite(a, Invite("B", "r"), 0))) == 2


def test_quota_belongs_to_the_user(clients: list[Client]) -> None:
    """The quota is the user's, not the connection's, and comes back after an hour."""
    a, b, *_ = clients
    ward = Ward(invites=2)
    ward.join(a, user="U")
    ward.join(b, user="U")
    ward.users.invite(a, Invite("U", "r"), 0)
    ward.users.invite(b, Invite("U", "r"), 0)
    with refused("rate-limited"):
        ward.users.invite(a, Invite("U", "r"), 3599)
    ward.users.invite(a, Invite("U", "r"), 3600)


def test_refused_invites_are_nobodys(clients: list[Client]) -> None:
    """Refused invites of a user take nothing from the others at its address."""
    a, b, *_ = clients
    ward = Ward(invites=1)
    ward.users.register(a, Register("A"))
    ward.users.register(b, Register("B"))
    ward.users.invite(a, Invite("U", "r"), 0)
    for _ in range(20):
        with refused("rate-limited"):
            ward.users.invite(a, Invite("U", "r"), 0)
    ward.users.invite(b, Invite("U", "r"), 0)


def test_invites_of_many_names(clients: list[Client]) -> None:
    """A client with many names has as many invites as ten users; other addresses have their own."""
    a, b, *_ = clients
    ward = Ward(invites=2)
    for number in range(10):
        for client in (a, b):
            ward.users.register(client, Register(f"{client.peer}{number}"))
            ward.users.invite(client, Invite("U", "r"), 0)
    ward.users.register(a, Register("another"))
    with refused("rate-limited"):
        ward.users.invite(a, Invite("U", "r"), 3599)
    elsewhere = named("e", "2001:db8::/64")
    ward.users.register(elsewhere, Register("E"))
    ward.users.invite(elsewhere, Invite("U", "r"), 3599)
    ward.users.invite(a, Invite("U", "r"), 3600)
