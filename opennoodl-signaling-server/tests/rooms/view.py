"""The model of a client: its knowledge of its room, and its place in the model of the rooms."""

from __future__ import annotations

from copy import deepcopy

from opennoodl_signaling.messages import Join, Joined, Outgoing, PeerJoined, PeerLeft, PeerUpdated, SignalFrom


class View:
    """The knowledge of a client about its room, which it has from messages only.

    Attributes:
        room: the name of its room.
        peers: the metadata of the peers that it knows, by their ids.
        signals: the signals that it has received.
        token: its resume token.
        count: the number of messages since the last `joined`.
    """

    def __init__(self) -> None:
        self.room: str | None = None
        self.peers: dict[str, bytes] = {}
        self.signals: list[bytes] = []
        self.token: str | None = None
        self.count = 0

    def tell(self, message: Outgoing) -> None:
        """Handle a message; fail if it contradicts the knowledge."""
        if not isinstance(message, PeerUpdated):
            self.count = 0 if isinstance(message, Joined) else self.count + 1
        match message:
            case Joined(room=room, peers=infos, resumed=resumed):
                listed = {info.peer_id: bytes(info.metadata) for info in infos}
                assert len(listed) == len(infos)
                if resumed is True:
                    assert listed.keys() <= self.peers.keys(), "neither known nor announced"
                self.room, self.peers = room, listed
                self.token = message.resume_token if isinstance(message.resume_token, str) else None
            case PeerJoined(peer_id=peer, metadata=metadata):
                assert self.room is not None
                assert peer not in self.peers, "announced twice"
                self.peers[peer] = bytes(metadata)
            case PeerUpdated(peer_id=peer, metadata=metadata):
                assert self.peers[peer] != bytes(metadata), "no news"
                self.peers[peer] = bytes(metadata)
            case PeerLeft(peer_id=peer):
                del self.peers[peer]
            case SignalFrom(from_=peer, signal=signal):
                assert peer in self.peers, "a signal of nobody"
                self.signals.append(bytes(signal))


class Place:
    """The place of a client in the model, and the messages that it must receive.

    Attributes:
        resumable: whether the last `joined` had a resume token.
        counts: whether the client counts the messages that it receives.
        absent: whether its connection is lost and its place is kept.
        dark: whether no further message arrives on its connection.
        unheard: whether the last `joined` has not arrived either.
        signals: the signals to it that have arrived.
        under_way: senders and signals that have not arrived.
        waiting: senders and signals since it is absent.
        former: the place before the last `joined`, until the server knows that this has arrived.
        joined: a new object for each `joined`.
    """

    def __init__(self, join: Join, view: View) -> None:
        self.room = join.room
        self.peer = join.peer_id
        self.user = join.user_id
        self.metadata = bytes(join.metadata)
        self.view = view
        self.resumable = join.resume or join.resume_token is not None
        self.counts = join.received is not None
        self.absent = False
        self.dark = False
        self.unheard = False
        self.signals: list[bytes] = []
        self.under_way: list[tuple[str, bytes]] = []
        self.waiting: list[tuple[str, bytes]] = []
        self.former: Place | None = None
        self.joined = object()

    @property
    def count(self) -> int | None:
        """The `received` of its client when it resumes; None if it does not count."""
        return self.view.count if self.counts else None

    @property
    def identity(self) -> tuple[str, str, str]:
        """The room, peer id and user id of its `join`."""
        return self.room, self.peer, self.user

    @property
    def chances(self) -> list[Place]:
        """The states in which its client can resume: after the last `joined`, or after the one before."""
        now = [] if self.unheard or not self.resumable else [self]
        return now if self.former is None else [*now, self.former]

    def freeze(self, missing: list[tuple[str, bytes]]) -> Place:
        """Return a copy of the place as its client knows it now, without some signals and all later messages."""
        frozen = deepcopy(self)
        frozen.dark, frozen.former, frozen.under_way, frozen.waiting = True, None, list(missing), []
        return frozen

    def forget(self, peer: str) -> None:
        """Drop the undelivered signals of a peer that has left."""
        self.waiting = [one for one in self.waiting if one[0] != peer]
        self.under_way = [one for one in self.under_way if one[0] != peer]
        if self.former is not None:
            self.former.forget(peer)
