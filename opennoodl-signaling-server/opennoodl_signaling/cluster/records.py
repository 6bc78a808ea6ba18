"""Records: a room as Redis has it, and what a mailbox has of a message."""

from __future__ import annotations

from hashlib import sha256
from typing import Any, Literal, NamedTuple

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType, structs

from ..messages import PeerJoined, PeerLeft, SignalFrom
from ..rooms.unacknowledged import Told
from ..session import SessionInfo


class TokenRecord(Struct, array_like=True, frozen=True):
    """A token that takes a peer's place.

    Attributes:
        digest: of the token.
        start: number of the last message in the mailbox before its `joined`.
        counted: whether the peer counts the messages since that `joined`.
    """

    digest: str
    start: int
    counted: bool


class ResumptionRecord(Struct, array_like=True, frozen=True):
    """The token of the last `joined`, and of the one before if the last may not have arrived."""

    current: TokenRecord
    former: TokenRecord | None

    def afresh(self, told: int) -> ResumptionRecord:
        """Return what is good with an empty mailbox, after so many messages since the last `joined`."""
        return ResumptionRecord(structs.replace(self.current, start=-told), None)


class AbsenceRecord(Struct, array_like=True, frozen=True):
    """A lost peer.

    Attributes:
        until: end of its grace, in milliseconds of Redis' clock.
        arrivals: arrivals in the room before its loss; it does not know those after.
        number: messages of its mailbox that were told before its loss.
        size: bytes of its mailbox at its loss.
    """

    until: int
    arrivals: int
    number: int
    size: int


class PeerRecord(Struct, array_like=True, frozen=True):
    """A peer.

    Attributes:
        instance: where its connection is; meaningless if it is absent.
        connection: number of the connection there.
        arrival: number of its arrival in the room; a peer that resumes keeps it.
        took_place: when it took its place from another connection, in milliseconds of Redis' clock.
    """

    peer_id: str
    user_id: str
    metadata: bytes
    instance: str
    connection: int
    arrival: int
    took_place: int | None
    resumption: ResumptionRecord | None
    absence: AbsenceRecord | None

    @property
    def route(self) -> str:
        """What the script that passes signals reads about the peer."""
        kind = "a" if self.absence else "r" if self.resumption else "p"
        number, size = (self.absence.number, self.absence.size) if self.absence else (0, 0)
        return f"{self.instance} {self.connection} {kind} {self.arrival} {number} {size}"


class RoomRecord(Struct, array_like=True, frozen=True):
    """A room; its peers are in order of their arrival.

    Attributes:
        created: in milliseconds of Redis' clock.
        arrivals: how many peers have arrived so far.
    """

    created: int
    arrivals: int
    session: SessionInfo
    peers: list[PeerRecord]


class Kept(NamedTuple):
    """A message in a mailbox.

    Attributes:
        kind: `came` and `left` need no contents.
        peer: the one that it is about, or from.
        arrival: of that peer.
        request_id: of a signal, as JSON.
        payload: of a signal: the whole message.
    """

    kind: Literal["came", "left", "signal"]
    peer: str
    arrival: int
    request_id: str = ""
    payload: str = ""

    @property
    def signal(self) -> SignalFrom:
        """The signal that was kept."""
        return _signal(self.payload.encode())

    @property
    def echoed(self) -> Raw | UnsetType:
        """The `requestId` of the signal."""
        return Raw(self.request_id.encode()) if self.request_id else UNSET


class Mailbox(NamedTuple):
    """What a peer was told and may not have received.

    Attributes:
        number: of the last message.
        size: bytes.
        messages: the last ones, each with its number.
    """

    number: int = 0
    size: int = 0
    messages: list[tuple[int, Kept]] = []  # noqa: RUF012  # never changed


_signal = msgspec.json.Decoder(SignalFrom).decode
_kept = msgspec.msgpack.Decoder(Kept).decode
_room = msgspec.msgpack.Decoder(RoomRecord).decode
encode: Any = msgspec.msgpack.encode


def decode_room(data: bytes) -> RoomRecord:
    """Return a room from the bytes that Redis has."""
    return _room(data)


def mailbox(number: int, size: int, messages: list[bytes]) -> Mailbox:
    """Return a mailbox from what Redis has."""
    first = number - len(messages) + 1
    return Mailbox(number, size, [(first + index, _kept(text)) for index, text in enumerate(messages)])


def keep(message: Told, arrival: int) -> bytes:
    """Return what a mailbox has of a message."""
    match message:
        case PeerJoined(peer_id=peer):
            kept = Kept("came", peer, arrival)
        case PeerLeft(peer_id=peer):
            kept = Kept("left", peer, arrival)
        case SignalFrom(from_=peer):
            kept = Kept("signal", peer, arrival, "", msgspec.json.encode(message).decode())
    return bytes(encode(kept))


def digest(token: str) -> str:
    """Return what Redis has of a token, so that its readers cannot take a place."""
    return sha256(token.encode()).hexdigest()
