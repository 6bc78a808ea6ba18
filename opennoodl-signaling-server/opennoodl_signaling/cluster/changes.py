"""From the domain to Redis: the changes of the rooms and effects of a decision, as `commit.lua` makes them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Set
from math import inf
from time import monotonic
from typing import Any

from msgspec import structs

from ..edge.messages import Error
from ..edge.messages import encode as to_json
from ..ice import Ice
from ..messages import Joined, PeerJoined, PeerLeft, SignalFrom
from ..rooms.model import Away, Back, Client, Close, Contest, Effect, Probe, Room, Send
from ..rooms.unacknowledged import CountedMessage
from . import records
from .model import Loaded, Rules, SharedPeer
from .records import AbsenceRecord, Mailbox, PeerRecord, ResumptionRecord, RoomRecord, TokenRecord

Change = tuple[Any, ...]
"""The name of a change in `commit.lua`, and its arguments."""


class Changes:
    """Turns a decision into changes.

    Args:
        loaded: the data that was read before the decision.
        rules: the limits that decisions depend on.
        ice: adds the ICE servers to `joined`.
        rooms: the rooms after the decision, by name.
        entered: the names of rooms that Redis had lost, whose time of creation the peers know.

    Attributes:
        after: the records of the rooms after `room`, without rooms that have no peers.
    """

    def __init__(self, loaded: Loaded, rules: Rules, ice: Ice, rooms: Mapping[str, Room], entered: Set[str]) -> None:
        self.after: dict[str, RoomRecord] = {}
        self._loaded = loaded
        self._rules = rules
        self._ice = ice
        self._rooms = rooms
        self._entered = entered

    def room(self, name: str, before: RoomRecord | None, *, resumed: bool) -> Iterable[Change]:
        """Yield the changes of a room.

        Args:
            name: the name of the room.
            before: its record as it was read.
            resumed: whether the decision lets a connection resume.
        """
        room = self._rooms.get(name)
        peers_before = {} if before is None else {peer.peer_id: peer for peer in before.peers}
        if room is None:
            for peer_id in peers_before:
                yield "wipe", name, peer_id
            if before is not None:
                yield "gone", name
            for instance in _instances(peers_before.values()):
                yield "hasnt", instance, name
            return
        arrivals = 0 if before is None else before.arrivals
        peers: dict[str, PeerRecord] = {}
        for peer_id, peer in room.peers.items():
            assert isinstance(peer, SharedPeer)
            holder = peers_before.get(peer_id)
            if peer.record is None or peer.record is not holder:
                if resumed and holder is not None:
                    arrival = holder.arrival
                else:
                    arrivals += 1
                    arrival = arrivals
            else:
                arrival = holder.arrival
            peers[peer_id] = self._peer(name, peer, arrival, arrivals)
        if before is not None:
            created = before.created
        else:
            created = int(room.created * 1000) if name in self._entered else self._loaded.now
        after = self.after[name] = RoomRecord(created, arrivals, room.session, list(peers.values()))
        for peer_id in peers_before.keys() - peers.keys():
            yield "wipe", name, peer_id
            yield "unroute", name, peer_id
        for peer_id, record in peers.items():
            holder = peers_before.get(peer_id)
            peer = room.peers[peer_id]
            assert isinstance(peer, SharedPeer)
            if self._starts_afresh(peer, holder):
                yield "wipe", name, peer_id
            if holder is None or holder.route != record.route:
                yield "route", name, peer_id, record.route
        if after != before:
            yield "room", name, records.encode(after)
        instances = _instances(peers.values())
        for instance in instances - _instances(peers_before.values()):
            yield "has", instance, name
        for instance in _instances(peers_before.values()) - instances:
            yield "hasnt", instance, name

    def _peer(self, name: str, peer: SharedPeer, arrival: int, arrivals: int) -> PeerRecord:
        info, record = peer.info, peer.record
        took_place = None
        if peer.took_place > -inf:
            took_place = self._loaded.now - int((monotonic() - peer.took_place) * 1000)
            if record is not None and record.took_place is not None and abs(record.took_place - took_place) < 1000:
                took_place = record.took_place
        absence = None
        if peer.absent is not None:
            absence = None if record is None else record.absence
            if absence is None:
                mailbox = self._loaded.mailbox if self._loaded.focus == (name, info.peer_id) else Mailbox()
                number = mailbox.number if peer.received is None else peer.received
                absence = AbsenceRecord(self._loaded.now + self._rules.grace, arrivals, number, mailbox.size)
        return PeerRecord(
            info.peer_id,
            info.user_id,
            bytes(info.metadata),
            peer.instance,
            peer.number,
            arrival,
            took_place,
            self._resumption(name, peer),
            absence,
        )

    def _resumption(self, name: str, peer: SharedPeer) -> ResumptionRecord | None:
        resumption, record = peer.resumption, peer.record
        if resumption is None:
            return None
        before = peer.tokens
        if resumption is peer.kept:
            assert before is not None
            return ResumptionRecord(before.current, before.former if resumption.former is not None else None)
        # A new `joined`. The mailbox is preserved if the previous `joined` may still be resumed in the same place.
        afresh = self._starts_afresh(peer, record)
        start = 0 if afresh else self._loaded.mailbox.number
        former = None
        if resumption.former is not None:
            token, counted = resumption.former.token, resumption.former.counted
            former = TokenRecord(token, start, counted)
            if not afresh and before is not None:
                for one in (before.current, before.former):
                    # The log of a token without a count begins now.
                    if one is not None and one.digest == token and (one.counted or one is before.former):
                        former = structs.replace(former, start=one.start)
        return ResumptionRecord(
            TokenRecord(records.digest(resumption.token), start, resumption.log is not None), former
        )

    @staticmethod
    def _starts_afresh(peer: SharedPeer, holder: PeerRecord | None) -> bool:
        """Return whether a mailbox is emptied: another connection has the place, or only the new `joined` is valid."""
        if holder is None:
            return True
        if peer.record is not holder:
            return True
        if peer.resumption is peer.kept:
            return False
        return peer.resumption is None or peer.resumption.former is None

    def effect(self, effect: Effect) -> Iterable[Change]:
        """Yield the changes of an effect: entries for the streams of instances, and messages for mailboxes."""
        match effect:
            case Send(to=to, message=message):
                (name, payload, about) = self._message(to, message)
                numbers_by_instance: dict[str, list[int]] = defaultdict(list)
                for client in to:
                    assert isinstance(client, SharedPeer)
                    numbers_by_instance[client.instance].append(client.number)
                    if (
                        isinstance(message, CountedMessage)
                        and client.resumption is not None
                        and client.room is not None
                    ):
                        kept = records.keep(message, self._arrival(client.room, message))
                        yield "log", client.room.name, client.info.peer_id, kept
                for instance, numbers in numbers_by_instance.items():
                    yield "push", instance, records.encode(("send", numbers, payload, name, about))
            case Close(client=client, code=code, reason=reason, refusal=refusal):
                assert isinstance(client, SharedPeer)
                yield "push", client.instance, records.encode(("close", client.number, code, reason, refusal))
            case Away(client=client):
                assert client.room is not None
                yield "away", client.room.name, client.info.peer_id, self._loaded.now + self._rules.grace
            case Back(client=client):
                assert isinstance(client, SharedPeer)
                yield "back", self._former_room(client), client.info.peer_id
            case Probe(client=client):
                assert isinstance(client, SharedPeer)
                yield "push", client.instance, records.encode(("probe", client.number))
            case Contest():
                raise AssertionError("a contest is settled by another decision")

    def _message(self, to: Iterable[Client], message: Any) -> tuple[str, bytes, Any]:
        """Return the type of a message, its JSON, and the data that the receiving instance records about it."""
        about: Any = None
        if isinstance(message, Joined):
            (client,) = to
            about = [peer.peer_id for peer in message.peers]
            message = self._ice.add_servers(message, client.info.user_id, self._loaded.now / 1000)
        elif isinstance(message, PeerJoined | PeerLeft):
            about = message.peer_id
        elif isinstance(message, Error):
            about = message.code
        return str(message.__struct_config__.tag), to_json(message), about

    def _arrival(self, room: Room, message: CountedMessage) -> int:
        peer_id = message.from_ if isinstance(message, SignalFrom) else message.peer_id
        sender = room.peers.get(peer_id)
        return sender.record.arrival if isinstance(sender, SharedPeer) and sender.record is not None else 0

    def _former_room(self, client: SharedPeer) -> str:
        for name, record in self._loaded.rooms.items():
            if record is not None and any(peer is client.record for peer in record.peers):
                return name
        raise AssertionError("an absent peer was in no room")


def _instances(peers: Iterable[PeerRecord]) -> set[str]:
    return {peer.instance for peer in peers if peer.absence is None}
