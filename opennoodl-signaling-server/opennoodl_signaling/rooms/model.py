"""The data of rooms: clients, rooms, and the effects that the rules return."""

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
"""Seconds in which the holder of a contested peer id must answer a ping."""


class Client:
    """One connection, without its socket.

    Args:
        peer: the connection.
        address: the key under which limits count its address; see `rate_limit_key`.

    Attributes:
        peer: the connection; None while it is lost.
        address: the address, as given.
        user_id: the user, after `join` or `register`.
        room: its room, or None.
        info: the data that the other peers of the room receive about it.
        topics: the topics that it is subscribed to; set by `Topics`.
        awaited: the full topics that it waits for; set by `Topics`.
        contest: the contest about a peer id that it waits for.
        absent: its absence, if its connection is lost and its place is reserved.
        took_place: monotonic time in seconds at which it took its place from a connection that seemed open.
        resumption: the data with which a later connection takes its place; None if it cannot resume.
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
        """The connection of a client that must be connected."""
        assert self.peer is not None
        return self.peer


class Room:
    """A room with peers. `peers` has the order of arrival, so the first one is the host.

    Args:
        name: the name of the room.
    """

    __slots__ = ("created", "name", "peers", "session")

    def __init__(self, name: str) -> None:
        self.name = name
        self.peers: dict[str, Client] = {}
        self.session = SessionInfo()
        self.created = time()

    @property
    def host(self) -> Client:
        """The peer that joined first."""
        return next(iter(self.peers.values()))

    def others(self, client: Client) -> list[Client]:
        """Return the peers that receive messages about `client`: all others with a connection."""
        return [peer for peer in self.peers.values() if peer is not client and peer.absent is None]


class Send(NamedTuple):
    """Send `message` to each client in `to`."""

    to: Collection[Client]
    message: Outgoing


class Close(NamedTuple):
    """Close the connection of a client. `refusal` is the code under which it is counted and logged."""

    client: Client
    code: int
    reason: str
    refusal: str


class Contest(NamedTuple):
    """Two connections claim one peer id. Ping the `holder`, then call `settle` with the result."""

    holder: Client
    newcomer: Client
    join: Join


class Away(NamedTuple):
    """A client is absent. Start a timer, and call `give_up` at the end of the grace unless `Back` cancels it."""

    client: Client


class Back(NamedTuple):
    """An absence has ended, since another connection took the place or the client left. Cancel the timer."""

    client: Client


class Probe(NamedTuple):
    """Ping a client now. Its pong shows that it has received all earlier messages."""

    client: Client


Effect = Send | Close | Contest | Away | Back | Probe
