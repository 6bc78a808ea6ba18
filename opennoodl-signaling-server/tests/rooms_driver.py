"""Rooms for tests: effects are performed as the server does, and messages to clients are recorded."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from msgspec import Raw
from opennoodl_signaling.edge.errors import BadMessage
from opennoodl_signaling.messages import Join, Signal
from opennoodl_signaling.rooms.model import Away, Back, Client, Close, Contest, Effect, Probe, Send
from opennoodl_signaling.rooms.rooms import Rooms
from opennoodl_signaling.users import Users

Messages = list[tuple[str, Any]]


class RoomsDriver:
    """Rooms, and the messages that clients receive.

    Args:
        max_size: peers that a room may have; 0 means any number.
        invites: invites that one user may send in an hour; 0 means any number.
        max_absent: peers whose places are kept at the same time; see `Rooms`.
        proven: whether users are authenticated.

    Attributes:
        sent: the receivers and messages of the last action.
        contests: the contests that are not settled.
        away: the absent clients.
        probed: the clients that were pinged.
    """

    def __init__(
        self, max_size: int = 0, invites: int = 0, max_absent: int | None = 0, *, proven: bool = False
    ) -> None:
        self.users = Users(invites)
        self.rooms = Rooms(max_size, self.users, max_absent, proven=proven)
        self.sent: Messages = []
        self.contests: list[Contest] = []
        self.away: list[Client] = []
        self.probed: list[Client] = []

    def perform(self, effects: Iterable[Effect]) -> Messages:
        """Perform effects as the server does; return the receivers and their messages in order."""
        self.sent = []
        for effect in effects:
            match effect:
                case Send(to=to, message=message):
                    assert not [client.peer for client in to if client.absent is not None], "has no connection"
                    encoded = msgspec.json.decode(msgspec.json.encode(message))
                    self.sent += [(str(client.peer), encoded) for client in tuple(to)]
                case Close(client=client, code=code):
                    self.sent.append((str(client.peer), code))
                    assert self.rooms.forget(client) == []
                case Contest():
                    self.contests.append(effect)
                case Away(client=client):
                    self.away.append(client)
                case Back(client=client):
                    self.away.remove(client)
                case Probe(client=client):
                    self.probed.append(client)
        return self.sent

    def join(self, client: Client, room: str = "r", user: str = "", **fields: Any) -> Messages:
        """Join a room with the client's name as peer id."""
        name = str(client.peer)
        fields = {"room": room, "peer_id": name, "user_id": user or name.upper(), **fields}
        return self.perform(self.rooms.join(client, Join(**fields)))

    def signal(self, client: Client, to: str, signal: str = "1") -> Messages:
        """Send a signal, which is JSON, to a peer."""
        target, message = self.rooms.signal(client, Signal(to, Raw(signal.encode())))
        return self.perform([] if target is None else [Send((target,), message)])

    def lose(self, client: Client) -> Messages:
        """Lose a client's connection."""
        return self.perform(self.rooms.lose(client))

    def give_up(self, client: Client) -> Messages:
        """End the grace of an absent client."""
        self.away.remove(client)
        return self.perform(self.rooms.give_up(client))

    def settle(self, alive: bool) -> Messages:
        """Settle the oldest contest."""
        return self.perform(self.rooms.settle(self.contests.pop(0), alive))

    def peers(self, room: str = "r") -> list[str]:
        """Return the ids of the peers of a room, in the order of arrival."""
        return list(self.rooms.rooms[room].peers) if room in self.rooms.rooms else []


def token_of(client: Client) -> str:
    """Return the token with which a later connection takes a client's place."""
    assert client.resumption is not None
    return client.resumption.token


def token_in(told: Messages) -> str:
    """Return the resume token in the first message."""
    token: str = told[0][1]["resumeToken"]
    return token


def back(driver: RoomsDriver, client: Client, token: str | None, **fields: Any) -> Messages:
    """Join with the peer id x and a resume token."""
    return driver.join(client, **{"peer_id": "x", "user": "X", "resume_token": token, **fields})


def joined(client: str, room: str = "r", *peers: str) -> tuple[str, Any]:
    """Return the `joined` to a client, in a room with these peers."""
    infos = [{"peerId": peer, "userId": peer.upper(), "metadata": {}} for peer in peers]
    return client, {"type": "joined", "room": room, "peerId": client, "peers": infos}


def came(client: str, peer: str) -> tuple[str, Any]:
    """Return the `peer-joined` to a client about a peer."""
    return client, {"type": "peer-joined", "peerId": peer, "userId": peer.upper(), "metadata": {}}


def left(client: str, peer: str) -> tuple[str, Any]:
    """Return what a client is told when a peer has left."""
    return client, {"type": "peer-left", "peerId": peer}


def refused(code: str) -> Any:
    """Expect a refusal."""
    return pytest.raises(BadMessage, check=lambda bad: bad.code == code)
