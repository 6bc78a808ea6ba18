"""The interfaces of an application that a WebSocket connection uses.

The type of the connection is a parameter, so that this module and `connection` do not import each other.
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


class Handler(ABC):
    """Handles the events of one connection. `Application.open` makes one for each connection.

    The connection calls `receive` for each message, then `close` once, and never two methods at the same time. No
    method may wait. If a message has to wait for something, use `Connection.work`.
    """

    __slots__ = ()

    @abstractmethod
    def receive(self, message: bytes, text: bool) -> None:
        """Handle one message.

        Args:
            message: all bytes of the message.
            text: whether the message is text.

        Raises:
            CloseConnection: the connection is to be closed, with the close code and the reason.
        """

    def limited(self, message: bytes, over: Over) -> bool:
        """Decide about a message over ``RATE_LIMIT`` or ``BYTE_RATE_LIMIT``.

        Returns:
            whether to handle the message nevertheless.
        """
        return True

    @abstractmethod
    def slow(self) -> None:
        """Close the client, which has more than ``SLOW_CLIENT_BUFFER`` unread bytes, or send it less."""

    def drained(self) -> None:
        """React to a slow client that has read all its output."""

    @abstractmethod
    def close(self, *, lost: bool) -> None:
        """Forget the client, whatever ended its connection.

        Args:
            lost: whether the TCP connection ended without a closing handshake of either side.
        """

    def ping_payload(self) -> bytes:
        """Return the payload of a heartbeat's ping, at most 125 bytes. `pong` gets it back."""
        return b""

    def pong(self, payload: bytes) -> None:
        """React to a pong. If it answers a heartbeat, the client has received everything that was written before it."""


class Host(ABC, Generic[C]):
    """The settings and counters that all connections of an application share.

    Attributes:
        settings: the settings, with the limits of one connection.
        max_message_size: bytes of the largest message; a larger one closes its sender with 1009.
        metrics: counts messages, and messages over a limit.
        refusals: logs and counts the clients that are disconnected.
        large_messages: bounds the large messages of all clients together.
    """

    settings: EdgeSettings
    max_message_size: int
    metrics: Metrics
    refusals: Refusals
    large_messages: LargeMessages[C]
