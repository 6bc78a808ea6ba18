"""Waiting for conditions without an event, by polling."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from itertools import count
from typing import Any

from opennoodl_signaling.cluster import scripts

from ..edge.harness import TIMEOUT

_questions = count(1)


def until_sync(condition: Callable[[], bool], seconds: float) -> None:
    """Wait until a condition holds, and block the event loop meanwhile."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


async def until(condition: Callable[[], Awaitable[bool] | bool], seconds: float = TIMEOUT) -> None:
    """Wait until a condition holds; other tasks run meanwhile."""
    async with asyncio.timeout(seconds):
        while True:
            holds = condition()
            if holds is True or (not isinstance(holds, bool) and await holds):
                return
            await asyncio.sleep(0.01)


WORK = {"fulfil", "_confirm", "close_if_free", "_end", "_probe"}
"""Names of the coroutines that work for a client and do not wait for another client."""


def _idle(app: Any) -> bool:
    return not any(task.get_coro().__name__ in WORK for task in app.membership._tasks)


async def settle(servers: Iterable[Any]) -> None:
    """Wait until all instances have carried out all requests and delivered their messages to clients."""
    apps = [server.app for server in servers if not server.app.draining]
    for app in apps:
        await until(partial(_idle, app))
        await app.membership.ask(scripts.CONFIRM, "", "", 0, 0)
    for app in apps:
        question = -next(_questions)
        asked = app.liveness._questions[question] = asyncio.get_running_loop().create_future()
        app.membership.send_entry(app.membership.instance, ("alive", question, True))
        async with asyncio.timeout(TIMEOUT):
            await asked
        del app.liveness._questions[question]
