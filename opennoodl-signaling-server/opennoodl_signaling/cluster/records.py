"""Records: the form in which rooms and messages of mailboxes are stored in Redis."""

from __future__ import annotations

from hashlib import sha256
from typing import Any, Literal, NamedTuple

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType, structs

from ..messages import PeerJoined, PeerLeft, SignalFrom
from ..rooms.unacknowledged import CountedMessage
from ..session import SessionInfo


class TokenRecord(Struct, array_like=True, frozen=True):
    """A resume token.

    Attributes:
        digest: the digest of the token.
        start: the number of the last message in the mailbox before its `joined`.
        counted: whether the peer counts the messages since that `joined`.
    """

    digest: str
    start: int
    counted: bool


class ResumptionRecord(Struct, array_like=True, frozen=True):
    """The token of the last `joined`, and the one before if the last `joined` may not have arrived."""

    current: TokenRecord
    former: TokenRecord | None

    def afresh(self, counted: int) -> ResumptionRecord:
        """Return the record for an empty mailbox, after `counted` messages since the last `joined`."""
        return ResumptionRecord(structs.replace(self.current, start=-counted), None)


class AbsenceRecord(Struct, array_like=True, frozen=True):
    """The absence of a peer.

    Attributes:
        until: end of its grace, in milliseconds of Redis' clock.
        arrivals: the number of arrivals in the room before its connection was lost. It does not know later peers.
        number: the number of the last message in its mailbox before its connection was lost.
        size: bytes of its mailbox at that time.
    """

    until: int
    arrivals: int
    number: int
    size: int


class PeerRecord(Struct, array_like=True, frozen=True):
    """A peer.

    Attributes:
        peer_id: the peer id.
        user_id: the user id.
        metadata: the metadata, as JSON.
        instance: the id of the instance of its connection; meaningless if the peer is absent.
        connection: the number of the connection at that instance.
        arrival: the number of its arrival in the room, which stays when it resumes.
        took_place: time at which it took its place from another connection, in milliseconds of Redis' clock.
        resumption: its resume tokens; None if it cannot resume.
        absence: its absence; None if it is connected.
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
        """The data about the peer that the script `signal` reads."""
        kind = "a" if self.absence else "r" if self.resumption else "p"
        number, size = (self.absence.number, self.absence.size) if self.absence else (0, 0)
        return f"{self.instance} {self.connection} {kind} {self.arrival} {number} {size}"


class RoomRecord(Struct, array_like=True, frozen=True):
    """A room.

    Attributes:
        created: time of its creation, in milliseconds of Redis' clock.
        arrivals: the number of peers that have arrived so far.
        session: its description.
        peers: the peers in the order of their arrival.
    """

    created: int
    arrivals: int
    session: SessionInfo
    peers: list[PeerRecord]


class Kept(NamedTuple):
    """A message in a mailbox.

    Attributes:
        kind: the type of the message; `came` and `left` have no payload.
        peer: the peer that it is about, or the sender of a signal.
        arrival: the number of the arrival of that peer.
        request_id: the `requestId` of a signal, as JSON.
        payload: the message with a signal, as JSON.
    """

    kind: Literal["came", "left", "signal"]
    peer: str
    arrival: int
    request_id: str = ""
    payload: str = ""

    @property
    def signal(self) -> SignalFrom:
        """The signal in the payload."""
        return _signal(self.payload.encode())

    @property
    def echoed(self) -> Raw | UnsetType:
        """The `requestId` of the signal."""
        return Raw(self.request_id.encode()) if self.request_id else UNSET


class Mailbox(NamedTuple):
    """The messages to a peer that it may not have received.

    Attributes:
        number: the number of the last message.
        size: bytes of all messages.
        messages: the messages, each with its number.
    """

    number: int = 0
    size: int = 0
    messages: list[tuple[int, Kept]] = []  # noqa: RUF012  # never changed


_signal = msgspec.json.Decoder(SignalFrom).decode
_kept = msgspec.msgpack.Decoder(Kept).decode
_room = msgspec.msgpack.Decoder(RoomRecord).decode
encode: Any = msgspec.msgpack.encode


def decode_room(data: bytes) -> RoomRecord:
    """Return a room from its bytes in Redis."""
    return _room(data)


def mailbox(number: int, size: int, messages: list[bytes]) -> Mailbox:
    """Return a mailbox from its data in Redis."""
    first = number - len(messages) + 1
    return Mailbox(number, size, [(first + index, _kept(text)) for index, text in enumerate(messages)])


def keep(message: CountedMessage, arrival: int) -> bytes:
    """Return the encoded form of a message for a mailbox.

    Args:
        message: the message.
        arrival: the number of the arrival of the peer that it is about or from.
    """
    match message:
        case PeerJoined(peer_id=peer):
            kept = Kept("came", peer, arrival)
        case PeerLeft(peer_id=peer):
            kept = Kept("left", peer, arrival)
        case SignalFrom(from_=peer):
            kept = Kept("signal", peer, arrival, "", msgspec.json.encode(message).decode())
    return bytes(encode(kept))


def digest(token: str) -> str:
    """Return the digest of a token. Redis has only digests, so its readers cannot take a place."""
    return sha256(token.encode()).hexdigest()
