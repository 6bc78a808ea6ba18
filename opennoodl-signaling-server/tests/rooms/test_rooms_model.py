"""Whatever clients do in whatever order, each one's view of its room is the room."""

from __future__ import annotations

from collections import Counter
from copy import deepcopy
from typing import Any, ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from msgspec import Raw
from opennoodl_signaling.edge.errors import BadMessage
from opennoodl_signaling.messages import (
    Join,
    Joined,
    Leave,
    Metadata,
    Outgoing,
    PeerJoined,
    PeerLeft,
    PeerUpdated,
    Register,
    Signal,
    SignalFrom,
)
from opennoodl_signaling.rooms import absent_peers
from opennoodl_signaling.rooms.model import Away, Back, Client, Close, Contest, Effect, Probe, Send
from opennoodl_signaling.rooms.rooms import Rooms
from opennoodl_signaling.users import Users

from ..peers import named
from .view import Place, View

pytestmark = pytest.mark.slow

MAX_SIZE = 3
MAX_ABSENT = 2
MAX_SIGNALS = 2
FEWEST = 5
"""Steps of all runs after which the rooms are in each state at least."""
clients = st.integers(0, 5)
rooms = st.sampled_from("rs")
peers = st.sampled_from("xyzw")
users = st.sampled_from("UV")
hows = st.sampled_from(["", "resume", "count"])
metadata = st.sampled_from([Raw(b"{}"), Raw(b'{"name":"x"}')])


class Model(RuleBasedStateMachine):
    """Does the same to `Rooms` and to a dictionary of places, and compares.

    Attributes:
        reached: after how many steps the rooms were in which state, in all runs.
    """

    reached: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(absent_peers, "MAX_SIGNALS", MAX_SIGNALS)
        self.registry = Users(0)
        self.rooms = Rooms(MAX_SIZE, self.registry, MAX_ABSENT)
        self.clients = [named(number) for number in range(6)]
        self.places: dict[Client, Place] = {}
        self.users: dict[Client, str] = {}
        self.contests: list[Contest] = []
        self.waiting: dict[Client, Contest] = {}
        self.away: list[Client] = []
        self.tokens: list[str] = []
        self.pings: list[tuple[Client, bytes, object]] = []
        self.replaced: Client | None = None
        self.sent = 0

    # What can happen

    @rule(number=clients, identity=st.tuples(rooms, peers, users), how=hows, metadata=metadata)
    def join(self, number: int, identity: tuple[str, str, str], how: str, metadata: Raw) -> None:
        """A client joins, from anywhere, and asks to resume or not, and to have its messages counted or not."""
        received = 0 if how == "count" else None
        room, peer, user = identity
        join = Join(room=room, peer_id=peer, user_id=user, resume=how != "", received=received, metadata=metadata)
        self.do_join(self.clients[number], join)

    @precondition(lambda self: self.places)
    @rule(data=st.data(), counts=st.booleans(), shows=st.booleans(), lost=st.booleans())
    def join_again(self, data: st.DataObject, counts: bool, shows: bool, lost: bool) -> None:
        """A client joins again where it is, showing a token or not; the answer is lost or not."""
        there = [client for client, place in self.places.items() if not place.absent]
        if not there:
            return
        client = data.draw(st.sampled_from(there))
        place = self.places[client]
        chances = [None, *(chance.view.token for chance in place.chances)]
        room, peer, user = place.identity
        received = 0 if counts else None
        token = data.draw(st.sampled_from(chances)) if shows else None
        join = Join(room=room, peer_id=peer, user_id=user, resume=True, resume_token=token, received=received)
        self.do_join(client, join, lost=lost)

    @rule(number=clients, metadata=metadata)
    def update(self, number: int, metadata: Raw) -> None:
        """A client has other metadata."""
        client = self.clients[number]
        expected = None if client in self.places else "not-in-room"
        if client in self.places:
            self.places[client].metadata = bytes(metadata)
        self.perform(expected, lambda: self.rooms.update(client, Metadata(metadata)))

    @precondition(lambda self: self.tokens)
    @rule(number=clients, data=st.data())
    def join_with_token(self, number: int, data: st.DataObject) -> None:
        """A client shows a token, old or new, and mostly says who it was given to."""
        token = data.draw(st.sampled_from(self.tokens))
        chances = [chance for place in self.places.values() for chance in place.chances]
        named = [(*chance.identity, chance.count) for chance in chances if chance.view.token == token]
        strangers = st.tuples(rooms, peers, users, st.none() | st.integers(0, 2))
        known = st.sampled_from(named)
        identity = data.draw((known | strangers if named else strangers).filter(lambda one: self.may_say(token, one)))
        room, peer, user, received = identity
        join = Join(room=room, peer_id=peer, user_id=user, resume_token=token, received=received)
        self.do_join(self.clients[number], join)

    @precondition(lambda self: any(place.chances for place in self.places.values()))
    @rule(number=clients, data=st.data(), metadata=metadata, lost=st.booleans())
    def resume(self, number: int, data: st.DataObject, metadata: Raw, lost: bool) -> None:
        """A peer that can resume does; the answer is lost with all that follows, or not."""
        chance = data.draw(st.sampled_from([chance for place in self.places.values() for chance in place.chances]))
        room, peer, user = chance.identity
        fields = {"resume_token": chance.view.token, "received": chance.count, "metadata": metadata}
        self.do_join(self.clients[number], Join(room=room, peer_id=peer, user_id=user, **fields), lost=lost)

    @precondition(lambda self: any(place.chances for place in self.places.values()))
    @rule(data=st.data(), heard=st.booleans(), confirmed=st.booleans())
    def resume_twice(self, data: st.DataObject, heard: bool, confirmed: bool) -> None:
        """A peer resumes, everybody talks, and the same token is shown again: its answer was lost, or it was not."""
        chance = data.draw(st.sampled_from([chance for place in self.places.values() for chance in place.chances]))
        room, peer, user = chance.identity
        join = Join(room=room, peer_id=peer, user_id=user, resume_token=chance.view.token, received=chance.count)
        first, second = data.draw(st.lists(clients, min_size=2, max_size=2, unique=True))
        self.do_join(self.clients[first], join, lost=not heard)
        client, place = self.clients[first], self.places[self.clients[first]]
        if heard and confirmed:
            assert client.resumption is not None
            client.resumption.confirm(client.resumption.mark())
            place.former = None
        self.signal_everybody()
        self.do_join(self.clients[second], join)

    @rule(number=clients, room=st.none() | rooms)
    def leave(self, number: int, room: str | None) -> None:
        """A client leaves, or means to leave a room that it is not in."""
        client = self.clients[number]
        if client in self.places and room in (None, self.places[client].room):
            self.vacate(client)
        contest = self.waiting.get(client)
        if contest is not None and room in (None, contest.join.room):
            del self.waiting[client]
        self.perform(None, lambda: self.rooms.leave(client, Leave(room)))

    @rule(number=clients)
    def forget(self, number: int) -> None:
        """A connection is closed; a new one comes in its place."""
        client = self.clients[number]
        self.vacate(client)
        self.users.pop(client, None)
        self.waiting.pop(client, None)
        self.perform(None, lambda: self.rooms.forget(client))

    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        """A connection is lost, that of a peer if there is one; a new one comes in its place."""
        peers = [number for number, client in enumerate(self.clients) if client in self.places]
        self.do_lose(data.draw(st.sampled_from(peers) if peers else clients))

    @precondition(lambda self: self.resumable())
    @rule(data=st.data())
    def lose_and_signal(self, data: st.DataObject) -> None:
        """The connection of a peer that can resume is lost, and its room sends it signals."""
        client = data.draw(st.sampled_from(self.resumable()))
        self.do_lose(self.clients.index(client))
        if client in self.away:
            self.do_signal_absent(self.places[client])

    def do_lose(self, number: int) -> None:
        """Lose a connection."""
        client = self.clients[number]
        place = self.places.get(client)
        if place is None or not place.resumable or len(self.away) >= MAX_ABSENT:
            self.vacate(client)
        else:
            place.absent = True
        self.users.pop(client, None)
        self.waiting.pop(client, None)
        self.perform(None, lambda: self.rooms.lose(client))
        assert (client in self.away) == (client in self.places)
        self.clients[number] = named(number)

    @precondition(lambda self: self.counting())
    @rule(data=st.data())
    def go_dark(self, data: st.DataObject) -> None:
        """Nothing reaches a client any more that counts, which nobody has noticed yet."""
        self.places[data.draw(st.sampled_from(self.counting()))].dark = True

    @precondition(lambda self: self.reachable())
    @rule(data=st.data())
    def ping(self, data: st.DataObject) -> None:
        """A client that can resume is sent a ping, and it arrives."""
        client = data.draw(st.sampled_from(self.reachable()))
        assert client.resumption is not None
        self.pings.append((client, client.resumption.mark(), self.places[client].joined))

    @precondition(lambda self: self.pings)
    @rule()
    def pong(self) -> None:
        """The oldest ping is answered; much may have happened meanwhile."""
        client, mark, joined = self.pings.pop(0)
        if client.resumption is not None:
            client.resumption.confirm(mark)
        if client in self.places and self.places[client].joined is joined:
            self.places[client].former = None

    @precondition(lambda self: self.away)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        """The grace of an absent client is over."""
        client = self.away.pop(data.draw(st.integers(0, len(self.away) - 1)))
        self.vacate(client)
        self.perform(None, lambda: self.rooms.give_up(client))

    @rule(number=clients, user=users)
    def register(self, number: int, user: str) -> None:
        """A client registers, in a room or not."""
        self.users[self.clients[number]] = user
        self.perform(None, lambda: self.registry.register(self.clients[number], Register(user)))

    @rule(number=clients, to=peers)
    def signal(self, number: int, to: str) -> None:
        """A client sends a signal, to somebody or nobody."""
        self.do_signal(self.clients[number], to)

    @rule()
    def signal_everybody(self) -> None:
        """Everybody who is there sends everybody in its room a signal."""
        for client, place in list(self.places.items()):
            for other in list(self.places.values()):
                if other is not place and other.room == place.room and not place.absent:
                    self.do_signal(client, other.peer)

    @precondition(lambda self: self.away)
    @rule(data=st.data())
    def signal_absent(self, data: st.DataObject) -> None:
        """The peers of a room send a signal to one that is absent."""
        self.do_signal_absent(self.places[data.draw(st.sampled_from(self.away))])

    def do_signal_absent(self, absent: Place) -> None:
        """Have the peers of a room send a signal to one that is absent."""
        for client, place in list(self.places.items()):
            if place.room == absent.room and not place.absent:
                self.do_signal(client, absent.peer)

    @precondition(lambda self: self.contests)
    @rule(data=st.data(), alive=st.booleans())
    def settle(self, data: st.DataObject, alive: bool) -> None:
        """A holder was asked, and was alive or not; much may have happened meanwhile."""
        contest = self.contests.pop(data.draw(st.integers(0, len(self.contests) - 1)))
        holder, newcomer, join = contest
        expected: Any = None
        if self.waiting.get(newcomer) is contest:
            del self.waiting[newcomer]
            place = self.places.get(holder)
            if place is None or place.identity != (join.room, join.peer_id, join.user_id):
                expected = self.expect_join(newcomer, join)
            elif alive and not place.absent:
                expected = "peer-id-taken"
            else:
                self.replace(holder, newcomer, join)
        self.perform(expected, lambda: self.rooms.settle(contest, alive))
        if expected is Contest:
            self.waiting[newcomer] = self.contests[-1]

    # What must hold

    @invariant()
    def places_agree(self) -> None:
        """Everybody is where the model has it."""
        real = {
            client: (name, peer, client.info.user_id)
            for name, room in self.rooms.rooms.items()
            for peer, client in room.peers.items()
        }
        assert real == {client: place.identity for client, place in self.places.items()}

    @invariant()
    def views_agree(self) -> None:
        """The messages to a client add up to the real members of its room, without itself, and to its signals."""
        for place in self.places.values():
            if not place.absent and not place.dark:
                assert place.view.room == place.room
                room = {one.peer: one.metadata for one in self.places.values() if one.room == place.room}
                assert place.view.peers == {peer: room[peer] for peer in room.keys() - {place.peer}}
                assert place.view.signals == place.signals

    @invariant()
    def sizes_hold(self) -> None:
        """No room has more peers than it may have, or none at all."""
        assert all(0 < len(room.peers) <= MAX_SIZE for room in self.rooms.rooms.values())

    @invariant()
    def absences_agree(self) -> None:
        """As many are absent as there are, and what waits for them is what the model has."""
        absent = {client: place for client, place in self.places.items() if place.absent}
        assert absent.keys() == set(self.away)
        for client, place in absent.items():
            assert client.absent is not None
            assert [(one.from_, bytes(one.signal)) for one in client.absent.signals] == place.waiting
        waiting = [signal for place in absent.values() for _, signal in place.waiting]
        assert self.rooms.absent_peers.count == len(absent) <= MAX_ABSENT
        assert self.rooms.absent_peers.size == sum(len(signal) + absent_peers.OVERHEAD for signal in waiting)

    @invariant()
    def count_states(self) -> None:
        """Count the states that are hard to reach."""
        places = self.places.values()
        self.reached["a peer is absent"] += any(place.absent for place in places)
        self.reached["a signal waits for an absent peer"] += any(place.waiting for place in places)
        self.reached["as many are absent as may be"] += len(self.away) == MAX_ABSENT
        self.reached["a peer receives nothing, and nobody knows"] += any(place.dark for place in places)
        self.reached["an absent peer may come back with a former token"] += any(
            place.absent and place.former is not None for place in places
        )
        self.reached["a peer waits for the holder of its id"] += bool(self.waiting)
        self.reached["a room is full"] += any(len(room.peers) == MAX_SIZE for room in self.rooms.rooms.values())

    @invariant()
    def users_agree(self) -> None:
        """Users are reachable through exactly the connections that said who they are."""
        real = {client: user for user, devices in self.registry.devices.items() for client in devices}
        assert real == self.users
        assert all(self.registry.devices.values())

    def teardown(self) -> None:
        """When everybody is gone, nothing is left."""
        for client in self.clients:
            self.rooms.forget(client)
        for client in self.away:
            self.rooms.give_up(client)
        assert self.rooms.rooms == self.registry.devices == {}
        assert self.rooms.absent_peers.count == self.rooms.absent_peers.size == self.rooms.logs.size == 0
        self.patch.undo()

    # How it is done

    def counting(self) -> list[Client]:
        """Return who can resume and counts, and has a connection that works."""
        return [client for client in self.reachable() if self.places[client].counts]

    def resumable(self) -> list[Client]:
        """Return the clients with a connection that can resume."""
        return [client for client, place in self.places.items() if place.resumable and not place.absent]

    def reachable(self) -> list[Client]:
        """Return those of them whose connection works."""
        return [client for client in self.resumable() if not self.places[client].dark]

    def may_say(self, token: str, identity: tuple[str, str, str, int | None]) -> bool:
        """Return whether who resumes counts right, if it counts; the others may say what they like."""
        *who, received = identity
        return all(
            received == chance.count
            for place in self.places.values()
            for chance in place.chances
            if chance.view.token == token and chance.identity == tuple(who)
        )

    def do_join(self, client: Client, join: Join, *, lost: bool = False) -> None:
        """Join in both, and compare; if that is `lost`, the client receives nothing from now on."""
        self.waiting.pop(client, None)
        expected = self.expect_join(client, join, lost=lost)
        self.perform(expected, lambda: self.rooms.join(client, join))
        if expected is Contest:
            self.waiting[client] = self.contests[-1]

    def do_signal(self, client: Client, to: str) -> None:
        """Send a signal in both, and compare."""
        place = self.places.get(client)
        self.sent += 1
        signal = b"%d" % self.sent
        expected = None
        if place is None:
            expected = "not-in-room"
        else:
            target = next((one for one in self.places.values() if (one.room, one.peer) == (place.room, to)), None)
            if target is None or len(target.waiting) == MAX_SIGNALS:
                expected = "peer-not-found"
            elif target.absent:
                target.waiting.append((place.peer, signal))
            elif target is place:
                return  # to itself, which nobody does
            else:
                if target.dark:
                    target.under_way.append((place.peer, signal))
                else:
                    target.signals.append(signal)
                if target.former is not None:
                    target.former.under_way.append((place.peer, signal))

        def act() -> list[Effect]:
            receiver, message = self.rooms.signal(client, Signal(to, Raw(signal)))
            return [] if receiver is None else [Send((receiver,), message)]

        self.perform(expected, act)

    def expect_join(self, client: Client, join: Join, *, lost: bool = False) -> Any:
        """Join in the model; return the expected refusal, or `Contest`, or None."""
        members = {place.peer: one for one, place in self.places.items() if place.room == join.room}
        holder = members.get(join.peer_id)
        if holder is not None and holder is not client:
            place = self.places[holder]
            if place.user != join.user_id:
                return "peer-id-taken"
            chances = [chance for chance in place.chances if chance.view.token == join.resume_token]
            if chances:
                self.resume_place(holder, client, join, chances[0], lost=lost)
            elif place.absent:
                self.replace(holder, client, join)
            else:
                return Contest
            return None
        if client not in members.values() and len(members) >= MAX_SIZE:
            return "room-full"
        place = self.places.get(client)
        if place is not None and place.identity == (join.room, join.peer_id, join.user_id):
            self.users[client] = join.user_id
            self.begin_anew(place, join, lost=lost)
        else:
            self.enter(client, Place(join, View()))
        return None

    def replace(self, holder: Client, newcomer: Client, join: Join) -> None:
        """Put a newcomer in the place of a holder, which has left for good."""
        self.vacate(newcomer)
        self.vacate(holder)
        self.users.pop(holder, None)
        self.waiting.pop(holder, None)
        self.replaced = holder
        self.enter(newcomer, Place(join, View()))

    def resume_place(self, holder: Client, newcomer: Client, join: Join, chance: Place, *, lost: bool) -> None:
        """Put a newcomer in the place of a holder, with all that this knew and missed."""
        self.vacate(newcomer)
        old = self.places.pop(holder)
        self.users.pop(holder, None)
        self.waiting.pop(holder, None)
        self.replaced = holder
        missed = chance.under_way + old.waiting
        place = Place(join, deepcopy(chance.view))
        place.former = chance.freeze(missed)
        place.signals = list(chance.signals)
        if lost:
            place.dark = place.unheard = True
        else:
            place.signals += [signal for _, signal in missed]
        self.enter(newcomer, place)

    def begin_anew(self, place: Place, join: Join, *, lost: bool) -> None:
        """Let a client be answered that joins again where it is."""
        former = None
        if join.resume or join.resume_token is not None:
            shown = [chance for chance in place.chances if join.resume_token == chance.view.token]
            if shown and shown[0] is place.former:
                former = place.former
            elif place.resumable:
                former = place.freeze(place.under_way)
                former.unheard = place.unheard
        place.former = former if former is None or not former.unheard else None
        place.resumable = join.resume or join.resume_token is not None
        place.counts, place.dark, place.under_way, place.joined = join.received is not None, lost, [], object()
        place.unheard, place.metadata = lost, bytes(join.metadata)

    def enter(self, client: Client, place: Place) -> None:
        """Put a client in its place in the model."""
        self.vacate(client)
        self.places[client] = place
        self.users[client] = place.user

    def vacate(self, client: Client) -> None:
        """Take a client out of its place in the model, with what it sent to those who are absent."""
        left = self.places.pop(client, None)
        if left is not None:
            for place in self.places.values():
                if place.room == left.room:
                    place.forget(left.peer)

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
                        self.deliver(client, message)
                case Close(client=client):
                    assert self.rooms.lose(client) == []
                case Contest():
                    self.contests.append(effect)
                case Away(client=client):
                    self.away.append(client)
                case Back(client=client):
                    self.away.remove(client)
                case Probe():
                    pass  # pings have a rule of their own
        self.replaced = None
        assert expected == (Contest if len(self.contests) > before else None)

    def deliver(self, client: Client, message: Outgoing) -> None:
        """Tell a client; who is told of a room is in it and has a connection, or has just lost its place."""
        about_a_room = isinstance(message, Joined | PeerJoined | PeerUpdated | PeerLeft | SignalFrom)
        if about_a_room and client is not self.replaced:
            assert client not in self.away
            place = self.places[client]
            view = place.view
            if place.dark:
                return
            view.tell(message)
            if view.token is not None and view.token not in self.tokens:
                self.tokens.append(view.token)


Model.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
TestModel = Model.TestCase


def test_random_steps_reach_every_state() -> None:
    """The random steps reach every state that the model is about, and often."""
    Model.reached.clear()
    steps = settings(max_examples=80, stateful_step_count=40, deadline=None, derandomize=True, database=None)
    run_state_machine_as_test(Model, settings=steps)
    assert len(Model.reached) == 7
    assert {state: count for state, count in Model.reached.items() if count < FEWEST} == {}
