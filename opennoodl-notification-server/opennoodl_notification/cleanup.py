"""The cleanup: deletes expired notifications, and tests whether a store that has failed works again."""

import asyncio

from .clock import Clock
from .inbox.store import Needs, Store
from .records import timestamp
from .totals import Totals
from .worker import Worker

INTERVAL = 10.0
"""Seconds between two searches for expired notifications."""
RETRY_INTERVAL = 5.0
"""Seconds between two tests of a store that has failed."""
SIZE = 1000
"""Notifications in the inboxes of one cleanup batch; more if a single inbox has more."""


class Cleanup:
    """Deletes expired notifications every few seconds, between two batches of the worker.

    Args:
        worker: makes the changes.
        store: stores the inboxes.
        totals: counts the stored notifications.
        room: limit of notifications in an inbox; 0 means no limit.
        clock: gives the time.
    """

    def __init__(self, worker: Worker, store: Store, totals: Totals, room: int, clock: Clock) -> None:
        self._worker = worker
        self._store = store
        self._totals = totals
        self._room = room
        self._clock = clock

    async def run(self) -> None:
        """Clean up until cancelled."""
        while True:
            self.schedule()
            await asyncio.sleep(INTERVAL if self._worker.failure is None else RETRY_INTERVAL)

    def schedule(self) -> None:
        """Clean up before the next batch."""
        self._worker.schedule(self._clean_up)

    async def _clean_up(self) -> None:
        """Delete the expired notifications of some inboxes."""
        now = self._clock.now()
        needs = Needs(timestamp(self._clock.expiry()), self._room)
        try:
            if self._worker.failure is not None:
                await self._store.recover()
                self._worker.recovered()
            await self._totals.refresh(self._store)
            self._totals.add(0, -await self._store.clean(needs.now))
            due = await self._store.due(needs.now, SIZE)
        except Exception as error:  # after any error, nothing was changed
            self._worker.failed(error)
            return
        needs.users.update(dict.fromkeys(due, 0))
        commits = self._worker.commits
        if due:
            await self._worker.change([], needs, now)
        if self._worker.commits > commits:  # otherwise this would repeat without an end
            self.schedule()
