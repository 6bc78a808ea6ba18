"""Makes a test that hangs fail at the line where it waits. `timeout` in pyproject.toml is the limit, in seconds."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

Test = Callable[..., Awaitable[None]]
SETTINGS = pytest.StashKey[Any]()


def pytest_timeout_set_timer(item: pytest.Function, settings: Any) -> None:
    """Interrupt a coroutine at half of the limit: the stacks that pytest-timeout prints show only its event loop."""
    if SETTINGS not in item.stash:
        item.stash[SETTINGS] = settings
        if inspect.iscoroutinefunction(item.obj):
            item.obj = limited(item.obj, settings.timeout / 2)


@pytest.hookimpl(trylast=True)
def pytest_exception_interact(node: pytest.Item | pytest.Collector) -> None:
    """Limit the teardown of a test that failed, too: pytest-timeout has stopped its timer for a debugger."""
    settings = node.stash.get(SETTINGS, None)
    if settings is not None and not node.config.getoption("usepdb"):
        node.ihook.pytest_timeout_set_timer(item=node, settings=settings)


def limited(test: Test, seconds: float) -> Test:
    """Return a test that fails after some seconds."""

    @functools.wraps(test)
    async def run(*args: object, **kwargs: object) -> None:
        async with asyncio.timeout(seconds):
            await test(*args, **kwargs)

    return run
