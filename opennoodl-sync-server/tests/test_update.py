"""Reading updates: whatever Yjs writes is read to its last byte, and nothing else is."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opennoodl_sync.protocol import MalformedError
from opennoodl_sync.split import split
from opennoodl_sync.update import (
    MAX_CLOCK,
    MAX_DEPTH,
    NOTHING,
    REMEMBERED_CLIENTS,
    Section,
    read,
    read_deletions,
    read_part,
)
from opennoodl_sync.yjs import apply
from pycrdt import Array, Doc, Map, Text, XmlElement, XmlFragment, XmlText
from pycrdt import write_var_uint as number

from .editor import BASE
from .raw import gc, item, section, skip, string, text, update, values

NULL = b"\x7e"
CONTENTS = {
    "deleted": (b"\x01\x05", 5),
    "binary": (b"\x03" + string(b"\xff\x00\x80"), 1),
    "text": (text("hello"), 5),
    "text beyond ASCII": (text("aé中"), 3),
    "text of two units each": (text("😀😀"), 4),
    "embed": (b"\x05" + string('{"image":"ü"}'), 1),
    "format": (b"\x06" + string("bold") + string("true"), 1),
    "array": (b"\x07\x00", 1),
    "map": (b"\x07\x01", 1),
    "text type": (b"\x07\x02", 1),
    "XML element": (b"\x07\x03" + string("p"), 1),
    "XML fragment": (b"\x07\x04", 1),
    "XML text": (b"\x07\x06", 1),
    "undefined": (values(b"\x7f"), 1),
    "null": (values(NULL), 1),
    "integer": (values(b"\x7d\x05", b"\x7d\xff\xff\xff\xff\x0f"), 2),
    "float": (values(b"\x7c\x3f\x80\x00\x00"), 1),
    "double": (values(b"\x7b" + bytes(8)), 1),
    "big integer": (values(b"\x7a" + bytes(8)), 1),
    "booleans": (values(b"\x78", b"\x79"), 2),
    "string": (values(b"\x77" + string("é")), 1),
    "object": (values(b"\x76\x02" + string("a") + NULL + string("b") + b"\x76\x00"), 1),
    "list": (values(b"\x75\x02" + NULL + b"\x75\x01\x78", NULL), 2),
    "bytes": (values(b"\x74" + string(b"\xff\xfe")), 1),
    "document": (b"\x09" + string("some-guid") + b"\x76\x01" + string("autoLoad") + b"\x78", 1),
}
"""The contents of items as Yjs writes them, and how many elements each is."""
BEGINNINGS = {
    "in a root": (item(text("x"), parent="root"), ()),
    "an entry of a root": (item(text("x"), parent="root", key="key"), ()),
    "in an element": (item(text("x"), parent=(7, 8)), ((7, 8),)),
    "an entry of an element": (item(text("x"), parent=(7, 8), key="key"), ((7, 8),)),
    "behind": (item(text("x"), origin=(7, 8)), ((7, 8),)),
    "before": (item(text("x"), right=(7, 8)), ((7, 8),)),
    "between": (item(text("x"), origin=(7, 8), right=(9, 10)), ((7, 8), (9, 10))),
    "an entry that follows": (item(text("x"), origin=(7, 8), key="left out: the origin tells it"), ((7, 8),)),
    "a large client": (item(text("x"), origin=(2**53 - 1, 8)), ((2**53 - 1, 8),)),
}
"""Items in all places, by what is written of that, and what each needs."""


def everything() -> bytes:
    """Return an update of one client that has all that there is, with deletions of two."""
    structs = [item(content) for content, _ in CONTENTS.values()]
    own = [item(text("x"), origin=(1, 2)), item(text("x"), right=(1, 2)), item(text("x"), parent="m", key="k")]
    return update(
        section(1, 0, *structs, gc(3), *own),
        section(3_000_000_000, 0, item(text("x"), origin=(1, 1), right=(1, 2)), gc(1)),
        deletes={1: [(0, 2), (3, 1)], 3_000_000_000: [(0, 1)]},
    )


def refuse(data: bytes) -> None:
    """Check that an update is refused, by what reads it as a whole and by what reads it in parts."""
    with pytest.raises(MalformedError, match="not a Yjs update"):
        split(data, {})
    with pytest.raises((MalformedError, UnicodeDecodeError, IndexError)):
        read(data)


def structs(data: bytes) -> list[tuple[int, object]]:
    """Return the structs of an update of one client: how many elements each is, and what it needs."""
    (section,), found = read(data)[0], list[tuple[int, object]]()
    at = section.at
    for _ in range(section.structs):
        length, needs, at = read_part(data, at)
        found.append((length, needs))
    assert at == section.end
    return found


def deletions(data: bytes) -> list[tuple[int, int, int]]:
    """Return what an update deletes."""
    return list(read_deletions(data, read(data)[1]))


@pytest.mark.parametrize(("content", "length"), CONTENTS.values(), ids=CONTENTS.keys())
def test_reads_every_content(content: bytes, length: int) -> None:
    """Every content is as many elements as Yjs counts, and what follows it is found."""
    data = update(section(5, 2, item(content), item(text("next"))), deletes={9: [(1, 2)]})
    assert structs(data) == [(length, ()), (4, ())]
    assert deletions(data) == [(9, 1, 3)]


@pytest.mark.parametrize(("content", "length"), CONTENTS.values(), ids=CONTENTS.keys())
def test_yrs_counts_the_same(content: bytes, length: int) -> None:
    """The document is then as long as was read, and takes what follows."""
    doc: Doc[Any] = Doc()
    apply(doc, update(section(5, 0, item(content), item(text("next")))))
    assert doc.get_state() == number(1) + number(5) + number(length + 4)


def test_reads_what_is_gone() -> None:
    """What was collected is as many elements as it says, and needs nothing."""
    assert structs(update(section(1, 4, gc(300)))) == [(300, ())]


def test_reads_gaps() -> None:
    """A gap is no struct: it has nothing that could be integrated."""
    assert structs(update(section(1, 0, gc(2), skip(5), gc(1)))) == [(2, ()), (5, None), (1, ())]


@pytest.mark.parametrize(
    ("place", "needs"),
    BEGINNINGS.values(),
    ids=BEGINNINGS.keys(),
)
def test_reads_what_an_item_needs(place: bytes, needs: tuple[tuple[int, int], ...]) -> None:
    """An item needs its neighbours and the element that it is in."""
    assert structs(update(section(1, 0, place))) == [(1, needs)]


def test_reads_several_clients() -> None:
    """What an update has of each client is found, also of those whose numbers take five bytes."""
    clients = [1, 127, 128, 2**31, 2**32 - 1, 2**53 - 1]
    sections = [section(client, clock, gc(1), gc(1)) for clock, client in enumerate(clients)]
    data = update(*sections, deletes={client: [(0, 1), (5, 2)] for client in clients})
    assert [found[:3] for found in read(data)[0]] == [(client, clock, 2) for clock, client in enumerate(clients)]
    assert deletions(data) == [(client, *deleted) for client in clients for deleted in ((0, 1), (5, 7))]


def test_reads_more_clients_than_it_remembers() -> None:
    """More clients than are remembered are read like any."""
    count = REMEMBERED_CLIENTS + 100
    for first in (2**31, 2**31 + count, 2**31):
        sections, _ = read(update(*(section(client, 0, gc(1)) for client in range(first, first + count))))
        assert [found.client for found in sections] == list(range(first, first + count))


def test_reads_nothing() -> None:
    """An update may say nothing."""
    assert read(NOTHING) == ([], 1)
    assert split(NOTHING, {}) == (None, {}, None, (), 0)


def test_says_where_everything_is() -> None:
    """The offsets are those of the first struct, of what is behind the last one, and of the deletions."""
    first, second = section(1, 3, gc(1), gc(1)), section(2, 0, gc(9))
    data = update(first, second, deletes={1: [(3, 1)]})
    end = 1 + len(first)
    assert read(data) == ([Section(1, 3, 2, 4, end), Section(2, 0, 1, end + 3, end + 5)], end + 5)


def test_what_follows_the_end_is_ignored() -> None:
    """Yjs ignores what follows an update, and so does this."""
    assert read(BASE + b"\xffmore") == read(BASE)
    assert split(BASE + b"\xffmore", {}).clocks == {1: 3}


def test_reads_what_pycrdt_writes() -> None:
    """All that a document can hold is read, and counted as its state vector counts it."""
    doc: Doc[Any] = Doc(client_id=2**32 - 1)
    words, entries, array, markup = Text(), Map[Any](), Array[Any](), XmlFragment()
    doc["t"], doc["m"], doc["a"], doc["x"] = words, entries, array, markup
    words.insert(0, "a😀é")
    words.format(0, 5, {"bold": True, "size": 1.5})
    words.insert_embed(1, {"image": "ü"})
    plain: list[Any] = [None, True, 1, 2**40, 0.1, "é", b"\xff", [1, {"a": [None]}], {"b": {}}, Doc()]
    entries.update({str(key): value for key, value in enumerate(plain)})
    entries["1"] = Map({"deep": Array([Text("er")])})
    array.extend([1, "x", Map(), Array([2])])
    markup.children.append(XmlElement("p", {"class": "ü"}, [XmlText("z")]))
    del array[1:3]
    del words[0:1]
    data = doc.get_update()
    length = sum(length for length, _ in structs(data))
    assert number(1) + number(doc.client_id) + number(length) == doc.get_state()
    assert deletions(data)
    assert split(data, {}).ready == data


def test_reads_everything_at_once() -> None:
    """The update that the tests below spoil is sound, and yrs says the same."""
    data = everything()
    assert split(data, {}).ready == data
    apply(Doc(), data)


@pytest.mark.parametrize("waits", [False, True], ids=["whole", "in parts"])
def test_what_is_cut_off_is_malformed(waits: bool) -> None:
    """An update that ends too early is refused, wherever that is."""
    data = everything()
    if waits:
        data = bytes([data[0] + 1]) + section(9, 5, gc(1)) + data[1:]
    assert (split(data, {}).rest is not None) == waits
    for end in range(len(data)):
        refuse(data[:end])


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(update(section(1, MAX_CLOCK, gc(1))), id="the end of a client"),
        pytest.param(update(section(1, 0, *[gc(MAX_CLOCK // 2)] * 3)), id="the sum of a client"),
        pytest.param(update(section(1, 0, gc(2**53))), id="a length"),
        pytest.param(update(section(2**53, 0, gc(1))), id="a client"),
        pytest.param(update(section(1, 2**60, gc(1))), id="a clock"),
        pytest.param(update(section(1, 0, item(text("x"), origin=(1, 2**64)))), id="an origin"),
        pytest.param(update(deletes={1: [(MAX_CLOCK, 1)]}), id="the end of a deletion"),
        pytest.param(update(deletes={1: [(0, 2**53)]}), id="a deletion"),
        pytest.param(update(deletes={2**53: [(0, 1)]}), id="a client of deletions"),
        pytest.param(b"\xff" * 12, id="a number without an end"),
    ],
)
def test_too_large_numbers_are_malformed(data: bytes) -> None:
    """No number is larger than what Yjs and yrs count with."""
    refuse(data)


def test_the_largest_numbers_are_read() -> None:
    """What is just not too large is not refused."""
    data = update(section(2**53 - 1, MAX_CLOCK - 1, gc(1)), deletes={1: [(MAX_CLOCK - 1, 1)]})
    assert split(data, {}).rest == data


INVALID = b"a\xff"
SURROGATE = "\ud83d".encode("utf-8", "surrogatepass")


@pytest.mark.parametrize("words", [INVALID, SURROGATE, b"\xf0\x9f\x98"], ids=["no UTF-8", "half a pair", "cut off"])
@pytest.mark.parametrize(
    "struct",
    [
        pytest.param(lambda words: item(text(words)), id="text"),
        pytest.param(lambda words: item(b"\x05" + string(words)), id="embed"),
        pytest.param(lambda words: item(b"\x06" + string(words) + string("1")), id="name of a format"),
        pytest.param(lambda words: item(b"\x06" + string("b") + string(words)), id="format"),
        pytest.param(lambda words: item(b"\x07\x03" + string(words)), id="XML element"),
        pytest.param(lambda words: item(values(b"\x77" + string(words))), id="value"),
        pytest.param(lambda words: item(values(b"\x76\x01" + string(words) + NULL)), id="key of a value"),
        pytest.param(lambda words: item(b"\x09" + string(words) + NULL), id="document"),
        pytest.param(lambda words: b"\x04\x01" + string(words) + string("x"), id="root"),
        pytest.param(lambda words: b"\x24\x01\x01t" + string(words) + string("x"), id="key"),
    ],
)
def test_what_is_not_utf_8_is_malformed(struct: object, words: bytes) -> None:
    """Every text is UTF-8."""
    assert callable(struct)
    refuse(update(section(1, 0, struct(words))))


@pytest.mark.parametrize("count", [0, 1, 2])
def test_json_is_malformed(count: int) -> None:
    """Nothing writes this content any more, and yrs reads one text more of it than there are, so it is none here."""
    refuse(update(section(1, 0, item(b"\x02" + number(count) + string("1") * (count + 1)))))
    refuse(update(section(1, 0, item(b"\x02" + number(count) + string("1") * count))))


@pytest.mark.parametrize(
    "struct",
    [gc(0), skip(0), item(b"\x01\x00"), item(values())],
    ids=["what is gone", "a gap", "deleted", "values"],
)
def test_what_has_no_elements_is_malformed(struct: bytes) -> None:
    """Nobody writes a struct without elements, and yrs fails on some, and goes astray behind others."""
    refuse(update(section(1, 0, gc(1), struct, gc(1))))


@pytest.mark.parametrize("kind", range(11, 32))
def test_unknown_contents_are_malformed(kind: int) -> None:
    """There are no contents but those of Yjs."""
    refuse(update(section(1, 0, item(bytes([kind]) + bytes(20)))))


@pytest.mark.parametrize("reference", [5, 7, 8, 127, 300])
def test_unknown_types_are_malformed(reference: int) -> None:
    """There are no types but those of Yjs; a hook is one that yrs reads differently, so it is none here."""
    refuse(update(section(1, 0, item(b"\x07" + number(reference) + string("name")))))


@pytest.mark.parametrize("kind", [*range(116), *range(128, 256)])
def test_unknown_values_are_malformed(kind: int) -> None:
    """There are no values but those of lib0."""
    refuse(update(section(1, 0, item(values(bytes([kind]) + bytes(20))))))


@pytest.mark.parametrize("level", [b"\x75\x01", b"\x76\x01\x01k"], ids=["lists", "objects"])
def test_values_may_only_be_so_deep(level: bytes) -> None:
    """Values within each other end somewhere, before the stack of those who read them does; yrs takes the deepest."""
    deepest = update(section(1, 0, item(values(level * (MAX_DEPTH - 1) + NULL))))
    apply(Doc(), split(deepest, {}).ready or NOTHING)
    refuse(update(section(1, 0, item(values(level * MAX_DEPTH + NULL)))))


def test_values_beside_each_other_are_not_deep() -> None:
    """Many values in a row are one level."""
    data = update(section(1, 0, item(values(*[b"\x75\x01" + NULL] * 2 * MAX_DEPTH))))
    assert structs(data) == [(2 * MAX_DEPTH, ())]


def test_a_client_comes_once() -> None:
    """An update that has a client twice is refused, whether what it has of it is there already or not."""
    for clock in (0, 1, 5):
        refuse(update(section(1, 0, gc(1)), section(1, clock, gc(1))))
    refuse(update(section(2**31, 0, gc(1)), section(2**31, 0, gc(1))))


BILLION = number(1_000_000_000)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(BILLION, id="clients"),
        pytest.param(b"\x01" + BILLION + b"\x01\x00", id="structs"),
        pytest.param(b"\x01\x01\x01\x00" + item(b"\x08" + BILLION), id="values"),
        pytest.param(b"\x01\x01\x01\x00" + item(values(b"\x75" + BILLION)), id="a list"),
        pytest.param(b"\x01\x01\x01\x00" + item(values(b"\x76" + BILLION)), id="an object"),
        pytest.param(b"\x01\x01\x01\x00" + item(b"\x04" + BILLION), id="text"),
        pytest.param(b"\x01\x01\x01\x00" + item(b"\x03" + BILLION), id="bytes"),
        pytest.param(b"\x00" + BILLION, id="clients of deletions"),
        pytest.param(b"\x00\x01\x01" + BILLION, id="deletions"),
    ],
)
def test_a_promise_costs_nothing(data: bytes) -> None:
    """A few bytes that announce a billion of anything are refused without making room for them."""
    tracemalloc.start()
    try:
        refuse(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000


@pytest.mark.parametrize("waits", [0, 1], ids=["whole", "in parts"])
@pytest.mark.parametrize(
    ("allowed", "refused"),
    [
        (update(section(1, 0, *[gc(1)] * 9)), update(section(1, 0, *[gc(1)] * 10))),
        (update(*(section(n, 0, gc(1)) for n in range(5))), update(*(section(n, 0, gc(1)) for n in range(6)))),
        (update(deletes={1: [(0, 1)] * 10}), update(deletes={1: [(0, 1)] * 11})),
        (update(deletes={n: [(0, 1)] for n in range(10)}), update(deletes={n: [(0, 1)] for n in range(11)})),
    ],
    ids=["structs", "clients", "deletions", "clients of deletions"],
)
def test_pieces_are_bounded(allowed: bytes, refused: bytes, waits: int) -> None:
    """Many small pieces cost more than their bytes, so there may only be so many in one update."""
    known = {} if waits else dict.fromkeys(range(11), 1)
    split(allowed, known, 10)
    with pytest.raises(MalformedError, match="more than 10 pieces"):
        split(refused, known, 10)
    split(refused, known)


@given(st.binary(max_size=60))
def test_junk_is_refused_or_read(junk: bytes) -> None:
    """Whatever the bytes, they are an update or malformed, and nothing else happens."""
    agree(junk)


@given(st.data())
def test_a_changed_update_is_refused_or_read(data: st.DataObject) -> None:
    """An update with other bytes somewhere is an update or malformed too, and both ways to read it agree on that."""
    changed = bytearray(everything())
    for at, byte in data.draw(st.lists(st.tuples(st.integers(0, len(changed) - 1), st.integers(0, 255)), max_size=3)):
        changed[at] = byte
    agree(bytes(changed))


def agree(data: bytes) -> None:
    """Check that an update is refused or read both as a whole and in parts."""
    try:
        split(data, {})
    except MalformedError:
        refuse(data)
    else:
        read(data)
