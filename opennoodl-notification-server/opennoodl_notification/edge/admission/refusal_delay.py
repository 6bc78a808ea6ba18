"""Refusal delays: a refused client stays connected for some seconds, so that it does not reconnect at once.

A browser hides the reason of a refused handshake from its page, so clients are refused on an open WebSocket.
y-websocket 1.5 counts every open WebSocket as a success and reconnects after 0.1 s, without end: nine times a second
for one tab. So the server sends the reason, handles no more messages, and closes the connection some seconds later.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable

FIRST = 2.0
"""Seconds until a client is closed after its first refusal. Each further refusal doubles them."""
LONGEST = 30.0
"""The longest delay, in seconds. y-websocket then closes the connection by itself."""
MEMORY = 60.0
"""Seconds without another refusal after which the next one counts as the first."""
MAX_REMEMBERED = 10_000
"""Addresses and tokens that are remembered. The one whose refusal is longest ago is forgotten first."""
MAX_WAITING = 1000
"""Refused connections that are kept. A further one is closed at once."""
SHARE = 10
"""`MAX_CONNECTIONS` divided by this is a further bound on refused connections."""
MAX_OF_ONE = 100
"""Refused connections of one address that are kept."""


class RefusalDelays:
    """Decides how long refused connections are kept.

    Args:
        connections: `MAX_CONNECTIONS`; 0 for any number.
    """

    def __init__(self, connections: int) -> None:
        self._most = min(MAX_WAITING, max(connections // SHARE, 1)) if connections else MAX_WAITING
        self._waiting: Counter[str] = Counter()  # by address
        self._count = 0
        self._refused: OrderedDict[object, tuple[int, float]] = OrderedDict()  # how often in a row, and when last

    def keep(self, address: str, token: str | None, now: float) -> float:
        """Count a refusal; return the seconds for which its connection is kept, 0 if it is closed at once.

        If it is kept, the caller must call `release` at its end.

        Args:
            address: the client's address.
            token: the token that was refused; None if there was none.
            now: the current time, in seconds of any steady clock.
        """
        keys: list[object] = [address] if token is None else [address, hash(token)]
        seconds = min(FIRST * 2.0 ** self._note(keys, now), LONGEST)
        if self._count >= self._most or self._waiting[address] >= MAX_OF_ONE:
            return 0.0
        self._count += 1
        self._waiting[address] += 1
        return seconds

    def release(self, address: str) -> None:
        """Stop counting a connection that was kept."""
        self._count -= 1
        self._waiting[address] -= 1
        if not self._waiting[address]:
            del self._waiting[address]

    def _note(self, keys: Iterable[object], now: float) -> int:
        """Count a refusal of each key; return the highest number of refusals in a row that one of them had before."""
        most = 0
        for key in keys:
            times, last = self._refused.pop(key, (0, now))
            times = times if now - last < MEMORY else 0
            most = max(most, times)
            self._refused[key] = (min(times + 1, 10), now)
            if len(self._refused) > MAX_REMEMBERED:
                self._refused.popitem(last=False)
        return most
