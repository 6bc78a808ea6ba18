"""Clients as the domain sees them, which knows no socket. A `Connection` is both of these."""

from __future__ import annotations

from typing import Protocol

from .errors import BadMessage


class Receiver(Protocol):
    """A client that is sent messages."""

    def write_soon(self, frame: bytes) -> None:
        """Send a prepared frame at the end of this turn of the event loop."""

    def disconnect(self, code: int, reason: str, refusal: str = "") -> None:
        """Close the client's connection; the application's `close` is called at once.

        Args:
            code: for the close frame.
            reason: for the close frame.
            refusal: the code of `refusals`; empty for that of the close code.
        """

    def note_error(self, bad: BadMessage) -> None:
        """Count an error that answers a message of the client."""


class Peer(Receiver, Protocol):
    """A client that other clients may wait for."""

    def probe(self) -> None:
        """Ping the client; the pong says that all that was sent before has arrived."""

    async def is_alive(self, seconds: float) -> bool:
        """Return whether the client answers a ping within `seconds`."""
