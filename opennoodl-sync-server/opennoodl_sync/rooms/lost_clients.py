"""Lost clients: those whose connection was lost, and whose awareness states stay until they have reconnected."""

import asyncio
from collections.abc import Hashable
from functools import partial

from .flusher import Flusher
from .registry import Rooms
from .room import Room

LOST_GRACE = 5.0
"""Seconds for which the awareness states of a lost connection are kept; y-websocket tries again every 2.5 s."""
MAX_LOST = 1000
"""Lost connections whose awareness states are kept at the same time."""


class LostClients:
    """Keeps the awareness states of lost clients for `LOST_GRACE`, then removes them.

    Args:
        rooms: the rooms.
        flusher: tells the other clients that states were removed.
    """

    def __init__(self, rooms: Rooms, flusher: Flusher) -> None:
        self._rooms = rooms
        self._flusher = flusher
        self._timers: dict[Hashable, asyncio.TimerHandle] = {}

    def leave(self, room: Room, client: Hashable) -> None:
        """Take a client, whose connection was lost, out of its room; keep its states unless `MAX_LOST` are kept."""
        if room.leave(client, lost=len(self._timers) < MAX_LOST):
            self._timers[client] = asyncio.get_running_loop().call_later(LOST_GRACE, self._forget, room, client)

    def stop(self) -> None:
        """Cancel all timers."""
        for timer in self._timers.values():
            timer.cancel()

    def _forget(self, room: Room, client: Hashable) -> None:
        del self._timers[client]
        self._rooms.slicer.when_free(room, partial(self._end, room, client))

    def _end(self, room: Room, client: Hashable) -> None:
        if self._rooms.holds(room):
            room.forget(client)
            self._flusher.schedule(room)
