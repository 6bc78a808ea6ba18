"""Whatever clients do in whatever order, each one's view of its room is the room."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from opennoodl_signaling.edge.json_messages import BadMessage
from opennoodl_signaling.messages import Join, Joined, Leave, Outgoing, PeerJoined, PeerLeft, Register
from opennoodl_signaling.rooms import Client, Close, Contest, Effect, Rooms, Send

MAX_SIZE = 3
clients = st.integers(0, 5)
rooms = st.sampled_from("rs")
peers = st.sampled_from("xyzw")
users = st.sampled_from("UV")


class Place:
    """Where the model has a client."""

    def __init__(self, room: str, peer: str, user: str) -> None:
        self.room = room
        self.peer = peer
        self.user = user


class View:
    """What a client knows about its room from what it was told, and nothing else."""

    def __init__(self) -> None:
        self.room: str | None = None
        self.peers: set[str] = set()

    def tell(self, message: Outgoing) -> None:
        """Take in one message; a message that does not fit in is a failure."""
        match message:
            case Joined(room=room, peers=infos):
                self.room = room
                self.peers = {info.peer_id for info in infos}
                assert len(self.peers) == len(infos)
            case PeerJoined(peer_id=peer):
                assert self.room is not None
                assert peer not in self.peers, "announced twice"
                self.peers.add(peer)
            case PeerLeft(peer_id=peer):
                assert peer in self.peers, "left without having come"
                self.peers.remove(peer)

    def leave(self) -> None:
        """Know of no room any more."""
        self.room, self.peers = None, set()


class Model(RuleBasedStateMachine):
    """Does the same to `Rooms` and to a dictionary of places, and compares."""

    def __init__(self) -> None:
        super().__init__()
        self.rooms = Rooms(MAX_SIZE, 0)
        self.clients = [Client(number) for number in range(6)]
        self.views = [View() for _ in self.clients]
        self.places: dict[int, Place] = {}
        self.users: dict[int, str] = {}
        self.contests: list[Contest] = []
        self.waiting: dict[int, Contest] = {}

    # What can happen

    @rule(client=clients, room=rooms, peer=peers, user=users)
    def join(self, client: int, room: str, peer: str, user: str) -> None:
        """A client joins, from anywhere."""
        message = Join(room=room, peer_id=peer, user_id=user)
        self.waiting.pop(client, None)
        expected = self.expect_join(client, message)
        self.perform(expected, lambda: self.rooms.join(self.clients[client], message))
        if expected is Contest:
            self.waiting[client] = self.contests[-1]

    @rule(client=clients, room=st.none() | rooms)
    def leave(self, client: int, room: str | None) -> None:
        """A client leaves, or means to leave a room that it is not in."""
        if client in self.places and room in (None, self.places[client].room):
            del self.places[client]
            self.views[client].leave()
        contest = self.waiting.get(client)
        if contest is not None and room in (None, contest.join.room):
            del self.waiting[client]
        self.perform(None, lambda: self.rooms.leave(self.clients[client], Leave(room)))

    @rule(client=clients)
    def forget(self, client: int) -> None:
        """A connection is lost; a new one comes in its place."""
        self.places.pop(client, None)
        self.users.pop(client, None)
        self.waiting.pop(client, None)
        self.views[client].leave()
        self.perform(None, lambda: self.rooms.forget(self.clients[client]))

    @rule(client=clients, user=users)
    def register(self, client: int, user: str) -> None:
        """A client registers, in a room or not."""
        self.users[client] = user
        self.perform(None, lambda: self.rooms.register(self.clients[client], Register(user)))

    @precondition(lambda self: self.contests)
    @rule(data=st.data(), alive=st.booleans())
    def settle(self, data: st.DataObject, alive: bool) -> None:
        """A holder was asked, and was alive or not; much may have happened meanwhile."""
        contest = self.contests.pop(data.draw(st.integers(0, len(self.contests) - 1)))
        holder, newcomer = self.number(contest.holder), self.number(contest.newcomer)
        expected: Any = None
        if self.waiting.get(newcomer) is contest:
            del self.waiting[newcomer]
            place = self.places.get(holder)
            if place is None or (place.room, place.peer) != (contest.join.room, contest.join.peer_id):
                expected = self.expect_join(newcomer, contest.join)
            elif alive:
                expected = "peer-id-taken"
            else:
                del self.places[holder]
                self.users.pop(holder)
                self.waiting.pop(holder, None)
                self.enter(newcomer, contest.join)
        self.perform(expected, lambda: self.rooms.settle(contest, alive))
        if expected is Contest:
            self.waiting[newcomer] = self.contests[-1]

    # What must hold

    @invariant()
    def places_agree(self) -> None:
        """Everybody is where the model has it."""
        real = {
            self.number(client): (name, peer, client.info.user_id)
            for name, room in self.rooms.rooms.items()
            for peer, client in room.peers.items()
        }
        assert real == {number: (place.room, place.peer, place.user) for number, place in self.places.items()}

    @invariant()
    def views_agree(self) -> None:
        """What a client was told adds up to the real members of its room, without itself."""
        for number, view in enumerate(self.views):
            place = self.places.get(number)
            assert view.room == (place.room if place else None)
            if place:
                assert view.peers == set(self.rooms.rooms[place.room].peers) - {place.peer}

    @invariant()
    def sizes_hold(self) -> None:
        """No room has more peers than it may have, or none at all."""
        assert all(0 < len(room.peers) <= MAX_SIZE for room in self.rooms.rooms.values())

    @invariant()
    def users_agree(self) -> None:
        """Users are reachable through exactly the connections that said who they are."""
        real = {self.number(client): user for user, devices in self.rooms.users.items() for client in devices}
        assert real == self.users
        assert all(self.rooms.users.values())

    def teardown(self) -> None:
        """When everybody is gone, nothing is left."""
        for client in self.clients:
            self.rooms.forget(client)
        assert self.rooms.rooms == {}
        assert self.rooms.users == {}

    # How it is done

    def number(self, client: Client) -> int:
        """Return a client's number."""
        return self.clients.index(client)

    def expect_join(self, client: int, join: Join) -> Any:
        """Join in the model; return the expected refusal, or `Contest`, or None."""
        members = {place.peer: number for number, place in self.places.items() if place.room == join.room}
        holder = members.get(join.peer_id)
        if holder is not None and holder != client:
            return "peer-id-taken" if self.places[holder].user != join.user_id else Contest
        if client not in members.values() and len(members) >= MAX_SIZE:
            return "room-full"
        self.enter(client, join)
        return None

    def enter(self, client: int, join: Join) -> None:
        """Put a client in its place in the model."""
        self.places[client] = Place(join.room, join.peer_id, join.user_id)
        self.users[client] = join.user_id

    def perform(self, expected: Any, act: Any) -> None:
        """Act on the real rooms, compare a refusal with the expected one, and deliver what is sent."""
        before = len(self.contests)
        try:
            effects: list[Effect] = act()
        except BadMessage as bad:
            assert bad.code == expected  # noqa: PT017  # pytest.raises cannot expect nothing
            return
        for effect in effects:
            match effect:
                case Send(to=to, message=message):
                    for client in tuple(to):
                        self.views[self.number(client)].tell(message)
                case Close(client=client):
                    self.views[self.number(client)].leave()
                    assert self.rooms.forget(client) == []
                case Contest():
                    self.contests.append(effect)
        assert expected == (Contest if len(self.contests) > before else None)


Model.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
TestModel = Model.TestCase
