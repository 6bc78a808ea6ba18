"""A document as JSON: nothing is left out, whatever it is made of."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from opennoodl_sync.workers.json_export import to_json
from pycrdt import Array, Doc, Map, Text, XmlElement, XmlFragment, XmlText

from ..raw import item, section, string, update

pytestmark = pytest.mark.slow


def shown(**roots: Any) -> dict[str, Any]:
    """Return the JSON of a document with these roots, as somebody sees it who loads it."""
    doc: Doc[Any] = Doc()
    for name, root in roots.items():
        doc[name] = root
    return loaded(doc.get_update())


def loaded(*updates: bytes) -> dict[str, Any]:
    """Return the JSON of a document."""
    doc: Doc[Any] = Doc()
    for data in updates:
        doc.apply_update(data)
    result: dict[str, Any] = json.loads(to_json(doc))
    return result


def test_plain_types_become_json() -> None:
    """Texts, maps and lists are what they are."""
    assert shown(text=Text("hi"), map=Map({"a": [True, {"b": None}]}), list=Array(["x", 1])) == {
        "text": "hi",
        "map": {"a": [True, {"b": None}]},
        "list": ["x", 1],
    }


def test_xml_becomes_text() -> None:
    """XML is text, as a root and within other types."""
    fragment = [XmlElement("p", {"a": "1"}, [XmlText("hey 🎉")]), XmlElement("br")]
    assert shown(xml=XmlFragment(fragment)) == {"xml": '<p a="1">hey 🎉</p><br></br>'}
    within = Map({"xml": XmlFragment([XmlElement("p")]), "more": Array([XmlFragment([XmlText("hey")])])})
    assert shown(map=within) == {"map": {"xml": "<p></p>", "more": ["hey"]}}


def test_an_xml_element_of_yjs_in_a_map() -> None:
    """Pycrdt itself cannot put an element into a map; Yjs can."""
    element = item(b"\x07\x03" + string("div"), parent="map", key="element")
    assert loaded(update(section(1, 0, element))) == {"map": {"element": "<div></div>"}}


def test_a_subdocument_is_named_by_its_guid() -> None:
    """A subdocument is named by its guid: its content is stored elsewhere."""
    inner: Doc[Any] = Doc()
    assert shown(map=Map({"inner": inner}), list=Array([inner])) == {
        "map": {"inner": {"subdocument": inner.guid}},
        "list": [{"subdocument": inner.guid}],
    }


def test_formats_and_embeds() -> None:
    """A text with formats or embeds is a list of insertions, as Yjs' `toDelta` gives it."""
    doc: Doc[Any] = Doc()
    doc["text"] = text = Text("rich 🎉")
    text.format(0, 2, {"bold": True})
    text.insert_embed(len(text), {"image": "x"})
    assert loaded(doc.get_update()) == {
        "text": [{"insert": "ri", "attributes": {"bold": True}}, {"insert": "ch 🎉"}, {"insert": {"image": "x"}}]
    }


def test_bytes_and_numbers_that_json_does_not_have() -> None:
    """Bytes are in base64, and numbers that are none have their names, where JSON would have null."""
    values = {"bytes": b"\x00\xff", "nan": math.nan, "most": math.inf, "least": -math.inf}
    assert shown(map=Map(values)) == {"map": {"bytes": "AP8=", "nan": "NaN", "most": "Infinity", "least": "-Infinity"}}


def test_a_root_of_several_types() -> None:
    """A root that clients use as a map, a text and a list is shown as all of them."""
    updates = []
    for content in (Map({"k": 1}), Text("text 🎉"), Array([1, "s"])):
        doc: Doc[Any] = Doc()
        doc["root"] = content
        updates.append(doc.get_update())
    assert loaded(updates[0], updates[1]) == {"root": {"map": {"k": 1}, "text": "text 🎉"}}
    assert loaded(updates[0], updates[2]) == {"root": {"map": {"k": 1}, "list": [1, "s"]}}
    assert loaded(updates[1], updates[2]) == {"root": {"text": "text 🎉", "list": "2 items that are not text"}}


def test_an_empty_root() -> None:
    """A root in which nothing is, or nothing is any more, is an empty list."""
    doc: Doc[Any] = Doc()
    doc["text"] = text = Text("gone")
    del text[0:4]
    assert loaded(doc.get_update()) == {"text": []}


def test_deep_nesting_is_an_error() -> None:
    """Python's own bound is an error that can be told, and no crash."""
    doc: Doc[Any] = Doc()
    doc["map"] = outer = Map()
    for _ in range(2000):
        outer["m"] = Map()
        outer = outer["m"]
    with pytest.raises(RecursionError):
        to_json(doc)
