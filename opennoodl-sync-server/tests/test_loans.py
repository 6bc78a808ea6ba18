"""A room is lent to a thread, and what comes for it meanwhile waits, in order."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial

import pytest
from opennoodl_sync import loans as module
from opennoodl_sync.loans import Loans
from opennoodl_sync.room import Room
from opennoodl_sync.store import MemoryYStore
from structlog.testing import capture_logs


class Work:
    """Something that takes until it is told to end.

    Attributes:
        done: what was done on the event loop, in order.
    """

    def __init__(self) -> None:
        self.loans = Loans()
        self.room = Room("room", MemoryYStore())
        self.done: list[object] = []
        self._ends = threading.Event()
        self._noted = asyncio.Semaphore(0)

    def lend(self, answer: object = "answer") -> None:
        """Lend the room until it is freed, and note the answer then."""
        self._ends = ends = threading.Event()

        def work() -> object:
            assert ends.wait(30)
            if isinstance(answer, Exception):
                raise answer
            return answer, threading.current_thread() is not threading.main_thread()

        self.loans.lend(self.room, work, self._note)

    def wait(self, *names: str, first: bool = False) -> None:
        """Note names when the room is back."""
        for name in names:
            self.loans.when_back(self.room, partial(self.done.append, name), first=first)

    def free(self) -> None:
        """Let the thread end."""
        self._ends.set()

    async def end(self, answers: int = 1) -> None:
        """Let the thread end, and wait until so many answers are noted."""
        self.free()
        async with asyncio.timeout(30):
            for _ in range(answers):
                await self._noted.acquire()

    def _note(self, future: asyncio.Future[object]) -> None:
        self.done.append(future.exception() or future.result())
        self._noted.release()


@pytest.fixture
async def work() -> AsyncIterator[Work]:
    """Return a room that can be lent."""
    work = Work()
    yield work
    work.free()
    await work.loans.close()


async def test_a_room_that_is_not_lent(work: Work) -> None:
    """What comes for it is done at once."""
    work.wait("now")
    assert work.done == ["now"]
    await asyncio.wait_for(work.loans.back(work.room), 5)


async def test_a_room_that_is_lent(work: Work) -> None:
    """A thread has it; what comes waits, in order, and what the thread gave comes last."""
    work.lend()
    assert work.room.lent
    work.wait("one", "two")
    work.wait("zero", first=True)
    assert work.done == []
    await work.end()
    assert not work.room.lent
    assert work.done == ["zero", "one", "two", ("answer", True)]


async def test_others_do_not_wait(work: Work) -> None:
    """Another room is nobody's business."""
    work.lend()
    other = Room("other", MemoryYStore())
    work.loans.when_back(other, lambda: work.done.append("other"))
    assert work.done == ["other"]


async def test_failure(work: Work) -> None:
    """What the thread fails with is given like an answer, and the room is back."""
    failure = ValueError("no")
    work.lend(failure)
    work.wait("one")
    await work.end()
    assert work.done == ["one", failure]
    assert not work.room.lent


async def test_a_failure_in_what_has_waited(work: Work) -> None:
    """It is logged, and keeps nothing else from being done."""
    work.lend()
    work.loans.when_back(work.room, lambda: work.done.append(1 // 0))
    work.wait("two")
    with capture_logs() as logged:
        await work.end()
    assert work.done == ["two", ("answer", True)]
    assert [entry["log_level"] for entry in logged] == ["error"]


async def test_lent_again(work: Work) -> None:
    """When something that has waited lends the room again, the rest waits on, before what comes later."""
    again = asyncio.Event()

    def lend_again() -> None:
        work.lend("second")
        again.set()

    work.lend("first")
    work.wait("one")
    work.loans.when_back(work.room, lend_again)
    work.wait("two")
    work.free()
    await asyncio.wait_for(again.wait(), 5)
    assert work.done == ["one"]
    assert work.room.lent
    work.wait("three")
    await work.end(2)
    assert work.done == ["one", "two", ("first", True), "three", ("second", True)]


async def test_who_gives_up_waiting(work: Work) -> None:
    """Somebody who waits for the room and leaves keeps nobody from it."""
    work.lend()
    waiting = asyncio.create_task(work.loans.back(work.room))
    other = asyncio.create_task(work.loans.back(work.room))
    await asyncio.sleep(0)
    waiting.cancel()
    await work.end()
    await asyncio.wait_for(other, 30)
    with suppress(asyncio.CancelledError):
        await waiting
    assert work.done == [("answer", True)]


async def test_close(work: Work) -> None:
    """The end waits for every room."""
    work.lend()
    closing = asyncio.create_task(work.loans.close())
    await asyncio.sleep(0)
    assert not closing.done()
    await work.end()
    await asyncio.wait_for(closing, 30)
    assert not work.room.lent


async def test_the_thread_rests(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    """After something, it leaves Python's lock to others for as long as that took, and never for very long."""
    now, rests = 0.0, []

    def sleep(seconds: float) -> None:
        nonlocal now
        rests.append(seconds)
        now += seconds

    def take(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(module, "monotonic", lambda: now)
    monkeypatch.setattr(module, "sleep", sleep)
    for seconds in (0.25, 100.0, 0.0, 0.0):
        done = asyncio.Event()
        work.loans.lend(work.room, partial(take, seconds), lambda _, done=done: done.set())
        await asyncio.wait_for(done.wait(), 5)
    assert rests == [0.0, 0.25, module.LONGEST_REST, 0.0]
