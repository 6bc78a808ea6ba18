"""The lease of this instance: one row that is renewed regularly. Without it, other instances may own its rooms.

The row expires by the clock of the database. This instance measures from before the statement was sent, with a
monotonic clock, and considers the lease expired three seconds earlier. Therefore no wall clocks are compared, and an
instance that was suspended detects this when it continues.
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
"""Seconds until a lease that is not renewed expires in the database."""
LAPSE_AFTER = 7.0
"""Seconds since the last renewal after which this instance considers its rooms lost."""
RENEW_INTERVAL = 3.0
RETRY_INTERVAL = 0.5
"""Seconds until a failed renewal is tried again."""
RENEW_TIMEOUT = 2.5
"""Time limit of a renewal, in seconds."""

log = structlog.get_logger()


class Lease:
    """Renews the row of this instance.

    Args:
        link: a connection for the lease only, since a renewal must not wait for a large statement.
        name: the name of this instance.
        lapsed: is called when the lease could not be renewed in time.
        renewed: is awaited after each renewal, with whether the row was missing.

    Attributes:
        url: the URL of this instance for other instances.
        failure: the reason of the last failed renewal, or None.
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
        """Seconds since the last renewal."""
        return monotonic() - self._since

    def check(self) -> bool:
        """Return whether this instance still owns its rooms; if the lease has just expired, call `lapsed`."""
        if self._held and self.age >= LAPSE_AFTER:
            self._lapse()
        return self._held

    async def begin(self) -> None:
        """Get the lease, and start renewing it.

        Raises:
            StoreError: the database cannot be reached.
        """
        await self._renew(TIMEOUT)
        self._task = asyncio.create_task(self._keep())

    def renew_soon(self) -> None:
        """Renew now, for example because the URL has changed or the database may be back."""
        self._wake.set()

    async def end(self) -> None:
        """Stop renewing, and delete the row; release all rooms before."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if self._timer is not None:
            self._timer.cancel()
        self._held = False
        with suppress(StoreError):  # otherwise it expires
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
        if self.check():  # the timer may fire slightly too early
            rest = max(LAPSE_AFTER - self.age, 0.001)
            self._timer = asyncio.get_running_loop().call_later(rest, self._await_end)

    def _lapse(self) -> None:
        self._held = False
        self.failure = self.failure or "The lease of this instance is over."
        log.error("the lease of this instance is over: its documents may be opened at other instances")
        self._lapsed()
