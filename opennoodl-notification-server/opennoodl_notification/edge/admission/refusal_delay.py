"""Refused clients: how long they are kept before their connection is closed, so that they do not come back at once.

A browser sees nothing of a handshake that is refused, so clients are refused on an open WebSocket. y-websocket 1.5
counts every open one as a success and connects again after 0.1 s, for ever: nine times a second for one tab. So a
refused connection is told why, taken out of everything, and closed some seconds later.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable

FIRST = 2.0
"""Seconds after which a client is closed that is refused for the first time; each further time takes twice as long."""
LONGEST = 30.0
"""Seconds after which a client is closed that is refused again and again; y-websocket gives up by itself then."""
MEMORY = 60.0
"""Seconds without another refusal after which the next one counts as the first."""
MAX_REMEMBERED = 10_000
"""Addresses and tokens that are remembered; the one refused longest ago is forgotten first."""
MAX_WAITING = 1000
"""Refused connections that are kept; one more is closed at once."""
SHARE = 10
"""One connection in so many of those that may be open may be a refused one."""
MAX_OF_ONE = 100
"""Refused connections of one address that are kept."""


class RefusalDelays:
    """Decides how long refused connections are kept.

    Args:
        connections: how many there may be of all kinds; 0 for any number.
    """

    def __init__(self, connections: int) -> None:
        self._most = min(MAX_WAITING, max(connections // SHARE, 1)) if connections else MAX_WAITING
        self._waiting: Counter[str] = Counter()  # by address
        self._count = 0
        self._refused: OrderedDict[object, tuple[int, float]] = OrderedDict()  # how often in a row, and when last

    def keep(self, address: str, token: str | None, now: float) -> float:
        """Count a refusal at time `now`; return for how many seconds its connection is kept, 0 for not at all.

        If it is kept, `release` must follow.
        """
        keys: list[object] = [address] if token is None else [address, hash(token)]
        seconds = min(FIRST * 2.0 ** self._note(keys, now), LONGEST)
        if self._count >= self._most or self._waiting[address] >= MAX_OF_ONE:
            return 0.0
        self._count += 1
        self._waiting[address] += 1
        return seconds

    def release(self, address: str) -> None:
        """Count a connection that was kept no more."""
        self._count -= 1
        self._waiting[address] -= 1
        if not self._waiting[address]:
            del self._waiting[address]

    def _note(self, keys: Iterable[object], now: float) -> int:
        """Count one more refusal of each key; return how often in a row one of them was refused before."""
        most = 0
        for key in keys:
            times, last = self._refused.pop(key, (0, now))
            times = times if now - last < MEMORY else 0
            most = max(most, times)
            self._refused[key] = (min(times + 1, 10), now)
            if len(self._refused) > MAX_REMEMBERED:
                self._refused.popitem(last=False)
        return most
