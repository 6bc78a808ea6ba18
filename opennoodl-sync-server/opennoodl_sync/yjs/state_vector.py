"""State vectors: for each client, the clock after its last known element.

Source of the format: yjs 13, ``utils/encoding.js`` (``writeStateVector``, ``readStateVector``).
"""

from array import array
from bisect import bisect_left
from collections.abc import Callable

from .lib0 import MalformedError, Steps, read_varuint
from .sorting import order
from .update import MAX_CLOCK

BLOCK = 256


class StateVector:
    """A state vector in arrays, with 12 bytes per client, since it stays in memory while a client reads its answer."""

    __slots__ = ("_clients", "_clocks")

    def __init__(self) -> None:
        self._clients = array("Q")  # ascending
        self._clocks = array("I")

    @property
    def memory(self) -> int:
        """Bytes of memory of the state vector."""
        return 8 * len(self._clients) + 4 * len(self._clocks)

    def clock(self, client: int) -> int:
        """Return the clock of a client; 0 if it is unknown."""
        at = bisect_left(self._clients, client)
        return self._clocks[at] if at < len(self._clients) and self._clients[at] == client else 0


def read(data: bytes, matters: Callable[[int], bool]) -> Steps[StateVector]:
    """Return the entries of the clients for which `matters` returns True.

    Raises:
        MalformedError: the bytes are not a state vector.
    """
    clients, clocks = array("Q"), array("I")
    try:
        entries, at = read_varuint(data, 0)
        for number in range(entries):
            client, clock, at = _entry(data, at)
            if matters(client):
                clients.append(client)
                clocks.append(clock)
            if number % BLOCK == BLOCK - 1:
                yield
    except MalformedError as error:
        raise MalformedError(f"not a state vector: {error}") from None
    vector = StateVector()
    for done, position in enumerate((yield from order(clients))):
        if vector._clients and vector._clients[-1] == clients[position]:
            vector._clocks[-1] = clocks[position]
        else:
            vector._clients.append(clients[position])
            vector._clocks.append(clocks[position])
        if done % BLOCK == BLOCK - 1:
            yield
    return vector


def decode(data: bytes) -> Steps[dict[int, int]]:
    """Return the clock of each client; of repeated entries, the last one counts, as in Yjs.

    Raises:
        MalformedError: the bytes are not a state vector.
    """
    clocks = {}
    try:
        entries, at = read_varuint(data, 0)
        for number in range(entries):
            client, clock, at = _entry(data, at)
            clocks[client] = clock
            if number % BLOCK == BLOCK - 1:
                yield
    except MalformedError as error:
        raise MalformedError(f"not a state vector: {error}") from None
    return clocks


def _entry(data: bytes, at: int) -> tuple[int, int, int]:
    client, at = read_varuint(data, at)
    clock, at = read_varuint(data, at)
    if clock > MAX_CLOCK:
        raise MalformedError("a clock is too large")
    return client, clock, at
