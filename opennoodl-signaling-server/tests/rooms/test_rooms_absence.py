"""Lost peers that can resume: their place is kept, the others see nothing, and signals wait."""

from __future__ import annotations

from typing import Any

import pytest
from opennoodl_signaling.messages import Invite, Session
from opennoodl_signaling.rooms.model import Client

from ..peers import named
from ..rooms_driver import RoomsDriver, back, came, left, refused, token_in, token_of


@pytest.fixture
def driver(other: Client, old: Client) -> RoomsDriver:
    """Return a room with x, which can resume, and another peer."""
    driver = RoomsDriver()
    driver.join(old, peer_id="x", user="X", resume=True)
    driver.join(other)
    return driver


# Tokens


@pytest.mark.parametrize(("fields", "given"), [({}, False), ({"resume": True}, True), ({"resume_token": "x"}, True)])
def test_only_a_resumable_join_gets_a_token(fields: dict[str, Any], given: bool) -> None:
    """Only a join with `resume` gets a token."""
    (_, answer), *_ = RoomsDriver().join(named("a"), **fields)
    assert ("resumeToken" in answer) is given
    assert "resumed" not in answer


def test_token_is_its_own(driver: RoomsDriver, old: Client, new: Client) -> None:
    """The token is told to nobody else, and no two are alike."""
    told = driver.join(new, resume=True)
    assert [name for name, message in told if "resumeToken" in str(message)] == ["new"]
    assert token_of(old) not in str(told)
    assert token_in(told) not in {token_of(old), None}


def test_no_grace_gives_no_token(other: Client) -> None:
    """Without a grace nobody gets a token, and a lost peer has left."""
    driver = RoomsDriver(max_absent=None)
    driver.join(other)
    assert "resumeToken" not in driver.join(named("x"), resume=True)[0][1]
    assert driver.lose(driver.rooms.rooms["r"].peers["x"]) == [left("other", "x")]


def test_join_without_resume_ends_resumption(driver: RoomsDriver, old: Client) -> None:
    """A peer that joins again without `resume` leaves when its connection is lost."""
    driver.join(old, peer_id="x", user="X")
    assert driver.lose(old) == [left("other", "x")]


def test_token_of_another_room(driver: RoomsDriver, old: Client, new: Client) -> None:
    """A token is good for one room alone."""
    token = token_of(old)
    driver.lose(old)
    assert "resumed" not in back(driver, new, token, room="s")[0][1]
    assert driver.peers() == ["x", "other"]


@pytest.mark.parametrize("token", ["", "wrong", "ü", "x" * 256])
def test_wrong_token_counts_as_none(driver: RoomsDriver, old: Client, new: Client, token: str) -> None:
    """A wrong token counts as none: the present peer is probed."""
    assert back(driver, new, token) == []
    assert [contest[:2] for contest in driver.contests] == [(old, new)]


def test_token_of_another_user(driver: RoomsDriver, old: Client, new: Client) -> None:
    """The token resumes as the user that it was given to."""
    driver.lose(old)
    with refused("peer-id-taken"):
        back(driver, new, token_of(old), user="Y")
    assert driver.peers() == ["x", "other"]


# Being away


def test_absence_of_a_resumable_peer_is_not_told(driver: RoomsDriver, old: Client) -> None:
    """The others are told nothing when a peer that can resume is lost."""
    assert driver.lose(old) == []
    assert driver.away == [old]
    assert driver.peers() == ["x", "other"]


def test_peer_without_a_token_leaves_at_once(driver: RoomsDriver, other: Client) -> None:
    """A client that did not ask is gone at once."""
    driver.lose(other)
    assert driver.away == []
    assert driver.peers() == ["x"]


def test_connection_lost_outside_of_a_room_is_forgotten(driver: RoomsDriver, old: Client) -> None:
    """A lost connection outside of a room is forgotten."""
    driver.perform(driver.rooms.leave(old))
    assert driver.lose(old) == []
    assert driver.away == []
    assert "X" not in driver.users.devices


def test_end_of_the_grace_is_told_once(driver: RoomsDriver, old: Client) -> None:
    """When the grace is over, the others are told, once."""
    driver.lose(old)
    assert driver.give_up(old) == [left("other", "x")]
    assert driver.perform(driver.rooms.give_up(old)) == []
    assert driver.perform(driver.rooms.forget(old)) == []
    assert driver.peers() == ["other"]


def test_room_of_absent_peers_is_kept(driver: RoomsDriver, old: Client, other: Client) -> None:
    """A room of which all are absent is kept until the last is given up."""
    driver.lose(old)
    assert driver.perform(driver.rooms.forget(other)) == []
    assert driver.peers() == ["x"]
    assert driver.give_up(old) == []
    assert driver.rooms.rooms == driver.users.devices == {}


def test_peer_beyond_the_absence_limit_leaves_at_once(other: Client) -> None:
    """When as many are absent as may be, the next one is gone at once; a place that is free again counts."""
    driver = RoomsDriver(max_absent=1)
    clients = [named(name) for name in "abc"]
    driver.join(other)
    for client in clients:
        driver.join(client, resume=True)
    driver.lose(clients[0])
    assert driver.lose(clients[1]) == [left("other", "b"), left("c", "b")]
    driver.give_up(clients[0])
    assert driver.lose(clients[2]) == []


def test_absent_peer_keeps_its_place(old: Client, other: Client) -> None:
    """An absent peer has its place in a full room."""
    driver = RoomsDriver(max_size=2)
    driver.join(old, peer_id="x", user="X", resume=True)
    driver.join(other)
    driver.lose(old)
    with refused("room-full"):
        driver.join(named("third"))


def test_absent_peer_is_listed_to_joiners(driver: RoomsDriver, old: Client) -> None:
    """A joiner gets an absent peer in the list as any other."""
    driver.lose(old)
    told = driver.join(named("late"))
    assert [peer["peerId"] for peer in told[0][1]["peers"]] == ["x", "other"]
    assert told[1:] == [came("other", "late")]


def test_absent_host_stays_host(driver: RoomsDriver, old: Client, other: Client) -> None:
    """An absent host is host; when it is given up, the session goes on with the next."""
    driver.rooms.change_session(old, Session("T"))
    driver.lose(old)
    with refused("not-host"):
        driver.rooms.change_session(other, Session("U"))
    driver.give_up(old)
    driver.rooms.change_session(other, Session("U"))


def test_absent_user_is_offline_for_invites(driver: RoomsDriver, old: Client, other: Client) -> None:
    """Invites do not wait: a user that is only absent is offline, and one that is back is not."""
    token = token_of(old)
    driver.lose(old)
    assert driver.perform(driver.users.invite(other, Invite("X", "r"), 0))[0][1]["delivered"] is False
    back(driver, named("new"), token)
    assert driver.perform(driver.users.invite(other, Invite("X", "r"), 0))[-1][1]["delivered"] is True
