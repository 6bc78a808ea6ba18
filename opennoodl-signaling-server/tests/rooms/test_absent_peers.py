"""AbsentPeers: what waits for a lost peer, and how much of it."""

from __future__ import annotations

import pytest
from msgspec import Raw
from opennoodl_signaling.messages import SignalFrom, decode
from opennoodl_signaling.rooms import absent_peers as module
from opennoodl_signaling.rooms.absent_peers import MAX_BYTES, MAX_SIGNALS, OVERHEAD, AbsentPeer, AbsentPeers


def signal(size: int = 1, sender: str = "a") -> SignalFrom:
    """Return a signal of so many bytes."""
    return SignalFrom(from_=sender, signal=Raw(b"1" * size))


@pytest.fixture
def absent_peers() -> AbsentPeers:
    """Return no absent peers; there may be any number."""
    return AbsentPeers(0)


def test_waiting_signals_keep_their_order(absent_peers: AbsentPeers) -> None:
    """Waiting signals keep their order."""
    absent = AbsentPeer("ab", absent_peers)
    signals = [signal(1, "a"), signal(2, "b"), signal(3, "a")]
    assert all(absent.queue(each) for each in signals)
    assert absent.signals == signals


def test_number_of_waiting_signals_is_bounded(absent_peers: AbsentPeers) -> None:
    """So many signals may wait for one peer, and no more."""
    absent = AbsentPeer("a", absent_peers)
    assert all(absent.queue(signal()) for _ in range(MAX_SIGNALS))
    assert not absent.queue(signal())
    assert len(absent.signals) == MAX_SIGNALS


def test_bytes_waiting_for_one_peer_are_bounded(absent_peers: AbsentPeers) -> None:
    """So many bytes may wait for one peer; what does not fit changes nothing."""
    absent = AbsentPeer("a", absent_peers)
    assert absent.queue(signal(MAX_BYTES - 2 * OVERHEAD - 1))
    assert not absent.queue(signal(2))
    assert absent.queue(signal(1))
    assert not absent.queue(signal(0))
    assert absent_peers.size == MAX_BYTES


def test_bytes_waiting_for_all_peers_are_bounded(absent_peers: AbsentPeers, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many bytes may wait for all peers together; what has been delivered makes room."""
    monkeypatch.setattr(module, "MAX_BYTES_OF_ALL", 1000 + OVERHEAD)
    one, other = AbsentPeer("a", absent_peers), AbsentPeer("a", absent_peers)
    assert one.queue(signal(1000))
    assert not other.queue(signal(1))
    one.end("resumed")
    assert other.queue(signal(1000))


def test_signals_of_a_forgotten_sender_make_room(absent_peers: AbsentPeers) -> None:
    """The signals of a peer are dropped with it, and make room."""
    absent = AbsentPeer("ab", absent_peers)
    absent.queue(signal(5, "a"))
    absent.queue(signal(7, "b"))
    absent.forget("a")
    assert absent.known == {"b"}
    assert absent.signals == [signal(7, "b")]
    assert absent_peers.size == 7 + OVERHEAD


def test_ended_absence_is_not_counted(absent_peers: AbsentPeers) -> None:
    """An absent that is over counts no more."""
    absent = AbsentPeer("a", absent_peers)
    absent.queue(signal(5))
    assert absent_peers.count == 1
    absent.end("gone")
    assert (absent_peers.count, absent_peers.size, +absent_peers.ends) == (0, 0, {"gone": 1})


@pytest.mark.parametrize(("most", "full"), [(0, False), (1, True), (2, False)])
def test_number_of_absent_peers_is_bounded(most: int, full: bool) -> None:
    """Only so many peers may be absent at once; 0 means any number."""
    absent_peers = AbsentPeers(most)
    AbsentPeer("a", absent_peers)
    assert absent_peers.full is full


def test_waiting_signal_is_a_copy(absent_peers: AbsentPeers) -> None:
    """A waiting signal does not keep its message in memory."""
    message = decode(b'{"type":"signal","to":"b","signal":1,"more":"%b"}' % (b"x" * 60_000))
    absent = AbsentPeer("a", absent_peers)
    absent.queue(SignalFrom(from_="a", signal=message.signal))
    assert len(memoryview(absent.signals[0].signal).obj) < 100
