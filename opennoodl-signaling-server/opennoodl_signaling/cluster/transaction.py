"""One optimistic transaction: rooms as read from Redis, on which `Rooms` decides, and the changes of its decision.

`SharedRooms` commits the changes if no other instance has changed the rooms in the meantime; otherwise it starts again.
The peers represent connections of all instances. All objects are dropped after the decision. Knows no socket and no
Redis.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..ice import Ice
from ..messages import Joined, PeerInfo
from ..rooms.model import Client, Effect, Room, Send
from ..rooms.rooms import Rooms
from ..users import Users
from .changes import Change, Changes
from .model import Loaded, Rules, SharedPeer
from .record_reader import RecordReader
from .records import Mailbox, ResumptionRecord


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
        self._entered: set[str] = set()
        self._reader = RecordReader(loaded, self.rooms)
        for name, record in loaded.rooms.items():
            if record is not None:
                self.rooms.rooms[name] = self._reader.room(name, record)
        self._changes = Changes(loaded, rules, ice, self.rooms.rooms, self._entered)
        self.after = self._changes.after
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
            self._reader.resume(peer, resumption, Mailbox(), set())
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
            changes += self._changes.room(name, before, resumed=resumed)
        assert self.rooms.rooms.keys() <= self.loaded.rooms.keys(), "a room was not loaded"
        for effect in effects:
            changes += self._changes.effect(effect)
        return changes


class _Users(Users):
    """Sets the user of a client. The devices of users are not part of a transaction."""

    def identify(self, client: Client, user_id: str | None) -> None:
        client.user_id = user_id
