"""The reader of this instance's stream: a connection to Redis of its own, since a read waits for entries."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from redis.asyncio import Connection
from redis.exceptions import ConnectionError as RedisConnectionError

from .redis_connection import LOST

BLOCK = 0.5
"""Seconds for which a read of the stream waits for entries."""


class StreamReader:
    """Reads a stream.

    Args:
        new_connection: makes a connection to Redis.
    """

    def __init__(self, new_connection: Callable[[], Connection]) -> None:
        self._new_connection = new_connection
        self._connection: Connection | None = None

    async def entries(self, stream: str, last: int) -> list[tuple[int, bytes]]:
        """Wait for entries of a stream after number `last`.

        Raises:
            LOST: the connection is lost; call again.
        """
        connection = self._connection
        if connection is None:
            connection = self._new_connection()
            await connection.connect()  # type: ignore[no-untyped-call]
            self._connection = connection
        try:
            await connection.send_command(
                "XREAD", "COUNT", 1000, "BLOCK", int(BLOCK * 1000), "STREAMS", stream, f"{last}-0"
            )
            found = await connection.read_response()
        except BaseException as error:
            disconnected = self._connection is not connection
            if not disconnected:
                self._connection = None
            await connection.disconnect(nowait=True)
            if disconnected and isinstance(error, Exception):  # redis-py may raise an AttributeError then
                raise RedisConnectionError("the connection was closed meanwhile") from error
            raise
        if self._connection is not connection:
            await connection.disconnect(nowait=True)
            raise RedisConnectionError("the connection was closed meanwhile")
        if not found:
            return []
        ((_, entries),) = found
        return [(int(number.partition(b"-")[0]), fields[1]) for number, fields in entries]

    async def disconnect(self) -> None:
        """Close the connection. A read that waits fails."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(*LOST):
                await connection.disconnect(nowait=True)
