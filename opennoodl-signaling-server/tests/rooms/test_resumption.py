"""Resumptions: which tokens take a peer's place, and what is known to have arrived."""

from __future__ import annotations

import pytest
from msgspec import Raw
from opennoodl_signaling.messages import SignalFrom
from opennoodl_signaling.rooms.resumption import Former, Resumption
from opennoodl_signaling.rooms.unacknowledged import DeliveryLog, DeliveryLogs


def signal(text: str) -> SignalFrom:
    """Return a signal of peer a."""
    return SignalFrom(from_="a", signal=Raw(text.encode()))


@pytest.fixture
def logs() -> DeliveryLogs:
    """Return no logs."""
    return DeliveryLogs()


@pytest.fixture
def counting(logs: DeliveryLogs) -> Resumption:
    """Return the resumption of a peer that counts and knows peer a."""
    return Resumption(DeliveryLog("a", logs))


@pytest.fixture
def resumed(logs: DeliveryLogs) -> Resumption:
    """Return the resumption of a peer that knows peer a, does not count, and has resumed with the token `old`."""
    return Resumption(None, Former("old", DeliveryLog("a", logs), counted=False))


def missed(resumption: Resumption, token: str | None = None, received: int = 0) -> list[SignalFrom] | None:
    """Return the signals that a peer is sent which shows a token, by default the last one."""
    missed = resumption.missed(token or resumption.token, received, None)
    return None if missed is None else list(missed[1])


def test_returned_mark_confirms_what_was_sent_before(counting: Resumption) -> None:
    """A mark that comes back says that what was told before it has arrived, and nothing of what was told after it."""
    counting.log_message(signal("1"))
    mark = counting.mark()
    counting.log_message(signal("2"))
    counting.confirm(mark)
    assert missed(counting) == [signal("2")]
    counting.confirm(counting.mark())
    assert missed(counting) == []


@pytest.mark.parametrize(
    "mark", [b"", b"x", b"%b", b"%b x", b"%b -1", "%b ²".encode(), b"\xff", b" 5", b"%b" + b"9" * 99]
)
def test_unknown_mark_confirms_nothing(counting: Resumption, mark: bytes) -> None:
    """An unknown mark confirms nothing."""
    name = counting.mark().split()[0]
    counting.log_message(signal("1"))
    counting.confirm(mark.replace(b"%b", name))
    assert missed(counting) == [signal("1")]


def test_mark_of_an_earlier_join_confirms_nothing(counting: Resumption, logs: DeliveryLogs) -> None:
    """A mark of an earlier `joined` says nothing."""
    counting.log_message(signal("1"))
    later = Resumption(DeliveryLog("a", logs))
    later.log_message(signal("2"))
    later.confirm(counting.mark())
    assert missed(later) == [signal("2")]


def test_ping_of_a_peer_without_a_log_confirms_nothing(resumed: Resumption) -> None:
    """A ping says nothing to a peer of which nothing is kept."""
    assert Resumption(None).mark() == b""
    resumed.confirm(resumed.mark())
    assert resumed.mark() == b""


def test_former_token_resends_everything_since(resumed: Resumption) -> None:
    """With the former token, a peer is told all that came since; with the new one, nobody can tell what it missed."""
    assert resumed.accepts("old")
    assert resumed.accepts(resumed.token)
    resumed.log_message(signal("1"))
    assert missed(resumed, "old") == missed(resumed, "old", received=1) == [signal("1")]
    assert missed(resumed) is None


def test_former_token_is_void_once_the_newer_arrived(resumed: Resumption, logs: DeliveryLogs) -> None:
    """The former token is void once the newer `joined` is known to have arrived, and nothing is kept for it."""
    resumed.log_message(signal("1"))
    resumed.confirm(resumed.mark())
    assert not resumed.accepts("old")
    assert resumed.accepts(resumed.token)
    assert logs.size == 0


def test_nothing_is_kept_after_the_end(logs: DeliveryLogs) -> None:
    """Nothing is kept after the end."""
    both = Resumption(DeliveryLog("a", logs), Former("old", DeliveryLog("a", logs), counted=False))
    both.log_message(signal("1"))
    assert logs.size
    both.end()
    assert logs.size == 0


@pytest.mark.parametrize("token", [None, "old", "x"])
def test_one_token_stays_valid_after_another_join(logs: DeliveryLogs, token: str | None) -> None:
    """After another `joined` on the same connection, one token stays good: the one that was shown, or the last one."""
    both = Resumption(DeliveryLog("a", logs), Former("old", DeliveryLog("a", logs), counted=False))
    both.log_message(signal("1"))
    kept = both.hand_over(token, "a", logs)
    assert kept.token == ("old" if token == "old" else both.token)
    assert kept.counted is (token != "old")
    assert kept.log.missed() == ({"a"}, [signal("1")])
    kept.log.end()
    assert logs.size == 0


def test_hand_over_without_count(logs: DeliveryLogs) -> None:
    """For a peer that does not count, what it is told from then on is kept."""
    kept = Resumption(None).hand_over(None, "a", logs)
    kept.log.add(signal("1"))
    assert kept.log.missed() == ({"a"}, [signal("1")])
    assert not kept.counted
