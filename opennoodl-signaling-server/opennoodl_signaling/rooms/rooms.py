"""The rules of rooms: joining, leaving, resuming, signals, metadata and the session. Knows no socket.

Each method takes a message or event of a client, and returns effects: messages to send, and connections to close. It
runs in one step. So the size of a room is exact, and each peer is either in a `joined` or announced, never both.
"""

from collections.abc import Collection
from math import inf
from time import monotonic

from msgspec import UNSET, Raw

from ..edge.errors import BadMessage
from ..edge.metrics import Counts
from ..messages import Join, Joined, Leave, Metadata, PeerInfo, Session, Signal, SignalFrom, SignalLost
from ..session import SessionChange
from ..users import Users
from . import announcements
from .absent_peers import AbsentPeer, AbsentPeers
from .model import Away, Back, Client, Close, Contest, Effect, Probe, Room, Send
from .resumption import Former, Resumption
from .unacknowledged import DeliveryLog, DeliveryLogs

REPLACED = 4409
"""Close code of a connection whose place a newer connection of the same user took."""
CONTEST_PAUSE = 60.0
"""Seconds after a takeover in which the holder is pinged first, although the new connection has a valid token.

Otherwise two tabs of one user, which both reconnect when they are replaced, would replace each other without end.
"""
MAX_METADATA = 16_384
"""Limit of the bytes of a peer's metadata."""
JOINS = ("joined", "resumed", "replaced", "abandoned", "room-full", "peer-id-taken", "too-large")
"""Labels of the outcomes of joins."""
NOT_IN_ROOM = "Join a room before you signal."
UNKNOWN_PEER = "No peer in your room has the peerId in `to`."
QUEUE_FULL = "That peer's connection is lost, and its queue is full."
UNDELIVERED = "The peer came back without its state: what you have signaled to it meanwhile is lost."


class PeerNotFound(BadMessage):
    """A signal cannot be passed on: the room has no peer with this id, or the queue of the peer is full.

    Args:
        error: a sentence for people.
        peer_id: the receiver.
    """

    def __init__(self, error: str, peer_id: str) -> None:
        super().__init__("peer-not-found", error)
        self.peer_id = peer_id


class Rooms:
    """All rooms of this process.

    Args:
        max_size: limit of the peers of a room; 0 means no limit.
        users: receives the user of each client that joins.
        max_absent: limit of the reserved places; 0 means no limit, None that no place is reserved.
        proven: whether users are authenticated. Then the same user's peer id counts as the client's own.

    Attributes:
        rooms: the rooms with peers, by name.
        absent_peers: the totals of the absent peers of all rooms.
        logs: the totals of the delivery logs of all peers.
        joins: joins by outcome.
    """

    def __init__(self, max_size: int, users: Users, max_absent: int | None = None, *, proven: bool = False) -> None:
        self.rooms: dict[str, Room] = {}
        self.absent_peers = AbsentPeers(max_absent or 0)
        self.logs = DeliveryLogs()
        self.joins = Counts(JOINS)
        self._users = users
        self._keeps_places = max_absent is not None
        self._proven = proven
        self._max_size = max_size

    def join(self, client: Client, join: Join) -> list[Effect]:
        """Enter a room, and leave the former one.

        Returns:
            `joined` for the client and `peer-joined` for the others. Or a `Contest`, if another connection with the
            same user id holds the peer id, and the client has not sent the resume token of that connection.

        Raises:
            BadMessage: `room-full`, `peer-id-taken` or `too-large`; the client stays in its former room.
        """
        try:
            return self._join(client, join)
        except BadMessage as bad:
            self.joins[bad.code] += 1
            raise

    def _join(self, client: Client, join: Join) -> list[Effect]:
        client.contest = None
        _check_metadata(join.metadata)
        room = self.rooms.get(join.room)
        holder = room.peers.get(join.peer_id) if room else None
        if room is not None and holder is client and client.info.user_id == join.user_id:
            return self._join_again(room, client, join)
        if holder is not None and holder is not client:
            if holder.info.user_id != join.user_id:
                raise BadMessage("peer-id-taken", "Another user in this room has this peerId; choose another one.")
            token = join.resume_token
            if token is not None and holder.resumption is not None and holder.resumption.accepts(token):
                return self._resume(holder, client, join, token)
            if holder.absent is not None or (self._proven and monotonic() - holder.took_place > CONTEST_PAUSE):
                return self._replace(holder, client, join)
            client.contest = Contest(holder, client, join)
            return [client.contest]
        if room is not None and client.room is not room and self.is_full(room):
            raise BadMessage("room-full", f"The room is full: its limit of peers is {len(room.peers)}.")
        effects = self._leave_room(client)
        room = self.rooms.setdefault(join.room, room or Room(join.room))
        self._enter(room, client, join)
        self.joins["joined"] += 1
        effects.append(Send((client,), self._joined(room, client, join)))
        return effects + announcements.announce(room.others(client), announcements.arrival(client))

    def _join_again(self, room: Room, client: Client, join: Join) -> list[Effect]:
        """Answer a client that has this peer id in the room already. The others receive only changed metadata."""
        info, former = client.info, None
        client.info = _info(join)
        self._users.identify(client, join.user_id)
        self._change_session(room, client, join.session)
        self.joins["joined"] += 1
        if client.resumption is not None:
            others = [name for name, peer in room.peers.items() if peer is not client]
            former = client.resumption.hand_over(join.resume_token, others, self.logs)
            client.resumption = None
        answer = Send((client,), self._joined(room, client, join, former=former))
        return [answer, *announcements.change(room, client, info), *([] if former is None else [Probe(client)])]

    def settle(self, contest: Contest, alive: bool) -> list[Effect]:
        """Decide a contest, when it is known whether its holder is `alive`.

        Returns:
            the effects of the join; nothing if the new connection has left or joined elsewhere meanwhile.

        Raises:
            BadMessage: `peer-id-taken`, for the new connection: the holder is alive and stays.
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
        if alive and holder.absent is None:
            self.joins["peer-id-taken"] += 1
            if self._proven:
                holder.took_place = monotonic()  # the next attempt within CONTEST_PAUSE is refused too
            raise BadMessage("peer-id-taken", "You are in this room already, through another connection.")
        return self._replace(holder, newcomer, join)

    def leave(self, client: Client, leave: Leave | None = None) -> list[Effect]:
        """Leave the room, and end a contest. Does nothing if `leave` names another room."""
        named = None if leave is None else leave.room
        if client.contest is not None and named in (None, client.contest.join.room):
            client.contest = None
        if client.room is None or named not in (None, client.room.name):
            return []
        return self._leave_room(client)

    def _leave_room(self, client: Client) -> list[Effect]:
        """Remove a client from its room, if it is in one, and send that to the others."""
        room = client.room
        if room is None:
            return []
        del room.peers[client.info.peer_id]
        self._free_place(client, "gone")
        if not room.peers:
            del self.rooms[room.name]
        return announcements.departure(room, client, client.info.peer_id)

    def lose(self, client: Client) -> list[Effect]:
        """Reserve the place of a client whose connection was lost, if it can resume. Otherwise remove it."""
        room = client.room
        if room is None or client.resumption is None or self.absent_peers.full:
            return self.forget(client)
        client.contest = None
        client.absent = AbsentPeer(room.peers, self.absent_peers)
        self._users.identify(client, None)
        return [Away(client)]

    def give_up(self, client: Client) -> list[Effect]:
        """Remove a client that is still absent at the end of its grace."""
        return self._leave_room(client) if client.absent is not None else []

    def signal(self, client: Client, signal: Signal) -> tuple[Client | None, SignalFrom]:
        """Return the receiver of a signal and the message for it. The receiver is None if the signal waits for it.

        This is not an `Effect`, since signals are by far the most frequent messages.

        Raises:
            PeerNotFound: the room has no peer with this id, or the queue of the peer is full.
            BadMessage: `not-in-room`.
        """
        room = client.room
        if room is None:
            raise BadMessage("not-in-room", NOT_IN_ROOM)
        target = room.peers.get(signal.to)
        if target is None:
            raise PeerNotFound(UNKNOWN_PEER, signal.to)
        message = SignalFrom(from_=client.info.peer_id, signal=signal.signal)
        if target.absent is None:
            if target.resumption is not None:
                target.resumption.log_message(message)
            return target, message
        if not target.absent.queue(message, signal.request_id):
            raise PeerNotFound(QUEUE_FULL, signal.to)
        return None, message

    def update(self, client: Client, message: Metadata) -> list[Effect]:
        """Change the metadata of a client, and send it to the others.

        Raises:
            BadMessage: `not-in-room` or `too-large`.
        """
        if client.room is None:
            raise BadMessage("not-in-room", "Join a room before you change your metadata.")
        _check_metadata(message.metadata)
        info = client.info
        client.info = PeerInfo(info.peer_id, info.user_id, message.metadata.copy())
        return announcements.change(client.room, client, info)

    def change_session(self, client: Client, session: Session) -> list[Effect]:
        """Change the session of the client's room.

        Raises:
            BadMessage: `not-in-room` or `not-host`.
        """
        if client.room is None:
            raise BadMessage("not-in-room", "Join a room before you describe it.")
        if client.room.host is not client:
            raise BadMessage("not-host", "Only the host may describe the session.")
        client.room.session = session.applied(client.room.session)
        return []

    def forget(self, client: Client) -> list[Effect]:
        """Remove a client whose connection has ended."""
        client.contest = None
        effects = self._leave_room(client)
        self._users.identify(client, None)
        return effects

    def capacity(self, room: Room) -> int:
        """Return the limit of the peers of a room; 0 means no limit."""
        wanted = room.session.max_participants
        return min(wanted, self._max_size or wanted) if wanted else self._max_size

    def is_full(self, room: Room) -> bool:
        """Return whether no further peer may enter a room."""
        capacity = self.capacity(room)
        return bool(capacity) and len(room.peers) >= capacity

    def _resume(self, holder: Client, newcomer: Client, join: Join, token: str) -> list[Effect]:
        """Let a new connection with the holder's token resume in its place. The others receive no message."""
        room, resumption, absent, info = holder.room, holder.resumption, holder.absent, holder.info
        assert room is not None
        assert resumption is not None
        effects = self._leave_room(newcomer)
        missed = resumption.missed(token, join.received, absent)
        effects += self._take_place(room, holder, newcomer, join, "resumed")
        others = [name for name, peer in room.peers.items() if peer is not newcomer]
        known, signals = (set(others), ()) if missed is None else missed
        # If this `joined` is lost too, the peer resumes with the same token again, and has received nothing since.
        former = Former(token, DeliveryLog(known, self.logs), counted=False)
        effects.append(Send((newcomer,), self._joined(room, newcomer, join, known, former)))
        for name in others:
            if name not in known:
                effects += announcements.announce((newcomer,), announcements.arrival(room.peers[name]))
        for signal in signals:
            effects += announcements.announce((newcomer,), signal)
        return [*effects, *announcements.change(room, newcomer, info), Probe(newcomer)]

    def _replace(self, holder: Client, newcomer: Client, join: Join) -> list[Effect]:
        """Give the place of the holder to a new connection without its token: one peer leaves, and another one joins.

        The new connection has no state, so the WebRTC connections of the others with the holder are of no use.
        """
        room, absent = holder.room, holder.absent
        assert room is not None
        effects = self._leave_room(newcomer)
        effects += self._take_place(room, holder, newcomer, join, "replaced")
        if absent is not None:
            # One error for each `requestId`, and one for each sender without a `requestId`.
            for sender, request_id in absent.senders():
                peer = room.peers.get(sender)
                if peer is not None and peer is not newcomer and peer.absent is None:
                    lost = SignalLost(UNDELIVERED, "peer-not-found", request_id, join.peer_id)
                    effects.append(Send((peer,), lost))
        effects += announcements.departure(room, newcomer, join.peer_id)
        effects.append(Send((newcomer,), self._joined(room, newcomer, join)))
        return effects + announcements.announce(room.others(newcomer), announcements.arrival(newcomer))

    def _take_place(self, room: Room, holder: Client, newcomer: Client, join: Join, how: str) -> list[Effect]:
        """Put a new connection in the place of the holder. The key stays, and so does the order of arrival."""
        absent = holder.absent is not None
        self._free_place(holder, how)
        self._enter(room, newcomer, join)
        newcomer.took_place = -inf if absent else monotonic()
        self.joins[how] += 1
        return [
            Back(holder)
            if absent
            else Close(holder, REPLACED, "A newer connection of yours took this peerId.", "replaced")
        ]

    def _free_place(self, client: Client, how: str) -> None:
        client.room = None
        client.took_place = -inf
        if client.absent is not None:
            client.absent.end(how)
            client.absent = None
        self._set_resumption(client, None)

    def _enter(self, room: Room, client: Client, join: Join) -> None:
        client.info = _info(join)
        client.room = room
        room.peers[join.peer_id] = client
        self._users.identify(client, join.user_id)
        self._change_session(room, client, join.session)

    def _change_session(self, room: Room, client: Client, session: SessionChange | None) -> None:
        if session is not None and room.host is client:
            room.session = session.applied(room.session)

    def _set_resumption(self, client: Client, resumption: Resumption | None) -> None:
        if client.resumption is not None:
            client.resumption.end()
        client.resumption = resumption

    def _joined(
        self,
        room: Room,
        client: Client,
        join: Join,
        known: Collection[str] | None = None,
        former: Former | None = None,
    ) -> Joined:
        """Return the answer to a `join`.

        Args:
            room: the room that the client has entered.
            client: the client.
            join: the `join`.
            known: the peers that the client knows, if it resumes; it gets a `peer-joined` for each other one. None if
            not.
            former: the `joined` before, which stays valid until this one has arrived.
        """
        peers = [
            peer.info for name, peer in room.peers.items() if peer is not client and (known is None or name in known)
        ]
        resumed = UNSET if known is None else True
        if not self._keeps_places or not (join.resume or join.resume_token is not None):
            if former is not None:
                former.log.end()
            self._set_resumption(client, None)
            return Joined(room.name, join.peer_id, peers, resumed=resumed)
        log = None if join.received is None else DeliveryLog((peer.peer_id for peer in peers), self.logs)
        resumption = Resumption(log, former)
        self._set_resumption(client, resumption)
        return Joined(room.name, join.peer_id, peers, resume_token=resumption.token, resumed=resumed)


def _check_metadata(metadata: Raw) -> None:
    if len(metadata) > MAX_METADATA:
        raise BadMessage("too-large", f"`metadata` may have at most {MAX_METADATA} bytes.")


def _info(join: Join) -> PeerInfo:
    # Copied, since a `Raw` keeps the whole message that it is a part of in memory.
    return PeerInfo(join.peer_id, join.user_id, join.metadata.copy())
