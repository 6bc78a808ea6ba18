"""Hypothesis strategies for series of edits: several editors, all kinds of content, with and without merges."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pycrdt
from hypothesis import strategies as st
from opennoodl_sync.yjs.update import NOTHING
from pycrdt import Array, Doc, Map, Text, XmlElement, XmlFragment, XmlText

EDITORS = 3
VALUES: tuple[Any, ...] = (None, True, 7, 2**40, 0.5, "é😀", b"\xff", [1, {"a": [None]}], {"b": {}})
WORDS = ("a", "bc", "déf", "😀", "a😀中")
ONE_UNIT_WORDS = ("a", "bc", "déf", "a中")
"""Words without surrogate pairs, which could be split."""

Step = tuple[int, int, int, int]
"""The editor, the kind of edit, the place, and the editor whose edits it merges before."""

steps = st.lists(
    st.tuples(st.integers(0, EDITORS - 1), st.integers(0, 11), st.integers(0, 40), st.integers(0, EDITORS)),
    min_size=3,
    max_size=24,
)
"""The steps of `edit`."""


def edit(chosen: Iterable[Step], words: Sequence[str] = WORDS) -> list[bytes]:
    """Return the updates of edits, each after the updates that it depends on."""
    updates: list[bytes] = []
    docs = [Doc[Any](client_id=client) for client in (1, 2**31 + 5, 300)]
    for who, what, where, other in chosen:
        doc = docs[who]
        if other < EDITORS:
            doc.apply_update(docs[other].get_update(doc.get_state()))
        before = doc.get_state()
        deleted = doc.get_update()
        _change(doc, what, where, words)
        update = doc.get_update(before)
        if doc.get_update() != deleted:
            updates.append(update)
    return updates


def _change(doc: Doc[Any], what: int, where: int, words: Sequence[str]) -> None:
    text, entries, array = doc.get("t", type=Text), doc.get("m", type=Map), doc.get("a", type=Array)
    # pycrdt counts bytes.
    borders = [len(str(text)[:at].encode()) for at in range(len(str(text)) + 1)]
    start = where % len(borders)
    end = min(start + 1 + where % 3, len(borders) - 1)
    key, value = "xyz"[where % 3], VALUES[where % len(VALUES)]
    if what <= 1:
        text.insert(borders[start], words[where % len(words)])
    elif what == 2 and start < end:
        del text[borders[start] : borders[end]]
    elif what == 3 and start < end:
        text.format(borders[start], borders[end], {"bold": True if where % 2 else None})
    elif what == 4:
        entries[key] = value
    elif what == 5 and key in entries:
        del entries[key]
    elif what == 6:
        entries[key] = [Text("in"), Map({"deep": Array([1])}), Array([Map()])][where % 3]
    elif what == 7:
        array.insert(where % (len(array) + 1), [value, Map({"k": Text("w")})][where % 2])
    elif what == 8 and len(array):
        del array[where % len(array)]
    elif what == 9:
        inner = [item for item in (*entries.values(), *array) if isinstance(item, Map | Text)]
        for item in inner:
            if isinstance(item, Map):
                item[key] = Array([value])
            else:
                item.insert(0, "more")
    elif what == 10:
        doc.get("x", type=XmlFragment).children.append(XmlElement("p", {"class": "ü"}, [XmlText("some")]))
    elif what == 11 and len(doc.get("x", type=XmlFragment).children):
        del doc.get("x", type=XmlFragment).children[0]


@st.composite
def deliveries(draw: st.DrawFn, updates: Sequence[bytes]) -> list[bytes]:
    """Return the updates as a network may deliver them: in any order, repeated, merged, and with gaps."""
    if not updates:
        return []
    order = draw(st.permutations(list(range(len(updates)))))
    again = draw(st.lists(st.integers(0, len(updates) - 1), max_size=4))
    remaining = [updates[number] for number in (*order, *again)]
    delivered = []
    while remaining:
        count = draw(st.sampled_from([1, 1, 1, 2, 3, 5]))
        delivered.append(pycrdt.merge_updates(*remaining[:count]))
        del remaining[:count]
    return delivered


@st.composite
def mutated(draw: st.DrawFn, updates: Sequence[bytes]) -> bytes:
    """Return one of the updates with some bytes changed, added, removed, or taken from another one."""
    changed = bytearray(draw(st.sampled_from(updates)))
    for _ in range(draw(st.sampled_from([1, 1, 2, 3]))):
        at = draw(st.integers(0, len(changed)))
        how = draw(st.integers(0, 4))
        if how == 0:
            changed[at : at + 1] = bytes([draw(st.integers(0, 255))])
        elif how == 1:
            changed[at : at + 1] = bytes([draw(st.integers(0, 11))])
        elif how == 2:
            del changed[at : at + draw(st.integers(1, 3))]
        elif how == 3:
            changed[at:at] = draw(st.binary(min_size=1, max_size=3))
        else:
            other = draw(st.sampled_from(updates))
            changed[at:] = other[draw(st.integers(0, len(other))) :]
    return bytes(changed)


def snapshot(doc: Doc[Any]) -> tuple[object, ...]:
    """Return the contents that the edits above write, as plain values."""
    markup = doc.get("x", type=XmlFragment)
    return (
        doc.get("t", type=Text).diff(),
        plain(doc.get("m", type=Map)),
        plain(doc.get("a", type=Array)),
        str(markup),
    )


def plain(value: object) -> object:
    """Return a value of a document as plain values that can be compared."""
    if isinstance(value, Map):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, Array):
        return [plain(inner) for inner in value]
    if isinstance(value, Text):
        return repr(value.diff())
    if isinstance(value, Doc):
        return "a document"
    if isinstance(value, (XmlElement, XmlFragment, XmlText)):
        return str(value)
    return repr(value)


def opened(*updates: bytes) -> Doc[Any]:
    """Return a document with these updates."""
    doc: Doc[Any] = Doc()
    for update in updates:
        if update != NOTHING:
            doc.apply_update(update)
    return doc
