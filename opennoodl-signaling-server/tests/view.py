"""What a client knows about its room from what it was told, and where a model of the rooms has it."""

from __future__ import annotations

from opennoodl_signaling.messages import Join, Joined, Outgoing, PeerJoined, PeerLeft, SignalFrom


class View:
    """What a client knows about its room from what it was told, and nothing else.

    Attributes:
        count: how many messages it has had since the last `joined`.
    """

    def __init__(self) -> None:
        self.room: str | None = None
        self.peers: set[str] = set()
        self.signals: list[bytes] = []
        self.token: str | None = None
        self.count = 0

    def tell(self, message: Outgoing) -> None:
        """Take in one message; a message that does not fit in is a failure."""
        self.count = 0 if isinstance(message, Joined) else self.count + 1
        match message:
            case Joined(room=room, peers=infos, resumed=resumed):
                listed = {info.peer_id for info in infos}
                assert len(listed) == len(infos)
                if resumed is True:
                    assert listed <= self.peers, "neither known nor announced"
                self.room, self.peers = room, listed
                self.token = message.resume_token if isinstance(message.resume_token, str) else None
            case PeerJoined(peer_id=peer):
                assert self.room is not None
                assert peer not in self.peers, "announced twice"
                self.peers.add(peer)
            case PeerLeft(peer_id=peer):
                assert peer in self.peers, "left without having come"
                self.peers.remove(peer)
            case SignalFrom(from_=peer, signal=signal):
                assert peer in self.peers, "a signal of nobody"
                self.signals.append(bytes(signal))


class Place:
    """Where the model has a client, and what it has to know.

    Attributes:
        dark: whether nothing that is sent to it arrives any more.
        signals: what it was sent, as far as it has arrived.
        under_way: who sent it what that has not arrived.
        waiting: who sent it what while it was absent.
    """

    def __init__(self, join: Join, view: View) -> None:
        self.room = join.room
        self.peer = join.peer_id
        self.user = join.user_id
        self.view = view
        self.counts = join.received is not None
        self.absent = False
        self.dark = False
        self.signals: list[bytes] = []
        self.under_way: list[tuple[str, bytes]] = []
        self.waiting: list[tuple[str, bytes]] = []

    @property
    def count(self) -> int | None:
        """What its client says when it resumes, if it counts."""
        return self.view.count if self.counts else None

    @property
    def identity(self) -> tuple[str, str, str]:
        """What a join names."""
        return self.room, self.peer, self.user
