"""The update that restores a version. What Yjs makes of it is shown in ``e2e/test_versions.py``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from opennoodl_sync.yjs import restore
from opennoodl_sync.yjs.restore import RestoreError, restoring_update
from opennoodl_sync.yjs.update import NOTHING
from pycrdt import Array, Doc, Map, Text, XmlElement, XmlFragment, XmlText

from ..editor import Editor
from ..raw import item, section, skip, text, update

CLIENT = 2**32 - 1
"""Restores."""


def after(*updates: bytes) -> Doc[Any]:
    """Return the document of some updates."""
    doc: Doc[Any] = Doc()
    for one in updates:
        doc.apply_update(one)
    return doc


def test_an_unchanged_document_needs_no_update() -> None:
    """A document that is as it was needs no change."""
    state = Editor(1).write("text")
    assert restoring_update(state, state, CLIENT) == NOTHING


def test_deleted_text_comes_back() -> None:
    """Deleted text is back in its place, and added text is gone."""
    editor = Editor(1)
    editor.write("hello brave world")
    then = editor.doc.get_update()
    editor.delete(0, 6)
    editor.delete(2, 8)
    editor.write("new", 1)
    now = editor.doc.get_update()
    assert editor.text == "bnewrrld"
    restored = after(now, restoring_update(now, then, CLIENT))
    assert str(restored.get("t", type=Text)) == "hello brave world"


def test_unchanged_content_is_not_made_anew() -> None:
    """The update has what was deleted, and not the rest of the document."""
    editor = Editor(1)
    editor.write("x" * 10_000)
    then = editor.doc.get_update()
    editor.delete(5000, 5003)
    assert len(restoring_update(editor.doc.get_update(), then, CLIENT)) < 40


def test_concurrent_changes_stay() -> None:
    """Changes made while a version is restored stay in their place, in either order."""
    ann, ben = Editor(1), Editor(2)
    ben.take(ann.write("one two three"))
    then = ann.doc.get_update()
    ben.take(ann.delete(4, 8))
    now = ann.doc.get_update()
    restoring = restoring_update(now, then, CLIENT)
    typed = ben.write("!", 9)
    for order in ((restoring, typed), (typed, restoring)):
        assert str(after(now, *order).get("t", type=Text)) == "one two three!"


def test_a_restored_version_can_be_left_again() -> None:
    """A restored version can be left for what was before, and come back."""
    editor = Editor(1)
    editor.write("first")
    first = editor.doc.get_update()
    editor.delete(0, 5)
    editor.write("second")
    second = editor.doc.get_update()
    states = [second]
    for number, version in enumerate((first, second, first)):
        doc = after(states[-1], restoring_update(states[-1], version, CLIENT - number))
        states.append(doc.get_update())
    assert [str(after(state).get("t", type=Text)) for state in states] == ["second", "first", "second", "first"]


def build(doc: Doc[Any]) -> None:
    """Fill a document with types in types."""
    doc["map"] = Map({"deep": Map({"list": Array([1, Map({"text": Text("within")})])}), "plain": "value"})
    doc["xml"] = XmlFragment([XmlElement("p", {"class": "a"}, [XmlText("hey")])])


def change_entry(doc: Doc[Any]) -> None:
    """Write over an entry, and delete another one."""
    doc.get("map", type=Map)["deep"] = "gone"
    del doc.get("map", type=Map)["plain"]


def change_within(doc: Doc[Any]) -> None:
    """Change what is in a type, and add something."""
    entries = doc.get("map", type=Map)
    entries["deep"]["list"].append("more")
    entries["deep"]["new"] = True
    entries["deep"]["list"][1]["text"] += "!"
    del entries["deep"]["list"][0]


def change_xml(doc: Doc[Any]) -> None:
    """Delete an element with what is in it."""
    del doc.get("xml", type=XmlFragment).children[0]


@pytest.mark.parametrize("change", [change_entry, change_within, change_xml])
def test_types_come_back_with_their_content(change: Callable[[Doc[Any]], None]) -> None:
    """Types come back with what was in them; those that are there still are kept."""
    doc: Doc[Any] = Doc()
    build(doc)
    then = doc.get_update()
    doc = after(then)
    change(doc)
    now = doc.get_update()
    restored = after(now, restoring_update(now, then, CLIENT))

    def shown(one: Doc[Any]) -> tuple[object, str]:
        return one.get("map", type=Map).to_py(), str(one.get("xml", type=XmlFragment))

    assert shown(after(now)) != shown(after(then))
    assert shown(restored) == shown(after(then))


def format_text(doc: Doc[Any]) -> None:
    """Make a text bold."""
    doc.get("t", type=Text).format(0, 1, {"bold": True})


def move_text(doc: Doc[Any]) -> None:
    """Put the same letters in another order."""
    typed = doc.get("t", type=Text)
    del typed[0:1]
    typed += "a"


def change_attribute(doc: Doc[Any]) -> None:
    """Change the attribute of an element."""
    doc.get("xml", type=XmlFragment).children[0].attributes["class"] = "b"


@pytest.mark.parametrize(
    ("change", "root"),
    [
        (change_entry, "map"),
        (change_within, "map"),
        (change_xml, "xml"),
        (change_attribute, "xml"),
        (format_text, "t"),
        (move_text, "t"),
    ],
)
def test_an_update_that_restores_something_else_is_refused(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[Doc[Any]], None], root: str
) -> None:
    """If the document would not show what the version shows, the version is refused with the name of what differs."""
    doc: Doc[Any] = Doc()
    build(doc)
    doc.get("t", type=Text).insert(0, "ab")
    then = doc.get_update()
    change(doc)
    now = doc.get_update()
    restoring_update(now, then, CLIENT)
    monkeypatch.setattr(restore._Restoring, "update", lambda _: NOTHING)
    with pytest.raises(RestoreError, match=f"^'{root}' would not be what it was$"):
        restoring_update(now, then, CLIENT)


def test_deep_types_come_back() -> None:
    """Types may be in each other thousands of times: nothing here is recursive."""
    depth = 3000
    sections = [b"\x07\x01\x01a\x00"]
    sections += [b"\x07\x00\x01" + _number(clock) + b"\x00" for clock in range(depth - 1)]
    then = b"\x01" + _number(depth) + b"\x01\x00" + b"".join(sections) + b"\x00"
    now = then[:-1] + b"\x01\x01\x01\x00" + _number(depth)
    restoring = restoring_update(now, then, CLIENT)
    assert restoring.count(b"\x07") >= depth


def _number(number: int) -> bytes:
    return bytes((number,)) if number < 0x80 else bytes((number & 0x7F | 0x80, number >> 7))


def test_half_a_character_comes_back_whole() -> None:
    """A character of which one half was deleted comes back whole, and the other half is not left beside it."""
    # "a😀b" of client 1, of which the second half of the character is deleted.
    then = b"\x01\x01\x01\x00\x04\x01\x01t\x06a\xf0\x9f\x98\x80b\x00"
    now = then[:-1] + b"\x01\x01\x01\x02\x01"
    restoring = restoring_update(now, then, CLIENT)
    assert "😀".encode() in restoring
    assert restoring.endswith(b"\x01\x01\x01\x01\x01")  # the first half is deleted


def test_a_version_with_more_changes_is_refused() -> None:
    """A version that has changes which the document lacks, as after damage, is refused with what helps."""
    editor = Editor(1)
    first = editor.write("one")
    editor.write("two")
    with pytest.raises(RestoreError, match="the document lacks changes that the version has; export the version"):
        restoring_update(first, editor.doc.get_update(), CLIENT)
    with pytest.raises(RestoreError, match="the document lacks changes"):
        restoring_update(NOTHING, first, CLIENT)


def test_pending_updates_are_left_alone() -> None:
    """A pending update is neither in the version nor deleted, and appears when its predecessors come."""
    editor = Editor(1)
    first, second, third = editor.write("a"), editor.write("b"), editor.write("c")
    gap = update(section(1, 0, item(text("a")), skip(1), item(text("c"), origin=(1, 1))))
    restoring = restoring_update(gap, first, CLIENT)
    assert restoring == NOTHING
    assert str(after(first, third, restoring, second).get("t", type=Text)) == "abc"
