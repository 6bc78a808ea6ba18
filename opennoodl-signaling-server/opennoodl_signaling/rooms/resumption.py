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

from ..messages import SignalFrom
from .absent_peers import AbsentPeer
from .unacknowledged import DeliveryLog, DeliveryLogs, Told

Missed = tuple[set[str], Sequence[SignalFrom]]
"""The ids of the peers that a peer knows and that are still there, and the signals that it has not received."""

_names = count()


class Former(NamedTuple):
    """What stays good of the `joined` before the last one.

    Attributes:
        token: what was given with it.
        log: what the peer has been told and may not have received.
        counted: whether the peer counts what it has received of that; if not, it has received nothing of it.
    """

    token: str
    log: DeliveryLog
    counted: bool


class Resumption:
    """What the last `joined` of a peer, and if need be the one before, say about its next connection.

    Args:
        log: what the peer is told from now on, if it counts what it receives.
        former: what is left of the `joined` before.

    Attributes:
        token: what the next connection has to show.
        log: as given.
        former: as given, until the peer has shown that it has the newer `joined`.
    """

    __slots__ = ("_name", "former", "log", "token")

    def __init__(self, log: DeliveryLog | None, former: Former | None = None) -> None:
        self.token = token_urlsafe()
        self.log = log
        self.former = former
        self._name = b"%d" % next(_names)

    def told(self, message: Told) -> None:
        """Record what the peer is being told."""
        if self.log is not None:
            self.log.add(message)
        if self.former is not None:
            self.former.log.add(message)

    def mark(self) -> bytes:
        """Return the payload of a ping, whose pong says that all that was told before it has arrived."""
        if self.log is None and self.former is None:
            return b""  # there is nothing to learn
        return b"%b %d" % (self._name, 0 if self.log is None else self.log.number)

    def reached(self, mark: bytes) -> None:
        """Take the payload of a pong; one that is not a mark of this `joined` says nothing."""
        name, _, number = mark.partition(b" ")
        if name != self._name or not number.isdigit():
            return
        if self.former is not None:
            self.former.log.end()
            self.former = None
        if self.log is not None:
            self.log.arrived(int(number))

    def opens(self, token: str | None) -> bool:
        """Return whether this token takes the peer's place."""
        return _same(token, self.token) or self._is_former(token)

    def missed(self, token: str, received: int | None, absent: AbsentPeer | None) -> Missed | None:
        """Return what the peer has missed; None if nobody can tell.

        Args:
            token: the one that is shown; it says which `joined` was the last to arrive.
            received: how many messages the peer has received since that, if it counts.
            absent: what has happened since its connection was lost, if that was noticed.
        """
        log = self.log
        if self.former is not None and self._is_former(token):
            log = self.former.log
            received = received if self.former.counted else 0
        if log is None or received is None:
            return None if absent is None else (absent.known, absent.signals)
        log.arrived(received)
        known, signals = log.missed()
        if absent is None:
            return known, signals
        return known & absent.known, [one for one in signals if one.from_ in absent.known] + absent.signals

    def hand_over(self, token: str | None, known: Iterable[str], logs: DeliveryLogs) -> Former:
        """Be over because of another `joined` on the same connection; return what stays good after that.

        Args:
            token: the one that is shown, if any.
            known: the ids of the peers that the peer has been told of.
            logs: all logs.
        """
        if self.former is not None and self._is_former(token):
            kept, dropped = self.former, self.log
        else:
            log = DeliveryLog(known, logs) if self.log is None else self.log
            kept = Former(self.token, log, self.log is not None)
            dropped = None if self.former is None else self.former.log
        if dropped is not None:
            dropped.end()
        return kept

    def end(self) -> None:
        """Record nothing any more."""
        if self.log is not None:
            self.log.end()
        if self.former is not None:
            self.former.log.end()

    def _is_former(self, token: str | None) -> bool:
        return self.former is not None and _same(token, self.former.token)


def _same(shown: str | None, token: str) -> bool:
    return shown is not None and compare_digest(shown.encode(), token.encode())
