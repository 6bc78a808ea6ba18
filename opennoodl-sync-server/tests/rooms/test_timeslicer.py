"""Long work in slices: it holds nobody else, each address has its share, and a room does one thing at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

import pytest
from opennoodl_sync.rooms import timeslicer as module
from opennoodl_sync.rooms.timeslicer import Outcome, StoppedError, TimeSlicer
from opennoodl_sync.yjs.lib0 import Steps

from ..memory_records import MemoryRecords
from ..turns import open_room

MANY = 1_000


@pytest.fixture
def slicer(monkeypatch: pytest.MonkeyPatch) -> Iterator[TimeSlicer]:
    """Return one whose slices are two steps long."""
    monkeypatch.setattr(module, "SLICE", 0.0)
    slicer = TimeSlicer()
    yield slicer
    slicer.close()


def counting(done: list[str], name: str, steps: int) -> Steps[str]:
    """Note each of so many steps."""
    for _ in range(steps):
        done.append(name)
        yield
    return name


async def until(done: Sequence[object], number: int) -> None:
    """Let the event loop turn until so much is done."""
    for _ in range(100 * MANY):
        if len(done) >= number:
            return
        await asyncio.sleep(0)
    raise AssertionError("it was never done")


async def test_short_work_is_done_at_once(slicer: TimeSlicer) -> None:
    """Work that ends within its first slice makes no room busy."""
    room, outcomes = open_room(MemoryRecords()), list[str]()
    assert slicer.do(room, counting([], "one", 1), lambda outcome: outcomes.append(outcome()))
    assert outcomes == ["one"]
    assert not room.busy


async def test_the_event_loop_has_turns_between_slices(slicer: TimeSlicer) -> None:
    """Other callbacks run while long work goes on."""
    room, done, turns = open_room(MemoryRecords()), list[str](), list[int]()
    slicer.do(room, counting(done, "x", MANY), lambda _: None)
    while room.busy:
        turns.append(len(done))
        await asyncio.sleep(0)
    assert len(turns) > MANY / 4
    assert len(done) == MANY


async def test_addresses_take_turns(slicer: TimeSlicer) -> None:
    """An address with much work does not keep another one waiting, however many rooms it uses."""
    done, ended = list[str](), list[object]()
    for _ in range(20):
        slicer.do(open_room(MemoryRecords()), counting(done, "eve", MANY), ended.append, "eve")
    slicer.do(open_room(MemoryRecords()), counting(done, "ann", MANY), ended.append, "ann")
    await until(ended, 1)
    assert done.count("ann") == MANY
    assert done.count("eve") < 2 * MANY


async def test_work_for_a_busy_room_waits_in_order(slicer: TimeSlicer) -> None:
    """It is done when the room is free: first what was to be first, at last what the work was for."""
    room, acts = open_room(MemoryRecords()), list[object]()
    slicer.do(room, counting([], "x", 10), lambda _: acts.append("then"))
    for name in "ab":
        slicer.when_free(room, lambda name=name: acts.append(name))
    slicer.when_free(room, lambda: acts.append("first"), first=True)
    assert acts == []
    await until(acts, 4)
    assert acts == ["first", "a", "b", "then"]


async def test_work_that_makes_a_room_busy_again_delays_the_rest(slicer: TimeSlicer) -> None:
    """Work that waits for a room is not done while the room is busy again."""
    room, acts = open_room(MemoryRecords()), list[object]()

    def again() -> None:
        acts.append("again")
        slicer.do(room, counting([], "y", 10), lambda _: acts.append("done again"))

    slicer.do(room, counting([], "x", 10), lambda _: None)
    slicer.when_free(room, again)
    slicer.when_free(room, lambda: acts.append(("last", room.busy)))
    await until(acts, 3)
    assert acts == ["again", ("last", False), "done again"]


async def test_a_failure_is_an_outcome(slicer: TimeSlicer) -> None:
    """The failure of long work is raised where its outcome is asked for, and the room is free."""

    def fail() -> Steps[None]:
        for _ in range(10):
            yield
        raise LookupError("no")

    room, outcomes = open_room(MemoryRecords()), list[Outcome[None]]()
    slicer.do(room, fail(), outcomes.append)
    await until(outcomes, 1)
    assert not room.busy
    with pytest.raises(LookupError, match="no"):
        outcomes[0]()
    with pytest.raises(LookupError, match="no"):
        await slicer.done(fail())


async def test_an_act_that_fails_is_logged(slicer: TimeSlicer, capsys: pytest.CaptureFixture[str]) -> None:
    """A mistake of ours costs nobody else what waits behind it."""
    room, acts = open_room(MemoryRecords()), list[object]()
    slicer.do(room, counting([], "x", 10), lambda _: None)
    slicer.when_free(room, lambda: {}[0])
    slicer.when_free(room, lambda: acts.append("next"))
    await until(acts, 1)
    assert "a call that waited for a room failed" in capsys.readouterr().out


async def test_closing_ends_work_where_it_is(slicer: TimeSlicer) -> None:
    """Nothing goes on after `close`; what has waited for the room is done."""
    room, done, acts = open_room(MemoryRecords()), list[str](), list[str]()
    slicer.do(room, counting(done, "x", MANY), lambda _: acts.append("then"))
    slicer.when_free(room, lambda: acts.append("waited"))
    slicer.close()
    steps = len(done)
    await asyncio.sleep(0)
    assert (len(done), acts, room.busy) == (steps, ["waited"], False)


async def test_closing_is_told_to_those_who_wait_for_work(slicer: TimeSlicer) -> None:
    """A caller of `done` waits for no work that `close` has ended."""
    waiting = asyncio.create_task(slicer.done(counting([], "x", MANY)))
    await asyncio.sleep(0)
    slicer.close()
    async with asyncio.timeout(30):
        with pytest.raises(StoppedError):
            await waiting
