"""Members: the connections of this instance, and the rooms that they are in."""

from __future__ import annotations

import asyncio
from itertools import count

from ..edge.peer import Peer
from ..rooms.model import Client, Room
from .membership import Membership
from .model import SharedPeer
from .records import ResumptionRecord
from .transaction import Transaction

BROKEN = "The shared state is away. Connect again."


class Member(Client):
    """A connection of this instance.

    Attributes:
        number: the number of the connection at this instance, which is never used again.
        lock: serializes the decisions about this connection.
        closed: whether the connection has ended.
        keeps: whether the connection has ended and its place is reserved.
        known: the ids of the peers in the messages that it was sent.
        counted: the number of messages about its room since its last `joined`.
        joined: the number of `joined` messages that it was sent.
        entered: the number of its successful joins. It is higher than `joined` while a `joined` is on its way.
        tokens: the tokens with which a later connection takes its place.
        unsure: rooms that it may be in, because Redis did not answer.
        started: time of its last `join`, as `perf_counter` has it.
        contested: an id of the contest that it waits for, and the name of its room.
        stale: whether its knowledge of its room may be out of date, so that its place is not reserved.
    """

    __slots__ = (
        "closed",
        "contested",
        "counted",
        "entered",
        "joined",
        "keeps",
        "known",
        "lock",
        "number",
        "stale",
        "started",
        "tokens",
        "unsure",
    )

    def __init__(self, peer: Peer, address: str, number: int) -> None:
        super().__init__(peer, address)
        self.number = number
        self.lock = asyncio.Lock()
        self.closed = False
        self.keeps = False
        self.known: set[str] = set()
        self.counted = 0
        self.joined = 0
        self.entered = 0
        self.tokens: ResumptionRecord | None = None
        self.unsure: set[str] = set()
        self.started = 0.0
        self.contested: tuple[object, str] | None = None
        self.stale = False

    def close_stale(self) -> None:
        """Close the connection, because its knowledge of its room may be out of date. It has to join again."""
        self.stale = True
        self.disconnect(1013, BROKEN, "unavailable")

    def disconnect(self, code: int, reason: str, refusal: str = "") -> None:
        """Close the connection, unless it has ended; see `Peer.disconnect`."""
        if not self.closed:
            self.connected.disconnect(code, reason, refusal)

    def knows(self, room: Room) -> bool:
        """Return whether the client was sent exactly the peers that are in `room`."""
        return self.joined == self.entered and self.known | {self.info.peer_id} == room.peers.keys()


class Members:
    """All connections of this instance.

    Args:
        membership: the membership of this instance.

    Attributes:
        connected: open connections by number.
        leaving: connections that have ended, by number, until that is written to Redis.
        rooms: by name, the rooms with peers of this instance. They contain only these peers.
    """

    def __init__(self, membership: Membership) -> None:
        self.connected: dict[int, Member] = {}
        self.leaving: dict[int, Member] = {}
        self.rooms: dict[str, Room] = {}
        self._membership = membership
        self._numbers = count(1)

    def add(self, peer: Peer, address: str) -> Member:
        """Add a connection; return its member."""
        member = Member(peer, address, next(self._numbers))
        self.connected[member.number] = member
        return member

    def end(self, member: Member, *, keeps: bool) -> None:
        """Record that a connection has ended."""
        del self.connected[member.number]
        self.leaving[member.number] = member
        member.closed, member.keeps, member.contested = True, keeps, None

    def peer_of(self, transaction: Transaction, member: Member) -> SharedPeer | None:
        """Return the client's peer in the transaction; None if it is in none of the rooms."""
        return transaction.peer(self._membership.instance, member.number)

    def peer_or_newcomer(self, transaction: Transaction, member: Member) -> SharedPeer:
        """Return the client's peer in the transaction, or a new one."""
        peer = self.peer_of(transaction, member) or self.newcomer(member)
        peer.user_id = member.user_id
        return peer

    def newcomer(self, member: Member) -> SharedPeer:
        """Return a new peer for a client, which is in no room."""
        return SharedPeer(self._membership.instance, member.number)

    def set_room(self, member: Member, transaction: Transaction, name: str, peer_id: str) -> None:
        """Set the room of a client, after a decision in a transaction."""
        self.clear_room(member)
        record = transaction.after.get(name)
        if record is None:
            return
        peer = next((peer for peer in record.peers if peer.peer_id == peer_id), None)
        if peer is None or (peer.instance, peer.connection) != (self._membership.instance, member.number):
            return
        room = self.rooms.get(name)
        if room is None:
            room = self.rooms[name] = Room(name)
        room.created, room.session = record.created / 1000, record.session
        room.peers[peer_id] = member
        member.room, member.info, member.tokens = (
            room,
            transaction.rooms.rooms[name].peers[peer_id].info,
            peer.resumption,
        )

    def clear_room(self, member: Member) -> None:
        """Record that a client is in no room."""
        room = member.room
        member.room, member.tokens = None, None
        if room is not None and room.peers.get(member.info.peer_id) is member:
            del room.peers[member.info.peer_id]
            if not room.peers and self.rooms.get(room.name) is room:
                del self.rooms[room.name]

    def disconnect_all(self, code: int, reason: str, refusal: str) -> None:
        """Close all connections."""
        for member in list(self.connected.values()):
            member.disconnect(code, reason, refusal)
