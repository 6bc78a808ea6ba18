"""Differences: the updates that a document with a given state vector lacks.

Source: yjs 13, ``utils/encoding.js`` (``writeClientsStructs``, ``encodeStateAsUpdate``).
"""

from collections.abc import Iterator, Sequence

from .delete_set import DeleteSet
from .lib0 import Steps
from .segment import Segment, deletions
from .state_vector import StateVector, read
from .update import write, write_section

CHUNK = 524_288
"""Bytes of an update of a difference: small enough for a client on a slow line to receive it before it disconnects."""
PART = 8192
"""Bytes of a delete set that are written in one step."""
DELETIONS = CHUNK // 8
"""Clients and ranges of a delete set in one update; each takes two to ten bytes."""
MANY = 128
"""Sections of one step."""
MAX_VECTOR = 1_048_576
"""Largest state vector in bytes; a larger one is treated as empty."""
NO_VECTOR = b"\x00"
"""The state vector of an empty document."""


class Difference(Iterator[bytes | None]):
    """Yields updates of about `CHUNK` bytes. None is not an update, but lets the caller do other work.

    The updates have all deletions, like those of Yjs. Later changes of the document have no effect.

    Args:
        segments: the segments of the document.
        pending: an update with pending structs, or None.
        state_vector: the state vector of the other document.

    Attributes:
        segments: the segments of the document; they stay in memory until the last update was made.

    Raises:
        MalformedError: `state_vector` is not valid; raised with the first update.
    """

    def __init__(self, segments: Sequence[Segment], pending: bytes | None, state_vector: bytes) -> None:
        self.segments = segments
        self._known = StateVector()
        self._deleted = DeleteSet()
        self._updates = self._make(pending, state_vector)

    def __next__(self) -> bytes | None:
        return next(self._updates)

    @property
    def memory(self) -> int:
        """Bytes of memory, without the segments and the updates that are being made."""
        shared = not len(self._deleted) or any(segment.deleted is self._deleted for segment in self.segments)
        return self._known.memory + (0 if shared else self._deleted.memory)

    def _make(self, pending: bytes | None, state_vector: bytes) -> Iterator[bytes | None]:
        if len(state_vector) <= MAX_VECTOR:
            self._known = yield from read(state_vector, self._has)
        del state_vector
        chunk = Chunk()
        done = 0
        for segment in self.segments:
            for section in segment.sections():
                done += 1
                if done % MANY == 0:
                    yield None
                clock = self._known.clock(section.client)
                if clock >= section.end:
                    continue
                # Partly known structs are sent whole: Yjs skips the elements that it knows.
                start = next(iter(segment.marks(section)))
                if clock > section.clock:
                    start = yield from segment.find(section, clock)
                    yield None
                for mark in segment.marks(section):
                    if mark.at > start.at and mark.at - start.at + chunk.size >= CHUNK:
                        chunk.add(section.client, start.clock, start.left - mark.left, segment.data[start.at : mark.at])
                        yield (yield from chunk.write())
                        start = mark
                chunk.add(section.client, start.clock, start.left, segment.data[start.at : section.stop])
                if chunk.size >= CHUNK:
                    yield (yield from chunk.write())
        if pending is not None:
            yield pending
        self._deleted = yield from deletions(self.segments)
        clients, entries = 0, list[bytes]()
        for number, part, ends in self._deleted.write_updates(PART, DELETIONS):
            clients += number
            entries.append(part)
            if ends:
                yield (yield from chunk.write(clients, b"".join(entries)))
                clients, entries = 0, []
            yield None
        yield (yield from chunk.write(clients, b"".join(entries)))

    def _has(self, client: int) -> bool:
        return any(segment.state(client) for segment in self.segments)


class Chunk:
    """Builds an update from sections of several segments, oldest segment first."""

    def __init__(self) -> None:
        self._sections: dict[int, tuple[int, int, list[bytes]]] = {}  # by client: clock, structs, contents
        self.size = 0

    def add(self, client: int, clock: int, structs: int, content: bytes) -> None:
        """Add structs of a client, which follow its earlier ones."""
        first, before, contents = self._sections.get(client, (clock, 0, []))
        contents.append(content)
        self._sections[client] = first, before + structs, contents
        self.size += len(content) + 12

    def write(self, clients: int = 0, deletions: bytes = b"") -> Steps[bytes]:
        """Return the update, and start another one."""
        sections = []
        for number, client in enumerate(sorted(self._sections, reverse=True)):
            if number % MANY == MANY - 1:
                yield
            clock, structs, contents = self._sections[client]
            sections.append(write_section(client, clock, structs, b"".join(contents)))
        self._sections = {}
        self.size = 0
        return write(sections, clients, deletions)
