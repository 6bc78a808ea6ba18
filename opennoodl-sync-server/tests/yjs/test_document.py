"""A document: updates in any order and more than once, and what others lack, compared with pycrdt."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opennoodl_sync.yjs import delete_set, difference
from opennoodl_sync.yjs import document as module
from opennoodl_sync.yjs import segment as segment_module
from opennoodl_sync.yjs.compaction import compact_records
from opennoodl_sync.yjs.division import divide
from opennoodl_sync.yjs.document import DamagedError, Document
from opennoodl_sync.yjs.lib0 import MalformedError, finish
from opennoodl_sync.yjs.state_vector import decode
from opennoodl_sync.yjs.update import Parts, read
from pycrdt import Doc, Text

from ..edits import deliveries, edit, snapshot, steps
from ..raw import gc, item, section, text, update


@pytest.fixture(autouse=True, params=["small", "large"], scope="module")
def sizes(request: pytest.FixtureRequest) -> object:
    """Make segments of a few bytes, so that all paths are taken, or of many."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "small":
            for name, size in {
                "LARGE_UPDATE": 60,
                "RECENT_SIZE": 100,
                "RECENT_CLIENTS": 2,
                "MERGED": 1000,
                "MANY": 2,
            }.items():
                patch.setattr(module, name, size)
            patch.setattr(difference, "CHUNK", 50)
            patch.setattr(difference, "DELETIONS", 7)
            patch.setattr(difference, "MANY", 2)
            patch.setattr(segment_module, "MARK_DISTANCE", 20)
            patch.setattr(segment_module, "MANY", 2)
        yield


def integrated(updates: list[bytes]) -> tuple[Document, list[bytes]]:
    """Return a document that took updates, each in a turn of its own, and what it told of them."""
    document, told = Document(), list[bytes]()
    for written in updates:
        finish(document.integrate(written))
        told += document.commit()
    return document, told


def doc_of(updates: list[bytes]) -> Doc[Any]:
    """Return pycrdt's document of updates."""
    doc: Doc[Any] = Doc()
    for written in updates:
        doc.apply_update(written)
    return doc


def state(document: Document) -> dict[int, int]:
    """Return the state vector of a document."""
    return finish(decode(document.state_vector()))


@given(st.data(), steps)
def test_updates_come_in_any_order(data: st.DataObject, chosen: Any) -> None:
    """In any order of the updates, told, stored and answered contents are the document that pycrdt makes of them."""
    updates = edit(chosen)
    delivered = data.draw(deliveries(updates))
    document, told = integrated(delivered)
    wanted = doc_of(updates)
    for received in (told, [part for part in document.difference(b"\x00") if part], [finish(document.write())]):
        # At once: yrs, other than Yjs, makes another text of some updates that come before their predecessors.
        doc = doc_of([finish(integrated(received)[0].write())])
        assert snapshot(doc) == snapshot(wanted)
        assert finish(decode(doc.get_state())) == finish(decode(wanted.get_state())) == state(document)


@given(st.data(), steps)
def test_a_difference_is_what_another_one_lacks(data: st.DataObject, chosen: Any) -> None:
    """Whatever it has."""
    updates = edit(chosen)
    known = updates[: data.draw(st.integers(0, len(updates)))]
    document, _ = integrated(updates)
    other = doc_of(known)
    for part in document.difference(other.get_state()):
        if part is not None:
            other.apply_update(part)
    assert snapshot(other) == snapshot(doc_of(updates))


@given(steps)
def test_known_updates_are_not_told_again(chosen: Any) -> None:
    """Neither one by one nor at once."""
    updates = edit(chosen)
    document, _ = integrated(updates)
    for written in (*updates, finish(document.write())):
        finish(document.integrate(written))
        assert document.commit() == []


@given(st.data(), steps)
def test_the_told_updates_make_the_same_document(data: st.DataObject, chosen: Any) -> None:
    """The stored updates make the same document, byte for byte."""
    document, told = integrated(data.draw(deliveries(edit(chosen))))
    again = Document()
    finish(again.load(told))
    assert state(again) == state(document)
    assert finish(again.write()) == finish(document.write())
    assert again.commit() == []


@given(steps)
def test_one_turn_tells_what_several_do(chosen: Any) -> None:
    """Updates of one turn are told together."""
    updates = edit(chosen)
    document = Document()
    for written in updates:
        finish(document.integrate(written))
    assert document.changed == bool(updates)
    assert snapshot(doc_of(document.commit())) == snapshot(doc_of(updates))
    assert not document.changed


def test_contents_are_told_as_they_came() -> None:
    """No byte of them changes."""
    strange = item(b"\x08\x02\x7a" + b"\xff" * 8 + b"\x7d\x40"), item(b"\x06\x01b" + b"\x08" + rb'"\ud83d"')
    written = update(section(1, 0, *strange))
    document, told = integrated([written])
    assert told == [written]
    assert finish(document.write()) == written


def test_pending_updates_are_told_and_kept() -> None:
    """Clients keep it themselves; when what it waits for has come, it is part of the document."""
    first, second = update(section(1, 0, item(text("a")))), update(section(1, 1, item(text("b"), origin=(1, 0))))
    document, told = integrated([second])
    assert told == [second]
    assert document.pending() == second
    assert document.pending_size > 0
    assert state(document) == {}
    finish(document.integrate(first))
    assert document.pending() is None
    assert document.pending_size == 0
    assert state(document) == {1: 2}


def test_an_unreadable_update_changes_nothing() -> None:
    """A sender is told; the document stays."""
    document, _ = integrated([update(section(1, 0, item(text("a"))))])
    before = finish(document.write())
    with pytest.raises(MalformedError):
        finish(document.integrate(update(section(2, 0, item(text("a")), b"\x1f"))))
    assert document.commit() == []
    assert finish(document.write()) == before


def test_a_damaged_record_is_named() -> None:
    """By its number."""
    with pytest.raises(DamagedError, match="record 1 is not a Yjs update"):
        finish(Document().load([update(), b"junk"]))


def test_too_much_that_waits_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pending updates have a bound, but stored ones load nevertheless."""
    monkeypatch.setattr(module, "MAX_PENDING", 20_000)
    document = Document()
    waiting = [update(section(client, 5, gc(1))) for client in range(1, 20)]
    for written in waiting[:4]:
        finish(document.integrate(written))
    with pytest.raises(MalformedError, match="too many changes wait"):
        finish(document.integrate(waiting[4]))
    finish(Document().load(waiting))


def test_the_clients_that_wrote_are_known() -> None:
    """By their client ids."""
    document, _ = integrated([update(section(5, 0, gc(1)))])
    assert 5 in document
    assert 6 not in document
    assert "5" not in document


@given(steps, steps)
def test_a_compacted_segment_takes_the_place_of_what_it_was_made_of(chosen: Any, later: Any) -> None:
    """Meanwhile the document goes on; so it does where the compaction failed."""
    updates = edit([*chosen, *later])
    at = len(updates) // 2
    for fails in (False, True):
        document, _ = integrated(updates[:at])
        finish(document.freeze())
        size = 0 if fails else 1
        for written in updates[at:]:
            finish(document.integrate(written))
            if document.frozen():
                part = finish(divide(document.frozen(), size))
                segment, _ = finish(compact_records(finish(one.write()) for one in part.segments))
                document.replace(part, segment)
        document.thaw()
        assert snapshot(doc_of([finish(document.write())])) == snapshot(doc_of(updates))


def test_a_deletion_of_nothing_is_not_handed_on() -> None:
    """Yjs fails on it where the elements beside it have not come yet."""
    document = Document()
    finish(document.integrate(bytes.fromhex("000101015600")))
    assert document.commit() == []
    finish(document.integrate(bytes.fromhex("00010102560003" + "01")))
    assert document.commit() == [bytes.fromhex("0001010103" + "01")]


def test_deletions_are_handed_on_in_order() -> None:
    """Yjs damages those that wait when they come in another order."""
    document = Document()
    finish(document.integrate(bytes.fromhex("000101020901" + "0301")))
    assert document.commit() == [bytes.fromhex("000101020301" + "0901")]


@pytest.mark.parametrize("turns", [1, 2])
def test_clients_are_handed_on_in_descending_order(turns: int) -> None:
    """``Y.mergeUpdates`` loses sections in another order; so do tools that store what they receive, as y-redis does."""
    document = Document()
    updates: list[bytes] = []
    for client in (1, 3, 2):
        finish(document.integrate(update(section(client, 0, item(text("a"))))))
        finish(document.integrate(update(section(client + 4, 1, item(text("b"))))))  # waits for clock 0
        if turns == 2:
            updates += document.commit()
    finish(document.integrate(update(section(10, 0, item(text("c"))), section(11, 0, item(text("d"))))))
    updates += document.commit()
    pending = document.pending()
    assert pending is not None
    for written in [*updates, pending, *document.difference(b"\0"), finish(document.write())]:
        if written is not None:
            parts = Parts()
            finish(read(written, parts))
            clients = [run.client for run in parts.runs]
            assert clients == sorted(clients, reverse=True)


def test_deletions_of_a_client_are_handed_on_in_one_piece() -> None:
    """Of a client that stands in a delete set several times, yrs takes only the last ranges."""
    document = Document()
    ranges = [bytes((2 * number, 1)) for number in range(1, 30)]
    finish(document.integrate(b"\0" + bytes((len(ranges),)) + b"".join(b"\1\1" + one for one in ranges)))
    assert document.commit() == [b"\0\1\1" + bytes((len(ranges),)) + b"".join(ranges)]


def test_yrs_reads_very_many_deletions() -> None:
    """Deletions of one client that are written in several steps are one piece in each update."""
    document = Document()
    length = 4 * delete_set.MANY
    finish(document.integrate(update(section(1, 0, item(text("ab" * (length // 2)))))))
    finish(document.integrate(update(deletes={1: [(clock, 1) for clock in range(0, length, 2)]})))
    told = document.commit()
    for updates in (told, [finish(document.write())], [one for one in document.difference(b"\0") if one is not None]):
        assert str(doc_of(updates).get("t", type=Text)) == "b" * (length // 2)


@pytest.mark.parametrize("order", [1, -1])
def test_runs_that_wait_may_overlap(order: int) -> None:
    """After a reconnect a client sends what it sent before, and more: a newcomer gets all of it."""
    document = Document()
    for early in [bytes.fromhex("01010205004a00"), bytes.fromhex("01010205001700")][::order]:
        finish(document.integrate(early))
    newcomer = Document()
    finish(newcomer.load(part for part in document.difference(b"\x00") if part is not None))
    for each in (document, newcomer):
        finish(each.integrate(bytes.fromhex("01010200000500")))
        assert (each.state(2), each.pending_size) == (79, 0)


def test_a_repeated_pending_update_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that reconnects sends what waits once more, with its own new work: that must not lock it out."""
    monkeypatch.setattr("opennoodl_sync.yjs.document.MAX_PENDING", 6_000)
    document = Document()
    waits = section(2, 5, gc(74))
    finish(document.integrate(update(waits)))
    for size in (10, 100_000):  # a small and a large update
        monkeypatch.setattr("opennoodl_sync.yjs.document.LARGE_UPDATE", size)
        finish(document.integrate(update(section(3, document.state(3), gc(5)), waits)))
    assert document.state(3) == 10
    with pytest.raises(MalformedError, match="too many changes wait"):
        finish(document.integrate(update(section(4, 9, gc(74)))))


def test_early_deletions_count_until_their_elements_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """A document that has seen many deletions before their elements goes on taking what comes early."""
    monkeypatch.setattr(module, "MAX_PENDING", 6_000)
    document = Document()
    for client in range(1, 20):
        finish(document.integrate(update(deletes={client: [(2 * number, 1) for number in range(200)]})))
        finish(document.integrate(update(section(client, 0, gc(400)))))
        document.commit()
    finish(document.integrate(update(section(99, 5, gc(1)))))
    assert document.pending() is not None


def test_early_deletions_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those whose elements have not come are not given back, whatever else comes."""
    monkeypatch.setattr(module, "MAX_PENDING", 6_000)
    document = Document()
    client = 0
    with suppress(MalformedError):
        for client in range(1, 20):
            finish(document.integrate(update(deletes={client: [(2 * number, 1) for number in range(200)]})))
            finish(document.integrate(update(section(client, 0, gc(10)))))
            document.commit()
    assert client == 4
    assert document.pending_size <= 6_000


def steps_of(document: Document, data: bytes) -> int:
    """Return in how many steps a document takes an update."""
    return sum(1 for _ in document.integrate(data))


def test_a_deletion_of_many_holes_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A range that is deleted in very many places already is taken as one, or a few bytes would take seconds."""
    document = Document()
    holes = {1: [(2 * number, 1) for number in range(5_000)]}
    finish(document.integrate(update(section(1, 0, gc(10_000)), deletes=holes)))
    document.commit()
    whole = update(deletes={1: [(0, 10_000)]})
    finish(document.integrate(whole))
    assert document.commit() == [whole]
    finish(document.integrate(whole))
    assert document.commit() == []


def test_large_contents_are_read_in_steps() -> None:
    """Many large texts in one update are not one step, though each of them could be."""
    texts = update(section(1, 0, *(item(text("x" * 60_000)) for _ in range(50))))
    assert steps_of(Document(), texts) > 8
