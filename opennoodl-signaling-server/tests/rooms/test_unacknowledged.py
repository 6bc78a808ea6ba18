"""DeliveryLogs: what a peer was told and may not have received, and how much of it is kept."""

from __future__ import annotations

import pytest
from msgspec import Raw
from opennoodl_signaling.messages import PeerJoined, PeerLeft, SignalFrom, decode
from opennoodl_signaling.rooms import unacknowledged as module
from opennoodl_signaling.rooms.absent_peers import OVERHEAD
from opennoodl_signaling.rooms.unacknowledged import MAX_BYTES, MAX_MESSAGES, DeliveryLog, DeliveryLogs


def signal(text: str = "1", sender: str = "a") -> SignalFrom:
    """Return a signal."""
    return SignalFrom(from_=sender, signal=Raw(text.encode()))


def came(peer: str) -> PeerJoined:
    """Return the news that a peer has come."""
    return PeerJoined(peer, peer.upper(), Raw(b"{}"))


@pytest.fixture
def logs() -> DeliveryLogs:
    """Return no logs."""
    return DeliveryLogs()


@pytest.fixture
def log(logs: DeliveryLogs) -> DeliveryLog:
    """Return the log of a peer that knows a and b."""
    return DeliveryLog("ab", logs)


def test_client_without_messages_missed_all(log: DeliveryLog) -> None:
    """A client that has received nothing has missed everything, in order."""
    told = [signal("1", "a"), signal("2", "b"), signal("3", "a")]
    for each in told:
        log.add(each)
    assert log.missed() == ({"a", "b"}, told)


def test_arrived_messages_are_not_missed(log: DeliveryLog) -> None:
    """Messages that arrived are not missed; a lower count than a known one changes nothing."""
    for text in "123":
        log.add(signal(text))
    log.arrived(2)
    log.arrived(1)
    assert log.missed() == ({"a", "b"}, [signal("3")])


def test_more_than_was_told(log: DeliveryLog) -> None:
    """A client that counts more messages than it was sent has missed nothing, and the next message counts."""
    log.add(signal("1"))
    log.arrived(1000)
    assert log.missed() == ({"a", "b"}, [])
    log.add(signal("2"))
    assert log.missed() == ({"a", "b"}, [signal("2")])


def test_arrived_peer_is_known(log: DeliveryLog) -> None:
    """A peer is known once its coming has arrived."""
    log.add(came("c"))
    log.add(signal("1", "c"))
    assert log.missed() == ({"a", "b"}, [signal("1", "c")])
    log.arrived(1)
    assert log.missed() == ({"a", "b", "c"}, [signal("1", "c")])


@pytest.mark.parametrize("arrived", [0, 1, 2])
def test_departed_peer_is_not_known(log: DeliveryLog, arrived: int) -> None:
    """A peer that has left is known no more, whether that has arrived or not, and what it sent is dropped."""
    log.add(signal("1", "a"))
    log.add(PeerLeft("a"))
    log.add(signal("2", "b"))
    log.arrived(arrived)
    assert log.missed() == ({"b"}, [signal("2", "b")])


@pytest.mark.parametrize(("arrived", "known"), [(0, False), (2, False), (3, True)])
def test_returned_peer_is_another_peer(log: DeliveryLog, arrived: int, known: bool) -> None:
    """A peer that left and joined again is a new one: only its later messages count."""
    for told in (signal("1", "a"), PeerLeft("a"), came("a"), signal("2", "a")):
        log.add(told)
    log.arrived(arrived)
    peers, signals = log.missed()
    assert ("a" in peers) is known
    assert signals == [signal("2", "a")]


def test_number_of_kept_messages_is_bounded(log: DeliveryLog, logs: DeliveryLogs) -> None:
    """So many messages are kept; then the oldest one is taken to have arrived."""
    for number in range(MAX_MESSAGES + 1):
        log.add(signal(str(number)))
    signals = log.missed()[1]
    assert (signals[0], len(signals)) == (signal("1"), MAX_MESSAGES)
    assert logs.size == sum(OVERHEAD + len(each.signal) for each in signals)


def test_kept_bytes_are_bounded(log: DeliveryLog, logs: DeliveryLogs) -> None:
    """So many bytes are kept; what is larger by itself is not kept at all."""
    log.add(signal("1" * (MAX_BYTES - 2 * OVERHEAD - 1)))
    log.add(signal("2"))
    assert (len(log.missed()[1]), logs.size) == (2, MAX_BYTES)
    log.add(signal("3"))
    assert log.missed()[1] == [signal("2"), signal("3")]
    log.add(signal("4" * MAX_BYTES))
    assert (log.missed()[1], logs.size) == ([], 0)


def test_kept_bytes_of_all_clients_are_bounded(
    log: DeliveryLog, logs: DeliveryLogs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So many bytes are kept for all; a log makes room by what it has, and one that is over makes room for others."""
    monkeypatch.setattr(module, "MAX_BYTES_OF_ALL", 2 * (OVERHEAD + 1))
    other = DeliveryLog("ab", logs)
    log.add(signal("1"))
    log.add(signal("2"))
    other.add(signal("3"))
    log.add(signal("4"))
    assert (log.missed()[1], other.missed()[1]) == ([signal("2"), signal("4")], [])
    log.end()
    assert logs.size == 0
    other.add(signal("5"))
    assert other.missed()[1] == [signal("5")]


def test_kept_message_is_a_copy(log: DeliveryLog) -> None:
    """A kept message does not keep the frame in memory that it came in."""
    message = decode(b'{"type":"signal","to":"b","signal":1,"more":"%b"}' % (b"x" * 60_000))
    log.add(SignalFrom(from_="a", signal=message.signal))
    assert len(memoryview(log.missed()[1][0].signal).obj) < 100
