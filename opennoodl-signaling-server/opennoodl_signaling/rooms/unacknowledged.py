"""Unacknowledged messages: a log of the messages to a peer, until they are known to have arrived.

Messages that are written to a connection and not read are lost when it breaks. Only the peer knows which ones. When it
resumes on another connection, it sends the number of messages that it has received, and gets the others.
"""

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from ..messages import PeerJoined, PeerLeft, SignalFrom
from .absent_peers import OVERHEAD

MAX_MESSAGES = 256
"""Limit of the messages of one log."""
MAX_BYTES = 262_144
"""Limit of the bytes of one log; four signals of the default `MAX_MESSAGE_SIZE`."""
MAX_BYTES_OF_ALL = 33_554_432
"""Limit of the bytes of all logs together."""


CountedMessage = PeerJoined | PeerLeft | SignalFrom
"""The messages that a peer counts."""


class LoggedJoin(NamedTuple):
    """A `peer-joined` to the peer, without the metadata."""

    peer_id: str


class LoggedLeave(NamedTuple):
    """A `peer-left` to the peer."""

    peer_id: str


class DeliveryLogs:
    """The totals of all delivery logs.

    Attributes:
        size: bytes of all logs.
    """

    def __init__(self) -> None:
        self.size = 0


class DeliveryLog:
    """The messages to one peer since its last `joined`. It counts in the totals until `end`.

    If a message exceeds a bound, the oldest messages count as arrived.

    Args:
        known: the ids of the peers in that `joined`.
        totals: the totals.
        arrived: the number of messages that have arrived already.
    """

    __slots__ = ("_arrived", "_known", "_messages", "_size", "_totals")

    def __init__(self, known: Iterable[str], totals: DeliveryLogs, arrived: int = 0) -> None:
        self._known = set(known)
        self._messages: deque[LoggedJoin | LoggedLeave | SignalFrom] = deque()
        self._arrived = arrived
        self._size = 0
        self._totals = totals

    def add(self, message: CountedMessage) -> None:
        """Log a message to the peer."""
        kept: LoggedJoin | LoggedLeave | SignalFrom
        if isinstance(message, SignalFrom):
            # Copied, since a `Raw` keeps the whole message that it is a part of in memory.
            kept = SignalFrom(from_=message.from_, signal=message.signal.copy())
        elif isinstance(message, PeerJoined):
            kept = LoggedJoin(message.peer_id)
        else:
            kept = LoggedLeave(message.peer_id)
        self._messages.append(kept)
        self._grow(_size(kept))
        while len(self._messages) > MAX_MESSAGES or self._size > MAX_BYTES:
            self.arrived(self._arrived + 1)
        while self._totals.size > MAX_BYTES_OF_ALL and self._messages:
            self.arrived(self._arrived + 1)

    def arrived(self, number: int) -> None:
        """Drop the messages that have arrived: the first `number` of all messages to the peer."""
        while self._arrived < number and self._messages:
            message = self._messages.popleft()
            self._arrived += 1
            self._grow(-_size(message))
            if isinstance(message, LoggedJoin):
                self._known.add(message.peer_id)
            elif isinstance(message, LoggedLeave):
                self._known.discard(message.peer_id)

    @property
    def number(self) -> int:
        """The number of all messages to the peer."""
        return self._arrived + len(self._messages)

    def missed(self) -> tuple[set[str], list[SignalFrom]]:
        """Return the ids of the peers that the peer knows and that have not left, and the signals that it has missed.

        Signals of peers that have left since are not included.
        """
        known, signals = set(self._known), list[SignalFrom]()
        for message in self._messages:
            if isinstance(message, SignalFrom):
                signals.append(message)
            elif isinstance(message, LoggedLeave):
                known.discard(message.peer_id)
                signals = [signal for signal in signals if signal.from_ != message.peer_id]
        return known, signals

    def end(self) -> None:
        """Drop all messages, and stop counting them."""
        self._messages.clear()
        self._grow(-self._size)

    def _grow(self, size: int) -> None:
        self._size += size
        self._totals.size += size


def _size(message: LoggedJoin | LoggedLeave | SignalFrom) -> int:
    return OVERHEAD + (len(message.signal) if isinstance(message, SignalFrom) else 0)
