"""Connections to Redis: the URL, the errors of a lost connection, and commands on a new one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from redis.asyncio import Connection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from ..edge.settings import SettingError
from .script_queue import BATCH, Args

TIMEOUT = 2.0
"""Time limit for an answer of Redis, in seconds; after it, the connection is closed and opened again."""
LOST = (RedisError, OSError, TimeoutError, RuntimeError)
"""The errors of a lost connection: with uvloop also a RuntimeError, for a write to a closed transport."""
OPTIONS = ("db", "client_name")
"""Accepted options of a URL, besides those of TLS."""


class Unreachable(Exception):
    """Redis does not answer.

    Attributes:
        sent: whether the script may have run nevertheless.
    """

    def __init__(self, *, sent: bool) -> None:
        super().__init__("Redis does not answer")
        self.sent = sent


class Connector:
    """Makes connections to one Redis.

    Args:
        url: the URL of Redis.

    Raises:
        SettingError: the URL is not usable.
    """

    def __init__(self, url: str) -> None:
        try:
            _check(url)
            self._pool = ConnectionPool.from_url(
                url, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT, retry=Retry(NoBackoff(), 0), protocol=2
            )
            self.make()
        except (ValueError, TypeError):  # the text may contain the password
            raise SettingError(
                "REDIS_URL is not usable; accepted is redis://host:port/0, rediss://user:password@host:port/0 with TLS "
                "(percent-encode special characters of the password), or unix:///path; after a ?, accepted are db, "
                "client_name and the ssl_ options of redis-py"
            ) from None

    def make(self) -> Connection:
        """Return a new connection, which is not connected yet."""
        connection: Connection = self._pool.make_connection()  # type: ignore[no-untyped-call]
        return connection


async def ask(connection: Connection, commands: Sequence[Args]) -> list[Any]:
    """Send commands in groups; return their answers."""
    answers = []
    for start in range(0, len(commands), BATCH):
        batch = commands[start : start + BATCH]
        await connection.send_packed_command(connection.pack_commands(batch), check_health=False)
        answers += [await connection.read_response() for _ in batch]
    return answers


async def info(connection: Connection, section: str) -> dict[str, str]:
    """Return a section of the answer to `INFO`."""
    await connection.send_command("INFO", section)
    text = await connection.read_response()
    if isinstance(text, bytes):
        text = text.decode()
    if not isinstance(text, str):
        raise RedisConnectionError("INFO was not answered")
    return dict(line.split(":", 1) for line in text.split("\r\n") if ":" in line)


def _check(url: str) -> None:
    """Raise ValueError for an option that redis-py would ignore or interpret as an argument of its own."""
    parts = urlsplit(url)
    options = {name for name, _ in parse_qsl(parts.query, keep_blank_values=True)}
    if any(name not in OPTIONS and not name.startswith("ssl_") for name in options):
        raise ValueError
    if parts.scheme != "unix" and not re.fullmatch(r"/?|/[0-9]+", parts.path):
        raise ValueError
