"""Peers that resume: they are where they were, learn what they have missed, and the others see nothing."""

from __future__ import annotations

import pytest
from msgspec import UNSET, Raw
from opennoodl_signaling.messages import Join, Session, Signal
from opennoodl_signaling.rooms.absent_peers import MAX_SIGNALS
from opennoodl_signaling.rooms.model import Client
from opennoodl_signaling.session import SessionInfo

from ..peers import named
from ..rooms_driver import Messages, RoomsDriver, back, came, left, refused, token_in, token_of


@pytest.fixture
def driver(other: Client, old: Client) -> RoomsDriver:
    """Return a room with x, which can resume, and another peer."""
    driver = RoomsDriver()
    driver.join(old, peer_id="x", user="X", resume=True)
    driver.join(other)
    return driver


def types(told: Messages) -> list[str]:
    """Return the types of what was told."""
    return [message if isinstance(message, int) else message["type"] for _, message in told]


# Coming back


def test_token_resumes_silently_with_a_new_token(driver: RoomsDriver, old: Client, new: Client) -> None:
    """The token resumes the place without a message to the others, and is replaced by a new one."""
    token = token_of(old)
    driver.lose(old)
    told = back(driver, new, token)
    info = {"peerId": "other", "userId": "OTHER", "metadata": {}}
    answer = {"type": "joined", "room": "r", "peerId": "x", "peers": [info], "resumed": True}
    assert told == [("new", {**answer, "resumeToken": token_of(new)})]
    assert token_of(new) not in {token, None}
    assert driver.peers() == ["x", "other"]
    assert driver.away == []
    assert driver.users.devices == {"X": {new}, "OTHER": {driver.rooms.rooms["r"].peers["other"]}}


def test_each_token_resumes_once(driver: RoomsDriver, old: Client, new: Client) -> None:
    """The next time, the next token is good; the one before that is not."""
    first = token_of(old)
    driver.lose(old)
    second = token_in(back(driver, new, first))
    driver.lose(new)
    third = named("third")
    assert "resumed" in back(driver, third, second)[0][1]
    assert back(driver, named("fourth"), first) == []


def test_late_resume_is_an_ordinary_join(driver: RoomsDriver, old: Client, new: Client) -> None:
    """After the grace, it is a join as any other."""
    token = token_of(old)
    driver.lose(old)
    driver.give_up(old)
    (_, answer), *others = back(driver, new, token)
    assert "resumed" not in answer
    assert "resumeToken" in answer
    assert [name for name, _ in others] == ["other"]
    assert types(others) == ["peer-joined"]


def test_token_replaces_a_half_open_connection_at_once(driver: RoomsDriver, old: Client, new: Client) -> None:
    """The token replaces a connection that seems open at once, and closes it."""
    told = back(driver, new, token_of(old))
    assert types(told) == [4409, "joined"]
    assert told[1][1]["resumed"] is True
    assert driver.peers() == ["x", "other"]
    assert driver.lose(old) == []


def test_resumed_host_stays_host(driver: RoomsDriver, old: Client, new: Client) -> None:
    """A host that resumes is still host, and its session goes on."""
    driver.rooms.change_session(old, Session("T"))
    token = token_of(old)
    driver.lose(old)
    back(driver, new, token)
    assert driver.rooms.rooms["r"].host is new
    assert driver.rooms.rooms["r"].session == SessionInfo("T")


def test_resume_from_another_room(driver: RoomsDriver, old: Client, new: Client) -> None:
    """A client that resumes leaves its present room."""
    guest = named("guest")
    driver.join(guest, "s")
    driver.join(new, "s")
    token = token_of(old)
    driver.lose(old)
    told = back(driver, new, token)
    assert told[0] == left("guest", "new")
    assert types(told) == ["peer-left", "joined"]


def test_resume_from_the_same_room(driver: RoomsDriver, old: Client, new: Client) -> None:
    """A client that resumes while in the room under another id leaves that id, and is not told of itself."""
    driver.join(new)
    token = token_of(old)
    driver.lose(old)
    told = back(driver, new, token)
    assert told[0] == left("other", "new")
    assert [peer["peerId"] for peer in told[1][1]["peers"]] == ["other"]
    assert len(told) == 2


def test_absent_peer_is_replaced_without_a_question(driver: RoomsDriver, old: Client, new: Client) -> None:
    """Without the token, the same user takes the place of an absent peer as of any dead one, unasked."""
    driver.lose(old)
    told = back(driver, new, None)
    assert types(told) == ["peer-left", "joined", "peer-joined"]
    assert "resumed" not in told[1][1]
    assert driver.contests == []
    assert driver.away == []
    assert driver.peers() == ["x", "other"]


def test_holder_lost_while_asked_is_replaced(driver: RoomsDriver, old: Client, new: Client) -> None:
    """A holder that is lost while it is asked is not there, whatever it has answered."""
    back(driver, new, None)
    driver.lose(old)
    assert types(driver.settle(alive=True)) == ["peer-left", "joined", "peer-joined"]
    assert driver.away == []


def test_newcomer_lost_while_waiting_gets_nothing(driver: RoomsDriver, new: Client) -> None:
    """A newcomer lost while it waits for another id does not get that id."""
    driver.join(new, "s", resume=True)
    driver.join(new, peer_id="x", user="X")
    driver.lose(new)
    assert driver.settle(alive=False) == []
    assert driver.peers("s") == ["new"]


# What was missed


def test_waiting_signals_follow_joined_in_order(driver: RoomsDriver, old: Client, new: Client, other: Client) -> None:
    """Signals wait, and are sent in order after `joined`."""
    token = token_of(old)
    driver.lose(old)
    for number in "123":
        assert driver.signal(other, "x", number) == []
    told = back(driver, new, token)
    assert types(told) == ["joined", "signal", "signal", "signal"]
    assert told[1:] == [("new", {"type": "signal", "from": "other", "signal": number}) for number in (1, 2, 3)]
    assert driver.signal(other, "x") == [("new", {"type": "signal", "from": "other", "signal": 1})]


def test_sender_of_an_excess_signal_is_told(driver: RoomsDriver, old: Client, new: Client, other: Client) -> None:
    """The sender of a signal that cannot wait is told; the others wait on."""
    token = token_of(old)
    driver.lose(old)
    for _ in range(MAX_SIGNALS):
        driver.signal(other, "x")
    with refused("peer-not-found"):
        driver.signal(other, "x")
    assert types(back(driver, new, token)) == ["joined", *["signal"] * MAX_SIGNALS]


def test_signals_are_not_given_without_the_token(driver: RoomsDriver, old: Client, new: Client, other: Client) -> None:
    """A newcomer without the token gets no signals; their senders are told once whose they were."""
    late, silent, absent = named("late"), named("silent"), named("absent")
    for client in (late, silent):
        driver.join(client)
    driver.join(absent, resume=True)
    driver.lose(old)
    for client in (other, late, other, absent):
        driver.signal(client, "x")
    driver.lose(absent)
    errors = [(name, message) for name, message in back(driver, new, None) if message["type"] == "error"]
    assert [(name, message["code"], message["peerId"]) for name, message in errors] == [
        ("other", "peer-not-found", "x"),
        ("late", "peer-not-found", "x"),
    ]
    assert "requestId" not in str(errors)


def test_signals_with_request_ids_without_token(driver: RoomsDriver, old: Client, new: Client, other: Client) -> None:
    """The error about a signal that is lost with its peer has the signal's `requestId`."""
    driver.lose(old)
    for request_id in (Raw(b'"a"'), Raw(b"2"), UNSET, Raw(b"2"), UNSET):
        driver.rooms.signal(other, Signal("x", Raw(b"1"), request_id))
    told = [message.get("requestId") for _, message in back(driver, new, None) if message["type"] == "error"]
    assert told == ["a", 2, None]


# A second cut


@pytest.mark.parametrize("received", [None, 0])
def test_same_token_resumes_after_a_lost_answer(
    driver: RoomsDriver, old: Client, new: Client, other: Client, received: int | None
) -> None:
    """If the answer to a resume is lost, the same token resumes again, and nothing is lost or told twice."""
    token = token_of(old)
    driver.lose(old)
    driver.signal(other, "x", "1")
    assert driver.perform(driver.rooms.join(new, Join("r", "x", "X", resume_token=token, received=received)))
    driver.signal(other, "x", "2")
    late = named("late")
    driver.join(late)
    driver.lose(new)
    driver.signal(late, "x", "3")
    told = back(driver, named("third"), token, received=received)
    assert [peer["peerId"] for peer in told[0][1]["peers"]] == ["other"]
    assert told[1] == came("third", "late")
    assert [message["signal"] for _, message in told[2:]] == [1, 2, 3]
    assert driver.rooms.absent_peers.count == 0


def test_joined_is_lost_unnoticed(driver: RoomsDriver, old: Client, new: Client, other: Client) -> None:
    """The same holds while the server has noticed neither of the cuts."""
    token = token_of(old)
    driver.signal(other, "x", "1")
    back(driver, new, token)
    driver.signal(other, "x", "2")
    told = back(driver, named("third"), token)
    assert types(told) == [4409, "joined", "signal"]
    assert told[2][1]["signal"] == 2  # the client does not count, so nobody knows whether it has had the first


def test_answered_ping_voids_the_former_token(driver: RoomsDriver, old: Client, new: Client) -> None:
    """A newcomer that resumes is pinged; once it has answered, the former token is void."""
    token = token_of(old)
    driver.lose(old)
    back(driver, new, token)
    assert driver.probed == [new]
    assert new.resumption is not None
    new.resumption.confirm(new.resumption.mark())
    assert back(driver, named("third"), token) == []
    assert len(driver.contests) == 1


def test_joined_again_is_lost(driver: RoomsDriver, old: Client, new: Client, other: Client) -> None:
    """If the answer to a second `join` on one connection is lost, the token of the first is good."""
    token = token_of(old)
    back(driver, old, None, resume=True)
    driver.signal(other, "x", "1")
    assert driver.probed == [old]
    told = back(driver, new, token)
    assert told[1][1]["resumed"] is True
    assert types(told) == [4409, "joined", "signal"]


def test_arrival_is_announced_before_its_signals(driver: RoomsDriver, old: Client, new: Client) -> None:
    """A peer that joined during the absence is announced before its signals, and calls the resumed peer."""
    late, token = named("late"), token_of(old)
    driver.lose(old)
    driver.join(late)
    driver.signal(late, "x")
    told = back(driver, new, token)
    assert [peer["peerId"] for peer in told[0][1]["peers"]] == ["other"]
    assert told[1] == came("new", "late")
    assert types(told) == ["joined", "peer-joined", "signal"]


def test_departed_peer_is_not_listed(driver: RoomsDriver, old: Client, new: Client, other: Client) -> None:
    """A peer that left during the absence is not listed, and its signals are dropped."""
    token = token_of(old)
    driver.lose(old)
    driver.signal(other, "x")
    driver.perform(driver.rooms.leave(other))
    told = back(driver, new, token)
    assert types(told) == ["joined"]
    assert told[0][1]["peers"] == []


def test_left_and_came_meanwhile(driver: RoomsDriver, old: Client, new: Client, other: Client) -> None:
    """A peer that left and joined again is a new one: it is announced, and only its later messages are sent."""
    token = token_of(old)
    driver.lose(old)
    driver.signal(other, "x", "1")
    driver.perform(driver.rooms.leave(other))
    driver.join(other)
    driver.signal(other, "x", "2")
    told = back(driver, new, token)
    assert told[0][1]["peers"] == []
    assert told[1:] == [came("new", "other"), ("new", {"type": "signal", "from": "other", "signal": 2})]


def test_came_and_left_meanwhile(driver: RoomsDriver, old: Client, new: Client) -> None:
    """Of whoever came and left meanwhile, nothing is told."""
    late, token = named("late"), token_of(old)
    driver.lose(old)
    driver.join(late)
    driver.signal(late, "x")
    driver.perform(driver.rooms.forget(late))
    assert types(back(driver, new, token)) == ["joined"]


def test_two_absent_peers_find_each_other(driver: RoomsDriver, old: Client, new: Client) -> None:
    """Of two absent peers, each finds the other where it was."""
    second, third = named("second"), named("third")
    driver.join(second, resume=True)
    tokens = token_of(old), token_of(second)
    driver.lose(old)
    driver.lose(second)
    first = back(driver, new, tokens[0])
    assert [peer["peerId"] for peer in first[0][1]["peers"]] == ["other", "second"]
    told = back(driver, third, tokens[1], peer_id="second", user="SECOND")
    assert [peer["peerId"] for peer in told[0][1]["peers"]] == ["x", "other"]
    assert len(first) == len(told) == 1
