"""Rooms: who is in which room, who can be invited, and what everybody is told. Knows no socket.

Every method takes what a client sent and returns the effects: what to send to whom, and whom to close.
All of it happens in one step, so a room's size is exact and a peer is either in `joined` or announced.
"""

from collections.abc import Collection
from time import time
from typing import NamedTuple

from msgspec import Raw

from .edge.json_messages import BadMessage
from .edge.limits import Quota
from .messages import (
    Invite,
    InviteFrom,
    InviteSent,
    Join,
    Joined,
    Leave,
    Outgoing,
    PeerInfo,
    PeerJoined,
    PeerLeft,
    Register,
    Registered,
    Session,
    SessionInfo,
    Signal,
    SignalFrom,
)

REPLACED = 4409
"""Close code for a connection whose place a newer one with the same identity took."""


MAX_METADATA = 16_384
"""Bytes of a peer's metadata."""


class Client:
    """One connection as the domain sees it.

    Attributes:
        carrier: whatever brings messages to it; never looked at here.
        user_id: who it says it is, once it has joined or registered.
        room: where it is, as `info`.
        topics: what it is subscribed to; kept by `Topics`.
        contest: the peer id it is waiting for, if another connection holds that.
    """

    __slots__ = ("carrier", "contest", "info", "room", "topics", "user_id")

    def __init__(self, carrier: object) -> None:
        self.carrier = carrier
        self.user_id: str | None = None
        self.room: Room | None = None
        self.info = PeerInfo("", "", Raw(b"{}"))
        self.topics: set[str] = set()
        self.contest: Contest | None = None


class Room:
    """A room that somebody is in; `peers` keeps the order of arrival, so the first is the host."""

    __slots__ = ("created", "name", "peers", "session")

    def __init__(self, name: str) -> None:
        self.name = name
        self.peers: dict[str, Client] = {}
        self.session = SessionInfo()
        self.created = time()

    @property
    def host(self) -> Client:
        """The peer that has been here longest."""
        return next(iter(self.peers.values()))


class Send(NamedTuple):
    """Send `message` to every one of `to`."""

    to: Collection[Client]
    message: Outgoing


class Close(NamedTuple):
    """Close the client's connection."""

    client: Client
    code: int
    reason: str


class Contest(NamedTuple):
    """Two connections claim one peer id: find out whether the `holder` is alive, then call `settle`."""

    holder: Client
    newcomer: Client
    join: Join


Effect = Send | Close | Contest


class Rooms:
    """All rooms and users of this process.

    Args:
        max_size: peers in a room; 0 means any number.
        invites_per_hour: of one user; 0 means any number.
    """

    def __init__(self, max_size: int, invites_per_hour: int) -> None:
        self.rooms: dict[str, Room] = {}
        self.users: dict[str, set[Client]] = {}
        self._max_size = max_size
        self._invites = Quota(invites_per_hour, 3600)

    def join(self, client: Client, join: Join) -> list[Effect]:
        """Enter a room, leaving the old one.

        Returns:
            `joined` for the client and `peer-joined` for the others; or a `Contest`, if the same user
            holds the peer id through another connection.

        Raises:
            BadMessage: `room-full` or `peer-id-taken`; the client stays where it was.
        """
        client.contest = None
        if len(join.metadata) > MAX_METADATA:
            raise BadMessage("too-large", f"`metadata` may have {MAX_METADATA} bytes: everybody who joins is sent it.")
        room = self.rooms.get(join.room)
        holder = room.peers.get(join.peer_id) if room else None
        if room is not None and holder is client and client.info.user_id == join.user_id:
            # Joining again under the same name is no news for the others.
            client.info = PeerInfo(join.peer_id, join.user_id, join.metadata)
            self._identify(client, join.user_id)
            self._present(room, client, join.session)
            return [Send((client,), self._joined(room, client))]
        if holder is not None and holder is not client:
            if holder.info.user_id != join.user_id:
                raise BadMessage("peer-id-taken", "Another user in this room has this peerId; choose another one.")
            client.contest = Contest(holder, client, join)
            return [client.contest]
        if room is not None and client.room is not room and self._full(room):
            raise BadMessage("room-full", f"The room is full: {len(room.peers)} peers are all it may have.")
        effects = self.leave(client)
        room = self.rooms.setdefault(join.room, room or Room(join.room))
        self._enter(room, client, join)
        others = [peer for peer in room.peers.values() if peer is not client]
        effects.append(Send((client,), self._joined(room, client)))
        if others:
            effects.append(Send(others, PeerJoined(join.peer_id, join.user_id, join.metadata)))
        return effects

    def settle(self, contest: Contest, alive: bool) -> list[Effect]:
        """Decide a contest once it is known whether its holder is `alive`.

        Returns:
            the effects of the join; nothing if the newcomer has moved on meanwhile.

        Raises:
            BadMessage: `peer-id-taken`, for the newcomer: the holder is alive and stays.
        """
        holder, newcomer, join = contest
        if newcomer.contest is not contest:
            return []
        newcomer.contest = None
        room = holder.room
        if room is None or room.name != join.room or room.peers.get(join.peer_id) is not holder:
            return self.join(newcomer, join)
        if alive:
            raise BadMessage("peer-id-taken", "You are in this room already, through another connection.")
        effects = self.leave(newcomer)
        holder.room = None
        self._enter(room, newcomer, join)  # under the same key: the place in the order of arrival stays
        effects.append(Close(holder, REPLACED, "A newer connection of yours took this peerId."))
        effects.append(Send((newcomer,), self._joined(room, newcomer)))
        return effects

    def leave(self, client: Client, leave: Leave | None = None) -> list[Effect]:
        """Leave the room, if the client is in one (and in the one that `leave` names), or stop waiting for it."""
        named = None if leave is None else leave.room
        if client.contest is not None and named in (None, client.contest.join.room):
            client.contest = None
        room = client.room
        if room is None or named not in (None, room.name):
            return []
        del room.peers[client.info.peer_id]
        client.room = None
        if room.peers:
            return [Send(tuple(room.peers.values()), PeerLeft(client.info.peer_id))]
        del self.rooms[room.name]
        return []

    def signal(self, client: Client, signal: Signal) -> list[Effect]:
        """Pass signaling data on.

        Raises:
            BadMessage: `not-in-room` or `peer-not-found`.
        """
        room = client.room
        if room is None:
            raise BadMessage("not-in-room", "Join a room before you signal.")
        target = room.peers.get(signal.to)
        if target is None:
            raise BadMessage("peer-not-found", "Nobody in your room has the peerId in `to`.")
        return [Send((target,), SignalFrom(from_=client.info.peer_id, signal=signal.signal))]

    def invite(self, client: Client, invite: Invite, now: float) -> list[Effect]:
        """Pass an invite to every connection of a user, and tell the sender whether there was one.

        Raises:
            BadMessage: `not-registered` or `rate-limited`.
        """
        sender = client.user_id
        if sender is None:
            raise BadMessage("not-registered", "Join a room or register before you invite.")
        if not self._invites.allow(sender, now):
            raise BadMessage("rate-limited", "You have sent as many invites as one user may in an hour.")
        target = invite.target_user_id
        devices = self.users.get(target)
        if not devices:
            return [Send((client,), InviteSent(target, False, "User offline"))]
        message = InviteFrom(from_=sender, room_id=invite.room_id, session_info=invite.session_info)
        return [Send(devices, message), Send((client,), InviteSent(target, True))]

    def register(self, client: Client, register: Register) -> list[Effect]:
        """Make the client reachable as a user."""
        self._identify(client, register.user_id)
        return [Send((client,), Registered(register.user_id))]

    def present(self, client: Client, session: Session) -> list[Effect]:
        """Change how the client's room is presented.

        Raises:
            BadMessage: `not-in-room` or `not-host`.
        """
        if client.room is None:
            raise BadMessage("not-in-room", "Join a room before you describe it.")
        if client.room.host is not client:
            raise BadMessage("not-host", "Only the host may describe the session.")
        client.room.session = session.info()
        return []

    def forget(self, client: Client) -> list[Effect]:
        """Leave the room and the users for good."""
        client.contest = None
        effects = self.leave(client)
        self._identify(client, None)
        return effects

    def capacity(self, room: Room) -> int:
        """Return how many peers the room may have; 0 means any number."""
        wanted = room.session.max_participants
        return min(wanted, self._max_size or wanted) if wanted else self._max_size

    def _full(self, room: Room) -> bool:
        capacity = self.capacity(room)
        return bool(capacity) and len(room.peers) >= capacity

    def _enter(self, room: Room, client: Client, join: Join) -> None:
        client.info = PeerInfo(join.peer_id, join.user_id, join.metadata)
        client.room = room
        room.peers[join.peer_id] = client
        self._identify(client, join.user_id)
        self._present(room, client, join.session)

    def _present(self, room: Room, client: Client, session: SessionInfo | None) -> None:
        if session is not None and room.host is client:
            room.session = session

    def _identify(self, client: Client, user_id: str | None) -> None:
        if client.user_id == user_id:
            return
        if client.user_id is not None:
            devices = self.users[client.user_id]
            devices.discard(client)
            if not devices:
                del self.users[client.user_id]
        client.user_id = user_id
        if user_id is not None:
            self.users.setdefault(user_id, set()).add(client)

    def _joined(self, room: Room, client: Client) -> Joined:
        others = [peer.info for peer in room.peers.values() if peer is not client]
        return Joined(room.name, client.info.peer_id, others)
