"""Trails: what a peer was told and may not have received, and how much of it is kept."""

from __future__ import annotations

import pytest
from msgspec import Raw
from opennoodl_signaling import trail as module
from opennoodl_signaling.absence import OVERHEAD
from opennoodl_signaling.messages import PeerJoined, PeerLeft, SignalFrom, decode
from opennoodl_signaling.trail import MAX_BYTES, MAX_MESSAGES, Trail, Trails


def signal(text: str = "1", sender: str = "a") -> SignalFrom:
    """Return a signal."""
    return SignalFrom(from_=sender, signal=Raw(text.encode()))


def came(peer: str) -> PeerJoined:
    """Return the news that a peer has come."""
    return PeerJoined(peer, peer.upper(), Raw(b"{}"))


@pytest.fixture
def trails() -> Trails:
    """Return no trails."""
    return Trails()


@pytest.fixture
def trail(trails: Trails) -> Trail:
    """Return the trail of a peer that knows a and b."""
    return Trail("ab", trails)


def test_nothing_has_arrived(trail: Trail) -> None:
    """Whoever has received nothing has missed all, in order."""
    told = [signal("1", "a"), signal("2", "b"), signal("3", "a")]
    for each in told:
        trail.add(each)
    assert trail.missed() == ({"a", "b"}, told)


def test_some_has_arrived(trail: Trail) -> None:
    """What has arrived is not missed; that less has arrived than was known is no news."""
    for text in "123":
        trail.add(signal(text))
    trail.arrived(2)
    trail.arrived(1)
    assert trail.missed() == ({"a", "b"}, [signal("3")])


def test_more_than_was_told(trail: Trail) -> None:
    """Whoever says that it has received more than it was told has missed nothing, and the next message counts."""
    trail.add(signal("1"))
    trail.arrived(1000)
    assert trail.missed() == ({"a", "b"}, [])
    trail.add(signal("2"))
    assert trail.missed() == ({"a", "b"}, [signal("2")])


def test_came(trail: Trail) -> None:
    """A peer is known once its coming has arrived."""
    trail.add(came("c"))
    trail.add(signal("1", "c"))
    assert trail.missed() == ({"a", "b"}, [signal("1", "c")])
    trail.arrived(1)
    assert trail.missed() == ({"a", "b", "c"}, [signal("1", "c")])


@pytest.mark.parametrize("arrived", [0, 1, 2])
def test_left(trail: Trail, arrived: int) -> None:
    """A peer that has left is known no more, whether that has arrived or not, and what it sent is dropped."""
    trail.add(signal("1", "a"))
    trail.add(PeerLeft("a"))
    trail.add(signal("2", "b"))
    trail.arrived(arrived)
    assert trail.missed() == ({"b"}, [signal("2", "b")])


@pytest.mark.parametrize(("arrived", "known"), [(0, False), (2, False), (3, True)])
def test_left_and_came(trail: Trail, arrived: int, known: bool) -> None:
    """Who has left and come again is another one: only what it sent since counts."""
    for told in (signal("1", "a"), PeerLeft("a"), came("a"), signal("2", "a")):
        trail.add(told)
    trail.arrived(arrived)
    peers, signals = trail.missed()
    assert ("a" in peers) is known
    assert signals == [signal("2", "a")]


def test_number(trail: Trail, trails: Trails) -> None:
    """So many messages are kept; then the oldest one is taken to have arrived."""
    for number in range(MAX_MESSAGES + 1):
        trail.add(signal(str(number)))
    signals = trail.missed()[1]
    assert (signals[0], len(signals)) == (signal("1"), MAX_MESSAGES)
    assert trails.size == sum(OVERHEAD + len(each.signal) for each in signals)


def test_bytes(trail: Trail, trails: Trails) -> None:
    """So many bytes are kept; what is larger by itself is not kept at all."""
    trail.add(signal("1" * (MAX_BYTES - 2 * OVERHEAD - 1)))
    trail.add(signal("2"))
    assert (len(trail.missed()[1]), trails.size) == (2, MAX_BYTES)
    trail.add(signal("3"))
    assert trail.missed()[1] == [signal("2"), signal("3")]
    trail.add(signal("4" * MAX_BYTES))
    assert (trail.missed()[1], trails.size) == ([], 0)


def test_bytes_of_all(trail: Trail, trails: Trails, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many bytes are kept for all; a trail makes room by what it has, and one that is over makes room for others."""
    monkeypatch.setattr(module, "MAX_BYTES_OF_ALL", 2 * (OVERHEAD + 1))
    other = Trail("ab", trails)
    trail.add(signal("1"))
    trail.add(signal("2"))
    other.add(signal("3"))
    trail.add(signal("4"))
    assert (trail.missed()[1], other.missed()[1]) == ([signal("2"), signal("4")], [])
    trail.end()
    assert trails.size == 0
    other.add(signal("5"))
    assert other.missed()[1] == [signal("5")]


def test_copy(trail: Trail) -> None:
    """What is kept does not keep the message alive that it came in."""
    message = decode(b'{"type":"signal","to":"b","signal":1,"more":"%b"}' % (b"x" * 60_000))
    trail.add(SignalFrom(from_="a", signal=message.signal))
    assert len(memoryview(trail.missed()[1][0].signal).obj) < 100
