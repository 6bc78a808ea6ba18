"""The channel: hints from instance to instance, by PostgreSQL's LISTEN and NOTIFY.

It has a connection of its own. A transaction with NOTIFY takes a lock on all of PostgreSQL's commits, so it must never
be the one that stores; and LISTEN needs a connection that no pooler gives to others.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

import asyncpg
import structlog

from ...edge.errors import StartError
from .postgresql import arguments, shown
from .schema import versions

INTERVAL = 10.0
"""Seconds after which a hint is sent even if nothing has changed: it shows that the connection works."""
RETRY_INTERVAL = 1.0
"""Seconds after which a lost connection is tried again."""
TIMEOUT = 5
"""Seconds after which a database that does not answer has failed."""
CLOSE_TIMEOUT = 1.0
"""Seconds for the database to take note that a connection ends."""
SET_UP = """
SET synchronous_commit = off;  -- a hint has nothing to bring to disk
SET tcp_user_timeout = '30s';  -- the queue of hints grows until all who listen have read them
"""
_NOTIFY = "SELECT pg_notify($1, hint) FROM unnest($2::text[]) AS hint"

log = structlog.get_logger()


class Listener(Protocol):
    """What sends and hears hints."""

    @property
    def waiting(self) -> bool:
        """Whether something is to be sent."""

    def begin(self) -> None:
        """Begin to hear, also after an interruption."""

    def take(self) -> list[str]:
        """Return the hints to send now, at least one."""

    def hear(self, text: str) -> None:
        """Take a hint."""


class PooledError(Exception):
    """LISTEN is of no use, since a pooler gives the connection to others."""


class Channel:
    """A connection that listens and notifies, and that is made again when it is lost.

    Args:
        url: of the database.

    Attributes:
        listening: whether it works now.
        reconnects: how often the connection was made again.
        errors: how often it was lost or could not be made.

    Raises:
        StartError: the URL is wrong.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._name = shown(url)
        self._arguments = arguments(url, TIMEOUT)
        self._connection: Any = None
        self._topic = ""
        self._wake = asyncio.Event()
        self._stopping = False
        self.listening = False
        self.reconnects = 0
        self.errors = 0

    def wake(self) -> None:
        """Send soon what is to be sent."""
        self._wake.set()

    async def open(self) -> bool:
        """Connect; return False if a pooler is in between, so that nothing would be heard.

        Raises:
            StartError: the database cannot be used.
        """
        try:
            await self._connect()
        except (OSError, TimeoutError, TypeError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise StartError(f"the database {self._name} cannot be used: {_reason(error)}") from None
        except PooledError:
            await self._disconnect()
            return False
        return True

    async def run(self, listener: Listener) -> None:
        """Send and hear until `stop`; a connection that is lost is made again."""
        while True:
            try:
                if self._connection is None:
                    await self._connect()
                    self.reconnects += 1
                    log.info("hints are exchanged again")
                await self._exchange(listener)
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, PooledError) as error:
                if self.listening:
                    log.error("hints cannot be exchanged with other instances", error=_reason(error))
                self.errors += 1
            await self._disconnect()
            if self._stopping:
                return
            await asyncio.sleep(RETRY_INTERVAL)

    def stop(self) -> None:
        """Let `run` return when everything is sent."""
        self._stopping = True
        self._wake.set()

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        self.listening = False
        if connection is None:
            return
        try:
            await connection.close(timeout=CLOSE_TIMEOUT)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            log.debug("the connection for hints was cut", error=_reason(error))
            connection.terminate()

    async def _connect(self) -> None:
        self._connection = await asyncpg.connect(**self._arguments)
        told = self._connection.get_server_pid()
        pid, table = await self._connection.fetchrow("SELECT pg_backend_pid(), to_regclass($1)::oid", versions.name)
        if told != pid:
            raise PooledError
        if table is None:
            raise asyncpg.InterfaceError("it has no table of this server")
        await self._connection.execute(SET_UP)
        self._topic = f"opennoodl_notification_{table}"  # databases may have several of these tables, in schemas

    async def _exchange(self, listener: Listener) -> None:
        lost = asyncio.Event()
        self._connection.add_termination_listener(_calling(lost.set, self._wake.set))
        await self._connection.add_listener(self._topic, lambda *heard: listener.hear(heard[-1]))
        self.listening = True
        listener.begin()
        while True:
            if not listener.waiting:
                await _wait(self._wake, INTERVAL)
            self._wake.clear()
            if lost.is_set():
                raise ConnectionError("the connection was lost")
            await self._connection.execute(_NOTIFY, self._topic, listener.take())
            if self._stopping and not listener.waiting:
                return


async def _wait(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, but not for longer."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


def _calling(*functions: Callable[[], None]) -> Callable[[object], None]:
    def call(_connection: object) -> None:
        for function in functions:
            function()

    return call


def _reason(error: BaseException) -> str:
    text = str(error).partition("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
