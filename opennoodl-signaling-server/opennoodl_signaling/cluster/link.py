"""The link to Redis: calls scripts in their order on one connection, which is opened again when it is lost.

Scripts that are called in one turn of the event loop, or while others are on their way, are sent together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from time import perf_counter
from typing import Any, NamedTuple

import structlog
from prometheus_client.metrics_core import Metric
from redis.asyncio import Connection
from redis.exceptions import ResponseError

from ..edge.errors import StartError
from ..edge.metrics import Counts, Histogram, counters
from .redis_connection import LOST, TIMEOUT, Connector, Unreachable, ask, info
from .script_queue import Args, Call, ScriptQueue
from .scripts import ALL, Script
from .stream_reader import StreamReader

PAUSE = 0.25
"""Seconds between two attempts to connect."""
CANCEL_AGAIN = 0.1
"""Seconds between two cancellations of a task that continues."""
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 2.0)

log = structlog.get_logger()


class RedisProcess(NamedTuple):
    """The Redis process of a connection.

    Attributes:
        run_id: its run id, which is unique.
        uptime: seconds since its start, rounded down; 0 if it does not report it.
    """

    run_id: str
    uptime: float


Run = Callable[[Sequence[tuple[Script, Args]]], Awaitable[list[Any]]]
"""Runs scripts with their arguments in this order; returns their answers."""
Entered = Callable[[Run, RedisProcess], Awaitable[None]]
"""Is called on each new connection with a function that runs scripts on it, and with the Redis process."""


class Link:
    """Calls scripts, and reconnects when the connection is lost.

    Args:
        url: the URL of Redis.
        entered: makes this instance a member on each new connection; other scripts run after it has returned.

    Attributes:
        up: whether the connection is usable.
        stream: reads this instance's stream; disconnected together with the link.
        connects: number of connections so far.

    Raises:
        SettingError: the URL is not usable.
    """

    def __init__(self, url: str, entered: Entered) -> None:
        self._connector = Connector(url)
        self.up = False
        self._entered = entered
        self._queue = ScriptQueue()
        self._filled = asyncio.Event()
        self._space: asyncio.Future[None] | None = None  # done when clients may continue; None if none is paused
        self._connection: Connection | None = None
        self.stream = StreamReader(self._connector.make)
        self._task: asyncio.Task[None] | None = None
        self._latency = Histogram(SECONDS)
        self._errors = Counts(("connect", "lost", "refused", "script"))
        self.connects = 0

    async def start(self) -> None:
        """Connect, and check that Redis can be used.

        Raises:
            StartError: Redis cannot be used.
        """
        try:
            async with asyncio.timeout(3 * TIMEOUT):
                await self._connect()
                assert self._connection is not None
                policy = (await info(self._connection, "memory")).get("maxmemory_policy", "noeviction")
        except LOST as error:
            reason = str(error) or "no answer"
            raise StartError(f"cannot use Redis at REDIS_URL: {reason.splitlines()[0]}") from None
        if policy != "noeviction":
            await self.close()
            raise StartError(f"Redis has maxmemory-policy {policy}, with which it drops rooms; set it to noeviction")
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Disconnect."""
        if self._task is not None:
            await end([self._task])
        self._refuse(self._queue.clear(), sent=False)
        self._make_space()
        await self._disconnect()

    def call(self, script: Script, *args: bytes | str | int) -> asyncio.Future[Any]:
        """Run a script after all earlier calls; return a future with its answer.

        Raises:
            Unreachable: from the future; Redis does not answer.
        """
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self._queue.is_full:
            self.reconnect()
        if not self.up:
            self._errors["refused"] += 1
            answer.set_exception(Unreachable(sent=False))
        else:
            size = sum([len(arg) for arg in args if not isinstance(arg, int)])
            self._queue.add(Call(script, args, answer, size))
            self._filled.set()
            if self._space is None and self._queue.is_crowded:
                self._space = asyncio.get_running_loop().create_future()
        return answer

    def space(self) -> Awaitable[None] | None:
        """Return an awaitable that ends when the caller's client may continue; None if it need not pause."""
        return None if self._space is None else asyncio.shield(self._space)

    def reconnect(self) -> None:
        """Close the connection, and become a member again on a new one."""
        self.up = False
        self._filled.set()

    def metric_families(self) -> Iterable[Metric]:
        """Return the metrics of the link."""
        yield self._latency.family("opennoodl_signaling_redis_seconds", "Time of one answer of Redis.")
        yield counters("opennoodl_signaling_redis_errors", "Failed calls of Redis.", "reason", self._errors)

    async def _run(self) -> None:
        """Send the queued calls, until cancelled."""
        while True:
            if not self.up:
                self._refuse(self._queue.clear(), sent=False)
                self._make_space()
                await self._disconnect()
                try:
                    await self._connect()
                except LOST as error:
                    self._errors["connect"] += 1
                    log.debug("Redis cannot be reached", error=type(error).__name__)
                    await asyncio.sleep(PAUSE)
                continue
            await self._filled.wait()
            self._filled.clear()
            while self.up and self._queue:
                calls = self._queue.next_batch()
                if self._queue.is_short:
                    self._make_space()
                await self._send(calls)

    def _make_space(self) -> None:
        if self._space is not None:
            self._space.set_result(None)
            self._space = None

    async def _send(self, calls: list[Call]) -> None:
        assert self._connection is not None
        started = perf_counter()
        done = 0
        try:
            packed = self._connection.pack_commands([("EVALSHA", call.script.digest, 0, *call.args) for call in calls])
            await self._connection.send_packed_command(packed, check_health=False)
            for call in calls:
                try:
                    answer = await self._connection.read_response()
                except ResponseError as error:  # only this script failed, not those after it
                    self._errors["script"] += 1
                    log.error("a script failed in Redis", script=call.script.name, error=type(error).__name__)
                    done += 1
                    _set(call.answer, Unreachable(sent=True))
                    self.up = False  # the script may not be loaded any more: connecting loads it
                    continue
                done += 1
                if not call.answer.done():
                    call.answer.set_result(answer)
        except LOST as error:
            self._errors["lost"] += 1
            self.up = False
            log.warning("Redis does not answer; connecting again", error=type(error).__name__)
            self._refuse(calls[done:], sent=True)
        self._latency.observe(perf_counter() - started)

    async def _connect(self) -> None:
        connection = self._connector.make()
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
            await ask(connection, [("SCRIPT", "LOAD", script.text) for script in ALL])
            server = await info(connection, "server")
            # Redis subtracts two times in whole seconds, so the result may be almost a second too large.
            uptime = max(0.0, float(server.get("uptime_in_seconds", 0)) - 1)

            async def run(calls: Sequence[tuple[Script, Args]]) -> list[Any]:
                return await ask(connection, [("EVALSHA", script.digest, 0, *args) for script, args in calls])

            await self._entered(run, RedisProcess(server["run_id"], uptime))
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        if self.connects:
            log.info("connected to Redis again")
        self.connects += 1
        self._connection, self.up = connection, True

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(*LOST):
                await connection.disconnect(nowait=True)
        await self.stream.disconnect()

    @staticmethod
    def _refuse(calls: list[Call], *, sent: bool) -> None:
        for call in calls:
            _set(call.answer, Unreachable(sent=sent))


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks until they end: redis-py can swallow a cancellation while it connects."""
    while pending := [task for task in tasks if not task.done()]:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=CANCEL_AGAIN)


def _set(answer: asyncio.Future[Any], error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)
