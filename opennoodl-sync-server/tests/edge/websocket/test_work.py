"""What messages wait for, without a connection."""

from __future__ import annotations

import asyncio

import pytest

from ..harness import work


async def forever() -> None:
    """Work until it is cancelled."""
    await asyncio.Event().wait()


async def test_messages_wait_in_order() -> None:
    """Messages that came during the work are given in order when it has ended."""
    waits = work.Work()
    waits.start(asyncio.sleep(0))
    assert waits.active
    waits.add(b"one", True)
    waits.add(b"two", False)
    assert list(waits.finish()) == [(b"one", True), (b"two", False)]
    assert not waits.active
    assert list(waits.finish()) == []


async def test_messages_wait_for_each_work_in_order() -> None:
    """If a message begins other work, those behind it wait for that, before those that come later."""
    waits = work.Work()
    waits.start(asyncio.sleep(0))
    for message in (b"one", b"two", b"three"):
        waits.add(message, True)
    given = []
    for message, _ in waits.finish():
        given.append(message)
        waits.start(asyncio.sleep(0))
    waits.add(b"four", True)
    assert given == [b"one"]
    assert [message for message, _ in waits.finish()] == [b"two", b"three", b"four"]


async def test_work_is_cancelled_once() -> None:
    """Work is cancelled once, and is over then."""
    waits = work.Work()
    waits.start(forever())
    task = waits._task
    assert waits.cancel()
    assert not waits.active
    assert not waits.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_work_does_not_cancel_itself() -> None:
    """Work that ends its connection goes on to its own end."""
    waits = work.Work()
    cancelled = asyncio.get_running_loop().create_future()

    async def end_connection() -> None:
        cancelled.set_result(waits.cancel())

    waits.start(end_connection())
    assert await cancelled is False
    assert waits.active
