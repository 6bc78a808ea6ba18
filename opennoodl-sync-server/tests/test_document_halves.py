"""A document in which somebody edits between the halves of a character is the same everywhere."""

from __future__ import annotations

import pytest
from pycrdt import Text

from .edits import opened
from .kept import Kept, agree
from .test_halves import BEHIND, BETWEEN, DELETES_FIRST, DELETES_SECOND, SMILE, wrote

CUTS = {DELETES_FIRST: "a\ufffdb", DELETES_SECOND: "a\ufffdb", BETWEEN: "a\ufffdx\ufffdb"}
"""What Yjs makes of them."""


def text(*updates: bytes) -> str:
    """Return the text that updates make."""
    return str(opened(*updates).get("text", type=Text))


@pytest.mark.parametrize("cut", CUTS)
def test_later(cut: bytes) -> None:
    """A cut in another turn than the character: the document, and all that was given of it, have what Yjs has."""
    kept = Kept()
    kept.turn(wrote(f"a{SMILE}b"))
    changes = kept.turn(cut)
    assert text(kept.document.state()) == CUTS[cut]
    assert len(changes.updates) == 1
    agree(kept)


@pytest.mark.parametrize("cut", CUTS)
def test_at_once(cut: bytes) -> None:
    """A cut in the same turn."""
    kept = Kept()
    kept.turn(wrote(f"a{SMILE}b"), cut)
    assert text(kept.document.state()) == CUTS[cut]
    agree(kept)


@pytest.mark.parametrize("cut", CUTS)
def test_before(cut: bytes) -> None:
    """A cut that comes before the character, and waits for it."""
    kept = Kept()
    kept.turn(cut)
    kept.turn(wrote(f"a{SMILE}b"))
    assert text(kept.document.state()) == CUTS[cut]
    agree(kept)


def test_again() -> None:
    """What comes after a cut is put where it was put by who wrote it, also after the document was loaded again."""
    kept = Kept()
    kept.turn(wrote(f"a{SMILE}b"))
    kept.turn(DELETES_SECOND)
    for document in (kept.document, kept.again()):
        document.integrate(BEHIND)
        document.commit()
        assert text(document.state()) == "a\ufffdxb"


def test_stored_with_its_cut() -> None:
    """A character and its cut that another server has stored, as Yjs gave them, are read as Yjs reads them."""
    assert text(Kept(wrote(f"a{SMILE}b"), DELETES_FIRST).document.state()) == "a\ufffdb"


def test_others_stay() -> None:
    """Characters that nobody cuts stay, in the same text too."""
    kept = Kept()
    kept.turn(wrote(f"a{SMILE}b{SMILE}"), DELETES_FIRST)
    assert text(kept.document.state()) == f"a\ufffdb{SMILE}"
