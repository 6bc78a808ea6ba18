"""The queue: the requests of connections that are not handled yet.

It is taken in batches. Connections take turns, so a user with many requests delays no other user.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Mapping
from typing import NamedTuple

from .devices import Device
from .edge.errors import BadMessage
from .messages import Authenticate, DeleteAll, Incoming, MarkAllRead, Named, SendNotification

MAX_QUEUED = 67_108_864
"""Bytes of messages that wait; more are refused."""
BATCH = 200
"""Messages that are handled at once, or notifications where a message is about several; more if the last one is."""
SHARE = 100
"""How many of these may be one user's."""


class Request(NamedTuple):
    """One message in the queue.

    Attributes:
        device: its sender.
        incoming: the message.
        size: bytes of its text.
        since: when it came, by `monotonic`.
    """

    device: Device
    incoming: Incoming
    size: int
    since: float = 0.0

    @property
    def user(self) -> str | None:
        """Who asks, or claims to."""
        if isinstance(self.incoming, Authenticate):
            return self.incoming.user_id
        user: str | None = self.device.session
        return user

    def weight(self, sizes: Mapping[str, int]) -> int:
        """Return how much of a batch it takes: one for each user it is for, or each notification it is about.

        Args:
            sizes: how many notifications users have, of those who may ask for something about all of theirs.
        """
        match self.incoming:
            case SendNotification(targets=several) | Named(ids=several):
                return len(several)
            case MarkAllRead() | DeleteAll() if self.user is not None:
                return max(1, sizes.get(self.user, 0))
        return 1

    def refuse(self, bad: BadMessage) -> BadMessage:
        """Return an error as the answer to this message."""
        return BadMessage(bad.code, bad.error, self.incoming.request_id, bad.refusal)


class Queue:
    """The requests of each connection, in their order.

    Args:
        sizes: how many notifications users have, as far as that is known; it may change meanwhile.

    Attributes:
        bytes: of all messages in it.
        filled: set when a request is added; `Worker` clears it.
    """

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self._sizes = sizes
        self._waiting: dict[Device, deque[Request]] = {}  # whose turn is next comes first
        self._number = 0
        self.bytes = 0
        self.filled = asyncio.Event()

    def __len__(self) -> int:
        return self._number

    def oldest(self) -> float | None:
        """Return when the oldest request came; None if there is none."""
        return min((requests[0].since for requests in self._waiting.values()), default=None)

    def add(self, request: Request) -> None:
        """Put a request behind the others of its connection.

        Raises:
            BadMessage: too much waits already.
        """
        if self.bytes + request.size > MAX_QUEUED:
            raise BadMessage("storage-unavailable", "The store's queue is full; send this again later.")
        self._waiting.setdefault(request.device, deque()).append(request)
        self._number += 1
        self.bytes += request.size
        self.filled.set()

    def take(self) -> list[Request]:
        """Take a batch: its changes will be made before its reads are answered.

        What a connection changes after it has read something has to wait for the next batch. So has what is more
        than a user's share, and the next batch begins with those whom this one did not reach.
        """
        batch: list[Request] = []
        shares: Counter[object] = Counter()
        for device in list(self._waiting):
            if shares.total() >= BATCH:
                break
            requests = self._waiting.pop(device)
            self._take(requests, device.session or device, batch, shares)
            if requests:
                self._waiting[device] = requests
        self._number -= len(batch)
        self.bytes -= sum(request.size for request in batch)
        return batch

    def _take(self, requests: deque[Request], who: object, batch: list[Request], shares: Counter[object]) -> None:
        reading = False
        left = min(SHARE - shares[who], BATCH - shares.total())
        while requests and left > 0 and (requests[0].incoming.reads or not reading):
            request = requests.popleft()
            reading = request.incoming.reads
            batch.append(request)
            weight = request.weight(self._sizes)
            left -= weight
            shares[who] += weight
