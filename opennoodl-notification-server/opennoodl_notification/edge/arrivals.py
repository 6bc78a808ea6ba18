"""The arrivals: TCP connections that have no WebSocket yet.

What a WebSocket needs takes a while to make. It is made when a client's first bytes are here, and for a
few clients in a turn of the event loop: when everybody comes at once, as after a restart, those who are
connected are answered in between. Until then a client costs next to nothing, so that one who connects
and says nothing does not take much.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import cast

from .newcomers import Newcomers

PER_TURN = 16
"""Clients that are admitted in one turn of the event loop."""
MAX_UNREAD = 65_536
"""Bytes of a client that waits after which it is not read from any more."""


class Arrivals:
    """Admits those who have sent something, in that order.

    Args:
        create: makes the protocol that takes over from an arrival.
        timeout: seconds that a client has for its first bytes; `create` sees to the time after them.
        newcomers: where they are counted until they are admitted.
    """

    def __init__(self, create: Callable[[], asyncio.Protocol], timeout: float, newcomers: Newcomers) -> None:
        self._create = create
        self._timeout = timeout
        self._newcomers = newcomers
        self._silent: dict[Arrival, asyncio.TimerHandle] = {}
        self._waiting: deque[Arrival] = deque()  # some may have left
        self._admitted = 0  # in this turn
        self._closed = False

    def arrival(self) -> Arrival:
        """Return a protocol for the next TCP connection."""
        return Arrival(self)

    def close(self) -> None:
        """Cut everybody who is here, and from now on everybody who comes."""
        self._closed = True
        for arrival in (*self._silent, *self._waiting):
            arrival.transport.abort()
        self._waiting.clear()

    # From the arrivals

    def came(self, arrival: Arrival) -> None:
        """Wait for the first bytes."""
        if self._closed:
            arrival.transport.abort()
        else:
            self._newcomers.add(arrival)
            loop = asyncio.get_running_loop()
            self._silent[arrival] = loop.call_later(self._timeout, arrival.transport.abort)

    def spoke(self, arrival: Arrival) -> None:
        """Admit it: at once, unless enough were admitted in this turn."""
        self._hear(arrival)
        if self._admitted < PER_TURN:
            self._admit(arrival)
        else:
            self._waiting.append(arrival)

    def left(self, arrival: Arrival) -> None:
        """Forget it."""
        self._hear(arrival)
        self._newcomers.remove(arrival)

    # Inside

    def _hear(self, arrival: Arrival) -> None:
        timer = self._silent.pop(arrival, None)
        if timer is not None:
            timer.cancel()

    def _admit(self, arrival: Arrival) -> None:
        if not self._admitted:  # before anything can fail: the others may not be left waiting
            asyncio.get_running_loop().call_soon(self._next_turn)
        self._admitted += 1
        self._newcomers.remove(arrival)
        transport, protocol = arrival.transport, self._create()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        transport.resume_reading()
        protocol.data_received(arrival.data)

    def _next_turn(self) -> None:
        self._admitted = 0
        while self._waiting and self._admitted < PER_TURN:
            arrival = self._waiting.popleft()
            if not arrival.transport.is_closing():
                self._admit(arrival)


class Arrival(asyncio.Protocol):
    """One TCP connection.

    It is read from while it waits: this is how it shows that it has left.

    Attributes:
        transport: its own.
        data: what it has sent.
    """

    __slots__ = ("_arrivals", "data", "transport")

    def __init__(self, arrivals: Arrivals) -> None:
        self._arrivals = arrivals
        self.transport: asyncio.Transport
        self.data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport = cast(asyncio.Transport, transport)
        self._arrivals.came(self)

    def data_received(self, data: bytes) -> None:
        """Keep what came, and ask to be admitted for the first of it."""
        first, self.data = not self.data, self.data + data
        if first:
            self._arrivals.spoke(self)
        elif len(self.data) > MAX_UNREAD:
            self.transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """End; one that waits to be admitted is left out."""
        self._arrivals.left(self)

    def abort(self) -> None:
        """Cut it."""
        self.transport.abort()
