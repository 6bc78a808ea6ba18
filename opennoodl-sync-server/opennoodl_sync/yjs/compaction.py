"""Compaction: makes the same document of fewer structs, without deleted contents.

It does on bytes what yjs does in memory after each transaction, and what yjs can undo when it integrates the result:

* Adjacent structs of one client are merged (``Item.mergeWith``, ``GC.mergeWith``). The second one must begin where the
  first ends, have the first one's last element as its origin, and have the same right origin. Then yjs gets the second
  one back when it splits the first (``splitItem``), with the same origins.
* Deleted contents are removed (``Item.gc`` replaces them by ``ContentDeleted``). A text or an array that is partly
  deleted is split at the bounds of the deletion, like ``splitItem`` does.

The bytes of all other structs and contents do not change, and neither does the delete set. Children of a deleted type
become ``GC`` structs when yjs integrates them, because their parent is not a type (``Item.getMissing``).
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
"""Structs, or values, of one step."""
MAX_GROWTH = 1.5
ALLOWANCE = 256
"""Limit of the growth of a client's structs when contents are split: this factor, plus this number of bytes. If every
second element of a text is deleted, the pieces need several times the bytes of the text."""
OTHER = -1
"""Kind of a struct that is written unchanged and never merged."""


def compact(segments: Sequence[Segment]) -> Steps[Segment]:
    """Return the same document with fewer structs and without deleted contents.

    Args:
        segments: the segments of the document. A client's structs in a later segment follow those in earlier ones.
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
    """Compact a document that is stored as several updates.

    Returns:
        the document, and an update with the pending structs, which the document lacks; None if there are none.

    Raises:
        DamagedError: a record is not an update.
    """
    document = Document()
    yield from document.load(records)
    pending = document.pending()
    yield from document.freeze()
    segments = document.frozen()
    del document
    return (yield from compact(segments)), pending


class JoinedStructs:
    """Structs of one client, written one after the other and merged where possible.

    Attributes:
        data: the encoded structs.
        structs: their number.
        marks: positions of structs in `data`: offset, clock, number of structs before.
        right: the encoded right origin of the last struct; empty if it has none.
    """

    __slots__ = ("_clock", "_content", "_head", "_info", "_kind", "_length", "data", "marks", "right", "structs")

    def __init__(self, clock: int) -> None:
        self.data = bytearray()
        self.structs = 0
        self.marks: list[tuple[int, int, int]] = []
        self.right = b""
        # The last struct: the next one may be merged with it.
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
            kind: the kind of its content; `OTHER` if `content` is the whole encoded struct.
            info: its first byte; the kind in it is ignored.
            head: the bytes between its first byte and its content.
            right: its encoded right origin.
            length: its length in clocks.
            content: the text or the values, without the length or number before them.
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
    """Return the merged structs of a section, without the contents in deleted ranges.

    Args:
        data: the bytes with the section.
        section: the section.
        bounds: the bounds of the client's deleted ranges: clock, end, clock, end and so on.
        cut: whether partly deleted contents are split.
    """
    client, clock, at = section.client, section.clock, section.at
    joined = JoinedStructs(clock)
    place = 0  # index in `bounds` of the first range that does not end before the struct
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
        elif info & PARENT_KEY or kind not in (STRING, ANY):  # an entry of a map has a single value
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
    """Do the same as `skip_head` for an item, faster if it follows the previous one.

    Args:
        data: the update.
        at: the offset of the item.
        client: the client of the item.
        clock: the clock of its first element.
        expected: its most likely right origin, encoded.

    Returns:
        whether its origin is the element before it, its encoded right origin, and the offset of its content.
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
"""A part of a content: the number of elements before it, whether it is deleted, its length, its bytes."""


def _ranges(length: int, clock: int, bounds: Sequence[int], place: int) -> Iterator[tuple[int, int]]:
    """Yield the deleted ranges of a struct's elements, relative to its first element."""
    while place < len(bounds) and bounds[place] < clock + length:
        yield max(bounds[place] - clock, 0), min(bounds[place + 1] - clock, length)
        place += 2


def _cut_text(text: bytes, length: int, clock: int, bounds: Sequence[int], place: int) -> Iterator[Piece]:
    """Yield the parts of a text; if only half of a surrogate pair is deleted, the character stays."""
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
    """Yield the parts of an array's values."""
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
    """Return the offset after `number` values."""
    return finish(long_values(values, at, [(number, False)]))
