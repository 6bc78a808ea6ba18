"""The worker: takes batches of requests from the queue, stores their changes, and sends answers and events.

All requests wait in one queue. The changes of a batch are one commit, and its answers and events are sent in order when
the commit is on disk. Therefore an answer is a promise, no read shows changes that may be lost, and a busy server
stores many messages with one sync.
"""

import asyncio
from itertools import chain
from time import monotonic, perf_counter

import structlog

from .clock import Clock
from .devices import Devices
from .edge.errors import BadMessage
from .edge.metrics import SECONDS, Histogram
from .inbox.batch import Batch, Outcome, StorageFull
from .inbox.requirements import need
from .inbox.send_quota import SendQuota
from .inbox.store import Changes, Needs, Store, StoreError, UnsettledError
from .instances import Instances, Job
from .queue import Queue, Request
from .reader import Reader
from .records import timestamp
from .settings import Settings
from .totals import Totals

UNAUTHORIZED = BadMessage("unauthorized", "Send `authenticate` with your userId first.")
UNAVAILABLE = BadMessage("storage-unavailable", "The store failed; send this again later.")
UNSETTLED = "The outcome of a change is unknown. Connect again for the current state."

log = structlog.get_logger()


class Worker:
    """Handles requests, one batch after the other. Only the worker changes the store.

    Args:
        queue: the requests.
        store: stores the inboxes.
        devices: receive the events.
        reader: answers requests that only read.
        totals: counts the stored bytes.
        quota: counts the notifications that users send.
        instances: other servers with the same store, or None.
        settings: the limits.
        clock: gives the time.

    Attributes:
        failure: the reason of the last failure of the store; None if its last commit succeeded.
        errors: the number of failures.
        commits: the number of commits.
        seconds: histogram of the durations of batches with changes.
    """

    def __init__(
        self,
        queue: Queue,
        store: Store,
        devices: Devices,
        reader: Reader,
        totals: Totals,
        *,
        quota: SendQuota,
        instances: Instances | None,
        settings: Settings,
        clock: Clock,
    ) -> None:
        self._store = store
        self._devices = devices
        self._reader = reader
        self._totals = totals
        self._settings = settings
        self._clock = clock
        self._quota = quota
        self._instances = instances
        self._queue = queue
        self._jobs: list[Job] = []
        self._stopping = False
        self.failure: str | None = None
        self.errors = 0
        self.commits = 0
        self.seconds = Histogram(SECONDS)
        self._handling: list[Request] = []

    @property
    def queued(self) -> int:
        """The number of requests that have not been handled yet."""
        return len(self._queue)

    def oldest(self) -> float:
        """Return the seconds that the oldest request has waited; those of the current batch count too."""
        began = [request.since for request in self._handling]
        waiting = self._queue.oldest()
        if waiting is not None:
            began.append(waiting)
        return monotonic() - min(began) if began else 0.0

    def schedule(self, job: Job) -> None:
        """Run a job between two batches."""
        if job not in self._jobs:
            self._jobs.append(job)
        self._queue.filled.set()

    def stop(self) -> None:
        """Make `run` return when all queued requests are handled, or the store fails."""
        self._stopping = True
        self._queue.filled.set()

    async def run(self) -> None:
        """Handle requests until `stop`."""
        # When the store fails, all clients that waited for an answer have disconnected, and the process must end.
        while not self._stopping or (self._queue and self.failure is None):
            await self._queue.filled.wait()
            self._queue.filled.clear()
            try:
                await self.step()
            except Exception:  # a defect in one batch must not end the worker
                log.exception("a batch could not be handled")
            await asyncio.sleep(0)  # a batch without a change may not have waited for anything

    async def step(self) -> None:
        """Run the scheduled jobs. Then take a batch, make its changes in one commit, and answer its reads."""
        await self._do_jobs()
        now = self._clock.now()
        needs = Needs(timestamp(self._clock.expiry()), self._settings.max_per_user)
        requests = self._queue.take()
        if not requests:
            return
        self._handling = requests
        try:
            for request in requests:
                user = request.user
                if user is not None:
                    need(needs, user, request.incoming, address=request.device.address, quota=self._quota, now=now)
            batch = await self.change([request for request in requests if not request.incoming.reads], needs, now)
            for request in requests:
                if request.incoming.reads:
                    await self._read(request, batch, needs.now)
        finally:
            self._handling = []

    async def change(self, requests: list[Request], needs: Needs, now: int) -> Batch | None:
        """Make the changes of requests, store them, and send the events.

        Args:
            requests: the requests that change something.
            needs: the records that they read.
            now: the time in milliseconds.

        Returns:
            the batch, or None if it could not be stored.
        """
        batch: Batch | None = None
        changes: Changes | None = None
        freed = 0
        before: dict[str, int] = {}
        started = perf_counter()
        try:
            async with self._store.transaction(needs) as transaction:
                if self._instances is not None:
                    inboxes = transaction.loaded.inboxes.values()
                    before = {inbox.user_id: inbox.sequence for inbox in inboxes}
                    await self._instances.follower.catch_up(inboxes, needs.now)
                config, free = self._settings, self._totals.free
                loaded, most = transaction.loaded, config.max_per_user
                batch = Batch(loaded, now, config.ttl_days, most, self._quota, free=free, expiry=needs.now)
                outcomes = [self._outcome(batch, request) for request in requests]
                changes = batch.changes()
                if changes is not None:
                    freed = await transaction.commit(changes)
                    self.commits += 1
                    self.seconds.observe(perf_counter() - started)
                    if self.failure is not None:
                        self.recovered()
        except Exception as error:  # after any error but an UnsettledError, nothing was stored
            self.failed(error)
            if batch is not None:
                batch.drop()
            for request in requests:
                bad = UNAVAILABLE if request.user is not None else UNAUTHORIZED
                self._devices.refuse(request.device, request.refuse(bad))
            if isinstance(error, UnsettledError) and changes is not None:
                self._handle_unsettled(changes)
            return None
        self._totals.add(batch.growth, batch.grown - freed)
        self._devices.settle(batch.inboxes, () if changes is None else changes.forgotten)
        if self._instances is not None and changes is not None:
            of_requests = (outcome.events for outcome in outcomes if isinstance(outcome, Outcome))
            events = chain(batch.expired, *of_requests)
            self._instances.announce(before, batch, changes, batch.grown - freed, events)
        for user, event in batch.expired:
            self._devices.send_event(user, event)
        for request, outcome in zip(requests, outcomes, strict=True):
            if isinstance(outcome, BadMessage):
                self._devices.refuse(request.device, request.refuse(outcome))
            else:
                self._devices.deliver(outcome, request.device, request.incoming.request_id)
        return batch

    def failed(self, error: Exception) -> None:
        """Record a failure of the store; it is logged once until the store works again."""
        self.errors += 1
        if self.failure != str(error):
            unforeseen = None if isinstance(error, StoreError) else error
            log.error("the store failed", error=str(error), exc_info=unforeseen)
        self.failure = str(error)

    def recovered(self) -> None:
        """Record that the store works again."""
        log.info("notifications can be stored again")
        self.failure = None

    async def _do_jobs(self) -> None:
        jobs, self._jobs = self._jobs, []
        for job in jobs:
            try:
                await job()
            except Exception as error:  # a defect in one job must not stop other jobs or batches
                self.failed(error)

    async def _read(self, request: Request, batch: Batch | None, now: str) -> None:
        if request.user is None:
            self._devices.refuse(request.device, request.refuse(UNAUTHORIZED))
            return
        try:
            await self._reader.answer(request, request.user, batch, now)
        except BadMessage as bad:
            self._devices.refuse(request.device, request.refuse(bad))
        except Exception as error:
            self.failed(error)
            self._devices.refuse(request.device, request.refuse(UNAVAILABLE))

    def _outcome(self, batch: Batch, request: Request) -> Outcome | BadMessage:
        device = request.device
        user = device.user
        if user is None:
            return UNAUTHORIZED
        try:
            return batch.handle(user, request.incoming, device.address)
        except BadMessage as bad:
            if isinstance(bad, StorageFull):
                self._totals.refused()
            return bad
        except Exception:
            # A message that causes a defect must not stop the queue.
            log.exception("a message could not be handled")
            device.disconnect(1011, "The server failed on this message.")
            return Outcome()

    def _handle_unsettled(self, changes: Changes) -> None:
        """After an unsettled commit: close the connections of the affected inboxes, and count the store again."""
        self._totals.mark_uncertain()
        for user in (*(inbox.user_id for inbox in changes.inboxes), *changes.forgotten):
            for device in self._devices.of(user):
                device.disconnect(1013, UNSETTLED, "storage-unavailable")
