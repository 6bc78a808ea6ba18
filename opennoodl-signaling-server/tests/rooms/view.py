"""What a client knows about its room from what it was told, and where a model of the rooms has it."""

from __future__ import annotations

from copy import deepcopy

from opennoodl_signaling.messages import Join, Joined, Outgoing, PeerJoined, PeerLeft, PeerUpdated, SignalFrom


class View:
    """What a client knows about its room from what it was told, and nothing else.

    Attributes:
        peers: the metadata of the peers that it knows, by their ids.
        count: how many messages it has had since the last `joined`.
    """

    def __init__(self) -> None:
        self.room: str | None = None
        self.peers: dict[str, bytes] = {}
        self.signals: list[bytes] = []
        self.token: str | None = None
        self.count = 0

    def tell(self, message: Outgoing) -> None:
        """Take in one message; a message that does not fit in is a failure."""
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
    """Where the model has a client, and what it has to know.

    Attributes:
        resumable: whether it was given a token with the last `joined`.
        dark: whether nothing that is sent to it arrives any more.
        unheard: whether even the last `joined` has not arrived.
        signals: what it was sent, as far as it has arrived.
        under_way: who sent it what that has not arrived.
        waiting: who sent it what while it was absent.
        former: how it was before the last `joined`, as long as the server does not know that this has arrived.
        joined: another one after every `joined`.
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
        """What its client says when it resumes, if it counts."""
        return self.view.count if self.counts else None

    @property
    def identity(self) -> tuple[str, str, str]:
        """What a join names."""
        return self.room, self.peer, self.user

    @property
    def chances(self) -> list[Place]:
        """How its client may be when it comes back: with the last `joined`, or with nothing since the one before."""
        now = [] if self.unheard or not self.resumable else [self]
        return now if self.former is None else [*now, self.former]

    def freeze(self, missing: list[tuple[str, bytes]]) -> Place:
        """Return this place as its client knows it now, which misses some signals and all that follows."""
        frozen = deepcopy(self)
        frozen.dark, frozen.former, frozen.under_way, frozen.waiting = True, None, list(missing), []
        return frozen

    def forget(self, peer: str) -> None:
        """Drop what it has not received yet of a peer that has left."""
        self.waiting = [one for one in self.waiting if one[0] != peer]
        self.under_way = [one for one in self.under_way if one[0] != peer]
        if self.former is not None:
            self.former.forget(peer)
