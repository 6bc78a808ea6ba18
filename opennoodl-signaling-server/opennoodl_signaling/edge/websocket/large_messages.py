"""Large messages: a bound on the bytes of all clients that the server has read and not handled yet.

A client may send a message of ``MAX_MESSAGE_SIZE``, and never end it. So above a limit the server reads only the oldest
large message, and read-pauses the clients of the other ones. If those have more than twice the limit, it closes the
client that sends more. It also closes a client whose message arrives too slowly while others wait.
"""

from __future__ import annotations

import asyncio
from typing import Generic, Protocol, TypeVar

LARGE = 16_384
"""A message counts if more bytes of it have arrived."""
PATIENCE = 10.0
"""Seconds in which `PROGRESS` bytes of the oldest message have to arrive while others wait."""
PROGRESS = 655_360
"""Bytes that have to arrive in `PATIENCE` seconds."""
SHORT = "The server is short of memory for large messages. Connect again."
TOO_SLOW = "Your message arrives too slowly, and others wait for it. Connect again."
FULL = "messages-full"
"""The code of both refusals."""


class Sender(Protocol):
    """A connection whose messages count."""

    def wait_for_memory(self, waits: bool) -> None:
        """Stop reading from the client, or read again."""

    def disconnect(self, code: int, reason: str, refusal: str) -> None:
        """Close the connection."""


S = TypeVar("S", bound=Sender)


class LargeMessages(Generic[S]):
    """The large messages of all clients, the oldest first.

    Args:
        limit: bytes of all large messages above which only the oldest is read; 0 means no limit.

    Attributes:
        size: bytes of all large messages.
    """

    def __init__(self, limit: int) -> None:
        self.size = 0
        self._limit = limit
        self._sizes: dict[S, int] = {}
        self._arriving: set[S] = set()  # whose message is not complete
        self._waiting: dict[S, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def count(self, sender: S, size: int, *, arriving: bool) -> None:
        """Set the number of a client's bytes that the server has read and not handled.

        Args:
            sender: the client.
            size: the number of bytes; it counts if it is over `LARGE`.
            arriving: whether the message is not complete.
        """
        if size <= LARGE or size < self._sizes.get(sender, 0):  # a message is handled; the next one is the newest
            self.remove(sender)
        if size <= LARGE:
            return
        self.size += size - self._sizes.get(sender, 0)
        self._sizes[sender] = size
        if arriving:
            self._arriving.add(sender)
        else:
            self._arriving.discard(sender)
        oldest = next(iter(self._sizes))
        if not self._limit or self.size <= self._limit or sender is oldest or sender in self._waiting:
            return
        if self.size - self._sizes[oldest] > 2 * self._limit:
            sender.disconnect(1013, SHORT, FULL)
            return
        self._waiting[sender] = None
        sender.wait_for_memory(True)
        if self._timer is None:
            self._watch(oldest)

    def remove(self, sender: S) -> None:
        """Stop counting a client: its messages are handled, or its connection is lost."""
        if sender not in self._sizes:
            return
        self.size -= self._sizes.pop(sender)
        self._arriving.discard(sender)
        self._waiting.pop(sender, None)
        if self.size <= self._limit:
            released = list(self._waiting)
        else:
            released = [oldest for oldest in list(self._sizes)[:1] if oldest in self._waiting]
        for waiting in released:
            if waiting in self._waiting:  # and not closed in this loop
                del self._waiting[waiting]
                waiting.wait_for_memory(False)
        if self._timer is not None and not self._waiting:
            self._timer.cancel()
            self._timer = None

    def _watch(self, oldest: S) -> None:
        self._timer = asyncio.get_running_loop().call_later(PATIENCE, self._check, oldest, self._sizes[oldest])

    def _check(self, oldest: S, size: int) -> None:
        self._timer = None
        if oldest in self._arriving and self._sizes[oldest] < size + PROGRESS:
            self.remove(oldest)
            oldest.disconnect(1013, TOO_SLOW, FULL)
        if self._waiting:
            self._watch(next(iter(self._sizes)))
