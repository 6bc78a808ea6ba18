"""A document: what anybody sends comes in as far as it can, and harms nobody."""

from __future__ import annotations

from contextlib import suppress
from itertools import permutations

import pytest
from opennoodl_sync import document as module
from opennoodl_sync import portions, yjs
from opennoodl_sync.document import MARK
from opennoodl_sync.protocol import MalformedError
from opennoodl_sync.update import NOTHING
from opennoodl_sync.yjs import DamagedError, decode_state_vector

from .editor import BASE, DAMAGING, Editor, content
from .edits import opened
from .kept import Kept, typed
from .raw import gc, item, section, text, update


def test_an_empty_document() -> None:
    """Nothing makes an empty document, which has nothing to give."""
    kept = Kept()
    assert not kept.document.changed
    assert kept.turn() == ([], [])
    assert kept.document.state() == NOTHING
    assert kept.document.whole() == [NOTHING]


def test_a_turn_is_one_update() -> None:
    """Whatever came between two commits is given as one update."""
    ann, bob = Editor(1), Editor(2)
    kept = Kept()
    changes = kept.turn(ann.write("one "), ann.write("two"), bob.put("k", 1), ann.delete(0, 2))
    assert len(changes.updates) == 1
    assert changes.held == []
    assert content(opened(*changes.updates)) == ("e two", {"k": 1.0}, [])
    assert kept.turn() == ([], [])


def test_knows_whether_it_changed() -> None:
    """There is something to commit from an update until the commit, and its size is known."""
    kept = Kept()
    kept.document.integrate(BASE)
    assert kept.document.changed
    assert (kept.document.pending, kept.document.pending_size) == (1, len(BASE))
    kept.document.commit()
    assert not kept.document.changed
    assert (kept.document.pending, kept.document.pending_size) == (0, 0)


def test_what_waits_is_a_change() -> None:
    """An update that waits is to be kept too."""
    kept = Kept()
    kept.document.integrate(typed("one ", "two")[1])
    assert kept.document.changed
    assert kept.document.pending == 1


def test_what_is_known_is_no_change() -> None:
    """An update that brings nothing gives nothing, and does not wait."""
    kept = Kept(BASE)
    assert kept.turn(BASE, BASE) == ([], [])
    assert len(kept.document.waiting) == 0


@pytest.mark.parametrize("ask", ["state", "state_vector", "whole", "difference"])
def test_whoever_asks_gets_what_is_not_committed_too(ask: str) -> None:
    """To look at a document within a turn loses nothing, and shows everything so far."""
    ann = Editor(1)
    kept = Kept()
    kept.document.integrate(ann.write("one "))
    getattr(kept.document, ask)(*[b"\x00"] * (ask == "difference"))
    assert decode_state_vector(kept.document.state_vector()) == {1: 4}
    changes = kept.turn(ann.write("two"))
    assert content(opened(*changes.updates))[0] == "one two"


def test_the_difference_is_what_is_missing() -> None:
    """Who has a part of the document is given the rest."""
    first, second = typed("one ", "two")
    kept = Kept(first, second)
    assert kept.document.difference(opened(first).get_state()) == second


def test_a_difference_to_junk_is_malformed() -> None:
    """What is no state vector is refused, and the document goes on."""
    kept = Kept(BASE)
    with pytest.raises(MalformedError):
        kept.document.difference(b"\x05")
    assert content(opened(kept.document.state()))[0] == "abc"


def test_what_waits_is_held_and_not_shown() -> None:
    """An update before its time is given to be kept, marked, and does not touch the document."""
    _, second = typed("one ", "two")
    kept = Kept()
    assert kept.turn(second) == ([], [second + MARK])
    assert kept.document.state() == NOTHING
    assert kept.document.whole() == [second + MARK, NOTHING]


def test_what_waits_is_held_once() -> None:
    """An update that comes again, in this turn or a later one or after a restart, is not kept again."""
    _, second = typed("one ", "two")
    kept = Kept()
    assert kept.turn(second, second).held == [second + MARK]
    assert kept.turn(second) == ([], [])
    kept = Kept(*kept.records)
    assert kept.turn(second) == ([], [])
    assert len(kept.document.waiting) == 1


def test_only_the_rest_is_held() -> None:
    """Of an update that can be integrated in part the rest waits."""
    kept = Kept()
    found = kept.turn(update(section(5, 0, gc(1)), deletes={1: [(0, 4)]}))
    assert found.held == [update(deletes={1: [(0, 4)]}) + MARK]
    assert decode_state_vector(kept.document.state_vector()) == {5: 1}


@pytest.mark.parametrize("order", list(permutations(range(4))), ids=str)
@pytest.mark.parametrize("at_once", [False, True], ids=["one a turn", "all in one turn"])
def test_what_arrives_brings_in_all_that_waited_for_it(order: tuple[int, ...], at_once: bool) -> None:
    """Updates may come in any order: with the last one everything is there, and stays."""
    updates = typed("one ", "two ", "three ", "four")
    kept = Kept()
    if at_once:
        kept.turn(*(updates[number] for number in order))
    else:
        kept.send(*(updates[number] for number in order))
    for document in (kept.document, kept.again()):
        assert content(opened(document.state()))[0] == "one two three four"
        assert list(document.waiting) == []


def test_a_deletion_waits_for_what_it_deletes() -> None:
    """What is deleted before it comes is gone when it comes, and never shown."""
    (first,) = typed("one two")
    deletion = Editor(2, first).delete(0, 4)
    kept = Kept()
    assert kept.turn(deletion).held == [deletion + MARK]
    (shown,) = kept.turn(first).updates
    assert content(opened(shown))[0] == "two"
    assert b"one" not in shown


def test_a_long_chain_that_waits_comes_in_at_once() -> None:
    """However many updates wait for each other, the last one brings them all in."""
    updates = typed(*(f"{number} " for number in range(300)))
    kept = Kept()
    for data in reversed(updates):
        kept.turn(data)
    assert content(opened(kept.document.state()))[0] == "".join(f"{number} " for number in range(300))
    assert len(kept.document.waiting) == 0


def test_only_so_much_may_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """An update for which there is no room is refused, and what waits already is kept."""
    _, second, third = typed("one ", "two ", "three")
    monkeypatch.setattr(module, "MAX_WAITING_SIZE", len(second) + len(third) - 1)
    kept = Kept()
    assert kept.send(second, third, second) == [third]
    assert kept.records == [second + MARK]
    assert kept.again().waiting.size == len(second)


def test_room_for_what_waits_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """When what waited has come in, others may wait."""
    first, second, _, fourth = typed("one ", "two ", "three ", "four")
    monkeypatch.setattr(module, "MAX_WAITING_SIZE", max(len(second), len(fourth)))
    kept = Kept()
    assert kept.send(second, fourth, first, fourth) == [fourth]
    assert list(kept.document.waiting) == [fourth]


def test_no_room_to_wait_does_not_keep_others_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the rest of an update is refused, what waited for its first part comes in nevertheless."""
    first, second = typed("one ", "two")
    monkeypatch.setattr(module, "MAX_WAITING_SIZE", len(second))
    kept = Kept()
    kept.turn(second)
    # The same as `first`, and a deletion of what never came.
    with suppress(MalformedError):
        kept.turn(first[:-1] + update(deletes={99: [(1_000_000, 1_000_000)] * 10})[1:])
    kept.turn()
    assert first[-1:] == b"\x00"
    if decode_state_vector(kept.document.state_vector()):
        assert content(opened(kept.document.state()))[0] == "one two"
        assert list(kept.document.waiting) == []


@pytest.mark.parametrize("data", DAMAGING.values(), ids=DAMAGING.keys())
def test_an_unsound_update_is_refused(data: bytes) -> None:
    """An update that damages the document is refused, and what came before and after it in the turn is all there."""
    bob = Editor(5, BASE)
    kept = Kept(BASE)
    kept.document.integrate(bob.write(" before", 3))
    with pytest.raises(MalformedError):
        kept.document.integrate(data)
    kept.turn(bob.put("k", "after"))
    for document in (kept.document, kept.again()):
        assert content(opened(document.state())) == content(bob.doc)
        assert list(document.waiting) == []


def test_an_unsound_update_that_waited_is_dropped() -> None:
    """When what an unsound update waited for comes, that is accepted, and others that waited with it as well."""
    unsound = DAMAGING["in a text"]
    bob = Editor(9)
    first, second = bob.put("first", 1), bob.put("second", 2)
    kept = Kept()
    assert kept.send(unsound, second, BASE, first) == []
    for document in (kept.document, kept.again()):
        assert content(opened(document.state())) == ("abc", {"first": 1.0, "second": 2.0}, [])
        assert list(document.waiting) == []


def test_unsound_updates_by_the_dozen_are_dropped_together() -> None:
    """Many unsound updates that waited cost a bounded time where they are loaded, and nothing else."""
    unsound = [update(section(client, 0, item(text("x"), parent=(1, 0)))) for client in range(100, 200)]
    kept = Kept()
    kept.send(*unsound)
    kept = Kept(*kept.records, BASE)
    assert content(opened(kept.document.state()))[0] == "abc"
    assert kept.send(*typed("and more")) == []


def failing(monkeypatch: pytest.MonkeyPatch, *damaging: bytes) -> None:
    """Make the document fail whenever it is given one of these updates."""
    real = yjs.apply

    def apply(doc: object, data: bytes) -> None:
        if data in damaging:
            raise DamagedError("failed on the way")
        real(doc, data)  # type: ignore[arg-type]

    monkeypatch.setattr(portions, "apply", apply)


def test_what_waited_is_not_forgotten_in_a_repair(monkeypatch: pytest.MonkeyPatch) -> None:
    """An update that came in in part before the document was built again comes in as a whole when it can."""
    first, other = typed("one "), Editor(5)
    word = other.put("k", 1)
    both = update(
        section(2, 0, item(text("two"), origin=(1, 3)), item(text("!"), origin=(5, 0))),
    )
    bad = update(section(66, 0, gc(1)))
    failing(monkeypatch, bad)
    kept = Kept()
    kept.turn(both)
    kept.document.integrate(first[0])
    with pytest.raises(MalformedError):
        kept.document.integrate(bad)
    kept.turn(word)
    for document in (kept.document, kept.again()):
        # The last one stands where what it follows stands.
        assert content(opened(document.state())) == ("one two", {"k": "!"}, [])
        assert list(document.waiting) == []


def test_what_builds_on_what_was_dropped_is_not_given_to_yrs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where an update turns out to be unsound when the turn ends, what builds on it waits instead of being lost."""
    first, second = typed("one ", "two")
    kept = Kept()

    def commit(_: object) -> None:
        monkeypatch.undo()
        failing(monkeypatch, first)
        raise DamagedError("failed in the end")

    monkeypatch.setattr(module, "commit", commit)
    kept.turn(first, second)
    monkeypatch.undo()
    for document in (kept.document, kept.again()):
        assert document.state() == NOTHING
        assert list(document.waiting) == [second]


def test_a_repair_that_fails_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """If what is stored cannot be built again, nobody goes on with that document."""
    kept = Kept(BASE)
    failing(monkeypatch, BASE, *DAMAGING.values())
    with pytest.raises(DamagedError):
        kept.document.integrate(DAMAGING["in a text"])
    kept.document.close()
