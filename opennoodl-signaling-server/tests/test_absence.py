"""Absences: what waits for a lost peer, and how much of it."""

from __future__ import annotations

import pytest
from msgspec import Raw
from opennoodl_signaling import absence as module
from opennoodl_signaling.absence import MAX_BYTES, MAX_SIGNALS, OVERHEAD, Absence, Absences
from opennoodl_signaling.messages import SignalFrom, decode


def signal(size: int = 1, sender: str = "a") -> SignalFrom:
    """Return a signal of so many bytes."""
    return SignalFrom(from_=sender, signal=Raw(b"1" * size))


@pytest.fixture
def absences() -> Absences:
    """Return no absences, of any number."""
    return Absences(0)


def test_order(absences: Absences) -> None:
    """What waits is kept in order."""
    absence = Absence("ab", absences)
    signals = [signal(1, "a"), signal(2, "b"), signal(3, "a")]
    assert all(absence.hold(each) for each in signals)
    assert absence.signals == signals


def test_number(absences: Absences) -> None:
    """So many signals may wait for one peer, and no more."""
    absence = Absence("a", absences)
    assert all(absence.hold(signal()) for _ in range(MAX_SIGNALS))
    assert not absence.hold(signal())
    assert len(absence.signals) == MAX_SIGNALS


def test_bytes(absences: Absences) -> None:
    """So many bytes may wait for one peer; what does not fit changes nothing."""
    absence = Absence("a", absences)
    assert absence.hold(signal(MAX_BYTES - 2 * OVERHEAD - 1))
    assert not absence.hold(signal(2))
    assert absence.hold(signal(1))
    assert not absence.hold(signal(0))
    assert absences.size == MAX_BYTES


def test_bytes_of_all(absences: Absences, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many bytes may wait for all peers together; what has been delivered makes room."""
    monkeypatch.setattr(module, "MAX_BYTES_OF_ALL", 1000 + OVERHEAD)
    one, other = Absence("a", absences), Absence("a", absences)
    assert one.hold(signal(1000))
    assert not other.hold(signal(1))
    one.end("resumed")
    assert other.hold(signal(1000))


def test_forget(absences: Absences) -> None:
    """What a peer has sent goes with it, and makes room."""
    absence = Absence("ab", absences)
    absence.hold(signal(5, "a"))
    absence.hold(signal(7, "b"))
    absence.forget("a")
    assert absence.known == {"b"}
    assert absence.signals == [signal(7, "b")]
    assert absences.size == 7 + OVERHEAD


def test_end(absences: Absences) -> None:
    """An absence that is over counts no more."""
    absence = Absence("a", absences)
    absence.hold(signal(5))
    assert absences.count == 1
    absence.end("gone")
    assert (absences.count, absences.size, absences.ends) == (0, 0, {"gone": 1})


@pytest.mark.parametrize(("most", "full"), [(0, False), (1, True), (2, False)])
def test_full(most: int, full: bool) -> None:
    """Only so many peers may be absent at once; 0 means any number."""
    absences = Absences(most)
    Absence("a", absences)
    assert absences.full is full


def test_copy(absences: Absences) -> None:
    """What waits does not keep the message alive that it came in."""
    message = decode(b'{"type":"signal","to":"b","signal":1,"more":"%b"}' % (b"x" * 60_000))
    absence = Absence("a", absences)
    absence.hold(SignalFrom(from_="a", signal=message.signal))
    assert len(memoryview(absence.signals[0].signal).obj) < 100
