"""The tree of a document: its elements in the order of Yjs. Only restoring a version needs it.

A `Document` does not order elements. Here, each element gets its place (``Item.integrate``). That may take long for a
malicious document, so it is done in a worker process. Contents stay bytes.
Source: yjs 13, ``structs/Item.js``, ``utils/encoding.js`` (``integrateStructs``).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from .lib0 import finish, read_bytes, read_varuint
from .structs import DELETED, GC, KIND, ORIGIN, PARENT_KEY, RIGHT_ORIGIN, TYPE, read_client, struct_end
from .update import Parts, Run, read

Id = tuple[int, int]
"""A client id and a clock."""


class Struct(NamedTuple):
    """A struct of an update, and its position there.

    Attributes:
        client: the client id.
        clock: the clock of the first element.
        end: the clock after the last element.
        kind: the kind of the content.
        origin: the element to its left at its insertion.
        right_origin: the element to its right at its insertion.
        parent: the name of a root, or the id of a type; None if it has the parent of its neighbours.
        key: the key of a map's entry; None for an element of a list, or if it has the key of its neighbours.
        content: the offset of its content.
        stop: the offset after its content.
    """

    client: int
    clock: int
    end: int
    kind: int
    origin: Id | None
    right_origin: Id | None
    parent: bytes | Id | None
    key: bytes | None
    content: int
    stop: int


class SharedType:
    """A shared type: a root, or one within another type.

    Attributes:
        root: the name of a root, else None.
        start: the first item of the list.
        entries: by key, the last item of a map's entry. Earlier items of the entry are deleted.
    """

    __slots__ = ("entries", "root", "start")

    def __init__(self, root: bytes | None = None) -> None:
        self.root = root
        self.start: Item | None = None
        self.entries: dict[bytes, Item] = {}

    def elements(self) -> Iterator[Item]:
        """Yield the items of the list in their order, including deleted ones."""
        item = self.start
        while item is not None:
            yield item
            item = item.right

    def living(self) -> Iterator[Item]:
        """Yield the items of the list and the map's entries that are not deleted."""
        yield from (item for item in self.elements() if not item.deleted)
        yield from (item for item in self.entries.values() if not item.deleted)


class Item:
    """A part of a struct that no other element splits.

    Attributes:
        struct: the struct.
        clock: the clock of the first element.
        end: the clock after the last element.
        origin: the element to its left at its insertion.
        parent: the type that it is in; None if it has no place and so is not in the document.
        key: the key of a map's entry, else None.
        left: its present left neighbour.
        right: its present right neighbour.
        deleted: whether it is deleted itself; it is also invisible if a type around it is deleted.
        type: the shared type of its content, or None.
    """

    __slots__ = ("clock", "deleted", "end", "key", "left", "origin", "parent", "right", "struct", "type")

    def __init__(self, struct: Struct, clock: int, end: int) -> None:
        self.struct = struct
        self.clock = clock
        self.end = end
        self.origin = struct.origin if clock == struct.clock else (struct.client, clock - 1)
        self.parent: SharedType | None = None
        self.key: bytes | None = None
        self.left: Item | None = None
        self.right: Item | None = None
        self.deleted = struct.kind in (DELETED, GC)
        self.type = SharedType() if struct.kind == TYPE else None

    @property
    def first(self) -> Id:
        """The id of its first element."""
        return self.struct.client, self.clock

    @property
    def last(self) -> Id:
        """The id of its last element."""
        return self.struct.client, self.end - 1


class Tree:
    """The elements of a document in order.

    Args:
        update: the whole document. Pending structs are ignored.

    Attributes:
        roots: the root types by name.

    Raises:
        MalformedError: the bytes are not an update.
    """

    def __init__(self, update: bytes) -> None:
        self.update = update
        self.roots: dict[bytes, SharedType] = {}
        parts = Parts()
        finish(read(update, parts))
        structs = {run.client: list(_structs(update, run)) for run in parts.runs if run.clock == 0}
        cuts: dict[int, set[int]] = {client: set() for client in structs}
        for some in structs.values():
            for struct in some:
                if struct.origin is not None and struct.origin[0] in cuts:
                    cuts[struct.origin[0]].add(struct.origin[1] + 1)
                if struct.right_origin is not None and struct.right_origin[0] in cuts:
                    cuts[struct.right_origin[0]].add(struct.right_origin[1])
        for deletion in parts.deletions:
            if deletion.client in cuts:
                cuts[deletion.client] |= {deletion.clock, deletion.end}
        self._items = {client: list(_items(structs[client], sorted(cuts[client]))) for client in structs}
        self._clocks = {client: [item.clock for item in items] for client, items in self._items.items()}
        self._placed = dict.fromkeys(structs, 0)  # by client: the number of items with a place
        self._blocked: set[int] = set()  # clients whose next item has a missing dependency
        for client, items in self._items.items():
            self._place_until(client, len(items) - 1)
        for deletion in parts.deletions:
            clocks = self._clocks.get(deletion.client, [])
            for number in range(bisect_left(clocks, deletion.clock), bisect_left(clocks, deletion.end)):
                self._items[deletion.client][number].deleted = True

    def __contains__(self, client: object) -> bool:
        """Return whether a client has structs in the update."""
        return client in self._items

    def find(self, id_: Id) -> Item | None:
        """Return the item with an element; None if it has no place."""
        client, clock = id_
        number = bisect_right(self._clocks.get(client, []), clock) - 1
        if not 0 <= number < self._placed.get(client, 0):
            return None
        item = self._items[client][number]
        return item if clock < item.end else None

    def living(self) -> Iterator[Item]:
        """Yield all visible items, in any order."""
        types = list(self.roots.values())
        while types:
            for item in types.pop().living():
                yield item
                if item.type is not None:
                    types.append(item.type)

    def _place_until(self, client: int, number: int) -> None:
        """Place a client's items up to item `number`, after their dependencies."""
        wanted = [(client, number)]
        while wanted:
            client, number = wanted[-1]
            at = self._placed[client]
            if at > number or client in self._blocked:
                wanted.pop()
                continue
            item = self._items[client][at]
            needed = self._needs(item)
            if needed is None:
                self._place(item)
                self._placed[client] = at + 1
            elif needed[1] < 0 or needed[0] in self._blocked or any(needed[0] == other for other, _ in wanted):
                self._blocked.add(client)
            else:
                wanted.append(needed)

    def _needs(self, item: Item) -> Id | None:
        """Return client and item number of a dependency without a place, or None. The number is -1 if it is missing."""
        struct = item.struct
        for id_ in (item.origin, struct.right_origin, struct.parent):
            if isinstance(id_, tuple):
                client, clock = id_
                number = bisect_right(self._clocks.get(client, []), clock) - 1
                if number < 0 or clock >= self._items[client][number].end:
                    return client, -1
                if number >= self._placed[client]:
                    return client, number
        return None

    def _place(self, item: Item) -> None:
        struct = item.struct
        if struct.kind == GC:
            return
        left = None if item.origin is None else self.find(item.origin)
        right = None if struct.right_origin is None else self.find(struct.right_origin)
        neighbours = [other for other in (left, right) if other is not None]
        if any(other.parent is None for other in neighbours):
            parent = None
        elif isinstance(struct.parent, bytes):
            parent = self.roots.setdefault(struct.parent, SharedType(struct.parent))
            item.key = struct.key
        elif struct.parent is not None:
            holder = self.find(struct.parent)
            parent = None if holder is None or holder.parent is None else holder.type
            item.key = struct.key
        else:
            parent, item.key = neighbours[0].parent, neighbours[0].key
        if parent is None:
            item.deleted = True
            return
        item.parent = parent
        self._insert(item, parent, self._left_of(item, parent, left, right))

    def _left_of(self, item: Item, parent: SharedType, left: Item | None, right: Item | None) -> Item | None:
        """Return the left neighbour of an item, after concurrent insertions at the same place that precede it."""
        other = _first(parent, item.key) if left is None else left.right
        conflicting: set[Item] = set()
        before: set[Item] = set()
        while other is not None and other is not right:
            before.add(other)
            conflicting.add(other)
            if item.origin == other.origin:
                if other.struct.client < item.struct.client:
                    left = other
                    conflicting.clear()
                elif item.struct.right_origin == other.struct.right_origin:
                    break
            elif other.origin is not None and (origin := self.find(other.origin)) in before:
                if origin not in conflicting:
                    left = other
                    conflicting.clear()
            else:
                break
            other = other.right
        return left

    def _insert(self, item: Item, parent: SharedType, left: Item | None) -> None:
        item.left = left
        if left is not None:
            item.right, left.right = left.right, item
        else:
            item.right = _first(parent, item.key)
            if item.key is None:
                parent.start = item
        if item.right is not None:
            item.right.left = item
        elif item.key is not None:
            parent.entries[item.key] = item


def _first(parent: SharedType, key: bytes | None) -> Item | None:
    if key is None:
        return parent.start
    item = parent.entries.get(key)
    while item is not None and item.left is not None:
        item = item.left
    return item


def _items(structs: list[Struct], cuts: list[int]) -> Iterator[Item]:
    """Yield the items of structs, which are split where other elements may be inserted."""
    for struct in structs:
        begin = struct.clock
        for cut in cuts[bisect_right(cuts, struct.clock) : bisect_left(cuts, struct.end)]:
            yield Item(struct, begin, cut)
            begin = cut
        yield Item(struct, begin, struct.end)


def _structs(data: bytes, run: Run) -> Iterator[Struct]:
    at, clock = run.at, run.clock
    for _ in range(run.structs):
        length, stop = finish(struct_end(data, at, run.client, clock))
        info = data[at]
        kind = info & KIND
        at += 1
        origin = right_origin = None
        parent: bytes | Id | None = None
        key = None
        if kind != GC:
            if info & ORIGIN:
                origin, at = _read_id(data, at)
            if info & RIGHT_ORIGIN:
                right_origin, at = _read_id(data, at)
            if origin is None and right_origin is None:
                named, at = read_varuint(data, at)
                parent, at = read_bytes(data, at) if named == 1 else _read_id(data, at)
                if info & PARENT_KEY:
                    key, at = read_bytes(data, at)
        yield Struct(run.client, clock, clock + length, kind, origin, right_origin, parent, key, at, stop)
        at, clock = stop, clock + length


def _read_id(data: bytes, at: int) -> tuple[Id, int]:
    client, at = read_client(data, at)
    clock, at = read_varuint(data, at)
    return (client, clock), at
