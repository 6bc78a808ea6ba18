"""A document that is loaded: all that was there is there again, whatever somebody sent."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opennoodl_sync import document as module
from opennoodl_sync.document import EMPTY, MARK
from opennoodl_sync.protocol import MalformedError
from opennoodl_sync.update import NOTHING
from opennoodl_sync.yjs import DamagedError, decode_state_vector

from .editor import BASE, CRASHING, DAMAGING, Editor, content
from .edits import ONE_UNIT_WORDS, deliveries, edit, mutated, opened, snapshot, steps
from .kept import Kept, agree, look, typed
from .raw import item, section, text, update, values


@pytest.mark.parametrize(
    "junk", [b"", b"junk", BASE[:-1], DAMAGING["in a text"]], ids=["none", "junk", "cut", "unsound"]
)
def test_what_is_stored_must_be_sound(junk: bytes) -> None:
    """A stored update that is not sound is damage, and not to be passed over in silence."""
    with pytest.raises(DamagedError):
        Kept(BASE, junk)


def test_a_bound_for_strangers_is_none_for_what_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many small updates make a document of more pieces than one update may have; in one record, too, it is loaded."""
    monkeypatch.setattr(module, "MAX_PARTS", 100)
    kept, ann = Kept(), Editor(1)
    for number in range(200):
        kept.turn(ann.put(str(number), number))
    whole = kept.document.state()
    for document in (kept.again(), Kept(whole).document):
        assert content(opened(document.state())) == content(ann.doc)
    with pytest.raises(MalformedError, match="more than 100 pieces"):
        Kept().turn(whole)


def test_what_another_server_left_waiting_is_sorted_out() -> None:
    """Stored updates that wait, without being marked, wait here too, and come in when they can."""
    first, second, third = typed("one ", "two ", "three")
    kept = Kept(third, first)
    assert content(opened(kept.document.state()))[0] == "one "
    kept.turn(second)
    assert content(opened(kept.document.state()))[0] == "one two three"


@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
def test_the_order_of_what_is_stored_does_not_matter(order: tuple[int, ...]) -> None:
    """Stored updates make the same document in any order, marked or not."""
    updates = typed("one ", "two ", "three")
    for mark in (b"", MARK):
        document = Kept(*(updates[number] + mark for number in order)).document
        assert content(opened(document.state()))[0] == "one two three"
        assert list(document.waiting) == []


def test_a_document_is_what_it_says_of_itself() -> None:
    """From all of a document the same document is made, with what waits in it."""
    ann = Editor(1)
    first, _, third = ann.write("one "), ann.put("k", 1), ann.write("two")
    kept = Kept()
    kept.send(first, third, Editor(2, first).delete(0, 2), update(deletes={7: [(0, 1)]}))
    assert look(Kept(*kept.document.whole()).document) == look(kept.document)


def test_a_prepared_document_answers_the_same() -> None:
    """Whether its state was encoded ahead or not, and whatever changes after that, a document gives what it has."""
    first, second = typed("one ", "two")
    document = Kept(first).document
    document.prepare()
    assert document.difference(EMPTY) == first
    document.prepare()
    assert document.difference(document.state_vector()) == NOTHING
    document.prepare()
    document.integrate(second)
    assert content(opened(document.difference(EMPTY)))[0] == "one two"
    assert content(opened(document.difference(EMPTY)))[0] == "one two"


def test_a_closed_document_gives_nothing() -> None:
    """Whoever lets a document go lets go of what is not committed."""
    kept = Kept()
    kept.document.integrate(BASE)
    kept.document.close()
    assert kept.records == []


@pytest.mark.parametrize("again", range(5))
def test_what_once_ended_the_process_does_no_more(again: int) -> None:
    """A series of updates that yrs cannot bear is neither given to it as it comes nor as it is loaded."""
    kept = Kept()
    kept.send(*CRASHING)
    for document in (kept.document, kept.again(), Kept(*kept.document.whole()).document):
        assert content(opened(document.state()))[0] == "abc"
        assert len(document.waiting) == len(CRASHING) - 1


@given(st.data())
@settings(max_examples=100)
def test_any_order_makes_the_same_document(data: st.DataObject) -> None:
    """However honest edits arrive, the document is that of all of them in order, live, loaded and told to others."""
    updates = edit(data.draw(steps))
    kept = Kept()
    for delivered in data.draw(deliveries(updates)):
        kept.document.integrate(delivered)
        if data.draw(st.booleans()):
            kept.turn()
        if data.draw(st.integers(0, 5)) == 0:
            kept.turn()
            kept = Kept(*kept.records)
    kept.turn()
    expected = opened(*updates)
    told = opened(*(record for record in kept.records if not record.endswith(MARK)))
    for document in (kept.document, kept.again(), Kept(*kept.document.whole()).document):
        assert look(document) == (snapshot(expected), decode_state_vector(expected.get_state()), set())
    assert snapshot(told) == snapshot(expected)


@given(st.data())
@settings(max_examples=150)
def test_whatever_was_sent_can_be_loaded(data: st.DataObject) -> None:
    """Whatever is sent, what was stored can be loaded, and nothing that was there is missing."""
    honest = edit(data.draw(steps), ONE_UNIT_WORDS) or [BASE]
    series: list[bytes] = data.draw(deliveries(honest))
    for _ in range(data.draw(st.integers(1, 6))):
        series.insert(data.draw(st.integers(0, len(series))), data.draw(mutated(honest)))
    kept = Kept()
    for sent in series:
        with suppress(MalformedError):
            kept.document.integrate(sent)
        if data.draw(st.booleans()):
            kept.turn()
    kept.turn()
    live = decode_state_vector(kept.document.state_vector())
    # What was refused when its turn came may be sound in another order.
    for loaded in (kept.again(), Kept(*kept.document.whole()).document):
        clocks = decode_state_vector(loaded.state_vector())
        assert all(clocks.get(client, 0) >= clock for client, clock in live.items())


TWICE = {
    "a text for an entry": [
        update(section(1, 0, item(values(b"\x7e"), parent="m", key="k"))),
        update(section(1, 0, item(text("😀")))),
    ],
    "a longer text": [update(section(1, 0, item(text("a")))), update(section(1, 0, item(text("😀b"))))],
    "a text one further on": [update(section(1, 0, item(text("😀")))), update(section(1, 1, item(text("😀"))))],
}
"""Two documents under one client's number; what the second one adds begins with half a character."""


@pytest.mark.parametrize("updates", TWICE.values(), ids=TWICE.keys())
@pytest.mark.parametrize("at_once", [False, True], ids=["one a turn", "all in one turn"])
def test_half_a_character_does_no_harm(updates: Iterable[bytes], at_once: bool) -> None:
    """A text of which only the second half of a surrogate pair is new leaves the document sound and loadable."""
    kept = Kept()
    for sent in updates:
        with suppress(MalformedError):
            kept.document.integrate(sent)
        if not at_once:
            kept.turn()
    kept.turn()
    agree(kept)
