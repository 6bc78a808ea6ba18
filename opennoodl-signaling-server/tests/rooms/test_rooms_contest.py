"""Two connections with one identity: the room keeps the one that is alive, and the others know which one it is."""

from __future__ import annotations

import pytest
from msgspec import Raw
from opennoodl_signaling.messages import Leave, Session, Signal
from opennoodl_signaling.rooms import rooms as module
from opennoodl_signaling.rooms.model import Client
from opennoodl_signaling.session import SessionInfo

from ..peers import named
from ..ward import Ward, came, joined, left, refused, token_of


@pytest.fixture
def ward(old: Client, new: Client, other: Client) -> Ward:
    """Return a room with x and a peer in it, and a contest for x."""
    ward = Ward(max_size=2)
    ward.join(old, peer_id="x", user="X")
    ward.join(other)
    assert ward.join(new, peer_id="x", user="X") == []
    assert [contest[:2] for contest in ward.contests] == [(old, new)]
    return ward


def test_peer_id_of_another_user_is_refused(old: Client, new: Client) -> None:
    """The peer id of another user is taken, and nobody need be asked."""
    ward = Ward()
    ward.join(old, peer_id="x", user="X")
    with refused("peer-id-taken"):
        ward.join(new, peer_id="x", user="Y")
    assert ward.contests == []
    assert new.room is None


def test_holder_that_answers_keeps_its_place(ward: Ward, old: Client, new: Client) -> None:
    """A holder that answers stays, and the newcomer is refused."""
    with refused("peer-id-taken"):
        ward.settle(alive=True)
    assert old.room is not None
    assert new.room is None
    assert ward.users.devices == {"X": {old}, "OTHER": {ward.rooms.rooms["r"].peers["other"]}}


def test_alive_stays_where_it_was(ward: Ward, new: Client) -> None:
    """A newcomer that is refused stays in the room it came from, and nobody there notices."""
    ward.contests.clear()
    ward.join(new, "s")
    ward.join(new, "r", peer_id="x", user="X")
    with refused("peer-id-taken"):
        ward.settle(alive=True)
    assert ward.peers("s") == ["new"]


def test_dead_holder_is_replaced(ward: Ward) -> None:
    """The newcomer takes the place of a dead holder, which is closed; to the others, one has left and one has come."""
    assert ward.settle(alive=False) == [
        ("old", 4409),
        left("other", "x"),
        ("new", joined("x", "r", "other")[1]),
        came("other", "x"),
    ]
    assert ward.peers() == ["x", "other"]


def test_dead_while_another_is_away(ward: Ward, new: Client) -> None:
    """An absent peer finds out too, when it is back, that the peer it knew is another one now."""
    ward.rooms.leave(ward.rooms.rooms["r"].peers["other"])
    away, back = named("away"), named("back")
    ward.join(away, resume=True)
    token = token_of(away)
    ward.rooms.signal(ward.rooms.rooms["r"].peers["x"], Signal("away", Raw(b"1")))
    ward.lose(away)
    ward.settle(alive=False)
    told = ward.join(back, peer_id="away", user="AWAY", resume_token=token)
    assert told[0][1]["peers"] == []
    assert told[1:] == [came("back", "x")]


def test_signals_reach_the_newer_connection(ward: Ward, new: Client) -> None:
    """After a reconnect, signals reach the newer connection."""
    ward.settle(alive=False)
    assert ward.rooms.rooms["r"].peers["x"] is new


def test_reconnected_host_stays_host(ward: Ward, new: Client) -> None:
    """A host that reconnects is still host, and its session goes on."""
    ward.rooms.rooms["r"].session = SessionInfo("T")
    ward.settle(alive=False)
    assert ward.rooms.rooms["r"].host is new
    assert ward.rooms.rooms["r"].session == SessionInfo("T")
    ward.rooms.present(new, Session("U"))


def test_dead_holder_says_nothing_more(ward: Ward, old: Client) -> None:
    """The end of the replaced connection is no leave."""
    ward.settle(alive=False)
    assert ward.perform(ward.rooms.forget(old)) == []
    assert ward.peers() == ["x", "other"]


def test_dead_leaves_the_old_room(ward: Ward, new: Client) -> None:
    """A newcomer that takes a place leaves the room it came from."""
    guest = named("guest")
    ward.contests.clear()
    ward.join(guest, "s")
    ward.join(new, "s")
    ward.join(new, "r", peer_id="x", user="X")
    told = ward.settle(alive=False)
    assert left("guest", "new") in told
    assert [message["type"] for name, message in told if name == "new"] == ["joined"]


def test_dead_in_the_same_room(old: Client, new: Client, other: Client) -> None:
    """A peer that takes another place in its own room leaves its first; itself, it gets `joined` alone."""
    ward = Ward()
    ward.join(other)
    ward.join(old, peer_id="x", user="X")
    ward.join(new, user="X")
    ward.join(new, peer_id="x", user="X")
    told = ward.settle(alive=False)
    assert [message for name, message in told if name == "other"] == [
        left("other", "new")[1],
        left("other", "x")[1],
        came("other", "x")[1],
    ]
    assert [message["type"] for name, message in told if name == "new"] == ["joined"]
    assert ward.peers() == ["other", "x"]


def test_newcomer_joins_after_the_holder_left(ward: Ward, old: Client) -> None:
    """If the holder has gone meanwhile, the newcomer joins as anybody does."""
    assert ward.perform(ward.rooms.forget(old)) == [left("other", "x")]
    expected = {"type": "peer-joined", "peerId": "x", "userId": "X", "metadata": {}}
    assert ward.settle(alive=False) == [("new", joined("x", "r", "other")[1]), ("other", expected)]


def test_newcomer_joins_after_the_holder_moved(ward: Ward, old: Client) -> None:
    """If the holder is in another room meanwhile, alive or not, the newcomer joins as anybody does."""
    ward.join(old, "s", peer_id="x", user="X")
    ward.settle(alive=True)
    assert ward.peers("r") == ["other", "x"]
    assert ward.peers("s") == ["x"]


def test_holder_is_another_user(ward: Ward, old: Client) -> None:
    """If the holder is another user meanwhile, alive or not, the newcomer is refused as anybody is."""
    ward.join(old, peer_id="x", user="Y")
    with refused("peer-id-taken"):
        ward.settle(alive=False)
    assert ward.rooms.rooms["r"].peers["x"] is old


def test_holder_left_and_room_full(ward: Ward, old: Client, new: Client) -> None:
    """A place that was given away meanwhile is not given twice."""
    ward.rooms.forget(old)
    ward.join(named("third"))
    with refused("room-full"):
        ward.settle(alive=False)
    assert new.room is None


def test_newcomer_reopens_a_closed_room(ward: Ward, old: Client, other: Client) -> None:
    """If the whole room has gone meanwhile, the newcomer opens it again."""
    ward.rooms.forget(old)
    ward.rooms.forget(other)
    assert ward.settle(alive=False) == [("new", joined("x")[1])]


def test_newcomer_that_has_gone_is_ignored(ward: Ward, new: Client) -> None:
    """If the newcomer has gone meanwhile, nothing happens."""
    ward.rooms.forget(new)
    assert ward.settle(alive=False) == []
    assert ward.peers() == ["x", "other"]


def test_newcomer_that_moved_stays_there(ward: Ward, new: Client) -> None:
    """If the newcomer has joined another room meanwhile, it stays there."""
    ward.join(new, "s")
    assert ward.settle(alive=False) == []
    assert ward.peers("s") == ["new"]


@pytest.mark.parametrize("leave", [Leave(), Leave("r")])
def test_newcomer_that_left_does_not_return(ward: Ward, new: Client, leave: Leave) -> None:
    """If the newcomer has left meanwhile, it does not come back."""
    ward.perform(ward.rooms.leave(new, leave))
    assert ward.settle(alive=False) == []
    assert new.room is None


def test_repeated_join_is_answered_once(ward: Ward, new: Client) -> None:
    """A newcomer that asks again is answered once."""
    ward.join(new, peer_id="x", user="X")
    assert ward.settle(alive=False) == []
    assert [name for name, _ in ward.settle(alive=False)] == ["old", "other", "new", "other"]


def test_second_newcomer_contests_with_the_first(ward: Ward, new: Client) -> None:
    """Of two newcomers, the second has to contest with the first."""
    second = named("second")
    ward.join(second, peer_id="x", user="X")
    ward.settle(alive=False)
    assert ward.settle(alive=False) == []
    assert [contest[:2] for contest in ward.contests] == [(new, second)]
    with refused("peer-id-taken"):
        ward.settle(alive=True)
    assert ward.peers() == ["x", "other"]


def test_came_is_not_flicker(ward: Ward) -> None:
    """A joiner after a reconnect sees the newer connection once, and is announced to it."""
    ward.settle(alive=False)
    ward.rooms.forget(ward.rooms.rooms["r"].peers["other"])
    told = ward.join(named("late"))
    assert [peer["peerId"] for peer in told[0][1]["peers"]] == ["x"]
    assert told[1:] == [came("new", "late")]


def test_proven_user_replaces_its_own_connection_at_once(old: Client, new: Client) -> None:
    """With authentication, a user's new connection replaces the user's own older one at once."""
    ward = Ward(proven=True)
    ward.join(old, peer_id="x", user="X")
    assert [name for name, _ in ward.join(new, peer_id="x", user="X")] == ["old", "new"]


@pytest.mark.parametrize("alive", [True, False])
def test_recently_replaced_holder_is_asked_first(
    old: Client, new: Client, monkeypatch: pytest.MonkeyPatch, alive: bool
) -> None:
    """Within a minute the holder is asked first: two that both come back would throw each other out for ever."""
    now = 1000.0
    monkeypatch.setattr(module, "monotonic", lambda: now)
    ward = Ward(proven=True)
    ward.join(old, peer_id="x", user="X")
    ward.join(new, peer_id="x", user="X")
    third = named("third")
    for _ in range(3):
        now += module.CONTEST_PAUSE  # every try counts
        assert ward.join(third, peer_id="x", user="X") == []
        if not alive:
            assert ("third", joined("x")[1]) in ward.settle(alive=False)
            return
        with refused("peer-id-taken"):
            ward.settle(alive=True)
    now += module.CONTEST_PAUSE + 0.1
    assert ("third", joined("x")[1]) in ward.join(third, peer_id="x", user="X")
