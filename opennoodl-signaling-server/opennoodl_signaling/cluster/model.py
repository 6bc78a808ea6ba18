"""The data of a transaction: what was read from Redis, the limits of decisions, and the peers of all instances."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ..rooms.model import Client
from ..rooms.resumption import Resumption
from .records import Mailbox, PeerRecord, ResumptionRecord, RoomRecord


class Focus(NamedTuple):
    """The place whose mailbox is in the transaction. The transaction can only append to other mailboxes.

    Attributes:
        room: the name of the room.
        peer: the peer id; empty for no place.
    """

    room: str
    peer: str


class Loaded(NamedTuple):
    """Data that was read from Redis in one step.

    Attributes:
        now: time of Redis' clock, in milliseconds.
        filling: whether the instances enter their clients again, after Redis has lost its data.
        absent: the number of absent peers in all rooms.
        focus: the place whose mailbox was read.
        mailbox: that mailbox.
        rooms: the rooms by name; None for a room without peers.
        versions: the versions of the rooms by name.
    """

    now: int
    filling: bool
    absent: int
    focus: Focus
    mailbox: Mailbox
    rooms: Mapping[str, RoomRecord | None]
    versions: Mapping[str, bytes]


class Rules(NamedTuple):
    """The limits that decisions depend on.

    Attributes:
        max_size: limit of the peers of a room; 0 means no limit.
        max_absent: limit of the reserved places; 0 means no limit, None that no place is reserved.
        proven: whether users are authenticated.
        grace: milliseconds for which a place is reserved.
    """

    max_size: int
    max_absent: int | None
    proven: bool
    grace: int


class SharedPeer(Client):
    """A peer in the transaction.

    Attributes:
        instance: the id of the instance of its connection.
        number: the number of the connection at that instance.
        record: its record as it was read; None for a new peer.
        kept: its resumption as it was read.
        tokens: the record of that resumption.
        received: if its connection is lost, the number of messages of its mailbox that its instance had written to it.
    """

    __slots__ = ("instance", "kept", "number", "received", "record", "tokens")

    def __init__(self, instance: str, number: int, record: PeerRecord | None = None) -> None:
        super().__init__(None)
        self.instance = instance
        self.number = number
        self.record = record
        self.kept: Resumption | None = None
        self.tokens: ResumptionRecord | None = None
        self.received: int | None = None
