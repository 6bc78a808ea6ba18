"""Peers that count what they receive: whatever was on the way when their connection broke, they are told again."""

from __future__ import annotations

from typing import Any

import pytest
from opennoodl_signaling.rooms.model import Client

from ..peers import named
from ..rooms_driver import Messages, RoomsDriver, came, token_of


@pytest.fixture
def driver(other: Client, old: Client) -> RoomsDriver:
    """Return a room with another peer and x, which can resume and counts."""
    driver = RoomsDriver()
    driver.join(other)
    driver.join(old, peer_id="x", user="X", resume=True, received=0)
    return driver


def back(driver: RoomsDriver, client: Client, received: int | None, holder: Client) -> Messages:
    """Join as x with the token of the connection that holds the place."""
    fields: dict[str, Any] = {"resume_token": token_of(holder), "received": received}
    return driver.join(client, peer_id="x", user="X", **fields)


def heard(told: Messages) -> list[Any]:
    """Return what the newcomer was told, in short: who it knows, who is new, and signals."""
    short: list[Any] = []
    for name, message in told:
        if name == "new" and not isinstance(message, int):
            peers = [peer["peerId"] for peer in message.get("peers", [])]
            short.append(message.get("signal") or message.get("peerId") if message["type"] != "joined" else peers)
    return short


@pytest.fixture(params=["lost", "half-open"])
def breaks(request: pytest.FixtureRequest, driver: RoomsDriver, old: Client) -> Any:
    """Break x's connection, in a way that the server has noticed or not."""
    return (lambda: driver.lose(old)) if request.param == "lost" else lambda: None


@pytest.mark.parametrize("case", [(0, [1, 2, 3]), (2, [3]), (3, []), (99, []), (None, [])])
def test_only_lost_signals_are_sent_again(
    driver: RoomsDriver, old: Client, other: Client, breaks: Any, case: tuple[int | None, list[int]]
) -> None:
    """Signals that have not arrived are sent again, and no others; without a count, none is."""
    for signal in "123":
        driver.signal(other, "x", signal)
    breaks()
    received, again = case
    assert heard(back(driver, named("new"), received, old)) == [["other"], *again]


def test_lost_signals_precede_waiting_ones(driver: RoomsDriver, old: Client, new: Client, other: Client) -> None:
    """Lost signals precede those that have waited since."""
    driver.signal(other, "x", "1")
    driver.signal(other, "x", "2")
    driver.lose(old)
    driver.signal(other, "x", "3")
    assert heard(back(driver, new, 1, old)) == [["other"], 2, 3]


@pytest.mark.parametrize(("received", "told"), [(0, [["other"], "late", 1]), (1, [["other", "late"], 1])])
def test_unreported_arrival_is_announced_before_its_signals(
    driver: RoomsDriver, old: Client, breaks: Any, received: int, told: list[Any]
) -> None:
    """A peer whose arrival was lost is announced, before its signals."""
    late = named("late")
    driver.join(late)
    driver.signal(late, "x", "1")
    breaks()
    assert heard(back(driver, named("new"), received, old)) == told


@pytest.mark.parametrize("received", [0, 1, 2])
def test_peer_whose_leaving_was_lost_is_not_listed(
    driver: RoomsDriver, old: Client, other: Client, breaks: Any, received: int
) -> None:
    """A peer whose leaving was lost is not listed, and its signals are dropped."""
    driver.signal(other, "x", "1")
    driver.perform(driver.rooms.leave(other))
    breaks()
    assert heard(back(driver, named("new"), received, old)) == [[]]


def test_lost_signals_of_a_peer_that_left_are_dropped(
    driver: RoomsDriver, old: Client, new: Client, other: Client
) -> None:
    """Lost signals of a peer that left are dropped, also if another peer uses its id."""
    driver.signal(other, "x", "1")
    driver.lose(old)
    driver.perform(driver.rooms.leave(other))
    driver.join(other)
    driver.signal(other, "x", "2")
    assert heard(back(driver, new, 0, old)) == [[], "other", 2]


def test_arrival_during_the_absence_is_announced(driver: RoomsDriver, old: Client, new: Client, other: Client) -> None:
    """A peer that joined during the absence is announced."""
    driver.signal(other, "x", "1")
    driver.lose(old)
    driver.join(named("late"))
    assert heard(back(driver, new, 0, old)) == [["other"], "late", 1]


def test_resent_signals_are_resent_when_lost_again(
    driver: RoomsDriver, old: Client, new: Client, other: Client
) -> None:
    """Resent signals count from the new `joined` on, and are sent again if they are lost again."""
    late = named("late")
    driver.join(late)
    driver.signal(other, "x", "1")
    driver.lose(old)
    driver.signal(late, "x", "2")
    assert heard(back(driver, new, 0, old)) == [["other"], "late", 1, 2]
    driver.lose(new)
    third = named("new")
    assert heard(back(driver, third, 2, new)) == [["other", "late"], 2]


def test_confirmed_messages_are_not_kept(driver: RoomsDriver, old: Client, new: Client, other: Client) -> None:
    """Confirmed messages are not kept."""
    assert old.resumption is not None
    driver.signal(other, "x", "1")
    old.resumption.confirm(old.resumption.mark())
    assert driver.rooms.logs.size == 0
    driver.signal(other, "x", "2")
    assert heard(back(driver, new, 1, old)) == [["other"], 2]


def test_every_join_restarts_the_count(driver: RoomsDriver, old: Client, new: Client, other: Client) -> None:
    """The count begins anew with every `joined`."""
    driver.signal(other, "x", "1")
    driver.join(old, peer_id="x", user="X", resume=True, received=0)
    driver.signal(other, "x", "2")
    assert heard(back(driver, new, 0, old)) == [["other"], 2]


@pytest.mark.parametrize("fields", [{}, {"resume": True}, {"received": 0}])
def test_nothing_is_kept_without_resume_and_count(driver: RoomsDriver, fields: dict[str, Any]) -> None:
    """Nothing is kept for a peer that did not ask both to resume and to count."""
    plain = named("plain")
    driver.join(plain, **fields)
    assert plain.resumption is None or plain.resumption.log is None


def test_nothing_is_kept_without_a_grace() -> None:
    """Where no places are kept, nothing else is."""
    driver, client = RoomsDriver(max_absent=None), named("x")
    driver.join(client, resume=True, received=0)
    assert client.resumption is None


def test_replacement_without_the_token_gets_no_signals(
    driver: RoomsDriver, old: Client, new: Client, other: Client
) -> None:
    """A replacement without the token gets no signals of the peer before it."""
    driver.signal(other, "x", "1")
    driver.lose(old)
    assert heard(driver.join(new, peer_id="x", user="X", received=0)) == [["other"]]
    assert driver.rooms.logs.size == 0


@pytest.mark.parametrize("how", ["leave", "forget", "give_up", "move", "resume"])
def test_log_ends_with_its_peer(driver: RoomsDriver, old: Client, new: Client, other: Client, how: str) -> None:
    """Nothing is left of a log whose peer has left or is another connection's."""
    driver.signal(other, "x", "1")
    if how == "give_up":
        driver.lose(old)
        driver.give_up(old)
    elif how == "move":
        driver.join(old, "s", resume=True)
    elif how == "resume":
        back(driver, new, 1, old)
    else:
        driver.perform(getattr(driver.rooms, how)(old))
    assert old.resumption is None or old.resumption.log is None
    assert driver.rooms.logs.size == 0


def test_others_are_told_nothing(driver: RoomsDriver, old: Client, new: Client, other: Client) -> None:
    """The others see nothing of it."""
    driver.signal(other, "x", "1")
    driver.lose(old)
    assert {name for name, _ in back(driver, new, 0, old)} == {"new"}
    assert driver.join(named("late"))[1:] == [came("other", "late"), came("new", "late")]
