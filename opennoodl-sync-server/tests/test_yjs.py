"""Yjs through pycrdt: what comes from outside changes a document as Yjs would, or is refused."""

from __future__ import annotations

import resource
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opennoodl_sync.protocol import MalformedError
from opennoodl_sync.update import MAX_CLOCK, NOTHING
from opennoodl_sync.yjs import (
    DamagedError,
    apply,
    begin,
    commit,
    contains,
    decode_state_vector,
    difference,
    observe,
)
from pycrdt import Doc
from pycrdt import write_var_uint as number

from .editor import BASE, DAMAGING, Editor, content, merged
from .edits import Step, edit, opened, steps

not_updates = pytest.mark.parametrize(
    "junk",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"junk", id="junk"),
        pytest.param(BASE[:-1], id="the end is missing"),
        pytest.param(b"\x05" + BASE[1:], id="clients are missing"),
    ],
)
PANIC = bytes.fromhex("01010109d89406017c4000000000")
"""An update that no document should be given: yrs panics."""


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


@not_updates
def test_what_is_no_update_leaves_its_transaction_sound(junk: bytes) -> None:
    """What cannot be read does not take away what was applied in the same transaction, before and after it."""
    ann = Editor(1)
    doc: Doc[Any] = Doc()
    transaction = begin(doc)
    apply(doc, ann.write("one "))
    with pytest.raises(MalformedError):
        apply(doc, junk)
    apply(doc, ann.write("two"))
    commit(transaction)
    assert content(doc) == content(ann.doc)


@pytest.mark.parametrize("update", [*DAMAGING.values(), PANIC], ids=[*DAMAGING, "a panic"])
def test_what_fails_on_the_way_is_damage(update: bytes) -> None:
    """An update that is read and then fails, be it with a panic, says that the document is not to be trusted."""
    with pytest.raises(DamagedError):
        apply(merged([BASE]), update)


def test_what_fails_when_a_transaction_ends_is_damage() -> None:
    """A transaction that cannot be ended says that the document is not to be trusted."""

    class BrokenTransaction:
        def __exit__(self, *_: object) -> None:
            raise RuntimeError("broken")

    with pytest.raises(DamagedError, match="broken"):
        commit(BrokenTransaction())  # type: ignore[arg-type]


def test_other_failures_are_not_damage() -> None:
    """What is no fault of yrs is passed on as it is."""

    class BrokenDoc:
        def apply_update(self, update: bytes) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        apply(BrokenDoc(), BASE)  # type: ignore[arg-type]


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
@pytest.mark.parametrize("what", [lambda junk: difference(merged([BASE]), junk), decode_state_vector])
def test_what_is_no_state_vector_is_malformed(what: Callable[[bytes], object], junk: bytes) -> None:
    """A state vector that cannot be read is refused."""
    with pytest.raises(MalformedError):
        what(junk)


def test_a_difference_that_fails_is_damage() -> None:
    """A document that cannot say what it has is not to be trusted, but the state vector was not to blame."""

    class BrokenDoc:
        def get_update(self, state_vector: bytes) -> bytes:
            raise RuntimeError("broken")

    with pytest.raises(DamagedError, match="broken"):
        difference(BrokenDoc(), b"\x00")  # type: ignore[arg-type]


def test_reads_state_vectors() -> None:
    """A state vector says for every client how much of it is known."""
    doc = opened(BASE)
    doc.apply_update(bytes.fromhex("0101ffffffff0f0004010174026869" + "00"))
    assert decode_state_vector(doc.get_state()) == {1: 3, 2**32 - 1: 2}
    assert decode_state_vector(b"\x00") == {}


def test_too_large_clocks_are_malformed() -> None:
    """A clock that yrs could not count is refused; the largest one that it can is not."""
    assert decode_state_vector(b"\x01\x05" + number(MAX_CLOCK)) == {5: MAX_CLOCK}
    with pytest.raises(MalformedError):
        decode_state_vector(b"\x01\x05" + number(MAX_CLOCK + 1))


@given(steps, st.binary(max_size=12))
def test_any_state_vector_that_is_read_is_answered(chosen: list[Step], junk: bytes) -> None:
    """What passes as a state vector gives a difference, whatever the document."""
    doc = opened(*edit(chosen))
    try:
        decode_state_vector(junk)
    except MalformedError:
        return
    difference(doc, junk)


# Nothing else in these tests needs as much memory as that, so the peak tells.
def test_a_promise_of_clients_costs_no_memory() -> None:
    """A few bytes that announce 268 million clients are refused without making room for them."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(MalformedError):
        difference(Doc(), bytes.fromhex("ffffff7f") + bytes(20))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024


def test_every_change_is_observed() -> None:
    """An observer gets what changed, and nothing when nothing did; when it has ended, it gets no more."""
    ann = Editor(1)
    first, second, third = ann.write("one "), ann.write("two "), ann.write("three")
    seen: list[bytes] = []
    doc: Doc[Any] = Doc()
    end = observe(doc, seen.append)
    for update in (first, first, second, third, NOTHING):
        apply(doc, update)
    assert len(seen) == 3
    assert content(merged(seen)) == content(ann.doc)
    end()
    apply(doc, ann.write("!"))
    assert len(seen) == 3


def test_a_transaction_is_observed_as_one_update() -> None:
    """What is applied between beginning and end is one update, and one without a change is none."""
    ann = Editor(1)
    updates = [ann.write("one "), ann.put("k", 1), ann.write("two"), ann.delete(0, 2)]
    seen: list[bytes] = []
    doc: Doc[Any] = Doc()
    observe(doc, seen.append)
    for _ in range(2):
        transaction = begin(doc)
        for update in updates:
            apply(doc, update)
        commit(transaction)
    (only,) = seen
    assert content(merged([only])) == content(ann.doc)


def test_a_document_contains_what_it_was_given() -> None:
    """When nothing of an update waits in the document, it has all of it, deletions included."""
    ann = Editor(1)
    updates = [ann.write("one two"), ann.delete(0, 4), ann.put("k", 1), NOTHING]
    doc = merged(updates)
    assert [contains(doc, update) for update in updates] == [True] * 4


def test_a_document_does_not_contain_structs_that_wait() -> None:
    """When an update builds on what is not there, the document does not have all of it."""
    ann = Editor(1)
    first, second = ann.write("one "), ann.write("two")
    assert not contains(merged([second]), second)
    assert contains(merged([first, second]), second)


def test_a_document_does_not_contain_deletions_that_wait() -> None:
    """When an update deletes what is not there, the document does not have all of it."""
    ann = Editor(1)
    first = ann.write("one ")
    deletion = Editor(2, first).delete(0, 2)
    assert not contains(merged([deletion]), deletion)
    assert contains(merged([first, deletion]), deletion)


@not_updates
def test_what_is_no_update_is_not_contained(junk: bytes) -> None:
    """Junk that is stored is damage."""
    with pytest.raises(DamagedError):
        contains(merged([BASE]), junk)
