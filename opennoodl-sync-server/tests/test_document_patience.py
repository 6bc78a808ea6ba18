"""A document says what may take long before it begins with it, and does it when it is given the time."""

from __future__ import annotations

import pytest
from opennoodl_sync import portions
from opennoodl_sync.document import LARGE, Document
from opennoodl_sync.portions import TakesLongError
from opennoodl_sync.protocol import MalformedError, write_varuint

from .editor import BASE, DAMAGING, Editor, content
from .kept import Kept, agree
from .test_halves import DELETES_FIRST, SMILE, wrote
from .turns import shown

PADDING = "x" * LARGE


def large(text: str = "") -> Kept:
    """Return a document that is large, with a text in it."""
    kept = Kept()
    kept.turn(Editor(9).put("padding", PADDING))
    if text:
        kept.turn(wrote(text))
    return kept


def takes_long(document: Document, update: bytes) -> None:
    """Let a document see that something takes long."""
    with pytest.raises(TakesLongError):
        document.integrate(update, patient=False)


def test_a_large_update() -> None:
    """It is not begun; with patience it is integrated as ever."""
    kept, ann = Kept(), Editor(1)
    update = ann.write(PADDING)
    takes_long(kept.document, update)
    assert not kept.document.changed
    assert shown(kept.document)[0] == ""
    kept.document.integrate(update)
    assert shown(kept.document) == content(ann.doc)


def test_a_small_update() -> None:
    """In a large document, too, it takes no time, and neither does a character beyond what UTF-16 has in one piece."""
    kept = large(f"a{SMILE}b")
    for update in (Editor(1).write("hello"), Editor(2).write(SMILE)):
        kept.document.integrate(update, patient=False)
    assert len(kept.document.commit().updates) == 1


def test_a_cut_in_a_small_document() -> None:
    """It takes no time."""
    kept = Kept()
    kept.turn(wrote(f"a{SMILE}b"))
    kept.document.integrate(DELETES_FIRST, patient=False)


def test_a_cut_in_a_large_document() -> None:
    """It is not begun, nor when it has waited for something; with patience it is what it is in a small one."""
    kept = large(f"a{SMILE}b")
    before = kept.document.state()
    takes_long(kept.document, DELETES_FIRST)
    assert kept.document.state() == before
    kept.turn(DELETES_FIRST)
    agree(kept)


def test_what_waits_in_a_large_document() -> None:
    """Whatever may let something go that has waited takes long, since that may cut; nothing else does."""
    kept, ann, bob = large(), Editor(1), Editor(2)
    first, second = ann.write("one"), ann.write("two")
    kept.turn(second)
    kept.document.integrate(bob.write("else"), patient=False)
    takes_long(kept.document, first)
    kept.turn(first)
    agree(kept)


def test_a_cut_that_has_waited() -> None:
    """It takes long when it comes to it, again and again."""
    kept = large()
    for client in (1, 2):
        character = Editor(client).write(f"a{SMILE}b")
        kept.turn(b"\x00\x01" + bytes((client,)) + b"\x01\x01\x01")  # its first half is deleted
        takes_long(kept.document, character)
        kept.turn(character)
        agree(kept)


def test_much_that_waits() -> None:
    """So does whatever may let much go."""
    kept, ann = Kept(), Editor(1)
    first, second = ann.write("one"), ann.write(PADDING)
    kept.turn(second)
    takes_long(kept.document, first)
    kept.turn(first)
    assert shown(kept.document) == content(ann.doc)
    agree(kept)


@pytest.mark.parametrize("update", DAMAGING.values(), ids=DAMAGING.keys())
def test_damage(update: bytes) -> None:
    """A document that was damaged is repaired with patience; it has all that it had, and goes on."""
    kept, ann = large(), Editor(1, BASE)
    kept.turn(BASE)
    kept.document.integrate(Editor(5, BASE).put("k", "not stored yet"), patient=False)
    takes_long(kept.document, update)
    with pytest.raises(MalformedError):
        kept.document.integrate(update)
    kept.document.integrate(ann.push("later"), patient=False)
    kept.turn()
    assert shown(kept.document) == ("abc", {"padding": PADDING, "k": "not stored yet"}, ["later"])
    agree(kept)


@pytest.mark.parametrize("update", DAMAGING.values(), ids=DAMAGING.keys())
def test_damage_in_a_small_document(update: bytes) -> None:
    """It is repaired at once."""
    kept = Kept()
    kept.turn(BASE)
    with pytest.raises(MalformedError):
        kept.document.integrate(update, patient=False)


def test_damage_by_what_has_waited() -> None:
    """Who brings what it waited for is not to blame for it, and what was brought stays."""
    kept, ann = large(), Editor(1, BASE)
    kept.turn(next(iter(DAMAGING.values())))
    takes_long(kept.document, BASE)
    kept.document.integrate(BASE)
    kept.document.integrate(ann.push("later"), patient=False)
    kept.turn()
    assert shown(kept.document) == ("abc", {"padding": PADDING}, ["later"])
    agree(kept)


def siblings(client: int, count: int) -> bytes:
    """Return an update with texts that are all at the same place."""
    head = b"\x01" + write_varuint(count) + write_varuint(client)
    return head + b"\x00" + b"\x04\x01\x01t\x01x" * count + b"\x00"


def test_a_slow_document() -> None:
    """Where each item is compared with very many, it is seen in time; from then on all takes long, also alone."""
    kept = Kept()
    kept.turn(siblings(1, 300_000))
    takes_long(kept.document, siblings(2, 20))
    kept.document.integrate(siblings(2, 20))
    takes_long(kept.document, Editor(9).put("k", "v"))
    kept.document.integrate(Editor(9).put("k", "v"))
    kept.turn()
    assert shown(kept.document) == ("x" * 300_020, {"k": "v"}, [])


def test_what_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """An update that takes all too long is refused; what was there is there, and more is taken."""
    kept, ann = Kept(), Editor(1)
    kept.turn(ann.write("abc"))
    with monkeypatch.context() as patch:
        patch.setattr(portions, "LONGEST", -1.0)
        with pytest.raises(MalformedError, match="too long"):
            kept.document.integrate(siblings(2, 1000))
    kept.turn(ann.write("d"))
    assert shown(kept.document)[0] == "abcd"
    agree(kept)


def test_in_pieces() -> None:
    """A large update is given to yrs piece by piece, and gives one update all the same."""
    kept, ann = Kept(), Editor(1)
    for number in range(5000):
        ann.write(str(number), 0)
    ann.delete(10, 100)
    changes = kept.turn(ann.doc.get_update())
    assert len(changes.updates) == 1
    assert shown(kept.document) == content(ann.doc)
    agree(kept)
