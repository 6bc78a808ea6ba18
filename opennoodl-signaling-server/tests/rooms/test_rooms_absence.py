"""Lost peers that can resume: their place is kept, the others see nothing, and signals wait."""

from __future__ import annotations

from typing import Any

import pytest
from opennoodl_signaling.messages import Invite, Session
from opennoodl_signaling.rooms.model import Client

from ..peers import named
from ..ward import Ward, back, came, left, refused, token_in, token_of


@pytest.fixture
def ward(other: Client, old: Client) -> Ward:
    """Return a room with x, which can resume, and another peer."""
    ward = Ward()
    ward.join(old, peer_id="x", user="X", resume=True)
    ward.join(other)
    return ward


# Tokens


@pytest.mark.parametrize(("fields", "given"), [({}, False), ({"resume": True}, True), ({"resume_token": "x"}, True)])
def test_only_a_resumable_join_gets_a_token(fields: dict[str, Any], given: bool) -> None:
    """Only a join with `resume` gets a token."""
    (_, answer), *_ = Ward().join(named("a"), **fields)
    assert ("resumeToken" in answer) is given
    assert "resumed" not in answer


def test_token_is_its_own(ward: Ward, old: Client, new: Client) -> None:
    """The token is told to nobody else, and no two are alike."""
    told = ward.join(new, resume=True)
    assert [name for name, message in told if "resumeToken" in str(message)] == ["new"]
    assert token_of(old) not in str(told)
    assert token_in(told) not in {token_of(old), None}


def test_no_grace_gives_no_token(other: Client) -> None:
    """Without a grace nobody gets a token, and a lost peer has left."""
    ward = Ward(max_absent=None)
    ward.join(other)
    assert "resumeToken" not in ward.join(named("x"), resume=True)[0][1]
    assert ward.lose(ward.rooms.rooms["r"].peers["x"]) == [left("other", "x")]


def test_join_without_resume_ends_resumption(ward: Ward, old: Client) -> None:
    """A peer that joins again without `resume` leaves when its connection is lost."""
    ward.join(old, peer_id="x", user="X")
    assert ward.lose(old) == [left("other", "x")]


def test_token_of_another_room(ward: Ward, old: Client, new: Client) -> None:
    """A token is good for one room alone."""
    token = token_of(old)
    ward.lose(old)
    assert "resumed" not in back(ward, new, token, room="s")[0][1]
    assert ward.peers() == ["x", "other"]


@pytest.mark.parametrize("token", ["", "wrong", "ü", "x" * 256])
def test_wrong_token_counts_as_none(ward: Ward, old: Client, new: Client, token: str) -> None:
    """A wrong token counts as none: the present peer is probed."""
    assert back(ward, new, token) == []
    assert [contest[:2] for contest in ward.contests] == [(old, new)]


def test_token_of_another_user(ward: Ward, old: Client, new: Client) -> None:
    """The token resumes as the user that it was given to."""
    ward.lose(old)
    with refused("peer-id-taken"):
        back(ward, new, token_of(old), user="Y")
    assert ward.peers() == ["x", "other"]


# Being away


def test_absence_of_a_resumable_peer_is_not_told(ward: Ward, old: Client) -> None:
    """The others are told nothing when a peer that can resume is lost."""
    assert ward.lose(old) == []
    assert ward.away == [old]
    assert ward.peers() == ["x", "other"]


def test_peer_without_a_token_leaves_at_once(ward: Ward, other: Client) -> None:
    """A client that did not ask is gone at once."""
    ward.lose(other)
    assert ward.away == []
    assert ward.peers() == ["x"]


def test_connection_lost_outside_of_a_room_is_forgotten(ward: Ward, old: Client) -> None:
    """A lost connection outside of a room is forgotten."""
    ward.perform(ward.rooms.leave(old))
    assert ward.lose(old) == []
    assert ward.away == []
    assert "X" not in ward.users.devices


def test_end_of_the_grace_is_told_once(ward: Ward, old: Client) -> None:
    """When the grace is over, the others are told, once."""
    ward.lose(old)
    assert ward.give_up(old) == [left("other", "x")]
    assert ward.perform(ward.rooms.give_up(old)) == []
    assert ward.perform(ward.rooms.forget(old)) == []
    assert ward.peers() == ["other"]


def test_room_of_absent_peers_is_kept(ward: Ward, old: Client, other: Client) -> None:
    """A room of which all are absent is kept until the last is given up."""
    ward.lose(old)
    assert ward.perform(ward.rooms.forget(other)) == []
    assert ward.peers() == ["x"]
    assert ward.give_up(old) == []
    assert ward.rooms.rooms == ward.users.devices == {}


def test_peer_beyond_the_absence_limit_leaves_at_once(other: Client) -> None:
    """When as many are absent as may be, the next one is gone at once; a place that is free again counts."""
    ward = Ward(max_absent=1)
    clients = [named(name) for name in "abc"]
    ward.join(other)
    for client in clients:
        ward.join(client, resume=True)
    ward.lose(clients[0])
    assert ward.lose(clients[1]) == [left("other", "b"), left("c", "b")]
    ward.give_up(clients[0])
    assert ward.lose(clients[2]) == []


def test_absent_peer_keeps_its_place(old: Client, other: Client) -> None:
    """An absent peer has its place in a full room."""
    ward = Ward(max_size=2)
    ward.join(old, peer_id="x", user="X", resume=True)
    ward.join(other)
    ward.lose(old)
    with refused("room-full"):
        ward.join(named("third"))


def test_absent_peer_is_listed_to_joiners(ward: Ward, old: Client) -> None:
    """A joiner gets an absent peer in the list as any other."""
    ward.lose(old)
    told = ward.join(named("late"))
    assert [peer["peerId"] for peer in told[0][1]["peers"]] == ["x", "other"]
    assert told[1:] == [came("other", "late")]


def test_absent_host_stays_host(ward: Ward, old: Client, other: Client) -> None:
    """An absent host is host; when it is given up, the session goes on with the next."""
    ward.rooms.present(old, Session("T"))
    ward.lose(old)
    with refused("not-host"):
        ward.rooms.present(other, Session("U"))
    ward.give_up(old)
    ward.rooms.present(other, Session("U"))


def test_absent_user_is_offline_for_invites(ward: Ward, old: Client, other: Client) -> None:
    """Invites do not wait: a user that is only absent is offline, and one that is back is not."""
    token = token_of(old)
    ward.lose(old)
    assert ward.perform(ward.users.invite(other, Invite("X", "r"), 0))[0][1]["delivered"] is False
    back(ward, named("new"), token)
    assert ward.perform(ward.users.invite(other, Invite("X", "r"), 0))[-1][1]["delivered"] is True
