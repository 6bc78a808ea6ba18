"""Rooms: who is in which room, who can be invited, and what everybody is told. Knows no socket.

Every method takes what a client sent and returns the effects: what to send to whom, and whom to close.
All of it happens in one step, so a room's size is exact and a peer is either in `joined` or announced.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from hmac import compare_digest
from secrets import token_urlsafe

from msgspec import UNSET

from .absence import Absence, Absences
from .edge.json_messages import BadMessage, Error
from .edge.limits import Quota
from .messages import (
    Invite,
    InviteFrom,
    InviteSent,
    Join,
    Joined,
    Leave,
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
from .room import Away, Back, Client, Close, Contest, Effect, Room, Send
from .trail import Came, Left, Trail, Trails

REPLACED = 4409
"""Close code for a connection whose place a newer one with the same identity took."""


MAX_METADATA = 16_384
"""Bytes of a peer's metadata."""
USERS_OF_AN_ADDRESS = 10
"""How many users' invites may come from one address: people can call themselves anything, but not be anywhere."""
UNDELIVERED = "The peer came back without its state: what you have signaled to it meanwhile is lost."


class Rooms:
    """All rooms and users of this process.

    Args:
        max_size: peers in a room; 0 means any number.
        invites_per_hour: of one user, and a tenth of what may come from one address; 0 means any number.
        max_absent: peers whose places are kept at once; 0 means any number, None that no place is ever kept.
        proven: whether a client is the user that it says it is, so that a peer id held by the same user is its own.

    Attributes:
        rooms: those that somebody is in, by name.
        users: the connections that a user can be invited through.
        absences: those of all rooms.
        trails: those of all peers that count.
        joins: how many ended how.
        invites: how many ended how.
    """

    def __init__(
        self, max_size: int, invites_per_hour: int, max_absent: int | None = None, *, proven: bool = False
    ) -> None:
        self.rooms: dict[str, Room] = {}
        self.users: dict[str, set[Client]] = {}
        self.absences = Absences(max_absent or 0)
        self.trails = Trails()
        self.joins: Counter[str] = Counter()
        self.invites: Counter[str] = Counter()
        self._keeps_places = max_absent is not None
        self._proven = proven
        self._max_size = max_size
        self._invites = Quota(invites_per_hour, 3600)
        self._invites_from = Quota(USERS_OF_AN_ADDRESS * invites_per_hour, 3600)

    def join(self, client: Client, join: Join) -> list[Effect]:
        """Enter a room, leaving the old one.

        Returns:
            `joined` for the client and `peer-joined` for the others; or a `Contest`, if somebody who says they are
            the same user holds the peer id through another connection, and it does not show that one's token.

        Raises:
            BadMessage: `room-full` or `peer-id-taken`; the client stays where it was.
        """
        try:
            return self._join(client, join)
        except BadMessage as bad:
            self.joins[bad.code] += 1
            raise

    def _join(self, client: Client, join: Join) -> list[Effect]:
        client.contest = None
        if len(join.metadata) > MAX_METADATA:
            raise BadMessage("too-large", f"`metadata` may have {MAX_METADATA} bytes: everybody who joins is sent it.")
        room = self.rooms.get(join.room)
        holder = room.peers.get(join.peer_id) if room else None
        if room is not None and holder is client and client.info.user_id == join.user_id:
            # Joining again under the same name is no news for the others.
            client.info = _info(join)
            self._identify(client, join.user_id)
            self._present(room, client, join.session)
            self.joins["joined"] += 1
            return [Send((client,), self._joined(room, client, join))]
        if holder is not None and holder is not client:
            if holder.info.user_id != join.user_id:
                raise BadMessage("peer-id-taken", "Another user in this room has this peerId; choose another one.")
            if _shows_token(join, holder):
                return self._replace(holder, client, join, resumed=True)
            if self._proven or holder.absence is not None:
                return self._replace(holder, client, join)
            client.contest = Contest(holder, client, join)
            return [client.contest]
        if room is not None and client.room is not room and self._full(room):
            raise BadMessage("room-full", f"The room is full: {len(room.peers)} peers are all it may have.")
        effects = self.leave(client)
        room = self.rooms.setdefault(join.room, room or Room(join.room))
        self._enter(room, client, join)
        self.joins["joined"] += 1
        effects.append(Send((client,), self._joined(room, client, join)))
        if others := room.others(client):
            effects.append(Send(others, _news(client)))
        for peer in others:
            if peer.trail is not None:
                peer.trail.add(Came(join.peer_id))
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
            self.joins["abandoned"] += 1
            return []
        newcomer.contest = None
        room = holder.room
        contested = (join.room, join.peer_id, join.user_id)
        if room is None or (room.name, holder.info.peer_id, holder.info.user_id) != contested:
            return self.join(newcomer, join)
        if alive and holder.absence is None:
            self.joins["peer-id-taken"] += 1
            raise BadMessage("peer-id-taken", "You are in this room already, through another connection.")
        return self._replace(holder, newcomer, join)

    def leave(self, client: Client, leave: Leave | None = None) -> list[Effect]:
        """Leave the room, if the client is in one (and in the one that `leave` names), or stop waiting for it."""
        named = None if leave is None else leave.room
        if client.contest is not None and named in (None, client.contest.join.room):
            client.contest = None
        room = client.room
        if room is None or named not in (None, room.name):
            return []
        del room.peers[client.info.peer_id]
        self._vacate(client, "gone")
        if not room.peers:
            del self.rooms[room.name]
        for peer in room.peers.values():
            if peer.absence is not None:
                peer.absence.forget(client.info.peer_id)
            if peer.trail is not None:
                peer.trail.add(Left(client.info.peer_id))
        others = room.others(client)
        return [Send(others, PeerLeft(client.info.peer_id))] if others else []

    def lose(self, client: Client) -> list[Effect]:
        """Keep the place of a client whose connection was lost, if it has asked for that; else forget it."""
        room = client.room
        if room is None or client.token is None or self.absences.full:
            return self.forget(client)
        client.contest = None
        client.absence = Absence(room.peers, self.absences)
        self._identify(client, None)
        return [Away(client)]

    def give_up(self, client: Client) -> list[Effect]:
        """Let a client go that is still absent."""
        return self.leave(client) if client.absence is not None else []

    def signal(self, client: Client, signal: Signal) -> tuple[Client | None, SignalFrom]:
        """Return who gets signaling data now, or None for who will when they are back, and what they get.

        No effect like the others: nothing else comes as often.

        Raises:
            BadMessage: `not-in-room` or `peer-not-found`.
        """
        room = client.room
        if room is None:
            raise BadMessage("not-in-room", "Join a room before you signal.")
        target = room.peers.get(signal.to)
        if target is None:
            raise BadMessage("peer-not-found", "Nobody in your room has the peerId in `to`.")
        message = SignalFrom(from_=client.info.peer_id, signal=signal.signal)
        if target.absence is None:
            if target.trail is not None:
                target.trail.add(message)
            return target, message
        if not target.absence.hold(message):
            raise BadMessage("peer-not-found", "That peer's connection is lost, and too much waits for it already.")
        return None, message

    def invite(self, client: Client, invite: Invite, now: float) -> list[Effect]:
        """Pass an invite to every connection of a user, and tell the sender whether there was one.

        Raises:
            BadMessage: `not-registered` or `rate-limited`.
        """
        sender = client.user_id
        if sender is None:
            raise BadMessage("not-registered", "Join a room or register before you invite.")
        # The address comes first: it bounds how many users there are to be remembered.
        allowed = self._invites_from.allow(client.address, now)
        if allowed and not self._invites.allow(sender, now):
            self._invites_from.give_back(client.address)
            allowed = False
        if not allowed:
            self.invites["rate-limited"] += 1
            raise BadMessage(
                "rate-limited", "You, or all at your address, have sent as many invites as may be in an hour."
            )
        target = invite.target_user_id
        devices = self.users.get(target)
        self.invites["delivered" if devices else "offline"] += 1
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

    def _replace(self, holder: Client, newcomer: Client, join: Join, *, resumed: bool = False) -> list[Effect]:
        """Give the holder's place to the newcomer; the others are told nothing."""
        room = holder.room
        assert room is not None
        effects = self.leave(newcomer)
        absence = holder.absence
        missed = _missed(holder, join) if resumed else None
        self._vacate(holder, "resumed" if resumed else "replaced")
        self._enter(room, newcomer, join)  # under the same key: the place in the order of arrival stays
        self.joins["resumed" if resumed else "replaced"] += 1
        if absence is None:
            effects.append(Close(holder, REPLACED, "A newer connection of yours took this peerId."))
        else:
            effects.append(Back(holder))
        known, signals = missed or (None, [])
        effects.append(Send((newcomer,), self._joined(room, newcomer, join, resumed, known)))
        if known is not None:
            unknown = [peer for name, peer in room.peers.items() if name not in known and peer is not newcomer]
            effects += [Send((newcomer,), _news(peer)) for peer in unknown]
            effects += [Send((newcomer,), signal) for signal in signals]
            if newcomer.trail is not None:
                for peer in unknown:
                    newcomer.trail.add(Came(peer.info.peer_id))
                for signal in signals:
                    newcomer.trail.add(signal)
        elif absence is not None:
            # Whoever has not shown the token gets nothing that was meant for the peer before it.
            senders = {signal.from_ for signal in absence.signals}
            told = [peer for peer in room.others(newcomer) if peer.info.peer_id in senders]
            if told:
                effects.append(Send(told, Error(UNDELIVERED, "peer-not-found")))
        return effects

    def _vacate(self, client: Client, how: str) -> None:
        client.room = None
        if client.absence is not None:
            client.absence.end(how)
            client.absence = None
        self._count(client, None)

    def _enter(self, room: Room, client: Client, join: Join) -> None:
        client.info = _info(join)
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

    def _count(self, client: Client, trail: Trail | None) -> None:
        if client.trail is not None:
            client.trail.end()
        client.trail = trail

    def _joined(
        self, room: Room, client: Client, join: Join, resumed: bool = False, known: Collection[str] | None = None
    ) -> Joined:
        """Return the answer to a join; to who resumes, with those alone whom it knows, if that is known."""
        wanted = join.resume or join.resume_token is not None
        client.token = token_urlsafe() if wanted and self._keeps_places else None
        peers = [
            peer.info for name, peer in room.peers.items() if peer is not client and (known is None or name in known)
        ]
        counts = client.token is not None and join.received is not None
        self._count(client, Trail((peer.peer_id for peer in peers), self.trails) if counts else None)
        return Joined(room.name, join.peer_id, peers, resume_token=client.token or UNSET, resumed=resumed or UNSET)


def _info(join: Join) -> PeerInfo:
    # What was decoded would keep the whole message in memory, of which it may be a small part.
    return PeerInfo(join.peer_id, join.user_id, join.metadata.copy())


def _news(client: Client) -> PeerJoined:
    info = client.info
    return PeerJoined(info.peer_id, info.user_id, info.metadata)


def _missed(holder: Client, join: Join) -> tuple[Collection[str], Sequence[SignalFrom]] | None:
    """Return whom a peer that resumes knows and what it has missed; None if nobody can tell."""
    trail, absence = holder.trail, holder.absence
    if trail is None or join.received is None:
        return None if absence is None else (absence.known, absence.signals)
    trail.arrived(join.received)
    known, signals = trail.missed()
    return known, signals if absence is None else signals + absence.signals


def _shows_token(join: Join, holder: Client) -> bool:
    shown, token = join.resume_token, holder.token
    return shown is not None and token is not None and compare_digest(shown.encode(), token.encode())
