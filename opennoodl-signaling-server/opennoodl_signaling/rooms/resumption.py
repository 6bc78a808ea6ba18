"""Resumption: the token with which a later connection takes a peer's place, and the messages that the peer missed.

A `joined` and the messages after it can be lost with their connection. Therefore the token of the previous `joined`,
and the log of messages since then, stay valid until a pong shows that the newer `joined` has arrived.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hmac import compare_digest
from itertools import count
from secrets import token_urlsafe
from typing import NamedTuple

from ..messages import SignalFrom
from .absent_peers import AbsentPeer
from .unacknowledged import CountedMessage, DeliveryLog, DeliveryLogs

Missed = tuple[set[str], Sequence[SignalFrom]]
"""The ids of the peers that a peer knows and that have not left, and the signals that it has not received."""

_names = count()


class Former(NamedTuple):
    """The previous `joined`, while it is unknown whether the last one has arrived.

    Attributes:
        token: the resume token in it.
        log: the messages since then that the peer may not have received.
        counted: whether the peer counts the messages that it receives. If not, it has received none of them.
    """

    token: str
    log: DeliveryLog
    counted: bool


class Resumption:
    """The data with which the next connection of a peer can resume.

    Args:
        log: logs the messages to the peer from now on; None if the peer does not count what it receives.
        former: the `joined` before, if it is still valid.

    Attributes:
        token: the resume token of the last `joined`.
        log: as given.
        former: as given, until a pong shows that the last `joined` has arrived.
    """

    __slots__ = ("_name", "former", "log", "token")

    def __init__(self, log: DeliveryLog | None, former: Former | None = None) -> None:
        self.token = token_urlsafe()
        self.log = log
        self.former = former
        self._name = b"%d" % next(_names)

    def log_message(self, message: CountedMessage) -> None:
        """Log a message to the peer."""
        if self.log is not None:
            self.log.add(message)
        if self.former is not None:
            self.former.log.add(message)

    def mark(self) -> bytes:
        """Return the payload for a ping. Its pong shows that all messages before it have arrived."""
        if self.log is None and self.former is None:
            return b""  # nothing is logged
        return b"%b %d" % (self._name, 0 if self.log is None else self.log.number)

    def confirm(self, mark: bytes) -> None:
        """Handle the payload of a pong. A payload that is not a mark of this `joined` is ignored."""
        name, _, number = mark.partition(b" ")
        if name != self._name or not number.isdigit():
            return
        if self.former is not None:
            self.former.log.end()
            self.former = None
        if self.log is not None:
            self.log.arrived(int(number))

    def accepts(self, token: str | None) -> bool:
        """Return whether a token is valid for this peer's place."""
        return _same(token, self.token) or self._is_former(token)

    def missed(self, token: str, received: int | None, absent: AbsentPeer | None) -> Missed | None:
        """Return the messages that the peer has missed; None if they are unknown.

        Args:
            token: the token that the peer sends. It shows which `joined` was the last one to arrive.
            received: the number of messages that the peer has received since then; None if it does not count.
            absent: the absence of the peer; None if the loss of its connection was not noticed.
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
        """End this resumption, because the same connection gets another `joined`; return the previous one for it.

        Args:
            token: the token that the peer sends; None if it sends none.
            known: the ids of the peers that the peer knows.
            logs: the totals of all logs.
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
        """End the logs."""
        if self.log is not None:
            self.log.end()
        if self.former is not None:
            self.former.log.end()

    def _is_former(self, token: str | None) -> bool:
        return self.former is not None and _same(token, self.former.token)


def _same(shown: str | None, token: str) -> bool:
    return shown is not None and compare_digest(shown.encode(), token.encode())
