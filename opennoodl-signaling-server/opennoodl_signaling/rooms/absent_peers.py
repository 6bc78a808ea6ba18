"""Absent peers: peers whose connection is lost and whose place is reserved, with the signals that wait for them.

The signals are bounded by number and by bytes for each peer, and by bytes for all peers together.
"""

from collections.abc import Iterable
from typing import NamedTuple

from msgspec import UNSET, Raw, UnsetType

from ..edge.metrics import Counts
from ..messages import SignalFrom

MAX_SIGNALS = 256
"""Limit of the signals that wait for one absent peer."""
MAX_BYTES = 262_144
"""Limit of the bytes of these signals; four signals of the default `MAX_MESSAGE_SIZE`."""
MAX_BYTES_OF_ALL = 67_108_864
"""Limit of the bytes of signals that wait for all absent peers together."""
ENDS = ("resumed", "replaced", "gone")
"""Labels of the outcomes of absences."""
OVERHEAD = 256
"""Bytes that a waiting signal takes in addition to its text."""


class AbsentPeers:
    """The totals of all absent peers.

    Args:
        most: limit of the number of absent peers; 0 means no limit.

    Attributes:
        count: the number of absent peers.
        size: bytes of the signals that wait for all of them.
        ends: ended absences by outcome. `replaced` means: by a connection without the resume token.
    """

    def __init__(self, most: int) -> None:
        self.count = 0
        self.size = 0
        self.ends = Counts(ENDS)
        self._most = most

    @property
    def full(self) -> bool:
        """Whether no further peer may be absent."""
        return bool(self._most) and self.count >= self._most


class Waiting(NamedTuple):
    """A waiting signal, with the `requestId` for an error about it."""

    message: SignalFrom
    request_id: Raw | UnsetType


class AbsentPeer:
    """The absence of one peer. It counts in the totals until `end`.

    Args:
        known: the ids of the peers that are in the room when the absence begins.
        totals: the totals.

    Attributes:
        known: the ids of the peers that the absent peer knew and that have not left since.
        waiting: the signals that wait for it, in their order.
    """

    __slots__ = ("_size", "_totals", "known", "waiting")

    def __init__(self, known: Iterable[str], totals: AbsentPeers) -> None:
        self.known = set(known)
        self.waiting: list[Waiting] = []
        self._size = 0
        self._totals = totals
        totals.count += 1

    @property
    def signals(self) -> list[SignalFrom]:
        """The signals for the peer when it resumes."""
        return [waiting.message for waiting in self.waiting]

    def queue(self, signal: SignalFrom, request_id: Raw | UnsetType = UNSET) -> bool:
        """Store a signal until the peer resumes; return False if it exceeds a limit."""
        size = _size(Waiting(signal, request_id))
        if (
            len(self.waiting) >= MAX_SIGNALS
            or self._size + size > MAX_BYTES
            or self._totals.size + size > MAX_BYTES_OF_ALL
        ):
            return False
        # Copied, since a `Raw` keeps the whole message that it is a part of in memory.
        message = SignalFrom(from_=signal.from_, signal=signal.signal.copy())
        self.waiting.append(Waiting(message, UNSET if request_id is UNSET else request_id.copy()))
        self._grow(size)
        return True

    def senders(self) -> Iterable[tuple[str, Raw | UnsetType]]:
        """Return the senders of the waiting signals: once for each `requestId`, once for all signals without one."""
        return {
            (one.message.from_, b"" if one.request_id is UNSET else bytes(one.request_id)): (
                one.message.from_,
                one.request_id,
            )
            for one in self.waiting
        }.values()

    def forget(self, peer_id: str) -> None:
        """Drop the signals of a peer that has left. A later peer with its id is another peer."""
        self.known.discard(peer_id)
        self._grow(-sum(_size(one) for one in self.waiting if one.message.from_ == peer_id))
        self.waiting = [one for one in self.waiting if one.message.from_ != peer_id]

    def end(self, how: str) -> None:
        """End the absence, with this outcome, and stop counting it."""
        self._totals.ends[how] += 1
        self._grow(-self._size)
        self._totals.count -= 1

    def _grow(self, size: int) -> None:
        self._size += size
        self._totals.size += size


def _size(waiting: Waiting) -> int:
    echoed = 0 if waiting.request_id is UNSET else len(waiting.request_id)
    return len(waiting.message.signal) + echoed + OVERHEAD
