"""The lease of this instance: one row, renewed all the time. Without it, its rooms are free to other instances.

The row expires by the clock of the database. This side measures with a monotonic clock from before the statement was
sent, and takes the lease to be over three seconds earlier. So no wall clocks are compared, and an instance that was
stopped for a while knows that it was when it goes on.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from time import monotonic

import structlog

from ..interface import StoreError
from .link import TIMEOUT, Link
from .statements import RENEW, RETIRE

DURATION = 10.0
"""Seconds for which the database keeps a lease that is not renewed."""
LAPSE_AFTER = 7.0
"""Seconds since the last renewal after which this instance takes its rooms to be lost."""
RENEW_INTERVAL = 3.0
RETRY_INTERVAL = 0.5
"""Seconds until a renewal is tried again after one has failed."""
RENEW_TIMEOUT = 2.5
"""Seconds after which a renewal that was not answered has failed."""

log = structlog.get_logger()


class Lease:
    """Keeps the row of this instance.

    Args:
        link: to the database, used for nothing else: a renewal must not wait for a large statement.
        name: of this instance.
        lapsed: is called when the lease could not be renewed in time.
        renewed: is awaited after each renewal, and told whether the row had been missing.

    Attributes:
        url: where other instances reach this one.
        failure: why the last renewal failed, or None.
    """

    def __init__(
        self, link: Link, name: str, lapsed: Callable[[], None], renewed: Callable[[bool], Awaitable[None]]
    ) -> None:
        self.url = ""
        self.failure: str | None = None
        self._link = link
        self._name = name
        self._lapsed = lapsed
        self._renewed = renewed
        self._since = 0.0
        self._held = False
        self._timer: asyncio.TimerHandle | None = None
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def age(self) -> float:
        """Seconds since the lease was renewed."""
        return monotonic() - self._since

    def check(self) -> bool:
        """Return whether no other instance can take this one's rooms; act on it if that has just ended."""
        if self._held and self.age >= LAPSE_AFTER:
            self._lapse()
        return self._held

    async def begin(self) -> None:
        """Get the lease, and renew it from now on.

        Raises:
            StoreError: the database cannot be reached.
        """
        await self._renew(TIMEOUT)
        self._task = asyncio.create_task(self._keep())

    def renew_soon(self) -> None:
        """Renew now, as when the URL has changed or the database may be back."""
        self._wake.set()

    async def end(self) -> None:
        """Renew no more, and delete the row: give all rooms back before."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if self._timer is not None:
            self._timer.cancel()
        self._held = False
        with suppress(StoreError):  # it expires by itself
            await self._link.fetch(RETIRE, self._name)

    async def _keep(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(RETRY_INTERVAL if self.failure else RENEW_INTERVAL):
                    await self._wake.wait()
            self._wake.clear()
            try:
                await self._renew(RENEW_TIMEOUT)
            except StoreError as error:
                if self.failure is None:
                    log.error("the lease of this instance could not be renewed", error=str(error.__cause__ or error))
                self.failure = str(error)
            except Exception:
                log.exception("the lease of this instance could not be renewed")
                self.failure = "The lease of this instance cannot be renewed."

    async def _renew(self, seconds: float) -> None:
        sent = monotonic()
        (row,) = await self._link.fetch(RENEW, self._name, self.url, DURATION, seconds=seconds)
        if not self.check() and self._since:
            log.warning("this instance has its lease again")
        self._since, self._held = sent, True
        self._await_end()
        if self.failure is not None:
            log.info("the lease of this instance is renewed again")
            self.failure = None
        await self._renewed(row["made"])

    def _await_end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self.check():  # a timer may go off a moment early
            rest = max(LAPSE_AFTER - self.age, 0.001)
            self._timer = asyncio.get_running_loop().call_later(rest, self._await_end)

    def _lapse(self) -> None:
        self._held = False
        self.failure = self.failure or "The lease of this instance is over."
        log.error("the lease of this instance is over: its documents may be opened at other instances")
        self._lapsed()
