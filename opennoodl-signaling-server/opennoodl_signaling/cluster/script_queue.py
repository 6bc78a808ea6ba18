"""The queue of scripts that wait for Redis, with limits of their number and their bytes."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, NamedTuple

from .scripts import Script

BATCH = 512
"""Limit of the scripts that are sent together."""
BATCH_BYTES = 1 << 20
"""Bytes of a group of scripts above which no further one is added to it."""
CROWDED = 4096
"""Queued scripts above which clients are paused; Redis runs more than 10,000 a second."""
CROWDED_BYTES = 8 << 20
"""The same limit for the bytes of their arguments."""
MAX_QUEUED = 50_000
"""Queued scripts above which the connection is closed, and all of them fail."""
MAX_QUEUED_BYTES = 64 << 20
"""The same limit for the bytes of their arguments."""

Args = tuple[bytes | str | int, ...]


class Call(NamedTuple):
    """A called script with its arguments, the future of its answer, and the bytes of the arguments."""

    script: Script
    args: Args
    answer: asyncio.Future[Any]
    size: int


class ScriptQueue:
    """The scripts that were called and not sent yet, in the order of their calls."""

    def __init__(self) -> None:
        self._calls: deque[Call] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._calls)

    @property
    def is_short(self) -> bool:
        """Whether paused clients may call scripts again."""
        return len(self._calls) < CROWDED // 2 and self._bytes < CROWDED_BYTES // 2

    @property
    def is_crowded(self) -> bool:
        """Whether clients that call scripts must be paused."""
        return len(self._calls) >= CROWDED or self._bytes >= CROWDED_BYTES

    @property
    def is_full(self) -> bool:
        """Whether no further call is accepted."""
        return len(self._calls) >= MAX_QUEUED or self._bytes >= MAX_QUEUED_BYTES

    def add(self, call: Call) -> None:
        """Append a call."""
        self._calls.append(call)
        self._bytes += call.size

    def next_batch(self) -> list[Call]:
        """Remove and return the first calls, which are sent together."""
        batch: list[Call] = []
        size = 0
        while self._calls and len(batch) < BATCH and size < BATCH_BYTES:
            call = self._calls.popleft()
            batch.append(call)
            size += call.size
        self._bytes -= size
        return batch

    def clear(self) -> list[Call]:
        """Remove and return all calls."""
        calls = list(self._calls)
        self._calls.clear()
        self._bytes = 0
        return calls
