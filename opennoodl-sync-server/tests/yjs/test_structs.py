"""Structs: how long each is and where it ends; what no Yjs client could decode is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opennoodl_sync.yjs import contents
from opennoodl_sync.yjs.contents import LongContentError
from opennoodl_sync.yjs.lib0 import MalformedError, finish
from opennoodl_sync.yjs.structs import REMEMBERED_CLIENTS, cut_struct, read_client, read_struct, struct_end
from pycrdt import Doc
from pycrdt import write_var_uint as number

from ..raw import gc, item, section, skip, string, text, update, values

NULL = b"\x7e"
CONTENTS = {
    "deleted": (b"\x01\x05", 5),
    "JSON": (b"\x02\x02" + string("[1]") + string("undefined"), 2),
    "binary": (b"\x03" + string(b"\xff\x00\x80"), 1),
    "text": (text("hello"), 5),
    "empty text": (text(""), 0),
    "text beyond ASCII": (text("aé中"), 3),
    "text of two units each": (text("😀😀"), 4),
    "embed": (b"\x05" + string('{"image":"ü"}'), 1),
    "format": (b"\x06" + string("bold") + string("true"), 1),
    "format with half a pair": (b"\x06" + string("bold") + string('"\\ud83d"'), 1),
    "array": (b"\x07\x00", 1),
    "map": (b"\x07\x01", 1),
    "text type": (b"\x07\x02", 1),
    "XML element": (b"\x07\x03" + string("p"), 1),
    "XML fragment": (b"\x07\x04", 1),
    "XML hook": (b"\x07\x05" + string("hook"), 1),
    "XML text": (b"\x07\x06", 1),
    "undefined": (values(b"\x7f"), 1),
    "null": (values(NULL), 1),
    "integers": (values(b"\x7d\x05", b"\x7d\xff\xff\xff\xff\x0f"), 2),
    "float": (values(b"\x7c\x3f\x80\x00\x00"), 1),
    "double": (values(b"\x7b" + bytes(8)), 1),
    "big integer": (values(b"\x7a" + bytes(8)), 1),
    "booleans": (values(b"\x78", b"\x79"), 2),
    "string": (values(b"\x77" + string("é")), 1),
    "object": (values(b"\x76\x02" + string("a") + NULL + string("b") + b"\x76\x00"), 1),
    "lists": (values(b"\x75\x02" + NULL + b"\x75\x01\x78", NULL), 2),
    "bytes": (values(b"\x74" + string(b"\xff\xfe")), 1),
    "document": (b"\x09" + string("some-guid") + b"\x76\x01" + string("autoLoad") + b"\x78", 1),
}
"""The contents of items as Yjs writes them, and how many elements each is."""
NOT_READ_BY_YRS = ("JSON", "format with half a pair", "XML hook", "empty text")
HEADS = {
    "in a root": item(text("x"), parent="root"),
    "an entry of a root": item(text("x"), parent="root", key="key"),
    "in an element": item(text("x"), parent=(7, 8)),
    "an entry of an element": item(text("x"), parent=(7, 8), key="key"),
    "behind": item(text("x"), origin=(7, 8)),
    "before": item(text("x"), right=(7, 8)),
    "between": item(text("x"), origin=(7, 8), right=(9, 10)),
    "an entry that follows": item(text("x"), origin=(7, 8), key="the origin tells it"),
    "a large client": item(text("x"), origin=(2**53 - 1, 8)),
    "behind its own": item(text("x"), origin=(5, 1)),
}
ALL = {name: item(content) for name, (content, _) in CONTENTS.items()} | HEADS | {"garbage": gc(300), "a gap": skip(5)}


def read(struct: bytes, clock: int = 2) -> tuple[int, int]:
    """Return the length of a struct of client 5, and the offset behind it."""
    return finish(struct_end(b"\xff" + struct + b"\xff", 1, 5, clock))


@pytest.mark.parametrize(("content", "length"), CONTENTS.values(), ids=CONTENTS)
def test_every_content_is_read(content: bytes, length: int) -> None:
    """It is as many elements as Yjs counts, and what follows it is found."""
    struct = item(content)
    assert read(struct) == (length, 1 + len(struct))


@pytest.mark.parametrize("name", [name for name in CONTENTS if name not in NOT_READ_BY_YRS])
def test_pycrdt_counts_the_same(name: str) -> None:
    """A document is then as long as was read, and takes what follows."""
    content, length = CONTENTS[name]
    doc: Doc[Any] = Doc()
    doc.apply_update(update(section(5, 0, item(content), item(text("next")))))
    assert doc.get_state() == number(1) + number(5) + number(length + 4)


@pytest.mark.parametrize("struct", HEADS.values(), ids=HEADS)
def test_every_head_is_read(struct: bytes) -> None:
    """Wherever an item is."""
    assert read(struct) == (1, 1 + len(struct))


def test_garbage_and_gaps_have_a_length() -> None:
    """Garbage and gaps have a length."""
    assert read(gc(300)) == (300, 4)
    assert read(skip(5)) == (5, 3)


@pytest.mark.parametrize("struct", ALL.values(), ids=ALL)
def test_a_truncated_struct_is_malformed(struct: bytes) -> None:
    """Wherever it ends."""
    for end in range(len(struct)):
        with pytest.raises((MalformedError, IndexError)):
            finish(struct_end(struct[:end], 0, 5, 2))


@pytest.mark.parametrize(
    "struct",
    [
        pytest.param(item(text(b"a\xff")), id="a text that is not UTF-8"),
        pytest.param(item(text("\ud83d".encode("utf-8", "surrogatepass"))), id="half a pair"),
        pytest.param(item(b"\x05" + string("{")), id="an embed that is not JSON"),
        pytest.param(item(b"\x06" + string("b") + string("NaN")), id="a format that is not JSON"),
        pytest.param(item(b"\x06" + string(b"\xff") + string("1")), id="a name of a format"),
        pytest.param(item(b"\x02\x01" + string("tru")), id="JSON that is none"),
        pytest.param(item(b"\x07\x07"), id="an unknown type"),
        pytest.param(item(b"\x07\x03" + string(b"\xff")), id="a name of an element"),
        pytest.param(item(values(b"\x73")), id="an unknown value"),
        pytest.param(item(values(b"\x76\x01" + string(b"\xff") + NULL)), id="a key of a value"),
        pytest.param(item(values(b"\x7d" + b"\x80" * 10 + b"\x01")), id="an integer without an end"),
        pytest.param(item(b"\x09" + string("guid") + NULL), id="a document without options"),
        pytest.param(item(b"\x0b\x01"), id="an unknown content"),
        pytest.param(gc(0), id="empty garbage"),
        pytest.param(skip(0), id="an empty gap"),
        pytest.param(b"\x4a\x05", id="a gap with the flag of an origin"),
        pytest.param(b"\x2a\x05", id="a gap with the flag of a key"),
        pytest.param(item(b"\x01\x00"), id="nothing deleted"),
        pytest.param(item(values()), id="no values"),
        pytest.param(item(text("x"), origin=(5, 2)), id="behind itself"),
        pytest.param(item(text("x"), right=(5, 3)), id="before what comes later"),
        pytest.param(item(text("x"), parent=(5, 2)), id="in itself"),
    ],
)
def test_a_struct_that_yjs_could_not_decode_is_malformed(struct: bytes) -> None:
    """It is refused."""
    with pytest.raises(MalformedError):
        read(struct)


@pytest.mark.parametrize("level", [b"\x75\x01", b"\x76\x01\x01k"], ids=["lists", "objects"])
def test_values_may_only_be_so_deep(level: bytes) -> None:
    """The stacks of decoders are limited."""
    depth = contents.MAX_DEPTH
    assert read(item(values(level * (depth - 1) + NULL)))[0] == 1
    with pytest.raises(MalformedError, match="levels within each other"):
        read(item(values(level * (depth + 1) + NULL)))


@pytest.mark.parametrize(
    ("content", "length"),
    [
        pytest.param(text("aé😀" * 1000), 4000, id="text"),
        pytest.param(values(*[NULL] * 5000), 5000, id="values"),
        pytest.param(
            b"\x05" + string('{"k": ["\\u00e9 \\n", -1.5e3, true, null, {}, []], "ü": ""}' + " " * 900), 1, id="embed"
        ),
        pytest.param(b"\x06" + string("b") + string('"' + "x" * 1000 + '"'), 1, id="format"),
        pytest.param(b"\x02\x01" + string("[" + "1," * 500 + "2]"), 1, id="JSON"),
    ],
)
def test_a_long_content_is_read_in_steps(monkeypatch: pytest.MonkeyPatch, content: bytes, length: int) -> None:
    """It is as long as if it was read at once, and others get their turn in between."""
    monkeypatch.setattr(contents, "LARGE_TEXT", 100)
    monkeypatch.setattr("opennoodl_sync.yjs.structs.LARGE_TEXT", 100)
    monkeypatch.setattr(contents, "MANY_VALUES", 10)
    struct = item(content)
    with pytest.raises(LongContentError):
        read_struct(struct, 0, 5, 2)
    assert finish(struct_end(struct, 0, 5, 2)) == (length, len(struct))
    assert sum(1 for _ in struct_end(struct, 0, 5, 2)) > 2
    with pytest.raises((MalformedError, IndexError)):
        finish(struct_end(struct[:-1], 0, 5, 2))


LONG = "aé😀" * 100


@pytest.mark.parametrize(
    "struct",
    [
        pytest.param(item(values(b"\x77" + string(LONG), NULL)), id="value"),
        pytest.param(item(values(b"\x76" + number(1) + string(LONG) + NULL, NULL)), id="key of a value"),
        pytest.param(item(values(b"\x76" + number(1) + string(LONG) + b"\x77" + string(LONG))), id="both"),
        pytest.param(item(text("x"), parent=LONG), id="parent"),
        pytest.param(item(text(LONG), parent=LONG, key=LONG), id="parent, key and text"),
        pytest.param(item(b"\x06" + string(LONG) + string("1")), id="format"),
        pytest.param(item(b"\x07\x03" + string(LONG)), id="element"),
        pytest.param(item(b"\x09" + string(LONG) + b"\x76\x00"), id="subdocument"),
    ],
)
def test_a_long_text_anywhere_is_read_in_steps(monkeypatch: pytest.MonkeyPatch, struct: bytes) -> None:
    """Names, keys and values too; each long text is looked at, and what is no UTF-8 is refused."""
    expected = finish(struct_end(struct, 0, 5, 2))
    monkeypatch.setattr(contents, "LARGE_TEXT", 100)
    monkeypatch.setattr("opennoodl_sync.yjs.structs.LARGE_TEXT", 100)
    with pytest.raises(LongContentError):
        read_struct(struct, 0, 5, 2)
    assert finish(struct_end(struct, 0, 5, 2)) == expected
    raw = LONG.encode()
    assert sum(1 for _ in struct_end(struct, 0, 5, 2)) >= struct.count(raw) * len(raw) // 100
    at = -1
    while (at := struct.find(raw, at + 1)) >= 0:
        damaged = struct[: at + 500] + b"\xff" + struct[at + 501 :]
        with pytest.raises(MalformedError, match="not UTF-8"):
            finish(struct_end(damaged, 0, 5, 2))


@pytest.mark.parametrize("offset", [1, 3, 4, 150, 399])
@pytest.mark.parametrize("words", ["x" * 400, "aé😀" * 100, "中" * 400])
def test_a_long_text_is_cut_in_steps(monkeypatch: pytest.MonkeyPatch, words: str, offset: int) -> None:
    """The rest is what it is where the text is cut at once."""
    struct = item(text(words))
    expected = finish(cut_struct(struct, 0, 5, 2, offset))
    monkeypatch.setattr("opennoodl_sync.yjs.structs.LARGE_TEXT", 64)
    assert finish(cut_struct(struct, 0, 5, 2, offset)) == expected
    steps = sum(1 for _ in cut_struct(struct, 0, 5, 2, offset))
    assert steps >= offset // 64


@pytest.mark.parametrize(
    ("struct", "clock", "offset", "rest"),
    [
        (gc(5), 2, 3, gc(2)),
        (item(b"\x01\x05"), 2, 3, item(b"\x01\x02", origin=(5, 4))),
        (item(text("hello")), 2, 3, item(text("lo"), origin=(5, 4))),
        (item(text("hello"), right=(9, 1)), 2, 3, item(text("lo"), origin=(5, 4), right=(9, 1))),
        (item(text("hello"), origin=(8, 1), right=(9, 1)), 2, 1, item(text("ello"), origin=(5, 2), right=(9, 1))),
        (item(text("é中a")), 2, 1, item(text("中a"), origin=(5, 2))),
        (item(text("😀a")), 2, 2, item(text("a"), origin=(5, 3))),
        (item(text("😀a")), 2, 1, item(text("\ufffda"), origin=(5, 2))),
        (
            item(values(NULL, b"\x77" + string("x"), NULL)),
            2,
            1,
            item(values(b"\x77" + string("x"), NULL), origin=(5, 2)),
        ),
        (item(b"\x02\x02" + string("1") + string("2")), 2, 1, item(b"\x02\x01" + string("2"), origin=(5, 2))),
    ],
)
def test_the_rest_of_a_struct(struct: bytes, clock: int, offset: int, rest: bytes) -> None:
    """The known part of a struct is left out, as Yjs does with an offset."""
    assert finish(cut_struct(struct, 0, 5, clock, offset)) == rest


@given(st.binary(max_size=40))
def test_junk_is_read_or_refused(junk: bytes) -> None:
    """Nothing else happens, and nothing is read behind the end."""
    try:
        length, end = finish(struct_end(junk, 0, 5, 2))
    except (MalformedError, IndexError):
        return
    assert length >= 0
    assert 0 < end <= len(junk)


def test_clients_are_read_however_many() -> None:
    """More than are remembered."""
    for first in (2**31, 2**31 + REMEMBERED_CLIENTS, 2**31, 2**53 - 1 - 2 * REMEMBERED_CLIENTS):
        for client in range(first, first + REMEMBERED_CLIENTS + 10):
            assert read_client(b"\xff" + number(client) + b"\x01", 1) == (client, 1 + len(number(client)))
