"""Division of a document into parts, each with all structs and deletions of some clients.

A part is compacted and stored alone, so that this takes little memory for a document of any size. One client's structs
stay together.
"""

from collections.abc import Sequence
from io import BytesIO
from typing import NamedTuple

from .lib0 import Steps, write_varuint
from .segment import MANY, Cut, Segment, by_client


class Part(NamedTuple):
    """The clients with the highest ids of a few segments.

    Attributes:
        segments: their structs and deletions. They have no index, and share the bytes of the segments.
        state: their entries in the state vector, encoded.
        rest: the other clients; empty after the last part.
    """

    segments: list[Segment]
    state: bytes
    rest: list[Segment]


def divide(segments: Sequence[Segment], size: int) -> Steps[Part]:
    """Return the part that comes first in the order of updates.

    Args:
        segments: a client's structs in a later segment follow those in earlier ones.
        size: bytes from which a part ends; 0 means that it has all clients.
    """
    cuts = {segment: Cut(segment.begin) for segment in segments}
    state = BytesIO()
    taken = 0
    lowest = 0  # the last part has the deletions of clients without structs, too
    for number, sections in enumerate(by_client(segments)):
        if number % MANY == MANY - 1:
            yield
        client = sections[0][0].client
        if 0 < size <= taken:
            lowest = client + 1
            break
        name = write_varuint(client)
        for section, segment in sections:
            cut = cuts[segment]
            cut.at = section.stop
            cut.sections += 1
            cut.state += len(name) + len(write_varuint(section.end))
            taken += section.stop - section.head
        state.write(name + write_varuint(sections[-1][0].end))
    halves = [segment.cut(cut, lowest) for segment, cut in cuts.items()]
    first = [half for half, _ in halves if len(half) or len(half.deleted)]
    return Part(first, state.getvalue(), [rest for _, rest in halves if len(rest) or len(rest.deleted)])
