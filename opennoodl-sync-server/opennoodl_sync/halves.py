"""Characters that JavaScript counts as two, and edits that come between their halves.

Yjs counts UTF-16, so a client may delete half of a character, or write in its middle; a text field that compares
what was with what is does so for one emoji in place of another. Yjs then has U+FFFD in place of both halves. yrs
cannot cut there, and what it makes of it has other clocks than everybody else has. So it is never made to: a
character that is to be cut is replaced, as Yjs does it, before yrs sees the cut.
"""

import re
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator

from .protocol import read_varuint, write_varuint
from .update import CONTENT, NO_ITEM, ORIGIN, PARENT_KEY, RIGHT_ORIGIN, STRING, Id, read, read_deletions, read_part

REPLACED = "\ufffd\ufffd".encode()
_LARGE = re.compile(rb"[\xf0-\xf4][\x80-\xbf]{3}")


def has_large(data: bytes) -> bool:
    """Return whether there may be a character that counts as two."""
    return _LARGE.search(data) is not None


class Halves:
    """The elements that are second halves of characters: four bytes for each."""

    def __init__(self) -> None:
        self._clocks: dict[int, array[int]] = {}

    def __bool__(self) -> bool:
        return bool(self._clocks)

    def __contains__(self, element: Id) -> bool:
        clocks = self._clocks.get(element[0])
        if clocks is None:
            return False
        place = bisect_left(clocks, element[1])
        return place < len(clocks) and clocks[place] == element[1]

    def add(self, update: bytes) -> None:
        """Find those that are in an update that can be read."""
        for client, clock, at, end, _ in _items(update):
            if update[at] & CONTENT == STRING and has_large(update[at:end]):
                clocks = self._clocks.setdefault(client, array("I"))
                for before, _ in _large(update, at, end):
                    place = bisect_left(clocks, clock + before)
                    if place == len(clocks) or clocks[place] != clock + before:
                        clocks.insert(place, clock + before)


def replace_all(
    updates: list[bytes], held: list[bytes], cut: set[Id], halves: Halves
) -> tuple[list[bytes], list[bytes]]:
    """Replace the characters that any of the updates of a document cuts.

    Args:
        updates: those that make the document.
        held: those that wait.
        cut: second halves of characters that are known to be cut; more are added.
        halves: is added to: what can still be cut.

    Returns:
        both without these characters.

    Raises:
        MalformedError, UnicodeDecodeError, IndexError: one of them cannot be read.
    """
    every = Halves()
    for update in (*updates, *held):
        if has_large(update):
            every.add(update)
    if not every:
        return updates, held
    for update in (*updates, *held):
        cut |= cuts(update, every)
    if cut:
        updates, held = [[replace(update, cut) for update in some] for some in (updates, held)]
    for update in (*updates, *held):
        halves.add(update)
    return updates, held


def cuts(update: bytes, *known: Halves) -> set[Id]:
    """Return those of the known halves before which something of an update begins or ends."""
    return {edge for edge in _edges(update) if any(edge in halves for halves in known)}


def replace(update: bytes, cut: Iterable[Id]) -> bytes:
    """Return an update in which the characters with these second halves are replaced."""
    cut = set(cut)
    parts: list[bytes] = []
    done = 0
    for client, clock, at, end, _ in _items(update):
        if update[at] & CONTENT != STRING or not has_large(update[at:end]):
            continue
        start = _text_at(update, at)
        text, last = [], read_varuint(update, start)[1]
        for before, offset in _large(update, at, end):
            if (client, clock + before) in cut:
                text += [update[last:offset], REPLACED]
                last = offset + 4
        if text:
            content = b"".join([*text, update[last:end]])
            parts += [update[done:start], write_varuint(len(content)), content]
            done = end
    return b"".join([*parts, update[done:]])


def _edges(update: bytes) -> Iterator[Id]:
    """Yield the elements before which an item comes in, or a deletion begins or ends."""
    for _, _, at, _, needs in _items(update):
        info = update[at]
        if info & ORIGIN:
            yield needs[0][0], needs[0][1] + 1
        if info & RIGHT_ORIGIN:
            yield needs[-1]
    for client, first, behind in read_deletions(update, read(update)[1]):
        yield client, first
        yield client, behind


def _items(update: bytes) -> Iterator[tuple[int, int, int, int, tuple[Id, ...]]]:
    """Yield every item: its client and clock, where it is and where it ends, and what it needs."""
    for section in read(update)[0]:
        clock, at = section.clock, section.at
        for _ in range(section.structs):
            length, needs, end = read_part(update, at)
            if update[at] & CONTENT not in NO_ITEM:
                yield section.client, clock, at, end, needs or ()
            clock, at = clock + length, end


def _large(update: bytes, at: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the large characters of a text's item: how many elements are before the second half, and the offset."""
    start = last = read_varuint(update, _text_at(update, at))[1]
    before = 0
    for found in _LARGE.finditer(update, start, end):
        before += len(update[last : found.start()].decode()) + 1
        yield before, found.start()
        before += 1
        last = found.end()


def _text_at(update: bytes, at: int) -> int:
    """Return the offset of the content of an item."""
    info = update[at]
    at += 1
    for flag in (ORIGIN, RIGHT_ORIGIN):
        if info & flag:
            at = read_varuint(update, read_varuint(update, at)[1])[1]
    if not info & (ORIGIN | RIGHT_ORIGIN):
        named, at = read_varuint(update, at)
        at = _behind(update, at) if named == 1 else read_varuint(update, read_varuint(update, at)[1])[1]
        if info & PARENT_KEY:
            at = _behind(update, at)
    return at


def _behind(update: bytes, at: int) -> int:
    """Return the offset behind a text."""
    length, at = read_varuint(update, at)
    return at + length
