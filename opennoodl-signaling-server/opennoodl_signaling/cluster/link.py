"""The link to Redis: one connection for scripts, which keeps their order, and one that reads this instance's stream.

Scripts that are called in one turn of the event loop, or while others are on their way, are sent together.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from time import perf_counter
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import structlog
from prometheus_client.metrics_core import Metric
from redis.asyncio import Connection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from ..edge.errors import StartError
from ..edge.metrics import Counts, Histogram, counters
from ..edge.settings import SettingError
from .scripts import ALL, Script

TIMEOUT = 2.0
"""Time limit for an answer of Redis, in seconds; after it, the connection is closed and opened again."""
PAUSE = 0.25
"""Seconds between two attempts to connect."""
BATCH = 512
"""Limit of the scripts that are sent together."""
BATCH_BYTES = 1 << 20
"""Bytes of a group of scripts above which no further one is added to it."""
CROWDED = 4096
"""Queued scripts above which clients are paused; Redis runs more than 10,000 a second."""
CROWDED_BYTES = 8 << 20
"""The same limit for the bytes of their arguments."""
MAX_QUEUED = 50_000
"""Queued scripts above which the connection is closed, and all of them fail."""
MAX_QUEUED_BYTES = 64 << 20
"""The same limit for the bytes of their arguments."""
BLOCK = 0.5
"""Seconds for which a read of the stream waits for entries."""
LOST = (RedisError, OSError, TimeoutError, RuntimeError)
"""The errors of a lost connection: with uvloop also a RuntimeError, for a write to a closed transport."""
CANCEL_AGAIN = 0.1
"""Seconds between two cancellations of a task that continues."""
OPTIONS = ("db", "client_name")
"""Accepted options of a URL, besides those of TLS."""
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 2.0)

Args = tuple[bytes | str | int, ...]

log = structlog.get_logger()


class Unreachable(Exception):
    """Redis does not answer.

    Attributes:
        sent: whether the script may have run nevertheless.
    """

    def __init__(self, *, sent: bool) -> None:
        super().__init__("Redis does not answer")
        self.sent = sent


class _Call(NamedTuple):
    script: Script
    args: Args
    answer: asyncio.Future[Any]
    size: int


class _Queue:
    """The queued scripts, with limits of their number and their bytes."""

    def __init__(self) -> None:
        self._calls: deque[_Call] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._calls)

    @property
    def is_short(self) -> bool:
        """Whether paused clients may call scripts again."""
        return len(self._calls) < CROWDED // 2 and self._bytes < CROWDED_BYTES // 2

    @property
    def is_crowded(self) -> bool:
        """Whether clients that call scripts must be paused."""
        return len(self._calls) >= CROWDED or self._bytes >= CROWDED_BYTES

    @property
    def is_full(self) -> bool:
        """Whether no further call is accepted."""
        return len(self._calls) >= MAX_QUEUED or self._bytes >= MAX_QUEUED_BYTES

    def add(self, call: _Call) -> None:
        """Append a call."""
        self._calls.append(call)
        self._bytes += call.size

    def next_batch(self) -> list[_Call]:
        """Remove and return the first calls, which are sent together."""
        batch: list[_Call] = []
        size = 0
        while self._calls and len(batch) < BATCH and size < BATCH_BYTES:
            call = self._calls.popleft()
            batch.append(call)
            size += call.size
        self._bytes -= size
        return batch

    def clear(self) -> list[_Call]:
        """Remove and return all calls."""
        calls = list(self._calls)
        self._calls.clear()
        self._bytes = 0
        return calls


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

    Raises:
        SettingError: the URL is not usable.
    """

    def __init__(self, url: str, entered: Entered) -> None:
        try:
            _check(url)
            self._pool = ConnectionPool.from_url(
                url, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT, retry=Retry(NoBackoff(), 0), protocol=2
            )
            self._new_connection()
        except (ValueError, TypeError):  # the text may contain the password
            raise SettingError(
                "REDIS_URL is not usable; accepted is redis://host:port/0, rediss://user:password@host:port/0 with TLS "
                "(percent-encode special characters of the password), or unix:///path; after a ?, accepted are db, "
                "client_name and the ssl_ options of redis-py"
            ) from None
        self.up = False
        self._entered = entered
        self._queue = _Queue()
        self._filled = asyncio.Event()
        self._space: asyncio.Future[None] | None = None  # done when clients may continue; None if none is paused
        self._connection: Connection | None = None
        self._reader: Connection | None = None
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
                policy = (await self._info(self._connection, "memory")).get("maxmemory_policy", "noeviction")
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
            self._queue.add(_Call(script, args, answer, size))
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

    async def entries(self, stream: str, last: int) -> list[tuple[int, bytes]]:
        """Wait for entries of a stream after number `last`, on a connection of their own.

        Raises:
            LOST: the connection is lost; call again.
        """
        reader = self._reader
        if reader is None:
            reader = self._new_connection()
            await reader.connect()  # type: ignore[no-untyped-call]
            self._reader = reader
        try:
            await reader.send_command(
                "XREAD", "COUNT", 1000, "BLOCK", int(BLOCK * 1000), "STREAMS", stream, f"{last}-0"
            )
            found = await reader.read_response()
        except BaseException as error:
            disconnected = self._reader is not reader
            if not disconnected:
                self._reader = None
            await reader.disconnect(nowait=True)
            if disconnected and isinstance(error, Exception):  # redis-py may raise an AttributeError then
                raise RedisConnectionError("the connection was closed meanwhile") from error
            raise
        if self._reader is not reader:
            await reader.disconnect(nowait=True)
            raise RedisConnectionError("the connection was closed meanwhile")
        if not found:
            return []
        ((_, entries),) = found
        return [(int(number.partition(b"-")[0]), fields[1]) for number, fields in entries]

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

    async def _send(self, calls: list[_Call]) -> None:
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
        connection = self._new_connection()
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
            await self._ask(connection, [("SCRIPT", "LOAD", script.text) for script in ALL])
            info = await self._info(connection, "server")
            # Redis subtracts two times in whole seconds, so the result may be almost a second too large.
            uptime = max(0.0, float(info.get("uptime_in_seconds", 0)) - 1)

            async def run(calls: Sequence[tuple[Script, Args]]) -> list[Any]:
                return await self._ask(connection, [("EVALSHA", script.digest, 0, *args) for script, args in calls])

            await self._entered(run, RedisProcess(info["run_id"], uptime))
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        if self.connects:
            log.info("connected to Redis again")
        self.connects += 1
        self._connection, self.up = connection, True

    def _new_connection(self) -> Connection:
        connection: Connection = self._pool.make_connection()  # type: ignore[no-untyped-call]
        return connection

    async def _disconnect(self) -> None:
        connections = (self._connection, self._reader)
        self._connection = self._reader = None
        for connection in connections:
            if connection is not None:
                with suppress(*LOST):
                    await connection.disconnect(nowait=True)

    @staticmethod
    async def _ask(connection: Connection, commands: Sequence[Args]) -> list[Any]:
        """Send commands in groups; return their answers."""
        answers = []
        for start in range(0, len(commands), BATCH):
            batch = commands[start : start + BATCH]
            await connection.send_packed_command(connection.pack_commands(batch), check_health=False)
            answers += [await connection.read_response() for _ in batch]
        return answers

    @staticmethod
    async def _info(connection: Connection, section: str) -> dict[str, str]:
        await connection.send_command("INFO", section)
        text = await connection.read_response()
        if isinstance(text, bytes):
            text = text.decode()
        if not isinstance(text, str):
            raise RedisConnectionError("INFO was not answered")
        return dict(line.split(":", 1) for line in text.split("\r\n") if ":" in line)

    @staticmethod
    def _refuse(calls: list[_Call], *, sent: bool) -> None:
        for call in calls:
            _set(call.answer, Unreachable(sent=sent))


def _check(url: str) -> None:
    """Raise ValueError for an option that redis-py would ignore or interpret as an argument of its own."""
    parts = urlsplit(url)
    options = {name for name, _ in parse_qsl(parts.query, keep_blank_values=True)}
    if any(name not in OPTIONS and not name.startswith("ssl_") for name in options):
        raise ValueError
    if parts.scheme != "unix" and not re.fullmatch(r"/?|/[0-9]+", parts.path):
        raise ValueError


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks until they end: redis-py can swallow a cancellation while it connects."""
    while pending := [task for task in tasks if not task.done()]:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=CANCEL_AGAIN)


def _set(answer: asyncio.Future[Any], error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)
