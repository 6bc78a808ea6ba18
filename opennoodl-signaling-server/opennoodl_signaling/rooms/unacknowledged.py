"""Unacknowledged messages: what a peer that counts was told of its room, until that is known to have arrived.

A connection that breaks takes along what was written to it and not read yet. How much that was, only the peer
knows: back on another connection, it says how many messages it has had, and is told the rest.
"""

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from ..messages import PeerJoined, PeerLeft, SignalFrom
from .absent_peers import OVERHEAD

MAX_MESSAGES = 256
"""Messages of one log."""
MAX_BYTES = 262_144
"""Bytes of them; four signals of the default `MAX_MESSAGE_SIZE`."""
MAX_BYTES_OF_ALL = 33_554_432
"""Bytes of all logs together."""


Told = PeerJoined | PeerLeft | SignalFrom
"""The messages that a peer counts."""


class Came(NamedTuple):
    """The peer was told that another one has come; its metadata need not be kept."""

    peer_id: str


class Left(NamedTuple):
    """The peer was told that another one has left."""

    peer_id: str


class DeliveryLogs:
    """All delivery logs there are now.

    Attributes:
        size: bytes of them.
    """

    def __init__(self) -> None:
        self.size = 0


class DeliveryLog:
    """What one peer was told since its last `joined`; it counts until `end`.

    Where there is no room for another message, the oldest ones are taken to have arrived.

    Args:
        known: the ids of the peers in that `joined`.
        among: all logs.
        arrived: how many messages have arrived already.
    """

    __slots__ = ("_among", "_arrived", "_known", "_messages", "_size")

    def __init__(self, known: Iterable[str], among: DeliveryLogs, arrived: int = 0) -> None:
        self._known = set(known)
        self._messages: deque[Came | Left | SignalFrom] = deque()
        self._arrived = arrived
        self._size = 0
        self._among = among

    def add(self, message: Told) -> None:
        """Record what the peer is being told."""
        kept: Came | Left | SignalFrom
        if isinstance(message, SignalFrom):
            # What was decoded would keep the whole message in memory, of which it may be a small part.
            kept = SignalFrom(from_=message.from_, signal=message.signal.copy())
        elif isinstance(message, PeerJoined):
            kept = Came(message.peer_id)
        else:
            kept = Left(message.peer_id)
        self._messages.append(kept)
        self._grow(_size(kept))
        while len(self._messages) > MAX_MESSAGES or self._size > MAX_BYTES:
            self.arrived(self._arrived + 1)
        while self._among.size > MAX_BYTES_OF_ALL and self._messages:
            self.arrived(self._arrived + 1)

    def arrived(self, number: int) -> None:
        """Forget what has arrived: so many messages of all that the peer was told."""
        while self._arrived < number and self._messages:
            message = self._messages.popleft()
            self._arrived += 1
            self._grow(-_size(message))
            if isinstance(message, Came):
                self._known.add(message.peer_id)
            elif isinstance(message, Left):
                self._known.discard(message.peer_id)

    @property
    def number(self) -> int:
        """How many messages the peer was told in all."""
        return self._arrived + len(self._messages)

    def missed(self) -> tuple[set[str], list[SignalFrom]]:
        """Return the ids of the peers that the peer knows and that are still there, and the signals that it has missed.

        What a peer sent that has left since is not among them.
        """
        known, signals = set(self._known), list[SignalFrom]()
        for message in self._messages:
            if isinstance(message, SignalFrom):
                signals.append(message)
            elif isinstance(message, Left):
                known.discard(message.peer_id)
                signals = [signal for signal in signals if signal.from_ != message.peer_id]
        return known, signals

    def end(self) -> None:
        """Be over; count no more."""
        self._messages.clear()
        self._grow(-self._size)

    def _grow(self, size: int) -> None:
        self._size += size
        self._among.size += size


def _size(message: Came | Left | SignalFrom) -> int:
    return OVERHEAD + (len(message.signal) if isinstance(message, SignalFrom) else 0)
