"""Characters that count as two are found, and replaced where an update comes between their halves."""

from __future__ import annotations

from typing import Any

import pytest
from opennoodl_sync.halves import Halves, cuts, has_large, replace
from pycrdt import Doc, Map, Text

SMILE = "\U0001f600"
DELETES_FIRST, DELETES_SECOND, DELETES_BOTH, DELETES_NEXT = (
    bytes((0, 1, 5, 1, start, length)) for start, length in ((1, 1), (2, 1), (1, 2), (3, 1))
)
BETWEEN = b"\x01\x01\x06\x00\xc4\x05\x01\x05\x02\x01x\x00"
"""Of client 6: a letter between the second and the third element of client 5."""
BEHIND = b"\x01\x01\x06\x00\xc4\x05\x02\x05\x03\x01x\x00"


def wrote(text: str) -> bytes:
    """Return the update of client 5, who wrote a text."""
    doc: Doc[Any] = Doc(client_id=5)
    doc.get("text", type=Text).insert(0, text)
    return doc.get_update()


def halves_of(*updates: bytes) -> Halves:
    """Return the second halves in updates."""
    halves = Halves()
    for update in updates:
        halves.add(update)
    return halves


def test_large() -> None:
    """What JavaScript counts as two is large, and nothing else."""
    assert has_large(SMILE.encode())
    assert not has_large("\u00e9\u20ac\uffff".encode())


def test_found() -> None:
    """The element of every second half is found, behind text of any width, and once."""
    halves = halves_of(wrote(f"\u20aca{SMILE}b{SMILE}{SMILE}"), wrote(f"\u20aca{SMILE}"))
    assert [clock for clock in range(20) if (5, clock) in halves] == [3, 6, 8]
    assert (6, 3) not in halves


def test_not_found() -> None:
    """Values that are not counted by their characters have no halves."""
    doc: Doc[Any] = Doc(client_id=5)
    doc.get("map", type=Map)["key"] = SMILE
    assert not halves_of(doc.get_update())


@pytest.mark.parametrize("update", [DELETES_FIRST, DELETES_SECOND, BETWEEN])
def test_cut(update: bytes) -> None:
    """A deletion that begins or ends between two halves cuts, and so does what is written there."""
    assert cuts(update, halves_of(wrote(f"a{SMILE}b"))) == {(5, 2)}


@pytest.mark.parametrize("update", [DELETES_BOTH, DELETES_NEXT, BEHIND])
def test_no_cut(update: bytes) -> None:
    """What is done to whole characters cuts none."""
    assert not cuts(update, halves_of(wrote(f"a{SMILE}b")))


def test_replaced() -> None:
    """A character that is cut becomes two that are marks of something lost; all others stay."""
    doc: Doc[Any] = Doc()
    doc.apply_update(replace(wrote(f"a{SMILE}b{SMILE}" + "c" * 200), {(5, 2)}))
    assert str(doc.get("text", type=Text)) == f"a\ufffd\ufffdb{SMILE}" + "c" * 200
    assert replace(wrote(f"a{SMILE}"), {(5, 3), (6, 2)}) == wrote(f"a{SMILE}")
