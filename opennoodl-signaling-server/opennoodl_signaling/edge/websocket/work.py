"""Work: a task that a message of a client waits for, such as the check of a token."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Any


class Work:
    """The work of one connection: one task at a time, and the messages that wait for it.

    Attributes:
        active: whether a task runs.
    """

    __slots__ = ("_messages", "_task", "active")

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None
        self._messages: list[tuple[bytes, bool]] | None = None  # None, since most connections never have any
        self.active = False

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Begin a task. The task calls `finish` at its end."""
        self._task = asyncio.get_running_loop().create_task(work)
        self.active = True

    def add(self, message: bytes, text: bool) -> None:
        """Queue a message until the task ends."""
        self._messages = [*(self._messages or ()), (message, text)]

    def finish(self) -> Iterator[tuple[bytes, bool]]:
        """End the task; yield the queued messages. If one of them begins another task, the rest waits for it."""
        self._task, self.active = None, False
        messages, self._messages = self._messages or [], None
        for position, message in enumerate(messages, 1):
            yield message
            if self.active:
                self._messages = messages[position:]
                return

    def cancel(self) -> bool:
        """Cancel the task, unless the caller is this task; return whether a task was cancelled."""
        task = self._task
        if task is None or task is asyncio.current_task():
            return False
        self._task, self.active = None, False
        task.cancel()
        return True
