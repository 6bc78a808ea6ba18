"""State vectors: for each client, the clock behind its last element that is known.

Source of the format: yjs 13, ``utils/encoding.js`` (``writeStateVector``, ``readStateVector``).
"""

from .lib0 import MalformedError, Steps, read_varuint
from .update import MAX_CLOCK

EMPTY = b"\x00"
"""The state vector of a document in which nothing is."""
BLOCK = 512


def decode(data: bytes) -> Steps[dict[int, int]]:
    """Return for each client how much of it is known; where a client stands twice, the later entry counts, as in Yjs.

    Raises:
        MalformedError: this is not a state vector.
    """
    try:
        entries, at = read_varuint(data, 0)
        clocks = {}
        for number in range(entries):
            client, at = read_varuint(data, at)
            clock, at = read_varuint(data, at)
            if clock > MAX_CLOCK:
                raise MalformedError("a clock is too large")
            clocks[client] = clock
            if number % BLOCK == BLOCK - 1:
                yield
    except MalformedError as error:
        raise MalformedError(f"not a state vector: {error}") from None
    return clocks
