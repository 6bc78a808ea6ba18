"""Compaction: the same document in fewer structs, and without the contents that are deleted.

It does on bytes what yjs does in memory after each transaction, and what yjs can undo when it integrates the result:

* Neighbouring structs of one client are joined (``Item.mergeWith``, ``GC.mergeWith``). The second one must begin where
  the first ends, name the last element of the first as its origin, and have the same right origin. Then yjs gets the
  second one back when it splits the first (``splitItem``), with the same origins.
* Deleted contents are dropped (``Item.gc`` puts ``ContentDeleted`` in their place). A text or an array that is deleted
  in part is split at the bounds of the deletion, as ``splitItem`` does.

All other structs and all contents that are left are the bytes that came. The delete set does not change. Children of
a deleted type become ``GC`` structs when yjs integrates them, because their parent is no type (``Item.getMissing``).
Source: yjs 13, ``structs/Item.js``, ``structs/GC.js``, ``utils/Transaction.js`` (``tryGcDeleteSet``,
``tryMergeDeleteSet``).
"""

from collections.abc import Iterable, Iterator, Sequence

from .contents import long_values, utf16_length
from .document import Document
from .lib0 import Steps, finish, read_varuint, write_varuint
from .segment import MARK_DISTANCE, Section, Segment, SegmentWriter, by_client, deletions
from .structs import (
    ANY,
    CHECKED,
    DELETED,
    GC,
    KIND,
    ORIGIN,
    PARENT_KEY,
    RIGHT_ORIGIN,
    STRING,
    read_client,
    skip_head,
    struct_end,
)
from .update import Mark

MANY = 256
"""Structs, or values, that are worked on at once."""
MAX_GROWTH = 1.5
ALLOWANCE = 256
"""A client's structs may become this many times as large, and this many bytes more, when contents are split. Where
every second element of a text is deleted, the pieces would take several times as much as the text."""
OTHER = -1
"""Kind of a struct that is written as it is and joined with nothing."""


def compact(segments: Sequence[Segment]) -> Steps[Segment]:
    """Return the same document in fewer structs, and without the contents that are deleted.

    Args:
        segments: make the document; what a later one has of a client follows what those before it have of it.
    """
    deleted = yield from deletions(segments)
    writer = SegmentWriter()
    for number, sections in enumerate(by_client(segments)):
        if number % MANY == MANY - 1:
            yield
        section, segment = sections[0]
        bounds = deleted.ranges(section.client)
        if section.structs == len(sections) == 1 and not len(bounds):
            yield from writer.copy(segment, section)
            continue
        data = segment.data
        if len(sections) > 1:
            data = b"".join([segment.data[section.at : section.stop] for section, segment in sections])
            structs = sum(section.structs for section, _ in sections)
            section = section._replace(end=sections[-1][0].end, structs=structs, at=0, stop=len(data))
        joined = yield from _join(data, section, bounds)
        if len(joined.data) > MAX_GROWTH * (section.stop - section.at) + ALLOWANCE:
            joined = yield from _join(data, section, bounds, cut=False)
        at = writer.section(section.client, section.clock, section.end, joined.structs, joined.data)
        for place, clock, before in joined.marks:
            writer.mark(Mark(at + place, clock, joined.structs - before))
    return writer.segment(deleted)


def compact_records(records: Iterable[bytes]) -> Steps[tuple[Segment, bytes | None]]:
    """Compact a document that is stored in several updates.

    Returns:
        the document, and an update with what waits for its predecessors, which is not in it; None if nothing does.

    Raises:
        DamagedError: a record is not an update.
    """
    document = Document()
    yield from document.load(records)
    pending = document.pending()
    segments = yield from document.freeze()
    del document
    return (yield from compact(segments)), pending


class JoinedStructs:
    """Structs of one client, written one after the other and joined where that is allowed.

    Attributes:
        data: the structs.
        structs: how many there are.
        marks: places in `data` at which structs begin: offset, clock, number of structs before it.
        right: the right origin of the last struct, as it is encoded; empty if it has none.
    """

    __slots__ = ("_clock", "_content", "_head", "_info", "_kind", "_length", "data", "marks", "right", "structs")

    def __init__(self, clock: int) -> None:
        self.data = bytearray()
        self.structs = 0
        self.marks: list[tuple[int, int, int]] = []
        self.right = b""
        # The last struct, to which more may be joined.
        self._clock = clock
        self._kind = OTHER
        self._info = 0
        self._head = b""
        self._length = 0
        self._content: bytes | bytearray = b""

    def add(
        self, kind: int, info: int, head: bytes, right: bytes, *, length: int, content: bytes, follows: bool
    ) -> None:
        """Add a struct.

        Args:
            kind: of its content; `OTHER` if `content` is the struct as it is encoded.
            info: its first byte; the kind in it does not matter.
            head: what is between its first byte and its content.
            right: its right origin, as it is encoded.
            length: in clocks.
            content: without the number that precedes it: the text, or the values.
            follows: whether its origin is the element before it.
        """
        if follows and kind == self._kind and right == self.right and not (info ^ self._info) & PARENT_KEY:
            self._length += length
            if isinstance(self._content, bytes):
                self._content = bytearray(self._content)
            self._content += content
            return
        self.flush()
        self._kind = kind
        self._info = info
        self._head = head
        self.right = right
        self._length = length
        self._content = content

    def flush(self) -> None:
        """Write the last struct."""
        if not self._length:
            return
        data = self.data
        if len(data) >= (self.marks[-1][0] if self.marks else 0) + MARK_DISTANCE:
            self.marks.append((len(data), self._clock, self.structs))
        content = self._content
        if self._kind != OTHER:
            data.append(self._info & ~KIND | self._kind)
            data += self._head
            data += write_varuint(len(content) if self._kind == STRING else self._length)
        data += content
        self.structs += 1
        self._clock += self._length
        self._length = 0


def _join(data: bytes, section: Section, bounds: Sequence[int], *, cut: bool = True) -> Steps[JoinedStructs]:
    """Return the structs of a section joined, and without what the ranges with these bounds delete.

    Args:
        data: the sections.
        section: one of them.
        bounds: of what is deleted of its client.
        cut: whether contents are split that are deleted in part.
    """
    client, clock, at = section.client, section.clock, section.at
    joined = JoinedStructs(clock)
    place = 0  # in the bounds, of the first range that does not end before the struct
    for number in range(section.structs):
        if number % MANY == MANY - 1:
            yield
        start, info = at, data[at]
        kind = info & KIND
        if kind == GC:
            length, at = read_varuint(data, at + 1)
            joined.add(GC, GC, b"", b"", length=length, content=b"", follows=True)
            clock += length
            continue
        follows, right, at = _read_head(data, at, client, clock, joined.right)
        head_end = at
        if kind == STRING:
            size, content_at = read_varuint(data, at)
            at = content_at + size
            content = data[content_at:at]
            length = utf16_length(content)
        elif kind == DELETED:
            length, at = read_varuint(data, at)
            content = b""
        else:
            length, at = yield from struct_end(data, start, client, clock)
            content = data[read_varuint(data, head_end)[1] : at] if kind == ANY else data[start:at]
        end = clock + length
        while place < len(bounds) and bounds[place + 1] <= clock:
            place += 2
        if kind == DELETED or (place < len(bounds) and bounds[place] <= clock and end <= bounds[place + 1]):
            joined.add(DELETED, info, data[start + 1 : head_end], right, length=length, content=b"", follows=follows)
        elif info & PARENT_KEY or kind not in (STRING, ANY):  # entries of a map are single values
            joined.add(OTHER, info, b"", right, length=length, content=data[start:at], follows=False)
        elif cut and place < len(bounds) and bounds[place] < end:
            head = data[start + 1 : head_end]
            pieces = (_cut_text if kind == STRING else _cut_values)(content, length, clock, bounds, place)
            for count, (first, deleted, size, part) in enumerate(pieces):
                if count % MANY == MANY - 1:
                    yield
                if first:
                    head, follows = write_varuint(client) + write_varuint(clock + first - 1) + right, True
                    info |= ORIGIN
                joined.add(DELETED if deleted else kind, info, head, right, length=size, content=part, follows=follows)
        else:
            joined.add(kind, info, data[start + 1 : head_end], right, length=length, content=content, follows=follows)
        clock = end
    joined.flush()
    return joined


def _read_head(data: bytes, at: int, client: int, clock: int, expected: bytes) -> tuple[bool, bytes, int]:
    """Do what `skip_head` does for an item, faster if it follows the one before it.

    Args:
        data: the update.
        at: the offset of the item.
        client: whose it is.
        clock: of its first element.
        expected: the right origin that it probably has.

    Returns:
        whether its origin is the element before it, its right origin as it is encoded, and the offset of its content.
    """
    info, begin = data[at], at + 1
    if not info & ORIGIN:
        at = skip_head(data, at, client, clock, CHECKED)
        return False, data[begin:at] if info & RIGHT_ORIGIN else b"", at
    before = write_varuint(client) + write_varuint(clock - 1) if clock else b""
    follows = clock > 0 and data.startswith(before, begin)
    at = begin + len(before) if follows else _skip_id(data, begin)
    if not info & RIGHT_ORIGIN:
        return follows, b"", at
    end = at + len(expected) if expected and data.startswith(expected, at) else _skip_id(data, at)
    return follows, data[at:end], end


def _skip_id(data: bytes, at: int) -> int:
    return read_varuint(data, read_client(data, at)[1])[1]


Piece = tuple[int, bool, int, bytes]
"""A piece of a content: the number of elements before it, whether it is deleted, its length, its bytes."""


def _ranges(length: int, clock: int, bounds: Sequence[int], place: int) -> Iterator[tuple[int, int]]:
    """Yield the ranges of a struct's elements that are deleted, counted from its first one."""
    while place < len(bounds) and bounds[place] < clock + length:
        yield max(bounds[place] - clock, 0), min(bounds[place + 1] - clock, length)
        place += 2


def _cut_text(text: bytes, length: int, clock: int, bounds: Sequence[int], place: int) -> Iterator[Piece]:
    """Yield a text in pieces; a character of which only half is deleted stays."""
    done = 0
    units = b"" if text.isascii() else text.decode().encode("utf-16-le")
    for begin, end in _ranges(length, clock, bounds, place):
        first, stop = begin, end
        if units:
            first += first > 0 and 0xDC <= units[2 * first + 1] <= 0xDF
            stop -= stop < length and 0xDC <= units[2 * stop + 1] <= 0xDF
        if first >= stop:
            continue
        if first > done:
            yield done, False, first - done, _text(text, units, done, first)
        yield first, True, stop - first, b""
        done = stop
    if done < length:
        yield done, False, length - done, _text(text, units, done, length)


def _text(text: bytes, units: bytes, first: int, stop: int) -> bytes:
    return units[2 * first : 2 * stop].decode("utf-16-le").encode() if units else text[first:stop]


def _cut_values(values: bytes, length: int, clock: int, bounds: Sequence[int], place: int) -> Iterator[Piece]:
    """Yield the values of an array in pieces."""
    done = at = 0
    for first, stop in _ranges(length, clock, bounds, place):
        if first > done:
            behind = _skip(values, at, first - done)
            yield done, False, first - done, values[at:behind]
            at = behind
        at = _skip(values, at, stop - first)
        yield first, True, stop - first, b""
        done = stop
    if done < length:
        yield done, False, length - done, values[at:]


def _skip(values: bytes, at: int, number: int) -> int:
    """Return the offset behind so many values."""
    return finish(long_values(values, at, [(number, False)]))
