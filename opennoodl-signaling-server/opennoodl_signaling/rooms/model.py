"""A room: who is in it, and what is to be done when somebody comes, goes or speaks."""

from __future__ import annotations

from collections.abc import Collection
from math import inf
from time import time
from typing import NamedTuple

from msgspec import Raw

from ..edge.peer import Peer
from ..messages import Join, Outgoing, PeerInfo
from ..session import SessionInfo
from .absent_peers import AbsentPeer
from .resumption import Resumption

CONTEST_TIMEOUT = 2.0
"""Seconds that the holder of a contested peer id has to answer a ping."""


class Client:
    """One connection as the domain sees it.

    Attributes:
        peer: sends to it; None while its connection is lost.
        address: where it is, as what is limited for each address counts that.
        user_id: who it says it is, once it has joined or registered.
        room: where it is, as `info`.
        topics: what it is subscribed to; kept by `Topics`.
        awaited: the full topics that it was refused, and waits for; kept by `Topics`.
        contest: the peer id it is waiting for, if another connection holds that.
        absent: what waits for it, if its connection was lost and its place is kept.
        took_place: when it took its place from a connection that seemed open, in seconds of a steady clock.
        resumption: how a later connection takes its place in the room, if it has asked for that.
    """

    __slots__ = (
        "absent",
        "address",
        "awaited",
        "contest",
        "info",
        "peer",
        "resumption",
        "room",
        "took_place",
        "topics",
        "user_id",
    )

    def __init__(self, peer: Peer | None, address: str = "") -> None:
        self.peer = peer
        self.address = address
        self.user_id: str | None = None
        self.room: Room | None = None
        self.info = PeerInfo("", "", Raw(b"{}"))
        self.topics: set[str] = set()
        self.awaited: set[str] = set()
        self.contest: Contest | None = None
        self.absent: AbsentPeer | None = None
        self.resumption: Resumption | None = None
        self.took_place = -inf

    @property
    def connected(self) -> Peer:
        """What sends to a client that is known to be connected."""
        assert self.peer is not None
        return self.peer


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

    def others(self, client: Client) -> list[Client]:
        """Return who is to be told of `client`: the other peers, as far as they have a connection."""
        return [peer for peer in self.peers.values() if peer is not client and peer.absent is None]


class Send(NamedTuple):
    """Send `message` to every one of `to`."""

    to: Collection[Client]
    message: Outgoing


class Close(NamedTuple):
    """Close the client's connection, for a reason with a code of its own (`refusal`)."""

    client: Client
    code: int
    reason: str
    refusal: str


class Contest(NamedTuple):
    """Two connections claim one peer id: find out whether the `holder` is alive, then call `settle`."""

    holder: Client
    newcomer: Client
    join: Join


class Away(NamedTuple):
    """The client is absent: start its timer, and call `give_up` when its grace is over, unless `Back` came before."""

    client: Client


class Back(NamedTuple):
    """The absence has ended, since a newer connection took the place or the client left: cancel its timer."""

    client: Client


class Probe(NamedTuple):
    """Ping the client now: its pong says that all that it was sent before has arrived."""

    client: Client


Effect = Send | Close | Contest | Away | Back | Probe
