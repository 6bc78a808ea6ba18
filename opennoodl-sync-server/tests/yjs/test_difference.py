"""A difference: what it keeps in memory while its client reads. What it tells is in `test_document`."""

from __future__ import annotations

import pytest
from opennoodl_sync.yjs import document as document_module
from opennoodl_sync.yjs.delete_set import DeleteSet
from opennoodl_sync.yjs.difference import MANY, Difference
from opennoodl_sync.yjs.division import divide
from opennoodl_sync.yjs.document import Document
from opennoodl_sync.yjs.lib0 import finish, write_varuint

from ..raw import gc, item, section, text, update
from .segments import segment_of

CLIENTS = 500


def vector(*entries: tuple[int, int]) -> bytes:
    """Return a state vector."""
    return write_varuint(len(entries)) + b"".join(
        write_varuint(client) + write_varuint(clock) for client, clock in entries
    )


def document() -> Document:
    """Return a document of many clients."""
    document = Document()
    finish(document.load([update(*(section(client, 0, gc(3)) for client in range(CLIENTS, 0, -1)))]))
    return document


def test_clients_that_the_document_has_not_take_no_memory() -> None:
    """A client may name as many as it likes."""
    difference = document().difference(vector(*((client, 1) for client in range(10_000, 20_000))))
    assert [*difference][-1] is not None
    assert difference.memory == 0


def test_sections_are_written_in_steps() -> None:
    """The update of many clients is put together a few of them at a time: others wait for each step."""
    steps = [update is None for update in document().difference(vector())]
    looked_at = written = CLIENTS // MANY
    assert sum(steps) >= looked_at + written
    assert not steps[-1]


def test_a_client_takes_twelve_bytes() -> None:
    """However often it is named; the last entry counts, as in Yjs."""
    known = [(client, 9) for client in range(1, CLIENTS + 1)] + [(client, 3) for client in range(1, CLIENTS + 1)]
    difference = document().difference(vector(*known, (7, 0)))
    updates = [update for update in difference if update is not None]
    assert difference.memory == 12 * CLIENTS
    newcomer = Document()
    finish(newcomer.load(updates))
    assert (newcomer.state(7), newcomer.state(8)) == (3, 0)


def test_deletions_of_several_segments_are_counted() -> None:
    """They are put together for the difference; those of one segment are its own."""
    one, other = (segment_of(update(deletes={client: [(2 * n, 1) for n in range(100)]})) for client in (1, 2))
    for segments, memory in (([one], 0), ([one, other], one.deleted.memory + other.deleted.memory)):
        difference = Difference(segments, None, vector())
        list(difference)
        assert abs(difference.memory - memory) < 20
    assert len(DeleteSet()) == 0


def test_segments_that_the_document_has_replaced() -> None:
    """They are in memory for the difference alone."""
    whole = document()
    finish(whole.freeze())
    whole.thaw()
    difference = whole.difference(vector())
    assert whole.superseded(difference) == []
    finish(whole.freeze())
    part = finish(divide(whole.frozen(), 0))
    whole.replace(part, segment_of(finish(part.segments[0].write())))
    assert whole.superseded(difference) == difference.segments


def test_a_difference_goes_on_as_it_was() -> None:
    """A difference does not have the changes that came after it was asked for."""
    whole = document()
    difference = whole.difference(vector((1, 3)))
    finish(whole.integrate(update(section(9_999, 0, item(text("later"))))))
    assert not any(b"later" in update for update in difference if update is not None)


def test_a_state_vector_for_a_difference_is_not_larger_than_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A difference treats a larger one as empty, so it need not be in memory."""
    whole = document()
    assert whole.state_vector_for_difference() == whole.state_vector()
    monkeypatch.setattr(document_module, "MAX_VECTOR", len(whole.state_vector()) - 1)
    assert whole.state_vector_for_difference() == vector()
