"""Flow control of one client, without a connection."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ..harness import Pause, flow_control


class Twins(flow_control.ReadPause):  # type: ignore[misc]  # imported by a name that mypy cannot follow
    """Two reasons with equal values."""

    ONE = True
    OTHER = True


def test_reasons_of_equal_value_are_distinct() -> None:
    """Reasons with equal values are two reasons."""
    assert Twins.ONE is not Twins.OTHER
    assert Twins.ONE.holds_messages
    assert Twins.OTHER.holds_messages


def test_reading_resumes_after_the_last_reason() -> None:
    """A client is read from when the last reason is gone, however often each was given."""
    reads = flow_control.ReadFlow()
    assert not reads.paused
    reads.pause(Pause.STORAGE)
    reads.pause(Pause.STORAGE)
    reads.pause(flow_control.EdgePause.OPENING)
    reads.resume(Pause.STORAGE)
    reads.resume(flow_control.EdgePause.WORK)
    assert reads.paused
    reads.resume(flow_control.EdgePause.OPENING)
    assert not reads.paused


def test_reason_may_hold_read_messages() -> None:
    """Messages that were read wait as long as there is a reason that holds them."""
    reads = flow_control.ReadFlow()
    reads.pause(Pause.STORAGE)
    assert not reads.holds_messages
    reads.pause(flow_control.EdgePause.WORK)
    assert reads.holds_messages
    reads.resume(flow_control.EdgePause.WORK)
    assert reads.paused
    assert not reads.holds_messages


async def test_latest_rate_pause_decides_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the time, the end of the rate's reason is called, once for the latest request."""
    monkeypatch.setattr(flow_control, "LEAST_PAUSE", 0.0)
    reads, resumed = flow_control.ReadFlow(), asyncio.Queue[Any]()
    reads.resume_later(60, resumed.put_nowait)
    reads.resume_later(0, resumed.put_nowait)
    assert await resumed.get() is flow_control.EdgePause.RATE
    assert resumed.empty()


async def test_stopped_flow_calls_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is called after flow control was stopped."""
    monkeypatch.setattr(flow_control, "LEAST_PAUSE", 0.0)
    reads, called = flow_control.ReadFlow(), []
    reads.resume_later(0, called.append)
    reads.stop()
    other = asyncio.Event()
    asyncio.get_running_loop().call_later(0.001, other.set)
    await other.wait()
    assert called == []


async def test_check_is_scheduled_once() -> None:
    """However often a check is asked for, one is made; after it, another one may be scheduled."""
    writes, checks = flow_control.WriteFlow(10), asyncio.Queue[None]()

    def check() -> None:
        checks.put_nowait(None)

    writes.schedule_check(check)
    writes.schedule_check(check)
    await checks.get()
    assert writes.check(11)
    assert not writes.check(10)
    assert checks.empty()
    writes.schedule_check(check)
    await checks.get()


def test_slow_begins_and_ends_once() -> None:
    """That a client is slow is news once, and so is that it has caught up."""
    writes = flow_control.WriteFlow(10)
    assert not writes.end_slow()
    assert writes.begin_slow()
    assert not writes.begin_slow()
    assert writes.slow
    assert writes.end_slow()
    assert not writes.slow
    assert not writes.end_slow()


async def test_no_limit_schedules_nothing() -> None:
    """Without a limit no client is slow, and nothing is scheduled."""
    writes, called = flow_control.WriteFlow(0), []
    writes.schedule_check(lambda: called.append("check"))
    assert not writes.begin_slow()
    other = asyncio.Event()
    asyncio.get_running_loop().call_later(0.005, other.set)
    await other.wait()
    assert called == []
