"""Resumption: what a later connection shows to take a peer's place, and what it is told then that the peer missed.

A `joined` can be lost with its connection, and all that follows it. So the token of the `joined` before it, and
what was told since, stay good until a pong shows that the newer `joined` has arrived.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hmac import compare_digest
from itertools import count
from secrets import token_urlsafe
from typing import NamedTuple

from .absence import Absence
from .messages import SignalFrom
from .trail import Told, Trail, Trails

Missed = tuple[set[str], Sequence[SignalFrom]]
"""The ids of the peers that a peer knows and that are still there, and the signals that it has not received."""

_names = count()


class Former(NamedTuple):
    """What stays good of the `joined` before the last one.

    Attributes:
        token: what was given with it.
        trail: what the peer has been told and may not have received.
        counted: whether the peer counts what it has received of that; if not, it has received nothing of it.
    """

    token: str
    trail: Trail
    counted: bool


class Resumption:
    """What the last `joined` of a peer, and if need be the one before, say about its next connection.

    Args:
        trail: what the peer is told from now on, if it counts what it receives.
        former: what is left of the `joined` before.

    Attributes:
        token: what the next connection has to show.
        trail: as given.
        former: as given, until the peer has shown that it has the newer `joined`.
    """

    __slots__ = ("_name", "former", "token", "trail")

    def __init__(self, trail: Trail | None, former: Former | None = None) -> None:
        self.token = token_urlsafe()
        self.trail = trail
        self.former = former
        self._name = b"%d" % next(_names)

    def told(self, message: Told) -> None:
        """Record what the peer is being told."""
        if self.trail is not None:
            self.trail.add(message)
        if self.former is not None:
            self.former.trail.add(message)

    def mark(self) -> bytes:
        """Return the payload of a ping, whose pong says that all that was told before it has arrived."""
        if self.trail is None and self.former is None:
            return b""  # there is nothing to learn
        return b"%b %d" % (self._name, 0 if self.trail is None else self.trail.number)

    def reached(self, mark: bytes) -> None:
        """Take the payload of a pong; one that is not a mark of this `joined` says nothing."""
        name, _, number = mark.partition(b" ")
        if name != self._name or not number.isdigit():
            return
        if self.former is not None:
            self.former.trail.end()
            self.former = None
        if self.trail is not None:
            self.trail.arrived(int(number))

    def opens(self, token: str | None) -> bool:
        """Return whether this token takes the peer's place."""
        return _same(token, self.token) or self._is_former(token)

    def missed(self, token: str, received: int | None, absence: Absence | None) -> Missed | None:
        """Return what the peer has missed; None if nobody can tell.

        Args:
            token: the one that is shown; it says which `joined` was the last to arrive.
            received: how many messages the peer has received since that, if it counts.
            absence: what has happened since its connection was lost, if that was noticed.
        """
        trail = self.trail
        if self.former is not None and self._is_former(token):
            trail = self.former.trail
            received = received if self.former.counted else 0
        if trail is None or received is None:
            return None if absence is None else (absence.known, absence.signals)
        trail.arrived(received)
        known, signals = trail.missed()
        if absence is None:
            return known, signals
        return known & absence.known, [one for one in signals if one.from_ in absence.known] + absence.signals

    def hand_over(self, token: str | None, known: Iterable[str], trails: Trails) -> Former:
        """Be over because of another `joined` on the same connection; return what stays good after that.

        Args:
            token: the one that is shown, if any.
            known: the ids of the peers that the peer has been told of.
            trails: all trails.
        """
        if self.former is not None and self._is_former(token):
            kept, dropped = self.former, self.trail
        else:
            trail = Trail(known, trails) if self.trail is None else self.trail
            kept = Former(self.token, trail, self.trail is not None)
            dropped = None if self.former is None else self.former.trail
        if dropped is not None:
            dropped.end()
        return kept

    def end(self) -> None:
        """Record nothing any more."""
        if self.trail is not None:
            self.trail.end()
        if self.former is not None:
            self.former.trail.end()

    def _is_former(self, token: str | None) -> bool:
        return self.former is not None and _same(token, self.former.token)


def _same(shown: str | None, token: str) -> bool:
    return shown is not None and compare_digest(shown.encode(), token.encode())
