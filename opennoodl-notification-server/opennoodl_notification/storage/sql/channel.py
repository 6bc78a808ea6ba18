"""The channel: sends hints between instances with PostgreSQL's LISTEN and NOTIFY.

It has its own connection. A commit with NOTIFY takes a lock that all such commits of PostgreSQL share, so it
must not be the one that stores. LISTEN needs a connection that no pooler gives to other clients.
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
"""Seconds until a hint is sent without any change, to test the connection."""
RETRY_INTERVAL = 1.0
"""Seconds until a lost connection is opened again."""
TIMEOUT = 5
"""Time limit in seconds for an answer of the database."""
CLOSE_TIMEOUT = 1.0
"""Time limit in seconds for closing a connection."""
SET_UP = """
SET synchronous_commit = off;  -- a hint has nothing to bring to disk
SET tcp_user_timeout = '30s';  -- the queue of hints grows until all who listen have read them
"""
_NOTIFY = "SELECT pg_notify($1, hint) FROM unnest($2::text[]) AS hint"

log = structlog.get_logger()


class Listener(Protocol):
    """Makes outgoing hints, and receives incoming ones."""

    @property
    def waiting(self) -> bool:
        """Whether there are hints to send."""

    def begin(self) -> None:
        """Start, or start again after an interruption."""

    def take(self) -> list[str]:
        """Return the hints to send, at least one."""

    def hear(self, text: str) -> None:
        """Receive a hint."""


class PooledError(Exception):
    """LISTEN does not work, since a pooler gives the connection to other clients."""


class Channel:
    """A connection for LISTEN and NOTIFY, which is opened again when it is lost.

    Args:
        url: the URL of the database.

    Attributes:
        listening: whether the connection works now.
        reconnects: how often it was opened again.
        errors: how often it was lost or could not be opened.

    Raises:
        StartError: the URL is not valid.
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
        """Make `run` send hints soon."""
        self._wake.set()

    async def open(self) -> bool:
        """Connect; return False if there is a pooler, through which no hint would arrive.

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
        """Send and receive hints until `stop`; open a lost connection again."""
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
        """Make `run` return when all hints are sent."""
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
        reported = self._connection.get_server_pid()
        pid, table = await self._connection.fetchrow("SELECT pg_backend_pid(), to_regclass($1)::oid", versions.name)
        if reported != pid:
            raise PooledError
        if table is None:
            raise asyncpg.InterfaceError("it has no table of this server")
        await self._connection.execute(SET_UP)
        self._topic = f"opennoodl_notification_{table}"  # a database may have such tables in several schemas

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
    """Wait for an event, for at most so many seconds."""
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
