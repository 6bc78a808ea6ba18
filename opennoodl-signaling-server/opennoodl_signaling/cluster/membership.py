"""The membership: the id and the lease of this instance, its stream, and sweeping of dead instances.

Each id is used once. If the lease of an instance expires, another instance sweeps it. The id is then of no use, so the
instance takes a new one. All times are those of Redis.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import suppress
from secrets import token_hex
from time import monotonic
from typing import Any

import msgspec
import structlog
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from . import scripts
from .link import Link, RedisProcess, Run, end
from .redis_connection import LOST, Unreachable
from .script_queue import Args
from .scripts import Script

LEASE = 10.0
"""Seconds after which an instance is swept if it does not renew its lease."""
TICK = 0.5
"""Seconds between two renewals."""
FILL = 10.0
"""Seconds after Redis has lost its data in which all instances enter their clients again. New clients are refused.

They begin when an instance notices the loss. The first instance finds an empty Redis and cannot know whether that has
lost data. For it, they begin with the start of Redis.
"""
STREAM = "opennoodl:signaling:stream:"

log = structlog.get_logger()


class Reader(ABC):
    """Handles the entries of this instance's stream."""

    @abstractmethod
    def deliver(self, entry: bytes) -> None:
        """Handle an entry of this instance's stream."""

    @abstractmethod
    def gap(self) -> None:
        """Handle missing entries of the stream: clients may lack messages."""


class Recovery(ABC):
    """Recovers from an outage of an instance or of Redis."""

    @abstractmethod
    def fenced(self) -> None:
        """Close the clients of this instance, because another instance has given up their places."""

    @abstractmethod
    async def restore(self, run: Run, *, empty: bool) -> None:
        """Write the state of this instance to Redis after a reconnect.

        Args:
            run: runs scripts on the new connection, as this instance.
            empty: whether Redis has no data of this instance's clients.
        """

    @abstractmethod
    async def sweep(self, instance: str, rooms: list[str]) -> None:
        """Give up the places of the peers of a dead instance in some rooms."""

    @abstractmethod
    async def give_up(self, name: str, peer_id: str) -> None:
        """Remove an absent peer whose grace is over."""

    @abstractmethod
    async def compare(self) -> bool:
        """Compare the rooms after all instances have entered their clients again; return whether that succeeded."""


class Membership:
    """Renews the lease, reads the stream, and sweeps dead instances.

    Args:
        url: the URL of Redis.

    Attributes:
        instance: the id of this instance.
        filling: whether the instances enter their clients again, so that new clients are refused.
        compared: whether the rooms of clients were compared since Redis has lost its data.
    """

    def __init__(self, url: str) -> None:
        self.link = Link(url, self._entered)
        self.instance = token_hex(8)
        self.filling = True
        self._reader: Reader
        self._recovery: Recovery
        self._generation = ""
        self._last = 0
        self._stable = monotonic()
        self._renewed = monotonic()
        self._tasks: set[asyncio.Task[None]] = set()
        self._sweeping: set[str] = set()
        self.compared = True
        self._comparing = False
        self._reads = 0
        self._counts = (0, 0, 0)

    async def start(self, reader: Reader, recovery: Recovery) -> None:
        """Connect to Redis and become a member.

        Args:
            reader: handles the entries of the stream.
            recovery: recovers from outages.

        Raises:
            StartError: Redis cannot be used.
        """
        self._reader, self._recovery = reader, recovery
        await self.link.start()
        self.spawn(self._tick())
        self.spawn(self._read())

    async def stop(self) -> None:
        """End the membership."""
        await end(self._tasks)
        with suppress(Unreachable, TimeoutError):
            async with asyncio.timeout(1):
                await self.call(scripts.END_MEMBERSHIP)
        await self.link.close()

    def spawn(self, work: Any) -> asyncio.Task[None]:
        """Run a coroutine in a task, which is cancelled at the end of the membership."""
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def call(self, script: Script, *args: bytes | str | int) -> asyncio.Future[Any]:
        """Run a script as this instance, after all earlier calls. Pass the answer to `allowed`."""
        return self.link.call(script, self.instance, self._generation, *args)

    def post(self, script: Script, *args: bytes | str | int) -> None:
        """Run a script as this instance, without waiting for its answer."""
        self.call(script, *args).add_done_callback(self.has_run)

    def send_entry(self, instance: str, entry: tuple[Any, ...]) -> None:
        """Append an entry to the stream of an instance, if it has a lease."""
        self.post(scripts.APPEND_ENTRY, instance, msgspec.msgpack.encode(entry))

    def has_run(self, answer: asyncio.Future[Any]) -> bool:
        """Return whether a finished call has run its script."""
        return not answer.cancelled() and answer.exception() is None and self.allowed(answer.result())

    def allowed(self, answer: Any) -> bool:
        """Return whether a script was run. It was not if this instance was swept, or if Redis has lost its data."""
        status = answer[0] if isinstance(answer, list) else answer
        if status in (b"fenced", b"generation"):
            self.link.reconnect()
            return False
        return True

    async def ask(self, script: Script, *args: bytes | str | int) -> Any:
        """Run a script as this instance; return its answer.

        Raises:
            Unreachable: Redis does not answer, or this instance is not a member now.
        """
        answer = await self.call(script, *args)
        if not self.allowed(answer):
            raise Unreachable(sent=False)
        return answer

    @property
    def failure(self) -> str | None:
        """The reason why this instance refuses new clients, as a sentence; None if it does not."""
        if not self.link.up:
            return "Redis does not answer."
        return "Redis has lost its data; clients are being entered again." if self.filling else None

    @property
    def counts(self) -> tuple[int, int, int]:
        """The number of absent peers of all instances, the bytes of their mailboxes, and the number of instances."""
        return self._counts

    def metric_families(self) -> Iterable[Metric]:
        """Return the metrics of the membership and of the link."""
        yield from self.link.metric_families()
        yield GaugeMetricFamily("opennoodl_signaling_redis_up", "Whether Redis answers.", int(self.link.up))
        yield CounterMetricFamily(
            "opennoodl_signaling_redis_reconnects", "Connections after the first.", self.link.connects - 1
        )
        yield GaugeMetricFamily(
            "opennoodl_signaling_lease_age_seconds", "Time since the lease was renewed.", monotonic() - self._renewed
        )
        yield GaugeMetricFamily("opennoodl_signaling_instances", "Instances with a lease.", self._counts[2])

    async def _entered(self, run: Run, redis: RedisProcess) -> None:
        # An empty Redis that has run for longer has lost no data, or its instances reconnect too late in any case.
        fill_new = max(0.0, FILL - redis.uptime)
        args = (redis.run_id, int(LEASE * 1000), int(FILL * 1000), int(fill_new * 1000))
        ((answer, filling),) = await run([(scripts.BEGIN_MEMBERSHIP, (self.instance, self._generation, *args))])
        generation = answer.decode()
        first = not self._generation
        empty = generation != self._generation
        # If an instance reconnects too late, new clients may have the places of its clients.
        late = not first and (empty or not self.compared) and filling < FILL * 1000 / 3
        if generation == "fenced" or late:
            log.warning("this instance was swept, or came too late after an outage; its clients are closed")
            self._recovery.fenced()
            self.instance, first, empty = token_hex(8), True, True
            ((answer, filling),) = await run([(scripts.BEGIN_MEMBERSHIP, (self.instance, "", *args))])
            generation = answer.decode()
        self._generation = generation
        self._stable = self._renewed = monotonic()
        if empty:
            self._last = 0
            self._reads += 1
            self.filling = filling > 0
            self.compared = first
            if not first:
                log.warning("Redis has lost its data; clients are entered again")

        async def run_as_member(calls: Sequence[tuple[Script, Args]]) -> list[Any]:
            return await run([(script, (self.instance, self._generation, *args)) for script, args in calls])

        await self._recovery.restore(run_as_member, empty=empty and not first)

    async def _tick(self) -> None:
        while True:
            try:
                await self._renew()
            except Unreachable:
                pass
            except Exception:  # an unknown record in Redis; without the next renewal, the lease would expire
                log.exception("an answer of Redis could not be handled")
            await asyncio.sleep(TICK)

    async def _renew(self) -> None:
        # After an outage, the other instances get the time of a lease to reconnect.
        may_sweep = monotonic() - self._stable > LEASE
        _, dead, due, filling, absent, size, instances = await self.ask(
            scripts.RENEW_LEASE, int(LEASE * 1000), int(may_sweep), f"{self._last}-0"
        )
        self._renewed = monotonic()
        self._counts = (absent, size, instances)
        self.filling = filling > 0
        # Before new clients are accepted, and after all instances have entered their clients again.
        if not self.compared and not self._comparing and filling < FILL * 1000 / 3:
            self._comparing = True
            self.spawn(self._compare())
        for instance in dead:
            name = instance.decode()
            if name not in self._sweeping and name != self.instance:
                self._sweeping.add(name)
                self.spawn(self._sweep(name))
        for place in due:
            length, _, rest = place.partition(b":")
            name, peer_id = rest[: int(length)].decode(), rest[int(length) + 1 :].decode()
            await self._recovery.give_up(name, peer_id)

    async def _compare(self) -> None:
        try:
            self.compared = await self._recovery.compare()
        finally:
            self._comparing = False

    async def _sweep(self, instance: str) -> None:
        log.info("sweeping an instance whose lease is over")
        try:
            while rooms := (await self.ask(scripts.FORGET_INSTANCE, instance))[1]:
                await self._recovery.sweep(instance, [room.decode() for room in rooms])
        except Unreachable:
            pass  # the next tick tries again
        finally:
            self._sweeping.discard(instance)

    async def _read(self) -> None:
        while True:
            reads = self._reads
            try:
                if not self.link.up:
                    raise ConnectionError
                entries = await self.link.stream.entries(STREAM + self.instance, self._last)
            except LOST:
                await asyncio.sleep(0.1)
                continue
            if reads != self._reads:
                continue  # the entries are of a former stream
            for number, entry in entries:
                if number != self._last + 1:
                    log.error("entries of the stream are missing; clients are closed", missing=number - self._last - 1)
                    self._reader.gap()
                self._last = number
                self._reader.deliver(entry)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a task of the cluster failed", exc_info=task.exception())
