"""One optimistic transaction: rooms as read from Redis, on which `Rooms` decides, and the changes of its decision.

`SharedRooms` commits the changes if no other instance has changed the rooms in the meantime; otherwise it starts again.
The peers represent connections of all instances. All objects are dropped after the decision. Knows no socket and no
Redis.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from math import inf
from time import monotonic
from typing import Any, NamedTuple

from msgspec import Raw, structs

from ..edge.messages import Error
from ..edge.messages import encode as to_json
from ..ice import Ice
from ..messages import Joined, PeerInfo, PeerJoined, PeerLeft, SignalFrom
from ..rooms.absent_peers import AbsentPeer
from ..rooms.model import Away, Back, Client, Close, Contest, Effect, Probe, Room, Send
from ..rooms.resumption import Former, Resumption
from ..rooms.rooms import Rooms
from ..rooms.unacknowledged import DeliveryLog, Told
from ..users import Users
from . import records
from .records import AbsenceRecord, Mailbox, PeerRecord, ResumptionRecord, RoomRecord, TokenRecord

Change = tuple[Any, ...]
"""The name of a change in `commit.lua`, and its arguments."""


class Focus(NamedTuple):
    """The place whose mailbox is in the transaction. The transaction can only append to other mailboxes.

    Attributes:
        room: the name of the room.
        peer: the peer id; empty for no place.
    """

    room: str
    peer: str


class Loaded(NamedTuple):
    """Data that was read from Redis in one step.

    Attributes:
        now: time of Redis' clock, in milliseconds.
        filling: whether the instances enter their clients again, after Redis has lost its data.
        absent: the number of absent peers in all rooms.
        focus: the place whose mailbox was read.
        mailbox: that mailbox.
        rooms: the rooms by name; None for a room without peers.
        versions: the versions of the rooms by name.
    """

    now: int
    filling: bool
    absent: int
    focus: Focus
    mailbox: Mailbox
    rooms: Mapping[str, RoomRecord | None]
    versions: Mapping[str, bytes]


class Rules(NamedTuple):
    """The limits that decisions depend on.

    Attributes:
        max_size: limit of the peers of a room; 0 means no limit.
        max_absent: limit of the reserved places; 0 means no limit, None that no place is reserved.
        proven: whether users are authenticated.
        grace: milliseconds for which a place is reserved.
    """

    max_size: int
    max_absent: int | None
    proven: bool
    grace: int


class SharedPeer(Client):
    """A peer in the transaction.

    Attributes:
        instance: the id of the instance of its connection.
        number: the number of the connection at that instance.
        record: its record as it was read; None for a new peer.
        kept: its resumption as it was read.
        tokens: the record of that resumption.
        received: if its connection is lost, the number of messages of its mailbox that its instance had written to it.
    """

    __slots__ = ("instance", "kept", "number", "received", "record", "tokens")

    def __init__(self, instance: str, number: int, record: PeerRecord | None = None) -> None:
        super().__init__(None)
        self.instance = instance
        self.number = number
        self.record = record
        self.kept: Resumption | None = None
        self.tokens: ResumptionRecord | None = None
        self.received: int | None = None


class Transaction:
    """The rooms of one decision, and the changes to them.

    Args:
        loaded: the data that was read.
        rules: the limits that decisions depend on.
        ice: adds the ICE servers to `joined`.

    Attributes:
        rooms: the rules of rooms, with these rooms.
        after: the records of the rooms after `changes`, without rooms that have no peers.
    """

    def __init__(self, loaded: Loaded, rules: Rules, ice: Ice) -> None:
        self.loaded = loaded
        self.rooms = Rooms(rules.max_size, _Users(0), rules.max_absent, proven=rules.proven)
        self.after: dict[str, RoomRecord] = {}
        self._entered: set[str] = set()
        self._rules = rules
        self._ice = ice
        for name, record in loaded.rooms.items():
            if record is not None:
                self.rooms.rooms[name] = self._room(name, record)
        self.rooms.absent_peers.count = loaded.absent
        self.rooms.absent_peers.size = 0  # the scripts check the bound of all mailboxes

    def peer(self, instance: str, number: int) -> SharedPeer | None:
        """Return the peer of a connection, if it is in one of the rooms."""
        for peer in self.peers():
            if peer.absent is None and (peer.instance, peer.number) == (instance, number):
                return peer
        return None

    def peers(self) -> Iterable[SharedPeer]:
        """Return all peers."""
        for room in self.rooms.rooms.values():
            for peer in list(room.peers.values()):
                assert isinstance(peer, SharedPeer)
                yield peer

    def enter(
        self, name: str, peer: SharedPeer, info: PeerInfo, room: Room, resumption: ResumptionRecord | None
    ) -> bool:
        """Enter a peer again that Redis has lost and the others know; return whether it was possible.

        Args:
            name: the name of the room.
            peer: the peer to enter.
            info: the data that the others know about it.
            room: the room as the peer's instance knows it.
            resumption: its tokens, or None.
        """
        there = self.rooms.rooms.get(name)
        if there is None:
            there = self.rooms.rooms[name] = Room(name)
            there.created, there.session = room.created, room.session
            self._entered.add(name)
        if info.peer_id in there.peers or self.rooms.is_full(there):
            return False
        peer.info, peer.room = info, there
        there.peers[info.peer_id] = peer
        if resumption is not None:
            self._resume(peer, resumption, Mailbox(), set())
        return True

    def changes(self, effects: Iterable[Effect]) -> list[Change]:
        """Return the changes in Redis after a decision, with the messages for the streams of the instances."""
        effects = list(effects)
        changes: list[Change] = []
        resumed = any(
            isinstance(effect, Send) and isinstance(effect.message, Joined) and effect.message.resumed is True
            for effect in effects
        )
        for name, before in self.loaded.rooms.items():
            changes += self._room_changes(name, before, resumed)
        assert self.rooms.rooms.keys() <= self.loaded.rooms.keys(), "a room was not loaded"
        for effect in effects:
            changes += self._effect_changes(effect)
        return changes

    # From records to the domain

    def _room(self, name: str, record: RoomRecord) -> Room:
        room = Room(name)
        room.created, room.session = record.created / 1000, record.session
        arrivals = {entry.peer_id: entry.arrival for entry in record.peers}
        for entry in record.peers:
            peer = SharedPeer(entry.instance, entry.connection, entry)
            peer.info = PeerInfo(entry.peer_id, entry.user_id, Raw(entry.metadata))
            peer.user_id, peer.room = entry.user_id, room
            if entry.took_place is not None:
                peer.took_place = monotonic() - (self.loaded.now - entry.took_place) / 1000
            room.peers[entry.peer_id] = peer
            focused = self.loaded.focus == (name, entry.peer_id)
            mailbox = self.loaded.mailbox if focused else Mailbox()
            others = arrivals.keys() - {entry.peer_id} if focused else set[str]()
            if entry.resumption is not None:
                self._resume(peer, entry.resumption, mailbox, others)
            if entry.absence is not None:
                peer.absent = self._absence(entry.absence, mailbox, others, arrivals)
        return room

    def _resume(self, peer: SharedPeer, record: ResumptionRecord, mailbox: Mailbox, others: set[str]) -> None:
        until = None if peer.record is None or peer.record.absence is None else peer.record.absence.number
        former = record.former
        peer.resumption = peer.kept = Resumption(
            self._log(record.current, mailbox, others, until) if record.current.counted else None,
            None
            if former is None
            else Former(former.digest, self._log(former, mailbox, others, until), counted=former.counted),
        )
        peer.kept.token = record.current.digest
        peer.tokens = record

    def _log(self, token: TokenRecord, mailbox: Mailbox, others: set[str], until: int | None) -> DeliveryLog:
        """Return the log of messages since a `joined`, until the connection of the peer was lost."""
        since = [(number, kept) for number, kept in mailbox.messages if number > token.start]
        trimmed = mailbox.number - len(mailbox.messages) - token.start
        known = others - {kept.peer for _, kept in since if kept.kind == "came"}
        log = DeliveryLog(known, self.rooms.logs, max(trimmed, 0))
        for number, kept in since:
            if until is None or number <= until:
                if kept.kind == "signal":
                    log.add(kept.signal)
                elif kept.kind == "came":
                    log.add(PeerJoined(kept.peer, "", Raw(b"")))
                else:
                    log.add(PeerLeft(kept.peer))
        return log

    def _absence(
        self, record: AbsenceRecord, mailbox: Mailbox, others: set[str], arrivals: Mapping[str, int]
    ) -> AbsentPeer:
        waiting = [kept for number, kept in mailbox.messages if number > record.number]
        came = {kept.peer for kept in waiting if kept.kind == "came"}
        known = {peer for peer in others - came if arrivals[peer] <= record.arrivals}
        absent = AbsentPeer(known, self.rooms.absent_peers)
        for kept in waiting:
            # A sender that has left since is another peer, even if it has joined again with the same id.
            if kept.kind == "signal" and arrivals.get(kept.peer) == kept.arrival:
                absent.hold(kept.signal, kept.echoed)
        return absent

    # From the domain to records

    def _room_changes(self, name: str, before: RoomRecord | None, resumed: bool) -> Iterable[Change]:
        room = self.rooms.rooms.get(name)
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
            created = int(room.created * 1000) if name in self._entered else self.loaded.now
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
            took_place = self.loaded.now - int((monotonic() - peer.took_place) * 1000)
            if record is not None and record.took_place is not None and abs(record.took_place - took_place) < 1000:
                took_place = record.took_place
        absence = None
        if peer.absent is not None:
            absence = None if record is None else record.absence
            if absence is None:
                mailbox = self.loaded.mailbox if self.loaded.focus == (name, info.peer_id) else Mailbox()
                number = mailbox.number if peer.received is None else peer.received
                absence = AbsenceRecord(self.loaded.now + self._rules.grace, arrivals, number, mailbox.size)
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
        start = 0 if afresh else self.loaded.mailbox.number
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

    def _effect_changes(self, effect: Effect) -> Iterable[Change]:
        match effect:
            case Send(to=to, message=message):
                (name, payload, about) = self._message(to, message)
                told: dict[str, list[int]] = defaultdict(list)
                for client in to:
                    assert isinstance(client, SharedPeer)
                    told[client.instance].append(client.number)
                    if isinstance(message, Told) and client.resumption is not None and client.room is not None:
                        kept = records.keep(message, self._arrival(client.room, message))
                        yield "told", client.room.name, client.info.peer_id, kept
                for instance, numbers in told.items():
                    yield "push", instance, records.encode(("send", numbers, payload, name, about))
            case Close(client=client, code=code, reason=reason, refusal=refusal):
                assert isinstance(client, SharedPeer)
                yield "push", client.instance, records.encode(("close", client.number, code, reason, refusal))
            case Away(client=client):
                assert client.room is not None
                yield "away", client.room.name, client.info.peer_id, self.loaded.now + self._rules.grace
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
            message = self._ice.furnish(message, client.info.user_id, self.loaded.now / 1000)
        elif isinstance(message, PeerJoined | PeerLeft):
            about = message.peer_id
        elif isinstance(message, Error):
            about = message.code
        return str(message.__struct_config__.tag), to_json(message), about

    def _arrival(self, room: Room, message: Told) -> int:
        peer_id = message.from_ if isinstance(message, SignalFrom) else message.peer_id
        sender = room.peers.get(peer_id)
        return sender.record.arrival if isinstance(sender, SharedPeer) and sender.record is not None else 0

    def _former_room(self, client: SharedPeer) -> str:
        for name, record in self.loaded.rooms.items():
            if record is not None and any(peer is client.record for peer in record.peers):
                return name
        raise AssertionError("an absent peer was in no room")


class _Users(Users):
    """Sets the user of a client. The devices of users are not part of a transaction."""

    def identify(self, client: Client, user_id: str | None) -> None:
        client.user_id = user_id


def _instances(peers: Iterable[PeerRecord]) -> set[str]:
    return {peer.instance for peer in peers if peer.absence is None}
