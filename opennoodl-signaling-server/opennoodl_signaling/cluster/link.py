"""The link to Redis: one connection for scripts, which keeps their order, and one that reads this instance's stream.

Scripts that are called in one turn of the event loop, or while others are on their way, are sent together.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable
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
"""Seconds that Redis has to answer; after that the connection is given up, and a new one is made."""
PAUSE = 0.25
"""Seconds between two attempts to connect."""
BATCH = 512
"""Scripts that are sent together at most."""
CROWDED = 4096
"""Scripts that may wait before clients that call more have to wait; Redis runs more than 10,000 a second."""
MAX_QUEUED = 50_000
"""Scripts that may wait for their turn; with more, the connection is given up, and all of them fail."""
BLOCK = 0.5
"""Seconds for which a read of the stream waits for entries."""
LOST = (RedisError, OSError, TimeoutError, RuntimeError)
"""What a lost connection raises: with uvloop a RuntimeError, if its transport was closed before something is sent."""
CANCEL_AGAIN = 0.1
"""Seconds between two cancellations of a task that goes on."""
OPTIONS = ("db", "client_name")
"""Options that a URL may have, beside those of TLS."""
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 2.0)

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
    args: tuple[bytes | str | int, ...]
    answer: asyncio.Future[Any]


class RedisProcess(NamedTuple):
    """The process of Redis that answers.

    Attributes:
        run_id: of this process alone.
        uptime: seconds since its start, rounded down; 0 if it does not tell.
    """

    run_id: str
    uptime: float


Entered = Callable[[Callable[..., Awaitable[Any]], RedisProcess], Awaitable[None]]
"""Called on each new connection with a function that calls a script on it, and with the process that answers."""


class Link:
    """Calls scripts, and connects again when the connection is lost.

    Args:
        url: of Redis.
        entered: makes this instance a member, on each new connection; no script is called before it has returned.

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
        except (ValueError, TypeError):  # the text may have the password
            raise SettingError(
                "REDIS_URL is not usable; accepted is redis://host:port/0, rediss://user:password@host:port/0 with TLS "
                "(percent-encode special characters of the password), or unix:///path; after a ?, accepted are db, "
                "client_name and the ssl_ options of redis-py"
            ) from None
        self.up = False
        self._entered = entered
        self._queue: list[_Call] = []
        self._filled = asyncio.Event()
        self._space: asyncio.Future[None] | None = None  # is done when fewer scripts wait; None if they are few
        self._connection: Connection | None = None
        self._reader: Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._latency = Histogram(SECONDS)
        self._errors = Counts(("connect", "lost", "refused", "script"))
        self.connects = 0

    async def start(self) -> None:
        """Connect, and check that Redis can be used.

        Raises:
            StartError: it cannot.
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
        self._refuse(self._queue, sent=False)
        self._make_space()
        await self._disconnect()

    def call(self, script: Script, *args: bytes | str | int) -> asyncio.Future[Any]:
        """Run a script after all that were called before; return its answer.

        Raises:
            Unreachable: from the future; Redis does not answer.
        """
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if len(self._queue) >= MAX_QUEUED:
            self.reconnect()
        if not self.up:
            self._errors["refused"] += 1
            answer.set_exception(Unreachable(sent=False))
        else:
            self._queue.append(_Call(script, args, answer))
            self._filled.set()
            if len(self._queue) >= CROWDED and self._space is None:
                self._space = asyncio.get_running_loop().create_future()
        return answer

    def space(self) -> Awaitable[None] | None:
        """Return what ends when fewer scripts wait, for a client that could send more; None if it may go on."""
        return None if self._space is None else asyncio.shield(self._space)

    def reconnect(self) -> None:
        """Enter again on a new connection."""
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
        """Return what was counted here."""
        yield self._latency.family("opennoodl_signaling_redis_seconds", "Time of one answer of Redis.")
        yield counters("opennoodl_signaling_redis_errors", "Failed calls of Redis.", "reason", self._errors)

    async def _run(self) -> None:
        """Send what is called, for ever."""
        while True:
            if not self.up:
                self._refuse(self._queue, sent=False)
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
                calls, self._queue = self._queue[:BATCH], self._queue[BATCH:]
                if len(self._queue) < CROWDED // 2:
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
                except ResponseError as error:  # this script failed; those after it did not
                    self._errors["script"] += 1
                    log.error("a script failed in Redis", script=call.script.name, error=type(error).__name__)
                    done += 1
                    _set(call.answer, Unreachable(sent=True))
                    self.up = False  # it may not be loaded any more: connecting loads it
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
            for script in ALL:
                await connection.send_command("SCRIPT", "LOAD", script.text)
                await connection.read_response()
            info = await self._info(connection, "server")
            # Redis subtracts two times in whole seconds, so that it may tell almost a second too much.
            uptime = max(0.0, float(info.get("uptime_in_seconds", 0)) - 1)

            async def call(script: Script, *args: bytes | str | int) -> Any:
                await connection.send_command("EVALSHA", script.digest, 0, *args)
                return await connection.read_response()

            await self._entered(call, RedisProcess(info["run_id"], uptime))
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
        if not sent:
            calls.clear()


def _check(url: str) -> None:
    """Raise ValueError for what redis-py would ignore, or would take for an argument that changes how it works."""
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
