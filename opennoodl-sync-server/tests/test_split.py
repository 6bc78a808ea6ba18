"""Splitting updates: what a document can integrate it gets, and it never gets what would have to wait in it."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opennoodl_sync.split import pieces, split
from opennoodl_sync.update import NOTHING
from opennoodl_sync.yjs import apply, decode_state_vector
from pycrdt import Doc, Text

from .edits import deliveries, edit, opened, snapshot, steps
from .raw import Id, gc, item, section, skip, text, update, values


def letter(number: int = 0) -> bytes:
    """Return an item that needs nothing."""
    return item(text("abcdefghij"[number]))


def behind(client: int, clock: int) -> bytes:
    """Return an item that needs an element."""
    return item(text("!"), origin=(client, clock))


def test_a_complete_update_is_ready_as_it_is() -> None:
    """What the document can integrate is not touched."""
    data = update(section(1, 0, item(text("abc")), behind(1, 2)), section(2, 0, behind(1, 3)), deletes={1: [(0, 2)]})
    assert split(data, {})[:4] == (data, {1: 4, 2: 1}, None, ())


def test_what_follows_on_what_is_known_is_ready() -> None:
    """An update goes on where the document is."""
    data = update(section(1, 5, behind(1, 4)))
    assert split(data, {1: 5})[:4] == (data, {1: 6}, None, ())


def test_what_is_known_is_not_given_again() -> None:
    """An update of which all is there gives the document nothing to do."""
    data = update(section(1, 0, item(text("abc"))))
    assert split(data, {1: 3})[:4] == (None, {1: 3}, None, ())
    assert split(NOTHING, {1: 3})[:4] == (None, {}, None, ())


def test_what_is_known_in_part_is_ready() -> None:
    """The document takes of a struct what is new."""
    data = update(section(1, 0, item(text("abc")), behind(1, 2)))
    for known in range(4):
        assert split(data, {1: known})[:4] == (data, {1: 4}, None, ())


def test_deletions_are_ready() -> None:
    """Whether something is deleted already is not known here, so the document is asked."""
    data = update(deletes={1: [(0, 1), (2, 1)], 2: [(5, 5)]})
    assert split(data, {1: 3, 2: 10})[:4] == (data, {}, None, ())


@pytest.mark.parametrize("known", [0, 1, 3])
def test_what_follows_on_what_is_missing_waits(known: int) -> None:
    """The elements of a client come one after the other; the one before the first is needed."""
    data = update(section(1, 4, letter(), letter()))
    assert split(data, {1: known})[:4] == (None, {}, data, ((1, 3),))


NEEDING = {
    "origin": behind(7, 8),
    "right origin": item(text("!"), right=(7, 8)),
    "parent": item(text("!"), parent=(7, 8)),
    "parent of an entry": item(values(b"\x7e"), parent=(7, 8), key="k"),
}


@pytest.mark.parametrize("struct", NEEDING.values(), ids=NEEDING.keys())
def test_what_builds_on_what_is_missing_waits(struct: bytes) -> None:
    """An item waits for its neighbours and for what it is in."""
    data = update(section(1, 0, struct))
    assert split(data, {7: 8})[:4] == (None, {}, data, ((7, 8),))
    assert split(data, {7: 9})[:4] == (data, {1: 1}, None, ())


def test_needs_one_neighbour_after_the_other() -> None:
    """An item that needs two that are missing waits for one of them, and then for the other."""
    data = update(section(1, 0, item(text("!"), origin=(7, 8), right=(5, 6))))
    for known, needs in (({}, {(7, 8), (5, 6)}), ({7: 9}, {(5, 6)}), ({5: 7}, {(7, 8)})):
        found = split(data, known)
        assert found[:3] == (None, {}, data)
        assert set(found.needs) <= needs
        assert len(found.needs) == 1


@pytest.mark.parametrize(
    "struct", [behind(1, 0), behind(1, 5), item(text("!"), right=(1, 0)), item(text("!"), parent=(1, 0))]
)
def test_what_builds_on_itself_waits(struct: bytes) -> None:
    """An item that needs itself, or what comes after it, never comes in."""
    data = update(section(1, 0, struct))
    assert split(data, {})[:3] == (None, {}, data)


def test_the_first_structs_are_ready_and_the_others_wait() -> None:
    """A client's structs are integrated up to the first one that cannot be."""
    data = update(section(1, 0, letter(0), letter(1), behind(9, 0), letter(3)))
    found = split(data, {})
    assert found.ready == update(section(1, 0, letter(0), letter(1)))
    assert found.clocks == {1: 2}
    assert found.rest == update(section(1, 2, behind(9, 0), letter(3)))
    assert found.needs == ((9, 0),)


def test_each_client_goes_as_far_as_it_can() -> None:
    """That one client's structs wait does not keep another's."""
    data = update(section(1, 0, letter()), section(2, 3, letter()), section(3, 0, letter(), behind(2, 3)))
    found = split(data, {})
    assert found.ready == update(section(1, 0, letter()), section(3, 0, letter()))
    assert found.clocks == {1: 1, 3: 1}
    assert found.rest == update(section(2, 3, letter()), section(3, 1, behind(2, 3)))
    assert dict(found.needs) == {2: 2}


CHAIN = {
    1: section(1, 0, letter(), behind(2, 1), behind(3, 1)),
    2: section(2, 0, behind(1, 0), behind(3, 0)),
    3: section(3, 0, behind(2, 0), behind(1, 1)),
}
"""Clients that go on by turns."""


@pytest.mark.parametrize("order", list(permutations(CHAIN)), ids=str)
def test_the_order_of_clients_does_not_matter(order: tuple[int, ...]) -> None:
    """An update may build on itself in any order; the document can take it as it is written."""
    data = update(*(CHAIN[client] for client in order))
    found = split(data, {})
    assert found[1:4] == ({1: 3, 2: 2, 3: 2}, None, ())
    doc: Doc[Any] = Doc()
    apply(doc, found.ready or NOTHING)
    assert decode_state_vector(doc.get_state()) == found.clocks


@pytest.mark.parametrize("order", list(permutations(CHAIN)), ids=str)
def test_what_waits_keeps_those_that_build_on_it(order: tuple[int, ...]) -> None:
    """Where a chain is broken, all that is behind that waits, and comes in when the missing piece has come."""
    chain = {**CHAIN, 3: section(3, 0, behind(2, 0), behind(9, 4))}
    found = split(update(*(chain[client] for client in order)), {})
    assert found.clocks == {1: 2, 2: 2, 3: 1}
    assert (9, 4) in found.needs
    assert found.rest is not None
    assert split(found.rest, {**found.clocks, 9: 5})[1:4] == ({1: 3, 3: 2}, None, ())


def test_a_circle_waits() -> None:
    """Items that need each other never come in, and do not keep this from its end."""
    data = update(section(1, 0, behind(2, 0)), section(2, 0, behind(3, 0)), section(3, 0, behind(1, 0)))
    assert split(data, {})[:3] == (None, {}, data)


def test_a_gap_that_is_filled_is_passed() -> None:
    """What the document has need not be in the update; yrs goes on behind the gap."""
    data = update(section(1, 0, letter(0), skip(2), letter(3)))
    found = split(data, {1: 3})
    assert found[1:4] == ({1: 4}, None, ())
    doc = opened(update(section(1, 0, letter(0), letter(1), letter(2))))
    apply(doc, found.ready or NOTHING)
    assert decode_state_vector(doc.get_state()) == {1: 4}
    assert str(doc.get("t", type=Text)) in permutations_of("abcd")


def permutations_of(letters: str) -> set[str]:
    """Return all orders of some letters."""
    return {"".join(order) for order in permutations(letters)}


@pytest.mark.parametrize("known", [0, 1, 2])
def test_what_is_behind_a_gap_waits(known: int) -> None:
    """A gap ends what can be integrated; the rest begins behind it and needs the gap's last element."""
    data = update(section(1, 0, letter(0), skip(2), letter(3), letter(4)))
    found = split(data, {1: known})
    assert found.ready in (update(section(1, 0, letter(0))), None if known else NOTHING)
    assert found.rest == update(section(1, 3, letter(3), letter(4)))
    assert found.needs == ((1, 2),)


@pytest.mark.parametrize("known", [0, 5])
def test_gaps_alone_are_nothing(known: int) -> None:
    """A section that is only gaps, or nothing at all, leaves nothing to integrate and nothing to wait."""
    for data in (update(section(1, 0, skip(3))), update(section(1, 0)), update(section(1, 9))):
        found = split(data, {1: known})
        assert found.ready is None
        assert found.rest is None


def test_gaps_at_the_front_are_left_out() -> None:
    """Yrs is given no update that begins with a gap, and none that has an empty section."""
    data = update(section(1, 0, skip(3), letter()), section(2, 0), section(3, 0, letter()))
    assert split(data, {1: 3}).ready == update(section(1, 3, letter()), section(3, 0, letter()))


def test_deletions_are_clipped() -> None:
    """What is there is deleted now, what is not when it comes, and that is what is needed."""
    data = update(section(1, 2, gc(2)), deletes={1: [(0, 3), (3, 7)], 2: [(5, 2), (0, 1)], 3: [(0, 1)]})
    found = split(data, {1: 2, 2: 6})
    assert found.ready == update(section(1, 2, gc(2)), deletes={1: [(0, 3), (3, 1)], 2: [(5, 1), (0, 1)]})
    assert found.rest == update(deletes={1: [(4, 6)], 2: [(6, 1)], 3: [(0, 1)]})
    assert dict(found.needs) == {1: 4, 2: 6, 3: 0}


def test_the_first_element_that_is_missing_is_needed() -> None:
    """Where structs and deletions wait for one client, the one that comes first is what to wait for."""
    data = update(section(1, 0, behind(9, 7)), section(2, 0, behind(9, 3)), deletes={9: [(5, 1), (1, 1)]})
    assert dict(split(data, {}).needs) == {9: 1}


def held_back(arrived: list[bytes]) -> tuple[Doc[Any], list[tuple[bytes, tuple[Id, ...]]]]:
    """Return a document that was given what was ready of each update, and what waits in the end.

    What is ready now and then must not wait in the document, and what needs nothing that has come must not be ready.
    """
    doc: Doc[Any] = Doc()
    known: dict[int, int] = {}
    waiting: list[tuple[bytes, tuple[Id, ...]]] = []
    for data in arrived:
        todo: list[tuple[bytes, tuple[Id, ...]]] = [(data, ())]
        while todo:
            given = False
            for piece, needs in todo:
                found = split(piece, known)
                if needs and not any(known.get(client, 0) > clock for client, clock in needs):
                    assert found.ready is None
                if found.ready is not None:
                    given = True
                    apply(doc, found.ready)
                    known.update(found.clocks)
                    assert decode_state_vector(doc.get_state()) == known
                if found.rest is not None:
                    assert found.needs
                    waiting.append((found.rest, found.needs))
            todo, waiting = (waiting, []) if given else ([], waiting)
    return doc, waiting


@given(st.data())
def test_any_order_makes_the_same_document(data: st.DataObject) -> None:
    """However honest edits arrive, the document is that of all of them in order, and nothing waits in the end."""
    updates = edit(data.draw(steps))
    doc, waiting = held_back(data.draw(deliveries(updates)))
    expected = opened(*updates)
    assert waiting == []
    assert decode_state_vector(doc.get_state()) == decode_state_vector(expected.get_state())
    assert snapshot(doc) == snapshot(expected)


@given(st.data())
def test_what_was_lost_may_come_later(data: st.DataObject) -> None:
    """Where updates are lost, others wait, and when they come at last, everything is there."""
    updates = edit(data.draw(steps))
    lost = data.draw(st.lists(st.sampled_from(updates), max_size=3)) if updates else []
    arrived = data.draw(deliveries([update for update in updates if update not in lost]))
    doc, waiting = held_back([*arrived, *lost])
    assert waiting == []
    assert snapshot(doc) == snapshot(opened(*updates))


def test_parts_are_counted() -> None:
    """Structs and deletions are, whether the update is taken apart or not."""
    data = update(
        section(1, 0, item(text("abc")), behind(1, 2)), section(2, 0, letter()), deletes={1: [(0, 2), (3, 1)]}
    )
    assert split(data, {}).parts == 5
    assert split(update(section(1, 0, behind(2, 0)), section(2, 0, letter())), {}).parts == 2


@given(st.data(), st.integers(1, 5))
def test_pieces(data: st.DataObject, most: int) -> None:
    """Pieces are as small as is asked, each is integrated whole after those before it, and they are all there is."""
    updates = edit(data.draw(steps))
    known = data.draw(st.integers(0, len(updates)))
    doc = opened(*updates[:known])
    clocks = {client: clock for client, clock in decode_state_vector(doc.get_state()).items() if clock}
    for piece in pieces(opened(*updates).get_update(), dict(clocks), lambda: most):
        found = split(piece, clocks)
        assert found.parts <= most
        assert found.rest is None
        apply(doc, piece)
        clocks |= found.clocks
        assert decode_state_vector(doc.get_state()) == clocks
    assert snapshot(doc) == snapshot(opened(*updates))


def test_pieces_without_what_has_to_wait() -> None:
    """What cannot be integrated is in none of them."""
    data = update(section(1, 0, letter(), behind(9, 7), letter()), section(2, 0, behind(1, 0)), deletes={1: [(0, 3)]})
    assert list(pieces(data, {}, lambda: 10)) == [
        update(section(2, 0, behind(1, 0)), section(1, 0, letter())),
        update(deletes={1: [(0, 1)]}),
    ]
