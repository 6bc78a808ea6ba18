"""Two connections with one identity: the room keeps the one that is alive, and the others know which one it is."""

from __future__ import annotations

import pytest
from msgspec import Raw
from opennoodl_signaling.messages import Leave, Session, Signal
from opennoodl_signaling.rooms import rooms as module
from opennoodl_signaling.rooms.model import Client
from opennoodl_signaling.session import SessionInfo

from ..peers import named
from ..rooms_driver import RoomsDriver, came, joined, left, refused, token_of


@pytest.fixture
def driver(old: Client, new: Client, other: Client) -> RoomsDriver:
    """Return a room with x and a peer in it, and a contest for x."""
    driver = RoomsDriver(max_size=2)
    driver.join(old, peer_id="x", user="X")
    driver.join(other)
    assert driver.join(new, peer_id="x", user="X") == []
    assert [contest[:2] for contest in driver.contests] == [(old, new)]
    return driver


def test_peer_id_of_another_user_is_refused(old: Client, new: Client) -> None:
    """The peer id of another user is taken, and nobody need be asked."""
    driver = RoomsDriver()
    driver.join(old, peer_id="x", user="X")
    with refused("peer-id-taken"):
        driver.join(new, peer_id="x", user="Y")
    assert driver.contests == []
    assert new.room is None


def test_holder_that_answers_keeps_its_place(driver: RoomsDriver, old: Client, new: Client) -> None:
    """A holder that answers stays, and the newcomer is refused."""
    with refused("peer-id-taken"):
        driver.settle(alive=True)
    assert old.room is not None
    assert new.room is None
    assert driver.users.devices == {"X": {old}, "OTHER": {driver.rooms.rooms["r"].peers["other"]}}


def test_alive_stays_where_it_was(driver: RoomsDriver, new: Client) -> None:
    """A newcomer that is refused stays in the room it came from, and nobody there notices."""
    driver.contests.clear()
    driver.join(new, "s")
    driver.join(new, "r", peer_id="x", user="X")
    with refused("peer-id-taken"):
        driver.settle(alive=True)
    assert driver.peers("s") == ["new"]


def test_dead_holder_is_replaced(driver: RoomsDriver) -> None:
    """The newcomer takes the place of a dead holder, which is closed; to the others, one has left and one has come."""
    assert driver.settle(alive=False) == [
        ("old", 4409),
        left("other", "x"),
        ("new", joined("x", "r", "other")[1]),
        came("other", "x"),
    ]
    assert driver.peers() == ["x", "other"]


def test_dead_while_another_is_away(driver: RoomsDriver, new: Client) -> None:
    """An absent peer finds out too, when it is back, that the peer it knew is another one now."""
    driver.rooms.leave(driver.rooms.rooms["r"].peers["other"])
    away, back = named("away"), named("back")
    driver.join(away, resume=True)
    token = token_of(away)
    driver.rooms.signal(driver.rooms.rooms["r"].peers["x"], Signal("away", Raw(b"1")))
    driver.lose(away)
    driver.settle(alive=False)
    told = driver.join(back, peer_id="away", user="AWAY", resume_token=token)
    assert told[0][1]["peers"] == []
    assert told[1:] == [came("back", "x")]


def test_signals_reach_the_newer_connection(driver: RoomsDriver, new: Client) -> None:
    """After a reconnect, signals reach the newer connection."""
    driver.settle(alive=False)
    assert driver.rooms.rooms["r"].peers["x"] is new


def test_reconnected_host_stays_host(driver: RoomsDriver, new: Client) -> None:
    """A host that reconnects is still host, and its session goes on."""
    driver.rooms.rooms["r"].session = SessionInfo("T")
    driver.settle(alive=False)
    assert driver.rooms.rooms["r"].host is new
    assert driver.rooms.rooms["r"].session == SessionInfo("T")
    driver.rooms.change_session(new, Session("U"))


def test_dead_holder_says_nothing_more(driver: RoomsDriver, old: Client) -> None:
    """The end of the replaced connection is no leave."""
    driver.settle(alive=False)
    assert driver.perform(driver.rooms.forget(old)) == []
    assert driver.peers() == ["x", "other"]


def test_dead_leaves_the_old_room(driver: RoomsDriver, new: Client) -> None:
    """A newcomer that takes a place leaves the room it came from."""
    guest = named("guest")
    driver.contests.clear()
    driver.join(guest, "s")
    driver.join(new, "s")
    driver.join(new, "r", peer_id="x", user="X")
    told = driver.settle(alive=False)
    assert left("guest", "new") in told
    assert [message["type"] for name, message in told if name == "new"] == ["joined"]


def test_dead_in_the_same_room(old: Client, new: Client, other: Client) -> None:
    """A peer that takes another place in its own room leaves its first; itself, it gets `joined` alone."""
    driver = RoomsDriver()
    driver.join(other)
    driver.join(old, peer_id="x", user="X")
    driver.join(new, user="X")
    driver.join(new, peer_id="x", user="X")
    told = driver.settle(alive=False)
    assert [message for name, message in told if name == "other"] == [
        left("other", "new")[1],
        left("other", "x")[1],
        came("other", "x")[1],
    ]
    assert [message["type"] for name, message in told if name == "new"] == ["joined"]
    assert driver.peers() == ["other", "x"]


def test_newcomer_joins_after_the_holder_left(driver: RoomsDriver, old: Client) -> None:
    """If the holder has gone meanwhile, the newcomer joins as anybody does."""
    assert driver.perform(driver.rooms.forget(old)) == [left("other", "x")]
    expected = {"type": "peer-joined", "peerId": "x", "userId": "X", "metadata": {}}
    assert driver.settle(alive=False) == [("new", joined("x", "r", "other")[1]), ("other", expected)]


def test_newcomer_joins_after_the_holder_moved(driver: RoomsDriver, old: Client) -> None:
    """If the holder is in another room meanwhile, alive or not, the newcomer joins as anybody does."""
    driver.join(old, "s", peer_id="x", user="X")
    driver.settle(alive=True)
    assert driver.peers("r") == ["other", "x"]
    assert driver.peers("s") == ["x"]


def test_holder_is_another_user(driver: RoomsDriver, old: Client) -> None:
    """If the holder is another user meanwhile, alive or not, the newcomer is refused as anybody is."""
    driver.join(old, peer_id="x", user="Y")
    with refused("peer-id-taken"):
        driver.settle(alive=False)
    assert driver.rooms.rooms["r"].peers["x"] is old


def test_holder_left_and_room_full(driver: RoomsDriver, old: Client, new: Client) -> None:
    """A place that was given away meanwhile is not given twice."""
    driver.rooms.forget(old)
    driver.join(named("third"))
    with refused("room-full"):
        driver.settle(alive=False)
    assert new.room is None


def test_newcomer_reopens_a_closed_room(driver: RoomsDriver, old: Client, other: Client) -> None:
    """If the whole room has gone meanwhile, the newcomer opens it again."""
    driver.rooms.forget(old)
    driver.rooms.forget(other)
    assert driver.settle(alive=False) == [("new", joined("x")[1])]


def test_newcomer_that_has_gone_is_ignored(driver: RoomsDriver, new: Client) -> None:
    """If the newcomer has gone meanwhile, nothing happens."""
    driver.rooms.forget(new)
    assert driver.settle(alive=False) == []
    assert driver.peers() == ["x", "other"]


def test_newcomer_that_moved_stays_there(driver: RoomsDriver, new: Client) -> None:
    """If the newcomer has joined another room meanwhile, it stays there."""
    driver.join(new, "s")
    assert driver.settle(alive=False) == []
    assert driver.peers("s") == ["new"]


@pytest.mark.parametrize("leave", [Leave(), Leave("r")])
def test_newcomer_that_left_does_not_return(driver: RoomsDriver, new: Client, leave: Leave) -> None:
    """If the newcomer has left meanwhile, it does not come back."""
    driver.perform(driver.rooms.leave(new, leave))
    assert driver.settle(alive=False) == []
    assert new.room is None


def test_repeated_join_is_answered_once(driver: RoomsDriver, new: Client) -> None:
    """A newcomer that asks again is answered once."""
    driver.join(new, peer_id="x", user="X")
    assert driver.settle(alive=False) == []
    assert [name for name, _ in driver.settle(alive=False)] == ["old", "other", "new", "other"]


def test_second_newcomer_contests_with_the_first(driver: RoomsDriver, new: Client) -> None:
    """Of two newcomers, the second has to contest with the first."""
    second = named("second")
    driver.join(second, peer_id="x", user="X")
    driver.settle(alive=False)
    assert driver.settle(alive=False) == []
    assert [contest[:2] for contest in driver.contests] == [(new, second)]
    with refused("peer-id-taken"):
        driver.settle(alive=True)
    assert driver.peers() == ["x", "other"]


def test_came_is_not_flicker(driver: RoomsDriver) -> None:
    """A joiner after a reconnect sees the newer connection once, and is announced to it."""
    driver.settle(alive=False)
    driver.rooms.forget(driver.rooms.rooms["r"].peers["other"])
    told = driver.join(named("late"))
    assert [peer["peerId"] for peer in told[0][1]["peers"]] == ["x"]
    assert told[1:] == [came("new", "late")]


def test_proven_user_replaces_its_own_connection_at_once(old: Client, new: Client) -> None:
    """With authentication, a user's new connection replaces the user's own older one at once."""
    driver = RoomsDriver(proven=True)
    driver.join(old, peer_id="x", user="X")
    assert [name for name, _ in driver.join(new, peer_id="x", user="X")] == ["old", "new"]


@pytest.mark.parametrize("alive", [True, False])
def test_recently_replaced_holder_is_asked_first(
    old: Client, new: Client, monkeypatch: pytest.MonkeyPatch, alive: bool
) -> None:
    """Within a minute the holder is asked first: two that both come back would throw each other out for ever."""
    now = 1000.0
    monkeypatch.setattr(module, "monotonic", lambda: now)
    driver = RoomsDriver(proven=True)
    driver.join(old, peer_id="x", user="X")
    driver.join(new, peer_id="x", user="X")
    third = named("third")
    for _ in range(3):
        now += module.CONTEST_PAUSE  # every try counts
        assert driver.join(third, peer_id="x", user="X") == []
        if not alive:
            assert ("third", joined("x")[1]) in driver.settle(alive=False)
            return
        with refused("peer-id-taken"):
            driver.settle(alive=True)
    now += module.CONTEST_PAUSE + 0.1
    assert ("third", joined("x")[1]) in driver.join(third, peer_id="x", user="X")
