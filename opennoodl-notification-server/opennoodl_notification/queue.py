"""The queue: requests of connections that have not been handled yet.

The worker takes them in batches. Addresses take short turns, and so do the connections of an address. Therefore a
client with many requests or connections delays only clients at its own address. An address with very many requests in
the queue is read-paused until half of them are handled, so the queue does not grow faster than it is handled.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import Mapping
from typing import NamedTuple

from .devices import Device
from .edge.admission.address_limits import rate_limit_key
from .edge.errors import BadMessage
from .edge.websocket.flow_control import ReadPause
from .messages import Authenticate, DeleteAll, GetNotifications, Incoming, MarkAllRead, Named, SendNotification

MAX_QUEUED = 67_108_864
"""Limit of the bytes of requests in the queue; further requests are refused."""
MAX_ADDRESS_QUEUED = 262_144
"""Bytes of one address's requests in the queue above which its connections are read-paused."""
REQUEST_SIZE = 512
"""Bytes that a request counts in addition to its text."""
BATCH = 200
"""Weight of a batch: messages, or notifications if a message is about several. The last message may exceed it."""
SHARE = 100
"""Weight of one user's part of a batch."""
TURN = 10
"""Weight of one connection's turn; the last message may exceed it."""
READ_FACTOR = 20
"""Notifications that can be read in the time of one change."""
UNKNOWN_SIZE = 200
"""Assumed number of notifications in an inbox when the first device of its user connects."""


class QueuePause(ReadPause):
    """Reasons of the queue for a read-pause."""

    QUEUE = True
    """Very many requests from the client's address are in the queue."""


class Request(NamedTuple):
    """One message in the queue.

    Attributes:
        device: its sender.
        incoming: the message.
        text_size: the bytes of its text.
        since: the monotonic time of its arrival.
    """

    device: Device
    incoming: Incoming
    text_size: int
    since: float = 0.0

    @property
    def user(self) -> str | None:
        """The user of its device, or the user that an `authenticate` message claims."""
        if isinstance(self.incoming, Authenticate):
            return self.incoming.user_id
        user: str | None = self.device.user
        return user

    @property
    def size(self) -> int:
        """The bytes that it counts."""
        return REQUEST_SIZE + self.text_size

    def weight(self, sizes: Mapping[str, int]) -> int:
        """Return its weight in a batch: one for each receiver, or for each notification that it is about.

        Args:
            sizes: the number of notifications by user, for messages about all notifications of a user.
        """
        match self.incoming:
            case SendNotification(targets=several) | Named(ids=several):
                return len(several)
            case MarkAllRead() | DeleteAll() if self.user is not None:
                return max(1, sizes.get(self.user, 0))
            case GetNotifications() as get if self.user is not None:
                few = get.limit and not (get.before or get.unread_only or get.types)
                return max(1, (get.limit or 0 if few else sizes.get(self.user, 0)) // READ_FACTOR)
            case Authenticate(user_id=user):
                return max(1, sizes.get(user, UNKNOWN_SIZE) // READ_FACTOR)
        return 1

    def refuse(self, bad: BadMessage) -> BadMessage:
        """Return an error as the answer to this message."""
        return BadMessage(bad.code, bad.error, self.incoming.request_id, bad.refusal)


class Line:
    """The requests of one address.

    Attributes:
        connections: its requests by connection; the next connection comes first.
        size: the bytes that they count.
        paused: read-paused connections, in the order in which they resume.
    """

    __slots__ = ("connections", "paused", "size")

    def __init__(self) -> None:
        self.connections: OrderedDict[Device, deque[Request]] = OrderedDict()
        self.paused: OrderedDict[Device, None] = OrderedDict()
        self.size = 0

    def resume(self) -> None:
        """If half of the line is free, resume paused connections until they have filled it."""
        if self.size <= MAX_ADDRESS_QUEUED // 2:
            while self.paused and self.size <= MAX_ADDRESS_QUEUED:
                device, _ = self.paused.popitem(last=False)
                device.resume_reading(QueuePause.QUEUE)


class Queue:
    """The requests of each connection, in their order.

    Args:
        sizes: the known numbers of notifications by user; they may change.

    Attributes:
        size: the bytes that all requests count.
        filled: set when a request is added, and when `take` has left some; `Worker` clears it.
    """

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self._sizes = sizes
        self._lines: OrderedDict[str, Line] = OrderedDict()  # by address; the next address comes first
        self._number = 0
        self.size = 0
        self.filled = asyncio.Event()

    def __len__(self) -> int:
        return self._number

    def oldest(self) -> float | None:
        """Return the monotonic time of the oldest request's arrival; None if there is none."""
        lines = self._lines.values()
        return min((requests[0].since for line in lines for requests in line.connections.values()), default=None)

    def add(self, request: Request) -> None:
        """Add a request after the others of its connection; read-pause the connection if its address has too many.

        Raises:
            BadMessage: the queue is full.
        """
        device = request.device
        if self.size + request.size > MAX_QUEUED:
            raise BadMessage("storage-unavailable", "The store's queue is full; send this again later.")
        address = rate_limit_key(device.address)
        line = self._lines.get(address)
        if line is None:
            line = self._lines[address] = Line()
        line.connections.setdefault(device, deque()).append(request)
        self._count(line, 1, request.size)
        if line.size > MAX_ADDRESS_QUEUED:
            line.paused[device] = None
            device.pause_reading(QueuePause.QUEUE)
        self.filled.set()

    def take(self) -> list[Request]:
        """Take a batch; the worker makes its changes before it answers its reads.

        Therefore changes that follow a read of the same connection wait for the next batch, and so do requests beyond a
        user's share. The next batch begins with the next address.
        """
        batch: list[Request] = []
        weight = 0
        shares: Counter[object] = Counter()
        reading: set[Device] = set()
        served: dict[str, Line] = {}
        waiting: list[tuple[str, Device, deque[Request]]] = []  # left for the next batch
        while self._lines and weight < BATCH:
            address, line = next(iter(self._lines.items()))
            device, requests = line.connections.popitem(last=False)
            user = device.user or device
            served[address] = line
            end = weight + min(TURN, BATCH - weight, SHARE - shares[user])
            while requests and weight < end and (requests[0].incoming.reads or device not in reading):
                request = requests.popleft()
                batch.append(request)
                self._count(line, -1, -request.size)
                if request.incoming.reads:
                    reading.add(device)
                cost = request.weight(self._sizes)
                weight += cost
                shares[user] += cost
            if requests and weight >= end and shares[user] < SHARE:
                line.connections[device] = requests  # left for its next turn
            elif requests:
                waiting.append((address, device, requests))
            self._lines.move_to_end(address)
            if not line.connections:
                del self._lines[address]
        for address, device, requests in waiting:
            self._lines.setdefault(address, served[address]).connections[device] = requests
        for line in served.values():
            line.resume()
        if self._lines:
            self.filled.set()
        return batch

    def _count(self, line: Line, number: int, size: int) -> None:
        self._number += number
        self.size += size
        line.size += size
