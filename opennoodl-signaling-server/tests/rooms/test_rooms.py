"""Rooms: who is told what when somebody comes, goes, signals or invites."""

from __future__ import annotations

import pytest
from msgspec import Raw
from opennoodl_signaling.messages import Leave, Session, Signal, decode
from opennoodl_signaling.rooms.model import Client
from opennoodl_signaling.rooms.rooms import REPLACED
from opennoodl_signaling.session import SessionChange, SessionInfo

from ..peers import named
from ..rooms_driver import RoomsDriver, came, joined, left, refused


@pytest.fixture
def driver() -> RoomsDriver:
    """Return rooms without limits."""
    return RoomsDriver()


@pytest.fixture
def clients() -> list[Client]:
    """Return clients called a, b, c, d and e."""
    return [named(name) for name in "abcde"]


# Coming and going


def test_first_peer_is_alone(driver: RoomsDriver, clients: list[Client]) -> None:
    """The first to join a room is alone in it."""
    assert driver.join(clients[0]) == [joined("a")]


def test_joiner_and_peers_learn_of_each_other_once(driver: RoomsDriver, clients: list[Client]) -> None:
    """The joiner gets the peers before the others are told of the joiner; each once."""
    a, b, c, *_ = clients
    driver.join(a)
    assert driver.join(b) == [joined("b", "r", "a"), came("a", "b")]
    assert driver.join(c) == [joined("c", "r", "a", "b"), came("a", "c"), came("b", "c")]


def test_metadata_reaches_present_and_later_peers(driver: RoomsDriver, clients: list[Client]) -> None:
    """A peer's metadata reaches present and later peers."""
    a, b, *_ = clients
    driver.join(a, metadata=Raw(b'{"name":"Ann"}'))
    (_, answer), (_, news) = driver.join(b, metadata=Raw(b'{"name":"Ben"}'))
    assert answer["peers"] == [{"peerId": "a", "userId": "A", "metadata": {"name": "Ann"}}]
    assert news["metadata"] == {"name": "Ben"}


def test_rooms_are_isolated(driver: RoomsDriver, clients: list[Client]) -> None:
    """Nothing of one room reaches another, even under one peer id."""
    a, b, *_ = clients
    driver.join(a, "r")
    assert driver.join(b, "s", peer_id="a", user="A") == [("b", joined("a", "s")[1])]
    assert driver.perform(driver.rooms.leave(b)) == []


def test_leave_tells_the_others(driver: RoomsDriver, clients: list[Client]) -> None:
    """The others are told of a leaver; the leaver gets no answer."""
    a, b, c, *_ = clients
    for client in (a, b, c):
        driver.join(client)
    assert driver.perform(driver.rooms.leave(b, Leave())) == [left("a", "b"), left("c", "b")]
    assert driver.perform(driver.rooms.leave(b, Leave())) == []


def test_leave_of_another_room_is_ignored(driver: RoomsDriver, clients: list[Client]) -> None:
    """A `leave` that names the room leaves it; one that names another has come too late."""
    a, b, *_ = clients
    driver.join(a)
    driver.join(b)
    assert driver.perform(driver.rooms.leave(b, Leave("s"))) == []
    assert driver.peers() == ["a", "b"]
    assert driver.perform(driver.rooms.leave(b, Leave("r"))) == [left("a", "b")]


def test_lost_connection_leaves(driver: RoomsDriver, clients: list[Client]) -> None:
    """A lost connection is a leave."""
    a, b, *_ = clients
    driver.join(a)
    driver.join(b)
    assert driver.perform(driver.rooms.forget(b)) == [left("a", "b")]
    assert driver.perform(driver.rooms.forget(b)) == []


def test_empty_rooms_cost_nothing(driver: RoomsDriver, clients: list[Client]) -> None:
    """An empty room is forgotten, and so are its users."""
    for client in clients:
        driver.join(client)
    for client in clients:
        driver.rooms.forget(client)
    assert driver.rooms.rooms == {}
    assert driver.users.devices == {}


def test_refused_room_costs_nothing(driver: RoomsDriver, clients: list[Client]) -> None:
    """Looking into rooms that do not exist, by leaving or signaling, makes none."""
    driver.rooms.leave(clients[0], Leave("r"))
    with refused("not-in-room"):
        driver.rooms.signal(clients[0], Signal("x", Raw(b"1")))
    assert driver.rooms.rooms == {}


# Joining again


def test_joining_another_room_leaves_the_first(driver: RoomsDriver, clients: list[Client]) -> None:
    """A connection that joins another room leaves its old one first."""
    a, b, c, *_ = clients
    driver.join(a, "r")
    driver.join(b, "s")
    driver.join(c, "r")
    assert driver.join(c, "s") == [left("a", "c"), joined("c", "s", "b"), came("b", "c")]


def test_joining_again_tells_the_others_nothing(driver: RoomsDriver, clients: list[Client]) -> None:
    """Joining again under the same identity is answered, and no news for the others."""
    a, b, *_ = clients
    driver.join(a)
    driver.join(b)
    assert driver.join(a) == [joined("a", "r", "b")]
    assert driver.peers() == ["a", "b"]


def test_join_again_under_another_id(driver: RoomsDriver, clients: list[Client]) -> None:
    """A peer that joins its room under another id leaves and joins for the others; itself, it gets `joined` alone."""
    a, b, *_ = clients
    driver.join(a)
    driver.join(b)
    told = driver.join(b, peer_id="x", user="X")
    assert [message for name, message in told if name == "a"] == [left("a", "b")[1], came("a", "x")[1]]
    assert [message["type"] for name, message in told if name == "b"] == ["joined"]


def test_join_again_as_another_user(driver: RoomsDriver, clients: list[Client]) -> None:
    """A peer that joins again as another user is another identity, and the others learn it."""
    a, b, *_ = clients
    driver.join(a)
    driver.join(b)
    told = [message for name, message in driver.join(b, user="X") if name == "a"]
    assert {"type": "peer-joined", "peerId": "b", "userId": "X", "metadata": {}} in told


def test_lone_peer_may_change_its_id(driver: RoomsDriver, clients: list[Client]) -> None:
    """A peer alone in a room may join it again under another id."""
    a, *_ = clients
    driver.join(a)
    assert driver.join(a, peer_id="x") == [("a", joined("x")[1])]
    assert driver.peers() == ["x"]


# Full rooms


def test_full_room_refuses_another_peer(clients: list[Client]) -> None:
    """A room holds as many as it may, and no more; the refused one stays where it was."""
    a, b, c, d, _ = clients
    driver = RoomsDriver(max_size=2)
    for client, room in ((a, "r"), (b, "r"), (c, "s"), (d, "s")):
        driver.join(client, room)
    with refused("room-full"):
        driver.join(c, "r")
    assert driver.peers("r") == ["a", "b"]
    assert driver.peers("s") == ["c", "d"]


def test_member_of_a_full_room_may_join_again(clients: list[Client]) -> None:
    """A member of a full room may join it again, under the same or another id."""
    a, b, *_ = clients
    driver = RoomsDriver(max_size=2)
    driver.join(a)
    driver.join(b)
    driver.join(b)
    driver.join(b, peer_id="x")
    assert driver.peers() == ["a", "x"]


def test_left_place_can_be_taken(clients: list[Client]) -> None:
    """A place that was left is free."""
    a, b, c, *_ = clients
    driver = RoomsDriver(max_size=2)
    driver.join(a)
    driver.join(b)
    driver.rooms.forget(a)
    assert driver.join(c) == [joined("c", "r", "b"), came("b", "c")]


def test_room_size_of_zero_is_no_limit(driver: RoomsDriver) -> None:
    """A limit of 0 means none."""
    for number in range(100):
        driver.join(named(str(number)))
    assert len(driver.peers()) == 100


@pytest.mark.parametrize(("max_size", "wanted", "capacity"), [(3, 2, 2), (3, 5, 3), (0, 2, 2), (3, None, 3)])
def test_max_participants_only_lowers_the_limit(
    clients: list[Client], max_size: int, wanted: int | None, capacity: int
) -> None:
    """The host's maxParticipants lowers the limit and never raises it."""
    driver = RoomsDriver(max_size)
    driver.join(clients[0], session=SessionChange(max_participants=wanted))
    for client in clients[1:capacity]:
        driver.join(client)
    assert driver.rooms.capacity(driver.rooms.rooms["r"]) == capacity
    with refused("room-full"):
        driver.join(clients[capacity])


def test_lower_limit_removes_no_peer(driver: RoomsDriver, clients: list[Client]) -> None:
    """A limit below the present number removes no peer."""
    a, b, c, d, _ = clients
    for client in (a, b, c):
        driver.join(client)
    driver.rooms.change_session(a, Session(max_participants=1))
    assert driver.peers() == ["a", "b", "c"]
    with refused("room-full"):
        driver.join(d)


# Signals and invites


def test_signal_reaches_its_target_alone(driver: RoomsDriver, clients: list[Client]) -> None:
    """A signal reaches the peer it is for, alone, with the sender's peer id."""
    a, b, c, *_ = clients
    for client in (a, b, c):
        driver.join(client)
    assert driver.signal(a, "b", '{"sdp":1}') == [("b", {"type": "signal", "from": "a", "signal": {"sdp": 1}})]


def test_signal_to_another_room_is_refused(driver: RoomsDriver, clients: list[Client]) -> None:
    """Only peers of the sender's own room can be signaled."""
    a, b, *_ = clients
    driver.join(a, "r")
    driver.join(b, "s")
    for to in ("b", "nobody"):
        with refused("peer-not-found"):
            driver.rooms.signal(a, Signal(to, Raw(b"1")))


def test_metadata_is_a_copy(driver: RoomsDriver, clients: list[Client]) -> None:
    """A peer's metadata does not keep its message in memory."""
    text = b'{"type":"join","room":"r","peerId":"a","userId":"A","metadata":1,"more":"%b"}' % (b"x" * 60_000)
    driver.rooms.join(clients[0], decode(text))
    assert len(memoryview(clients[0].info.metadata).obj) < 100


def test_signal_outside_of_a_room_is_refused(driver: RoomsDriver, clients: list[Client]) -> None:
    """A client in no room cannot signal."""
    a, b, *_ = clients
    driver.join(a)
    with refused("not-in-room"):
        driver.rooms.signal(b, Signal("a", Raw(b"1")))


def test_replaced_connection_is_closed_with_4409() -> None:
    """The protocol's code for a newer connection with the same identity is 4409."""
    assert REPLACED == 4409


# Sessions


def test_longest_present_peer_is_host(driver: RoomsDriver, clients: list[Client]) -> None:
    """The host is the peer that has been there longest, so the session goes on when it leaves."""
    a, b, c, *_ = clients
    driver.join(a, session=SessionChange("T"))
    driver.join(b)
    driver.join(c)
    room = driver.rooms.rooms["r"]
    assert room.host is a
    driver.rooms.leave(a)
    assert room.host is b
    assert room.session == SessionInfo("T")


def test_former_host_returns_as_the_newest_peer(driver: RoomsDriver, clients: list[Client]) -> None:
    """A host that has left and comes back is the newest peer, and no longer host."""
    a, b, *_ = clients
    driver.join(a)
    driver.join(b)
    driver.rooms.leave(a)
    driver.join(a)
    assert driver.rooms.rooms["r"].host is b


def test_only_the_host_describes_the_session(driver: RoomsDriver, clients: list[Client]) -> None:
    """The host describes the session; others may not, neither later nor by joining."""
    a, b, *_ = clients
    driver.join(a)
    driver.join(b, session=SessionChange("by a guest"))
    assert driver.rooms.rooms["r"].session == SessionInfo()
    assert driver.perform(driver.rooms.change_session(a, Session(title="by the host"))) == []
    assert driver.rooms.rooms["r"].session == SessionInfo("by the host")
    with refused("not-host"):
        driver.rooms.change_session(b, Session(title="by a guest"))


def test_changed_title_changes_nothing_else(driver: RoomsDriver, clients: list[Client]) -> None:
    """A host that changes the title, in any way, changes nothing else: nobody gets in over its limit."""
    a, b, *_ = clients
    driver.join(a, session=SessionChange("T", "D", 1))
    driver.rooms.change_session(a, Session(title="U"))
    driver.join(a, session=SessionChange(title="V"))
    assert driver.rooms.rooms["r"].session == SessionInfo("V", "D", 1)
    with refused("room-full"):
        driver.join(b)


def test_session_outside_of_a_room_is_refused(driver: RoomsDriver, clients: list[Client]) -> None:
    """A client in no room cannot describe a session."""
    with refused("not-in-room"):
        driver.rooms.change_session(clients[0], Session())


def test_emptied_room_forgets_its_session(driver: RoomsDriver, clients: list[Client]) -> None:
    """A room that was empty in between knows nothing of its past."""
    a, *_ = clients
    driver.join(a, session=SessionChange("T", max_participants=1))
    driver.rooms.leave(a)
    driver.join(a)
    assert driver.rooms.rooms["r"].session == SessionInfo()
