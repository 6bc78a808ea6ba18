"""Yjs through pycrdt: what comes from outside changes a document as Yjs would, or is refused."""

import resource
from itertools import permutations
from typing import Any

import pytest
from opennoodl_sync.protocol import MalformedError
from opennoodl_sync.yjs import NOTHING, DamagedError, apply, build, difference, merge, observe, waiting
from pycrdt import Doc

from .editor import BASE, UNSOUND, Editor, content, merged

unsound = pytest.mark.parametrize("update", UNSOUND.values(), ids=UNSOUND.keys())
not_updates = pytest.mark.parametrize(
    "junk",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"junk", id="junk"),
        pytest.param(BASE[:-1], id="the end is missing"),
        pytest.param(b"\x05" + BASE[1:], id="clients are missing"),
    ],
)


def test_deleted_content_is_gone() -> None:
    """Yjs' garbage collection works: what was deleted is in no answer any more."""
    ann = Editor(1)
    doc = merged([ann.write("keep SECRET this"), ann.delete(5, 12)])
    assert content(doc)[0] == "keep this"
    assert b"SECRET" not in difference(doc, b"\x00")


def test_applies_an_update() -> None:
    """A sound update changes the document."""
    doc: Doc[Any] = Doc()
    apply(doc, BASE)
    assert content(doc)[0] == "abc"


@not_updates
def test_what_is_no_update_is_malformed(junk: bytes) -> None:
    """What cannot be read is refused, and the document is as it was."""
    doc = merged([BASE])
    before = doc.get_update()
    with pytest.raises(MalformedError):
        apply(doc, junk)
    assert doc.get_update() == before


@unsound
def test_what_fails_on_the_way_is_damage(update: bytes) -> None:
    """An update that is read and then fails, be it with a panic, says that the document is not to be trusted."""
    with pytest.raises(DamagedError):
        apply(merged([BASE]), update)


def test_builds_the_merge_of_updates() -> None:
    """A document is the merge of its updates."""
    ann = Editor(1)
    updates = [ann.write("one "), ann.put("k", [1, {"x": None}]), ann.write("two"), ann.delete(0, 2)]
    assert content(build(updates)) == ("e two", {"k": [1.0, {"x": None}]}, [])


# yrs 0.28 integrates only a part of what waits when what it waited for arrives, unless it is given it again.
@pytest.mark.parametrize("order", list(permutations(range(4))), ids=str)
def test_builds_the_same_document_in_any_order(order: tuple[int, ...]) -> None:
    """The order in which updates are stored does not matter."""
    ann = Editor(1)
    updates = [ann.write("one "), ann.put("k", 1), ann.write("two"), ann.delete(0, 2)]
    assert content(build(updates[number] for number in order)) == content(ann.doc)


def test_builds_nothing_of_nothing() -> None:
    """No updates make an empty document."""
    assert build([]).get_update() == NOTHING


@not_updates
def test_does_not_build_what_cannot_be_read(junk: bytes) -> None:
    """An update that cannot be read is damage where a document is built."""
    with pytest.raises(DamagedError):
        build([BASE, junk])


@unsound
def test_does_not_build_what_fails_on_the_way(update: bytes) -> None:
    """An update that fails while it is integrated is damage where a document is built."""
    with pytest.raises(DamagedError):
        build([BASE, update])


def test_the_difference_brings_up_to_date() -> None:
    """The difference holds what a state vector lacks, and nothing that it has."""
    ann = Editor(1)
    known = ann.write("old words, ")
    ann.write("new")
    bob = Editor(2, known)
    update = difference(ann.doc, bob.doc.get_state())
    bob.take(update)
    assert bob.text == ann.text
    assert b"old words" not in update


@pytest.mark.parametrize("junk", [b"", b"\x05", b"\x02\x01\x01", b"\xff" * 9], ids=bytes.hex)
def test_what_is_no_state_vector_is_malformed(junk: bytes) -> None:
    """A state vector that cannot be read is refused."""
    with pytest.raises(MalformedError):
        difference(merged([BASE]), junk)


# Nothing else in these tests needs as much memory as that, so the peak tells.
@pytest.mark.parametrize("what", [apply, difference])
def test_a_promise_of_clients_costs_no_memory(what: object) -> None:
    """A few bytes that announce 268 million clients are refused without making room for them."""
    assert callable(what)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(MalformedError):
        what(Doc(), bytes.fromhex("ffffff7f") + bytes(20))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024


def test_one_update_is_its_own_merge() -> None:
    """A single update is passed on as it is."""
    assert merge([BASE]) == BASE


def test_the_merge_does_what_all_of_them_do() -> None:
    """Merged updates do together what they do one by one, deletions included."""
    ann = Editor(1)
    updates = [ann.write("one two"), ann.delete(0, 4), ann.put("k", 1), ann.push("x")]
    assert content(merged([merge(updates)])) == content(ann.doc)


def test_nothing_waits_where_everything_is_there() -> None:
    """Updates that a document has taken in whole do not wait."""
    ann = Editor(1)
    updates = [ann.write("one two"), ann.delete(0, 4), ann.write("!")]
    assert waiting(updates, merged(updates)) == []


def test_content_without_what_came_before_waits() -> None:
    """What depends on content that the document has not seen waits, and waits no more when that is there."""
    ann = Editor(1)
    first, second = ann.write("one "), ann.write("two")
    doc = merged([second])
    assert waiting([second], doc) == [second]
    apply(doc, first)
    assert waiting([first, second], doc) == []


def test_a_deletion_of_what_is_not_there_waits() -> None:
    """The deletion of content that the document has not seen waits, and waits no more when that is there."""
    ann = Editor(1)
    first = ann.write("one two")
    bob = Editor(2, first)
    deletion = bob.delete(0, 4)
    doc = merged([deletion])
    assert waiting([deletion], doc) == [deletion]
    apply(doc, first)
    assert waiting([first, deletion], doc) == []
    assert content(doc)[0] == "two"


def test_an_update_of_which_a_part_is_there_waits() -> None:
    """An update that the document has taken in part waits with its rest."""
    ann = Editor(1)
    first = ann.write("one ")
    bob = Editor(2, first)
    bob.put("bob", "was here")
    bob.write("two")
    both = bob.doc.get_update(merged([first]).get_state())
    doc = merged([both])
    assert waiting([both], doc) == [both]
    apply(doc, first)
    assert waiting([both], doc) == []


@not_updates
def test_what_cannot_be_read_cannot_wait(junk: bytes) -> None:
    """Where updates are sorted into those that wait, one that cannot be read is damage."""
    with pytest.raises(DamagedError):
        waiting([junk], merged([BASE]))


def test_every_change_is_observed() -> None:
    """An observer gets what changed, and nothing when nothing did; when it has ended, it gets no more."""
    ann = Editor(1)
    first, second, third = ann.write("one "), ann.write("two "), ann.write("three")
    seen: list[bytes] = []
    doc: Doc[Any] = Doc()
    end = observe(doc, seen.append)
    for update in (first, first, third, second, NOTHING):
        apply(doc, update)
    assert len(seen) == 2
    assert content(merged(seen)) == content(ann.doc)
    end()
    apply(doc, ann.write("!"))
    assert len(seen) == 2
