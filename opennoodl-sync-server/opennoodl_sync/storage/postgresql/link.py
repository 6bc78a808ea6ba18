"""One connection to PostgreSQL, which is opened again when it is lost."""

import asyncio
from collections.abc import Mapping
from typing import Any

import asyncpg

from ..interface import StoreError, UnavailableError

TIMEOUT = 5.0
"""Time limit in seconds for an answer of the database."""
REJECTED = ("22", "23", "54")
"""Classes of SQLSTATE that concern the values of one statement, not the database."""
AWAY = "The database cannot be reached now. Connect again."

POOLED = "SET LOCAL idle_in_transaction_session_timeout = 5000;"
"""Time limit of an idle transaction, so that a suspended process does not hold its locks for long."""
RELAXED = "SET LOCAL synchronous_commit = off"

Row = Mapping[str, Any]


class RejectedError(StoreError):
    """The database works, and rejects the values of this statement."""


class Link:
    """A connection to the database, with one statement at a time.

    Args:
        arguments: the arguments of asyncpg's `connect`.
        relaxed: whether a commit may return before it survives a power cut.

    Attributes:
        pooled: whether a pooler such as pgbouncer may run each transaction on another connection; None before it is
            known.
        opened: how often the connection was opened.
    """

    def __init__(self, arguments: dict[str, Any], *, relaxed: bool = False) -> None:
        self.pooled: bool | None = None
        self.opened = 0
        self._arguments = arguments
        self._relaxed = relaxed
        self._lock = asyncio.Lock()
        self._connection: asyncpg.Connection | None = None

    async def fetch(self, statement: str, *values: object, seconds: float = TIMEOUT) -> list[Row]:
        """Execute one statement in its own transaction; return its rows.

        Args:
            statement: the SQL.
            values: the values of its parameters.
            seconds: time limit for the answer.

        Raises:
            RejectedError: the database rejects the values.
            UnavailableError: the database cannot be reached, or cannot execute it now. It may have executed it
                nevertheless.
        """
        async with self._lock:
            try:
                connection = await self._open()
                if not self.pooled:
                    rows: list[Row] = await connection.fetch(statement, *values, timeout=seconds)
                    return rows
                async with connection.transaction():
                    await connection.execute(POOLED + RELAXED * self._relaxed)
                    rows = await connection.fetch(statement, *values, timeout=seconds)
            except asyncpg.PostgresError as error:
                if str(error.sqlstate)[:2] in REJECTED:
                    raise RejectedError(reason(error)) from error
                self.cut()
                raise UnavailableError(AWAY) from error
            except (OSError, TimeoutError, asyncpg.InterfaceError) as error:
                self.cut()
                raise UnavailableError(AWAY) from error
            except BaseException:  # a later statement must not get the answer of one that was cancelled
                self.cut()
                raise
            return rows

    async def script(self, *statements: str) -> None:
        """Execute statements in one transaction."""
        async with self._lock:
            connection = await self._open()
            async with connection.transaction():
                for statement in statements:
                    await connection.execute(statement)

    def cut(self) -> None:
        """Abort the connection; the next statement opens another one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def close(self) -> None:
        """Close the connection."""
        async with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                try:
                    await connection.close(timeout=TIMEOUT)
                except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                    connection.terminate()

    async def _open(self) -> asyncpg.Connection:
        if self._connection is None or self._connection.is_closed():
            self._connection = await self._connect()
            self.opened += 1
        return self._connection

    async def _connect(self) -> asyncpg.Connection:
        # A pooler may run a named statement on a connection of another client.
        unnamed = {} if self.pooled is False else {"statement_cache_size": 0}
        connection = await asyncpg.connect(**self._arguments, **unnamed)
        try:
            if self.pooled is None:
                async with connection.transaction():
                    pid = await connection.fetchval("SELECT pg_backend_pid()")
                self.pooled = pid != connection.get_server_pid()  # a pooler reports another process
                if not self.pooled:
                    connection.terminate()
                    return await self._connect()
            if self._relaxed and not self.pooled:
                await connection.execute("SET synchronous_commit = off")
        except BaseException:
            connection.terminate()
            raise
        return connection


def reason(error: BaseException) -> str:
    """Return the text of a database error in one line, without the values of the statement."""
    text = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
