"""The listener: accepts TCP connections, and hands each one on when its first bytes arrive.

It hands on a few connections in each turn of the event loop. When thousands of clients connect at once, as after a
restart, the server still serves the open connections in between. A client that sends nothing costs only its TCP
connection.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import cast

from ..refusals import Refusals
from .client_address import peer_address
from .pending import Pending

PER_TURN = 16
"""Connections that are handed on in one turn of the event loop."""
MAX_UNREAD = 65_536
"""Bytes that are buffered of a connection that is not handed on yet; then reading pauses."""


class Listener:
    """Hands TCP connections on in the order in which their first bytes arrived.

    Args:
        create: makes the protocol that takes over a TCP connection. That protocol sets its own timeouts.
        timeout: seconds in which a client must send its first bytes.
        pending: counts the TCP connections until they are handed on.
        refusals: counts and logs the connections that the listener aborts.
    """

    def __init__(
        self, create: Callable[[], asyncio.Protocol], timeout: float, pending: Pending, refusals: Refusals
    ) -> None:
        self._create = create
        self._timeout = timeout
        self._pending = pending
        self._refusals = refusals
        self._silent: dict[Accepted, asyncio.TimerHandle] = {}
        self._queue: deque[Accepted] = deque()  # some may be lost meanwhile
        self._handed_on = 0  # in this turn
        self._closed = False

    def accept(self) -> Accepted:
        """Return a protocol for the next TCP connection."""
        return Accepted(self)

    def close(self) -> None:
        """Abort every TCP connection that is not handed on yet, and each later one."""
        self._closed = True
        for accepted in (*self._silent, *self._queue):
            accepted.transport.abort()
        self._queue.clear()

    # Called by the accepted TCP connections

    def connected(self, accepted: Accepted) -> None:
        """Wait for the first bytes."""
        if self._closed:
            accepted.transport.abort()
        else:
            self._pending.add(accepted)
            loop = asyncio.get_running_loop()
            self._silent[accepted] = loop.call_later(self._timeout, accepted.abort, "timeout")

    def first_bytes(self, accepted: Accepted) -> None:
        """Hand the TCP connection on now, or in a later turn if this turn has handed on `PER_TURN` already."""
        self._stop_timer(accepted)
        if self._handed_on < PER_TURN:
            self._hand_on(accepted)
        else:
            self._queue.append(accepted)

    def note_refusal(self, accepted: Accepted, code: str) -> None:
        """Count and log that a TCP connection is aborted, for the reason with this code."""
        self._refusals.note(code, peer_address(accepted.transport))

    def disconnected(self, accepted: Accepted) -> None:
        """Forget a TCP connection that is lost."""
        self._stop_timer(accepted)
        self._pending.remove(accepted)

    # Inside

    def _stop_timer(self, accepted: Accepted) -> None:
        timer = self._silent.pop(accepted, None)
        if timer is not None:
            timer.cancel()

    def _hand_on(self, accepted: Accepted) -> None:
        if not self._handed_on:  # first of all, so that the queue is served even if a later step fails
            asyncio.get_running_loop().call_soon(self._next_turn)
        self._handed_on += 1
        self._pending.remove(accepted)
        transport, protocol = accepted.transport, self._create()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        transport.resume_reading()
        protocol.data_received(accepted.data)

    def _next_turn(self) -> None:
        self._handed_on = 0
        while self._queue and self._handed_on < PER_TURN:
            accepted = self._queue.popleft()
            if not accepted.transport.is_closing():
                self._hand_on(accepted)


class Accepted(asyncio.Protocol):
    """A TCP connection that is not handed on yet.

    The server reads from it while it waits, because only a read shows that the client has disconnected.

    Attributes:
        transport: the transport of the TCP connection.
        data: the bytes that the client has sent.
    """

    __slots__ = ("_listener", "data", "transport")

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self.transport: asyncio.Transport
        self.data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Register with the listener."""
        self.transport = cast(asyncio.Transport, transport)
        self._listener.connected(self)

    def data_received(self, data: bytes) -> None:
        """Buffer the bytes. The first ones tell the listener that it can hand this connection on."""
        first, self.data = not self.data, self.data + data
        if first:
            self._listener.first_bytes(self)
        elif len(self.data) > MAX_UNREAD:
            self.transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Unregister. The listener skips lost connections in its queue."""
        self._listener.disconnected(self)

    def abort(self, refusal: str = "") -> None:
        """Abort the TCP connection.

        Args:
            refusal: the code under which it is counted and logged; empty if it is not.
        """
        if refusal:
            self._listener.note_refusal(self, refusal)
        self.transport.abort()
