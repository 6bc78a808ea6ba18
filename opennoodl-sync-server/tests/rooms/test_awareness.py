"""Awareness: the rules of y-protocols, the bounds, and no ghosts."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opennoodl_sync.rooms import awareness as module
from opennoodl_sync.rooms.awareness import (
    MAX_ENDED,
    MAX_ENTRIES,
    MAX_LOST_SIZE,
    MAX_SIZE,
    MAX_STATES,
    MAX_STEP,
    Awareness,
)
from opennoodl_sync.yjs.lib0 import MalformedError

from ..wire import Entry
from ..wire import decode_awareness as decode
from ..wire import encode_awareness as encode

ANN, BOB = object(), object()


def with_states(*entries: Entry) -> Awareness:
    """Return an awareness to which Ann brought the entries."""
    awareness = Awareness()
    awareness.apply(encode(*entries), ANN)
    return awareness


def test_nobody_is_here_at_first() -> None:
    """An empty room has no states, and says so in a valid update."""
    awareness = Awareness()
    assert len(awareness) == 0
    assert decode(awareness.encode()) == []


def test_a_state_is_passed_on_as_it_came() -> None:
    """States are not re-encoded: what one client wrote the others read, byte for byte."""
    raw = '{"user": {"name": "Zoë 🎉"} , "n":1.50}'.encode()
    awareness = Awareness()
    assert awareness.apply(encode((7, 1, raw)), ANN) == [7]
    assert awareness.encode() == encode((7, 1, raw))


def test_only_those_asked_for_are_encoded() -> None:
    """An update can tell of some clients only."""
    awareness = with_states((1, 1, {"a": 1}), (2, 1, {"b": 1}), (3, 1, {"c": 1}))
    assert decode(awareness.encode([3, 1])) == [(1, 1, {"a": 1}), (3, 1, {"c": 1})]


@pytest.mark.parametrize(
    ("clock", "state", "taken"),
    [
        pytest.param(6, {"new": 1}, True, id="higher clock"),
        pytest.param(5, {"new": 1}, False, id="same clock"),
        pytest.param(4, {"new": 1}, False, id="lower clock"),
        pytest.param(6, None, True, id="null with a higher clock"),
        pytest.param(5, None, True, id="null with the same clock"),
        pytest.param(4, None, False, id="null with a lower clock"),
    ],
)
def test_the_clock_decides(clock: int, state: object, taken: bool) -> None:
    """A higher clock replaces, and null ends with the same clock already."""
    awareness = with_states((7, 5, {"old": 1}))
    assert awareness.apply(encode((7, clock, state)), BOB) == ([7] if taken else [])
    expected = [(7, 5, {"old": 1})] if not taken else [] if state is None else [(7, clock, state)]
    assert decode(awareness.encode()) == expected


def test_the_end_of_a_state_is_told() -> None:
    """The end of a state is sent as null with its last clock, which other clients accept."""
    awareness = with_states((7, 5, {}))
    awareness.apply(encode((7, 6, None)), ANN)
    assert decode(awareness.encode([7])) == [(7, 6, None)]


def test_states_end_with_the_connection_that_brought_them() -> None:
    """All states of a connection end, its own and those of others that it spoke for, and nobody else's."""
    awareness = with_states((1, 3, {}), (2, 4, {}))
    awareness.apply(encode((3, 1, {})), BOB)
    assert sorted(awareness.remove(ANN)) == [1, 2]
    assert decode(awareness.encode()) == [(3, 1, {})]
    assert decode(awareness.encode([1, 2])) == [(1, 3, None), (2, 4, None)]


def test_a_connection_that_brought_nothing_ends_nothing() -> None:
    """A connection without states, or whose states have ended already, leaves without news."""
    awareness = with_states((1, 3, {}))
    awareness.apply(encode((1, 4, None)), ANN)
    assert awareness.remove(ANN) == []
    assert awareness.remove(BOB) == []


def test_a_state_belongs_to_the_newest_connection_that_brought_news_of_it() -> None:
    """When a client reconnects before its old connection ends, that end does not remove it."""
    awareness = with_states((7, 1, {}))
    awareness.apply(encode((7, 2, {"again": True})), BOB)
    assert awareness.remove(ANN) == []
    assert decode(awareness.encode()) == [(7, 2, {"again": True})]
    assert awareness.remove(BOB) == [7]


def test_an_old_state_does_not_change_hands() -> None:
    """Repeating what is known already does not make a connection the owner of it."""
    awareness = with_states((7, 2, {}))
    awareness.apply(encode((7, 2, {})), BOB)
    assert awareness.remove(BOB) == []
    assert awareness.remove(ANN) == [7]


@pytest.mark.parametrize("clock", [4, 5])
def test_a_late_echo_brings_no_ghost_back(clock: int) -> None:
    """A late repetition by another tab does not bring the state of a departed client back."""
    awareness = with_states((7, 5, {}))
    awareness.remove(ANN)
    assert awareness.apply(encode((7, clock, {})), BOB) == []
    assert len(awareness) == 0


def test_a_client_that_left_may_come_back() -> None:
    """A client that comes back counts on from its last clock and is here again."""
    awareness = with_states((7, 5, {}))
    awareness.remove(ANN)
    assert awareness.apply(encode((7, 6, {})), BOB) == [7]
    assert decode(awareness.encode()) == [(7, 6, {})]


def test_an_end_that_is_heard_twice_still_counts() -> None:
    """The highest clock with which a client has ended is remembered, also when it had ended before."""
    awareness = with_states((7, 5, {}))
    awareness.remove(ANN)
    awareness.apply(encode((7, 7, None)), BOB)
    awareness.apply(encode((7, 6, {})), BOB)
    assert len(awareness) == 0


def test_the_end_of_somebody_unknown_is_no_news() -> None:
    """A null for a client that was never here changes nothing."""
    awareness = Awareness()
    assert awareness.apply(encode((7, 5, None)), ANN) == []
    assert awareness.remove(ANN) == []


def test_a_state_as_large_as_allowed_is_taken() -> None:
    """The largest state is taken, and larger ones by others beside it."""
    raw = b'"' + b"x" * (MAX_SIZE - 2) + b'"'
    assert with_states((7, 1, raw)).encode() == encode((7, 1, raw))


def test_as_many_states_as_allowed_are_taken() -> None:
    """One connection may bring `MAX_STATES`, and others may bring theirs beside them."""
    awareness = with_states(*((client, 1, {}) for client in range(MAX_STATES)))
    awareness.apply(encode((MAX_STATES, 1, {})), BOB)
    assert len(awareness) == MAX_STATES + 1


def test_ended_states_make_room() -> None:
    """Only states that are here count towards the bound."""
    awareness = with_states(*((client, 1, {}) for client in range(MAX_STATES)))
    awareness.apply(encode((0, 2, None)), ANN)
    assert awareness.apply(encode((1000, 1, {})), ANN) == [1000]


TOO_MUCH: dict[str, Iterable[Entry]] = {
    "not JSON": [(7, 1, b"{")],
    "empty": [(7, 1, b"")],
    "undefined": [(7, 1, b"undefined")],
    "NaN": [(7, 1, b"NaN")],
    "trailing comma": [(7, 1, b'{"a":1,}')],
    "two values": [(7, 1, b"1 2")],
    "not UTF-8": [(7, 1, b'"\xff"')],
    "half a surrogate pair in UTF-8": [(7, 1, b'"\xed\xa0\x80"')],
    "nested without end": [(7, 1, b"[" * 30_000)],
    "too large": [(7, 1, b'"' + b"x" * MAX_SIZE + b'"')],
    "too large together": [(client, 1, "x" * 30_000) for client in (7, 8, 9)],
    "too large together, of one client": [(7, clock, "x" * 30_000) for clock in (1, 2, 3)],
    "too large in place of another": [(1, 3, "x" * MAX_SIZE)],
    "too many entries": [(client, 1, None) for client in range(MAX_ENTRIES)],
    "too many": [(client, 1, {}) for client in range(100, 101 + MAX_STATES)],
}


@pytest.mark.parametrize("entries", TOO_MUCH.values(), ids=TOO_MUCH.keys())
def test_invalid_states_refuse_the_whole_message(entries: Iterable[Entry]) -> None:
    """A state that is not JSON, or more than one connection may bring, changes nothing, valid states before it too."""
    awareness = with_states((1, 1, {"old": 1}))
    with pytest.raises(MalformedError):
        awareness.apply(encode((1, 2, {"new": 1}), (2, 1, {}), *entries), BOB)
    assert decode(awareness.encode()) == [(1, 1, {"old": 1})]
    assert awareness.remove(BOB) == []


@pytest.mark.parametrize("name", [name for name in TOO_MUCH if name.startswith("too")])
def test_message_beyond_the_bounds_is_not_parsed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bounds come first: a message of 16 MB took 0.8 s and 400 MB to be read as JSON, before it was refused."""
    monkeypatch.setattr(module, "parse_json", None)
    with pytest.raises(MalformedError):
        Awareness().apply(encode((1, 2, {"new": 1}), (2, 1, {}), *TOO_MUCH[name]), BOB)


def test_an_update_that_ends_early_is_refused_as_a_whole() -> None:
    """Wherever an update is cut, nothing of it is taken."""
    update = encode((1, 2, {"new": 1}), (2, 300, {"x": "y"}))
    for length in range(len(update)):
        awareness = with_states((1, 1, {"old": 1}))
        with pytest.raises(MalformedError):
            awareness.apply(update[:length], BOB)
        assert decode(awareness.encode()) == [(1, 1, {"old": 1})]


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b'{"name":"\\ud83d"}', id="half a surrogate pair, escaped as JSON.stringify does"),
        pytest.param(b"[" * 100 + b"]" * 100, id="nested a hundred times"),
        pytest.param(b'{"n":1e-7,"m":1.7976931348623157e+308}', id="any double"),
        pytest.param(b'"text"', id="a text"),
        pytest.param(b"0", id="a number"),
    ],
)
def test_any_state_of_json_stringify_is_accepted(raw: bytes) -> None:
    """Every state that a JavaScript client can have is passed on."""
    assert with_states((7, 1, raw)).encode() == encode((7, 1, raw))


def test_many_that_have_ended_are_still_told_of() -> None:
    """However many connections end at once, each client's end is told with the clock it ended with."""
    awareness = Awareness()
    owners = [object() for _ in range(MAX_ENDED // MAX_STATES + 1)]
    for number, owner in enumerate(owners):
        entries: list[Entry] = [(number * MAX_STATES + client, 3, {}) for client in range(MAX_STATES)]
        awareness.apply(encode(*entries), owner)
    awareness.encode_changes()
    for owner in owners:
        awareness.remove(owner)
    awareness.apply(encode((9999, 1, {})), ANN)
    assert {clock for client, clock, _ in decode(awareness.encode_changes()) if client != 9999} == {3}


def test_changes_are_encoded_once() -> None:
    """An update has the changes since the last call, and nothing else."""
    awareness = with_states((1, 1, {}), (2, 1, {}))
    awareness.encode_changes()
    assert not awareness.changed
    awareness.apply(encode((2, 2, {})), ANN)
    awareness.apply(encode((3, 1, {})), BOB)
    awareness.remove(BOB)
    assert decode(awareness.encode_changes()) == [(2, 2, {}), (3, 1, None)]
    assert not awareness.changed


def test_a_reader_ends_nobody_before_they_come() -> None:
    """A read-only user cannot end the states of others, not even in advance."""
    awareness = Awareness()
    assert awareness.apply(encode((1, 2**53 - 1, None)), "reader", reader="bob") == []
    assert awareness.apply(encode((1, 1, {})), "writer") == [1]
    assert awareness.apply(encode((1, 2, None)), "reader", reader="bob") == []


@pytest.mark.parametrize("former", [None, "ann"])
def test_a_reader_cannot_bring_the_state_of_an_absent_client(former: str | None) -> None:
    """A read-only user cannot bring the state of an absent client."""
    awareness = Awareness()
    awareness.apply(encode((1, 1, {})), ANN, reader=former)
    awareness.remove(ANN)
    assert awareness.apply(encode((1, 9, {})), BOB, reader="bob") == []
    assert awareness.apply(encode((1, 2, {})), "ann again", reader=former) == [1]


def test_a_reader_comes_back() -> None:
    """A read-only user brings its own state again on another connection."""
    awareness = Awareness()
    awareness.apply(encode((1, 1, {})), BOB, reader="bob")
    awareness.remove(BOB)
    assert awareness.apply(encode((1, 2, {})), "bob again", reader="bob") == [1]


def test_a_reader_cannot_bring_the_state_of_another_client() -> None:
    """A read-only user cannot bring the state of a client that is known as another user's."""
    awareness = Awareness()
    assert awareness.apply(encode((1, 1, {}), (2, 1, {})), BOB, reader="bob", writers={1: 5}) == [2]


def test_remembered_ended_clients_are_bounded() -> None:
    """Clients that come and go without end do not fill the memory: the oldest are forgotten."""
    awareness = Awareness()
    for client in range(MAX_ENDED + 1):
        awareness.apply(encode((client, 5, {})), ANN)
        awareness.remove(ANN)
        awareness.encode_changes()
    assert awareness.apply(encode((MAX_ENDED, 5, {})), ANN) == []
    assert awareness.apply(encode((0, 5, {})), ANN) == [0]


def test_repeated_states_of_others_are_not_counted() -> None:
    """y-websocket's client says again what it has heard, which may be more than it brings."""
    awareness = Awareness()
    entries: list[Entry] = [(owner * 10 + number, 1, "x" * 9000) for owner in range(9) for number in range(7)]
    for owner in range(9):
        awareness.apply(encode(*entries[owner * 7 : owner * 7 + 7]), owner)
    assert awareness.apply(encode(*entries, (1000, 1, {})), ANN) == [1000]


def test_memory_of_the_ended_is_bounded_without_more_news() -> None:
    """As soon as they were told of, no more are remembered than may be."""
    awareness = Awareness()
    for number in range(40):
        awareness.apply(encode(*((number * 60 + client, 1, {}) for client in range(60))), number)
    for number in range(40):
        awareness.remove(number)
    awareness.encode_changes()
    assert len(awareness._ended) == MAX_ENDED


@pytest.mark.parametrize("state", [None, {"eve": 1}], ids=["its end", "a state"])
@pytest.mark.parametrize("before", ["here", "ended", "unknown"])
def test_a_clock_that_is_far_ahead_is_ignored(before: str, state: object) -> None:
    """A client takes up the clock that others say it has, and would count on beyond what anybody can send."""
    awareness = Awareness() if before == "unknown" else with_states((7, 5, {"name": "ann"}))
    if before == "ended":
        awareness.remove(ANN)
    assert awareness.apply(encode((8, 1, {}), (7, MAX_STEP + 6, state)), BOB) == [8]
    assert awareness.apply(encode((7, 6, {"name": "ann"})), ANN) == [7]
    assert awareness.apply(encode((7, MAX_STEP, {"name": "ann, who was away for long"})), ANN) == [7]


# Lost connections, and clients that come back


@pytest.fixture
def lost() -> Awareness:
    """Return an awareness in which Ann's connection is lost, and Bob is there."""
    awareness = with_states((7, 5, {"name": "ann"}))
    awareness.apply(encode((8, 3, {"name": "bob"})), BOB)
    assert awareness.lose(ANN)
    return awareness


def renewals(awareness: Awareness) -> dict[object, list[Entry]]:
    """Return what owners are told to make them renew their states."""
    return {owner: decode(update) for owner, update in awareness.renewals()}


def test_states_of_a_lost_connection_stay(lost: Awareness) -> None:
    """The states of a lost connection are there until they are removed."""
    assert decode(lost.encode([7])) == [(7, 5, {"name": "ann"})]
    assert lost.remove(ANN) == [7]
    assert decode(lost.encode([7])) == [(7, 5, None)]


@pytest.mark.parametrize("clock", [5, 6])
def test_a_client_takes_its_lost_state_over(lost: Awareness, clock: int) -> None:
    """A state that its client brings again, in the first message of another connection, is that connection's."""
    assert lost.apply(encode((7, clock, {"name": "ann"})), "ann again") == ([7] if clock == 6 else [])
    assert lost.remove(ANN) == []
    assert lost.remove("ann again") == [7]


def test_others_do_not_take_a_lost_state_over(lost: Awareness) -> None:
    """Clients repeat what they hear of others, also one that has just come: that keeps no ghost."""
    lost.apply(encode((7, 5, {"name": "ann"})), BOB)
    lost.apply(encode((9, 1, {"name": "cleo"})), "cleo")
    lost.apply(encode((7, 5, {"name": "ann"})), "cleo")
    lost.apply(encode((7, 5, {"name": "ann"}), (8, 3, {"name": "bob"})), "dan, who shows no state")
    assert lost.remove(ANN) == [7]


def test_a_state_that_is_not_lost_is_not_taken_over(lost: Awareness) -> None:
    """The state of a client that is there stays its own."""
    lost.apply(encode((8, 3, {"name": "bob"})), "somebody")
    assert lost.remove(BOB) == [8]


def test_large_states_of_a_lost_connection_are_not_kept() -> None:
    """Connections that come and go without end leave little behind."""
    awareness = with_states((7, 1, "x" * (MAX_LOST_SIZE - 2)))
    assert awareness.lose(ANN)
    awareness.apply(encode((8, 1, "x"), (9, 1, "x" * MAX_LOST_SIZE)), BOB)
    assert not awareness.lose(BOB)
    assert not awareness.lose("somebody without a state")


@pytest.mark.parametrize(("reader", "taken"), [("ann", True), ("bob", False)])
def test_a_lost_reader_comes_back(reader: str, taken: bool) -> None:
    """A read-only user takes over the lost state of the same user, and of nobody else."""
    awareness = Awareness()
    awareness.apply(encode((7, 5, {})), ANN, reader="ann")
    awareness.lose(ANN)
    assert awareness.apply(encode((7, 6, {})), "again", reader=reader) == ([7] if taken else [])


@pytest.mark.parametrize("clock", [4, 5])
def test_a_client_whose_state_has_ended_renews_it(clock: int) -> None:
    """A client that comes back with a state that has ended is told so, which makes it count on, and is seen then."""
    awareness = with_states((7, 5, {}))
    awareness.remove(ANN)
    assert awareness.apply(encode((7, clock, {})), "ann again") == []
    assert awareness.stale
    assert renewals(awareness) == {"ann again": [(7, 5, None)]}
    assert not awareness.stale
    assert awareness.apply(encode((7, 6, {})), "ann again") == [7]


@pytest.mark.parametrize("clock", [5, 6])
@pytest.mark.parametrize("how", ["lost", "left"])
def test_others_renew_their_states_for_one_that_comes_back(lost: Awareness, how: str, clock: int) -> None:
    """A client that comes back ignores what it knew before, so the others are made to count on."""
    if how == "left":
        lost.remove(ANN)
    lost.apply(encode((7, clock, {})), "ann again")
    assert renewals(lost)[BOB] == [(8, 3, None)]


def test_others_do_not_renew_their_states_without_end(lost: Awareness) -> None:
    """However often clients come back, the others are asked once in a while; what they renewed is news to all."""
    for number in range(100):
        lost.apply(encode((7, 5, {})), number)
        lost.lose(number)
    assert renewals(lost)[BOB] == [(8, 3, None)]
    lost.apply(encode((7, 5, {})), "ann again")
    assert BOB not in renewals(lost)


def test_nobody_renews_for_one_that_is_new(lost: Awareness) -> None:
    """A client that was not here before sees everybody as it is."""
    lost.apply(encode((9, 1, {})), "cleo")
    assert not lost.stale


def test_a_connection_that_ended_renews_nothing(lost: Awareness) -> None:
    """A connection that ends before it is asked is forgotten."""
    lost.apply(encode((7, 5, {})), "ann again")
    lost.remove(BOB)
    lost.lose("ann again")
    assert renewals(lost) == {}


class Model:
    """y-protocols' `applyAwarenessUpdate` and `removeAwarenessStates`, as short as can be."""

    def __init__(self) -> None:
        self.clocks: dict[int, int] = {}
        self.states: dict[int, tuple[object, int]] = {}

    def apply(self, entries: Iterable[Entry], owner: int) -> None:
        for client, clock, state in entries:
            known = self.clocks.get(client, 0)
            if clock > known or (clock == known and state is None and client in self.states):
                self.clocks[client] = clock
                self.states.pop(client, None)
                if state is not None:
                    self.states[client] = (state, owner)

    def remove(self, owner: int) -> None:
        self.states = {client: kept for client, kept in self.states.items() if kept[1] != owner}


entry = st.tuples(st.integers(0, 3), st.integers(0, 4), st.one_of(st.none(), st.integers(0, 9)))
news = st.tuples(st.just("apply"), st.integers(0, 2), st.lists(entry, max_size=3))
leaving: st.SearchStrategy[tuple[str, int, list[Entry]]] = st.tuples(st.just("remove"), st.integers(0, 2), st.just([]))


@given(st.lists(st.one_of(news, leaving), max_size=12))
def test_does_what_y_protocols_does(steps: list[tuple[str, int, list[Entry]]]) -> None:
    """After any news and any leaving, the states and the clocks are those that y-protocols has."""
    awareness, model = Awareness(), Model()
    for step, owner, entries in steps:
        if step == "apply":
            awareness.apply(encode(*entries), owner)
            model.apply(entries, owner)
        else:
            awareness.remove(owner)
            model.remove(owner)
        expected = {(client, model.clocks[client], state) for client, (state, _) in model.states.items()}
        assert set(decode(awareness.encode())) == expected
        assert len(awareness) == len(expected)
