"""The handler: what a WebSocket connection calls. A server implements it, see `Application`.

It is generic in the connection, so that neither module imports the other one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

from ..limits import Over
from ..metrics import Metrics
from ..refusals import Refusals
from ..settings import EdgeSettings
from .large_messages import LargeMessages, Sender

C = TypeVar("C", bound=Sender)


class Handler(ABC, Generic[C]):
    """Handles the events of all connections.

    For every connection `open`, any number of `receive` and exactly one `close` are called, in this order and never at
    the same time. Only `open` may wait; work that a message has to wait for is done with `Connection.work`.

    Attributes:
        settings: with the limits of one connection.
        max_message_size: bytes of the largest message that is read; a larger one closes its sender with 1009.
        metrics: count messages and limits.
        refusals: note the clients that are closed.
        large_messages: bounds those of all clients together.
    """

    settings: EdgeSettings
    max_message_size: int
    metrics: Metrics
    refusals: Refusals
    large_messages: LargeMessages[C]

    async def open(self, connection: C) -> None:
        """Take a new connection; its messages wait until this returns.

        Raises:
            CloseConnection: the connection cannot be served, with the code and the reason to close it.
        """

    @abstractmethod
    def receive(self, connection: C, message: bytes, text: bool) -> None:
        """Handle one whole message.

        Raises:
            CloseConnection: the message ends the connection.
        """

    def limited(self, connection: C, message: bytes, over: Over) -> bool:
        """Decide about a message over ``RATE_LIMIT`` or ``BYTE_RATE_LIMIT``.

        Returns:
            whether the message is handled nevertheless.
        """
        return True

    @abstractmethod
    def slow(self, connection: C) -> None:
        """Deal with a client for which more than ``SLOW_CLIENT_BUFFER`` waits: close it, or send it less."""

    def drained(self, connection: C) -> None:
        """Take note that a slow client, which was not closed, has read what waited for it."""

    @abstractmethod
    def close(self, connection: C) -> None:
        """Forget a connection, whatever ended it."""

    def ping_payload(self, connection: C) -> bytes:
        """Return the payload of a heartbeat's ping, in up to 125 bytes; `pong` is called with it."""
        return b""

    def pong(self, connection: C, payload: bytes) -> None:
        """Take note of a pong: if it answers a heartbeat, the client has all that was written before that."""
