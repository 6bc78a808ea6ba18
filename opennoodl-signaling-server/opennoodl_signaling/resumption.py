"""Resumption: what a later connection shows to take a peer's place, and what it is told then that the peer missed."""

from __future__ import annotations

from collections.abc import Sequence
from hmac import compare_digest
from secrets import token_urlsafe

from .absence import Absence
from .messages import SignalFrom
from .trail import Told, Trail

Missed = tuple[set[str], Sequence[SignalFrom]]
"""The ids of the peers that a peer knows and that are still there, and the signals that it has not received."""


class Resumption:
    """What one `joined` of a peer says about the next connection of that peer.

    Args:
        trail: what the peer is told after that `joined`, if it counts what it receives.

    Attributes:
        token: what the next connection has to show.
    """

    __slots__ = ("token", "trail")

    def __init__(self, trail: Trail | None) -> None:
        self.token = token_urlsafe()
        self.trail = trail

    def told(self, message: Told) -> None:
        """Record what the peer is being told."""
        if self.trail is not None:
            self.trail.add(message)

    def mark(self) -> bytes:
        """Return the payload of a ping, whose pong says that everything that was told before has arrived."""
        return b"" if self.trail is None else self.trail.mark()

    def reached(self, mark: bytes) -> None:
        """Take the payload of a pong."""
        if self.trail is not None:
            self.trail.reached(mark)

    def opens(self, token: str | None) -> bool:
        """Return whether this token takes the peer's place."""
        return token is not None and compare_digest(token.encode(), self.token.encode())

    def missed(self, received: int | None, absence: Absence | None) -> Missed | None:
        """Return what the peer has missed; None if nobody can tell.

        Args:
            received: how many messages the peer has received since its `joined`, if it counts.
            absence: what has happened since its connection was lost, if that was noticed.
        """
        if self.trail is None or received is None:
            return None if absence is None else (absence.known, absence.signals)
        self.trail.arrived(received)
        known, signals = self.trail.missed()
        if absence is None:
            return known, signals
        return known & absence.known, [one for one in signals if one.from_ in absence.known] + absence.signals

    def end(self) -> None:
        """Record nothing any more."""
        if self.trail is not None:
            self.trail.end()
