"""Restoring a version: makes an update that changes a document back into an earlier state.

Deleted elements cannot come back, so the update inserts copies next to their old places, under a new client id.
Contents are copied as bytes, so every kind of content is restored. Elements that were added since the version are
deleted. Everything else stays, so concurrent changes keep their places.

The update is tested before it is returned: the document with it must show the same as the version.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from .compaction import OTHER, JoinedStructs, compact_records
from .contents import long_values
from .delete_set import insert
from .lib0 import finish, read_varuint, write_bytes, write_varuint
from .structs import ANY, JSON, ORIGIN, PARENT_KEY, RIGHT_ORIGIN, STRING
from .tree import Id, Item, SharedType, Struct, Tree
from .update import NOTHING, write, write_deletions, write_section


class RestoreError(Exception):
    """A version cannot be restored exactly; the text is the reason."""


class Piece(NamedTuple):
    """A range of elements of an item.

    Attributes:
        item: the item in the version.
        clock: the clock of the first element.
        end: the clock after the last element.
    """

    item: Item
    clock: int
    end: int


class Parent(NamedTuple):
    """The encoded parent of an element: the name of a root or an id; and the key if it is an entry of a map."""

    type: bytes | Id
    key: bytes | None


def restoring_update(document: bytes, version: bytes, client: int) -> bytes:
    """Return the update that changes a document into one of its versions.

    Args:
        document: the present document as one update.
        version: the earlier document as one update.
        client: a client id that has no elements in the document.

    Raises:
        RestoreError: the version cannot be restored exactly.
        MalformedError: one of the two is not an update.
    """
    then = Tree(version)
    update = _Restoring(Tree(document), then, client).update()
    segment, _ = finish(compact_records([document, update]))
    root = different_root(Tree(finish(segment.write())), then)
    if root is not None:
        raise RestoreError(f"{root.decode()!r} would not be what it was")
    return update


def different_root(one: Tree, other: Tree) -> bytes | None:
    """Return the name of a root that differs in two documents; None if there is none."""
    contents = _Contents(one.update), _Contents(other.update)
    for root in sorted(one.roots.keys() | other.roots.keys()):
        pairs = [(one.roots.get(root, SharedType()), other.roots.get(root, SharedType()))]
        while pairs:
            (ones, types), (others, other_types) = map(_Contents.shown, contents, pairs.pop())
            if ones != others:
                return root
            pairs += zip(types, other_types, strict=True)
    return None


class _Contents:
    """The contents of items.

    Args:
        update: the document of the items.
    """

    def __init__(self, update: bytes) -> None:
        self._update = update
        self._texts: dict[int, bytes] = {}  # by offset of a content: its text in UTF-16

    def is_half(self, item: Item, clock: int) -> bool:
        """Return whether the element at a clock is the second half of a surrogate pair."""
        if item.struct.kind != STRING:
            return False
        return 0xDC <= self._text(item.struct)[2 * (clock - item.struct.clock) + 1] <= 0xDF

    def of(self, piece: Piece) -> bytes:
        """Return the encoded contents of elements, without the number before them."""
        struct, data = piece.item.struct, self._update
        first, stop = piece.clock - struct.clock, piece.end - struct.clock
        if struct.kind == STRING:
            return self._text(struct)[2 * first : 2 * stop].decode("utf-16-le", "replace").encode()
        if struct.kind not in (ANY, JSON):
            return data[struct.content : struct.stop]
        _, at = read_varuint(data, struct.content)
        begin = _skip(data, at, first, struct.kind)
        return data[begin : _skip(data, begin, stop - first, struct.kind)]

    def shown(self, type_: SharedType) -> tuple[list[tuple[bytes | None, int, bytearray]], list[SharedType]]:
        """Return the visible contents of a type as (key, kind, content), in order; and the types in it.

        Adjacent contents are joined if they could be one item in another document.
        """
        found: list[tuple[bytes | None, int, bytearray]] = []
        types: list[SharedType] = []
        for item in (*type_.elements(), *(item for _, item in sorted(type_.entries.items()))):
            if item.deleted:
                continue
            key, kind, content = item.key, item.struct.kind, self.of(Piece(item, item.clock, item.end))
            if key is None and kind in (STRING, ANY, JSON) and found and found[-1][:2] == (None, kind):
                found[-1][2].extend(content)
            else:
                found.append((key, kind, bytearray(content)))
            if item.type is not None:
                types.append(item.type)
        return found, types

    def _text(self, struct: Struct) -> bytes:
        """Return the text of a struct in UTF-16."""
        text = self._texts.get(struct.content)
        if text is None:
            _, begin = read_varuint(self._update, struct.content)
            text = self._update[begin : struct.stop].decode().encode("utf-16-le")
            self._texts[struct.content] = text
        return text


class _Restoring:
    def __init__(self, document: Tree, version: Tree, client: int) -> None:
        self._document = document
        self._version = version
        self._client = client
        self._clock = 0
        self._written = JoinedStructs(0)
        self._kept: dict[int, list[int]] = {}
        self._done = 0  # number of elements that were kept or copied
        self._contents = _Contents(version.update)
        items: dict[int, list[Item]] = {}
        self._living = 0  # number of elements of the version
        for item in version.living():
            items.setdefault(item.struct.client, []).append(item)
            self._living += item.end - item.clock
        self._items = {client: sorted(some, key=lambda item: item.clock) for client, some in items.items()}
        self._clocks = {client: [item.clock for item in some] for client, some in self._items.items()}

    def update(self) -> bytes:
        pairs = []
        for name, then in self._version.roots.items():
            now = self._document.roots.get(name)
            if now is None:
                if any(then.living()):
                    raise self._missing()
                continue
            pairs.append((now, then, name))
        todo: list[tuple[SharedType, SharedType, bytes | Id]] = [*pairs]
        while todo:
            todo += self._restore(*todo.pop())
        if self._done != self._living:
            raise self._missing()
        self._written.flush()
        deletions = self._deletions()
        sections = []
        if self._clock:
            sections.append(write_section(self._client, 0, self._written.structs, self._written.data))
        return write(sections, len(deletions), write_deletions(deletions)) if sections or deletions else NOTHING

    def _missing(self) -> RestoreError:
        return RestoreError(
            "the document lacks changes that the version has; export the version with `version`, merge it with "
            "`import`, and try again"
        )

    def _deletions(self) -> dict[int, list[int]]:
        """Return the ranges to delete: all visible elements that are not kept."""
        deletions: dict[int, list[int]] = {}
        for item in self._document.living():
            client, clock = item.first
            kept = self._kept.get(client, [])
            at = bisect_right(kept, clock)
            at -= at % 2
            while clock < item.end:
                begin, end = kept[at : at + 2] if at < len(kept) else (item.end, item.end)
                if clock < begin:
                    insert(deletions.setdefault(client, []), clock, min(begin, item.end))
                clock = max(clock, end)
                at += 2
        return dict(sorted(deletions.items(), reverse=True))

    def _restore(
        self, now: SharedType, then: SharedType, name: bytes | Id
    ) -> list[tuple[SharedType, SharedType, bytes | Id]]:
        """Restore a type that exists in both documents; return the types in it that exist in both."""
        within: list[tuple[SharedType, SharedType, bytes | Id]] = []
        parent = Parent(name, None)
        anew: list[Piece] = []  # elements to copy to the right of their old place
        last: Id | None = None
        for item in now.elements():
            client, clock = item.first
            for piece, kept in self._pieces(item):
                if kept or (clock < piece.clock and not self._is_cut(anew)):
                    self._make(anew, parent, last, (client, clock))
                    anew = []
                if kept:
                    self._keep(piece)
                    if item.type is not None and piece.item.type is not None:
                        within.append((item.type, piece.item.type, item.first))
                else:
                    anew.append(piece)
                clock = piece.end
                last = client, clock - 1
            if clock < item.end and not self._is_cut(anew):
                self._make(anew, parent, last, (client, clock))
                anew = []
            last = item.last
        self._make(anew, parent, last, None)
        for key, item in then.entries.items():
            if item.deleted:
                continue
            entry = now.entries.get(key)
            if entry is None:
                raise self._missing()
            if entry.first == item.first and not entry.deleted:
                self._keep(Piece(item, item.clock, item.end))
                if entry.type is not None and item.type is not None:
                    within.append((entry.type, item.type, entry.first))
            else:
                self._make([Piece(item, item.clock, item.end)], Parent(name, key), entry.last, None)
        return within

    def _keep(self, piece: Piece) -> None:
        insert(self._kept.setdefault(piece.item.struct.client, []), piece.clock, piece.end)
        self._done += piece.end - piece.clock

    def _pieces(self, item: Item) -> Iterator[tuple[Piece, bool]]:
        """Yield the ranges of an item that the version shows, and whether each is kept."""
        items = self._items.get(item.struct.client, [])
        at = max(bisect_right(self._clocks.get(item.struct.client, []), item.clock) - 1, 0)
        while at < len(items) and items[at].clock < item.end:
            then = items[at]
            begin, end = max(item.clock, then.clock), min(item.end, then.end)
            at += 1
            if begin >= end:
                continue
            if item.deleted:
                yield Piece(then, begin, end), False
                continue
            # Yjs has replaced both halves of a surrogate pair by U+FFFD if the pair was split since.
            first = begin + (begin > then.clock and self._contents.is_half(then, begin))
            stop = end - (end < then.end and self._contents.is_half(then, end))
            if begin < first:
                yield Piece(then, begin, first), False
            if first < stop:
                yield Piece(then, first, stop), True
            if max(first, stop) < end:
                yield Piece(then, max(first, stop), end), False

    def _is_cut(self, pieces: list[Piece]) -> bool:
        """Return whether a range ends within a surrogate pair whose second half comes later."""
        if not pieces:
            return False
        item, _, end = pieces[-1]
        return end < item.end and self._contents.is_half(item, end)

    def _make(self, pieces: list[Piece], parent: Parent, left: Id | None, right: Id | None) -> None:
        """Insert copies of elements.

        Args:
            pieces: the ranges of the version to copy.
            parent: the parent of the copies.
            left: the id of the element to their left, or None.
            right: the id of the element to their right, or None.
        """
        types: list[tuple[SharedType, Id]] = []
        while pieces:
            for piece in _joined(pieces):
                if piece.item.type is not None:
                    types.append((piece.item.type, (self._client, self._clock)))
                self._write(piece, parent, left, right)
                left = (self._client, self._clock - 1)
            # Next the elements within them; their types do not exist in the present document.
            pieces = []
            while types and not pieces:
                type_, id_ = types.pop()
                parent, left, right = Parent(id_, None), None, None
                pieces = [Piece(item, item.clock, item.end) for item in type_.elements() if not item.deleted]
                for key, item in type_.entries.items():
                    if not item.deleted:
                        if item.type is not None:
                            types.append((item.type, (self._client, self._clock)))
                        self._write(Piece(item, item.clock, item.end), Parent(id_, key), None, None)

    def _write(self, piece: Piece, parent: Parent, left: Id | None, right: Id | None) -> None:
        kind = piece.item.struct.kind
        info, head = kind, b""
        behind = b"" if right is None else _id(right)
        if left is not None:
            info, head = info | ORIGIN, _id(left)
        if right is not None:
            info |= RIGHT_ORIGIN
            head += behind
        if parent.key is not None:
            info |= PARENT_KEY
        if left is None and right is None:
            head = b"\1" + write_bytes(parent.type) if isinstance(parent.type, bytes) else b"\0" + _id(parent.type)
            head += b"" if parent.key is None else write_bytes(parent.key)
        length = piece.end - piece.clock
        content = self._contents.of(piece)
        follows = left is not None and left == (self._client, self._clock - 1)
        if parent.key is not None or kind not in (STRING, ANY):
            if kind == STRING:
                content = write_bytes(content)
            elif kind in (ANY, JSON):
                content = write_varuint(length) + content
            kind, content, follows = OTHER, bytes((info,)) + head + content, False
        self._written.add(kind, info, head, behind, length=length, content=content, follows=follows)
        self._clock += length
        self._done += length


def _joined(pieces: list[Piece]) -> Iterator[Piece]:
    """Yield ranges, with adjacent ranges of one item joined."""
    last: Piece | None = None
    for piece in pieces:
        if last is not None and last.item is piece.item and last.end == piece.clock:
            last = last._replace(end=piece.end)
            continue
        if last is not None:
            yield last
        last = piece
    if last is not None:
        yield last


def _skip(data: bytes, at: int, number: int, kind: int) -> int:
    """Return the offset after `number` values."""
    if kind == ANY:
        return finish(long_values(data, at, [(number, False)])) if number else at
    for _ in range(number):
        size, at = read_varuint(data, at)
        at += size
    return at


def _id(id_: Id) -> bytes:
    return write_varuint(id_[0]) + write_varuint(id_[1])
