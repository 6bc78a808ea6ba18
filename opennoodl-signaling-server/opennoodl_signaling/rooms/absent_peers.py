"""Absent peers: those whose connection was lost, and the signals that wait until they come back or their grace is over.

What waits is bounded: for one peer in number and in bytes, and in bytes for all of them.
"""

from collections.abc import Iterable
from typing import NamedTuple

from msgspec import UNSET, Raw, UnsetType

from ..edge.metrics import Counts
from ..messages import SignalFrom

MAX_SIGNALS = 256
"""Signals that may wait for one absent peer."""
MAX_BYTES = 262_144
"""Bytes of them; four signals of the default `MAX_MESSAGE_SIZE`."""
MAX_BYTES_OF_ALL = 67_108_864
"""Bytes of signals that may wait for all absent peers together."""
ENDS = ("resumed", "replaced", "gone")
"""How absences end."""
OVERHEAD = 256
"""Bytes that a waiting signal takes beside its text."""


class AbsentPeers:
    """All absent peers there are now.

    Attributes:
        count: how many peers are absent.
        size: bytes of what waits for all of them.
        ends: absences by how they ended; `replaced` is by a newcomer without the token.

    Args:
        most: peers that may be absent at once; 0 means any number.
    """

    def __init__(self, most: int) -> None:
        self.count = 0
        self.size = 0
        self.ends = Counts(ENDS)
        self._most = most

    @property
    def full(self) -> bool:
        """Whether nobody else may be absent."""
        return bool(self._most) and self.count >= self._most


class Waiting(NamedTuple):
    """A signal that waits, with its `requestId` for an error about it."""

    message: SignalFrom
    request_id: Raw | UnsetType


class AbsentPeer:
    """One absent peer; it counts until `end`.

    Attributes:
        known: the ids of the peers that the absent one knew and that have been there ever since.
        waiting: the signals that wait for it, in order.

    Args:
        known: the ids of the peers that are there when it begins.
        among: all absent peers.
    """

    __slots__ = ("_among", "_size", "known", "waiting")

    def __init__(self, known: Iterable[str], among: AbsentPeers) -> None:
        self.known = set(known)
        self.waiting: list[Waiting] = []
        self._size = 0
        self._among = among
        among.count += 1

    @property
    def signals(self) -> list[SignalFrom]:
        """What the peer is sent when it is back."""
        return [waiting.message for waiting in self.waiting]

    def hold(self, signal: SignalFrom, request_id: Raw | UnsetType = UNSET) -> bool:
        """Keep a signal until the peer is back; return whether there was room for it."""
        size = _size(Waiting(signal, request_id))
        if (
            len(self.waiting) >= MAX_SIGNALS
            or self._size + size > MAX_BYTES
            or self._among.size + size > MAX_BYTES_OF_ALL
        ):
            return False
        # What was decoded would keep the whole message in memory, of which it may be a small part.
        message = SignalFrom(from_=signal.from_, signal=signal.signal.copy())
        self.waiting.append(Waiting(message, UNSET if request_id is UNSET else request_id.copy()))
        self._grow(size)
        return True

    def senders(self) -> Iterable[tuple[str, Raw | UnsetType]]:
        """Return who has sent what waits, once for each `requestId`, and once for all signals without one."""
        return {
            (one.message.from_, b"" if one.request_id is UNSET else bytes(one.request_id)): (
                one.message.from_,
                one.request_id,
            )
            for one in self.waiting
        }.values()

    def forget(self, peer_id: str) -> None:
        """Drop what waits from a peer that has left: who has its id from now on is another one."""
        self.known.discard(peer_id)
        self._grow(-sum(_size(one) for one in self.waiting if one.message.from_ == peer_id))
        self.waiting = [one for one in self.waiting if one.message.from_ != peer_id]

    def end(self, how: str) -> None:
        """Be over; count no more."""
        self._among.ends[how] += 1
        self._grow(-self._size)
        self._among.count -= 1

    def _grow(self, size: int) -> None:
        self._size += size
        self._among.size += size


def _size(waiting: Waiting) -> int:
    echoed = 0 if waiting.request_id is UNSET else len(waiting.request_id)
    return len(waiting.message.signal) + echoed + OVERHEAD
